"""The study's page: self-contained, accessible, its tables sort; and the receipt beside it."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tests.browser import (
    DESK,
    PHONE,
    Page,
    assert_self_contained,
    assert_sound,
    examine,
    needs_browser,
)
from wmh.analysis.statistics import means
from wmh.figures.style import MEASURES
from wmh.pipeline.pages import write_index
from wmh.pipeline.receipt import write_receipt
from wmh.pipeline.stages import files_of, stages_of
from wmh.settings import Participants, RegionSettings
from wmh.study import load_study, project_root


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The page of a smoke study with two subjects, three claims and a figure."""
    root = tmp_path_factory.mktemp("project")
    for name in ("studies", "notebooks"):
        shutil.copytree(project_root() / name, root / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WMH_ROOT", str(root))
        study = load_study("smoke")
        _write_results(study, root)
        return write_index(study)


def _write_results(study, root: Path) -> None:
    study.results.mkdir(parents=True)
    image = root / "flair.nii.gz"
    image.write_bytes(b"image")
    cohort = [
        {"id": i, "split": "test", "scanner": s, "flair": image, "t1": None, "lesion_ml": ml}
        | dict.fromkeys(("nx", "ny", "nz"), 8)
        for i, (s, ml) in enumerate([("utrecht_philips_3t", 3.0), ("utrecht_philips_3t", 5.0)])
    ]
    pd.DataFrame(cohort).to_csv(study.results / "cohort.csv", index=False)
    metrics = pd.DataFrame(
        {"subject": subject, "scanner": "x", "model": model, "inputs_given": given, "repeat": 1}
        | {"structure": "lesions", "metric": metric, "value": value + subject}
        for subject in (0, 1)
        for model, given, value in (("flair", "FLAIR", 0.5), ("t1", "T1", 0.25))
        for metric in MEASURES
    )
    metrics.to_csv(study.results / "metrics.csv", index=False)
    means(metrics, study.evaluation, 0).to_csv(study.results / "means.csv", index=False)
    pair = {"model_a": "flair", "inputs_a": "FLAIR", "model_b": "t1", "inputs_b": "T1"}
    numbers = {"mean_difference": 0.25, "ci_low": 0.2, "ci_high": 0.3, "rank_biserial": 1.0}
    compared = {"family": "inputs", "structure": "lesions", "metric": "dice", "n": 2, "p_holm": 0.5}
    pd.DataFrame([compared | pair | numbers]).to_csv(study.results / "comparisons.csv", index=False)
    burden = [
        {"subject": 0, "source": source, "region": region, "region_name": f"Place {region}"}
        | {"lesion_ml": region * ml, "percent_of_region": 2.0, "share_of_lesions": 0.5}
        for source, ml in (("truth", 1.0), ("joint", 2.0))
        for region in (1, 2, 10)
    ]
    pd.DataFrame(burden).to_csv(study.results / "burden.csv", index=False)
    agreement = [{"source": "joint", "region": region, "icc": 0.625} for region in (1, 2, "all")]
    pd.DataFrame(agreement).to_csv(study.results / "agreement.csv", index=False)
    claims = [
        {"claim": f"c{n}", "sentence": f"A < B & {n}", "n": 15, "claim_verdict": verdict}
        | {"comparison": "lesion Dice: flair (FLAIR) minus t1 (T1)", "verdict": verdict}
        | {"mean_difference": d, "ci_low": d - 1, "ci_high": d + 1, "p_holm": p}
        | {"smallest_difference": 0.02, "repeats": 3, "repeats_agreeing": 2}
        | {"repeat_sd": 0.01, "repeat_low": d - 0.01, "repeat_high": d + 0.01}
        for n, d, p, verdict in [
            (0, -0.05, 0.0001, "supported"),
            (1, 0.2, 0.04, "not supported"),
            (2, 0.1, None, "inconclusive"),
        ]
    ]
    pd.DataFrame(claims).to_csv(study.results / "claims.csv", index=False)
    study.figures.mkdir(parents=True)
    Image.new("RGB", (3000, 1000), "white").save(study.figures / "03_lesion_measures.png")
    (study.figures / "03_lesion_measures.txt").write_text("Dice of 2 subjects. No test.\n")
    (study.figures / "03_lesion_measures.pdf").touch()
    for stage in stages_of(study):
        files = files_of(study, stage)
        for path in (files.page, files.record):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        cost = {"seconds": 1.5, "peak_memory_mb": 300, "commit": "0" * 40, "dirty": True}
        files.record.write_text(json.dumps({"stage": stage.name, **cost}))


def test_the_page_needs_nothing_but_itself(page):
    assert_self_contained(page.read_text())


def test_every_link_leads_somewhere(page):
    tags = Page(page.read_text())
    places = {attributes["id"] for _, attributes in tags.tags if "id" in attributes}
    for link in tags.all("a"):
        if link["href"].startswith("#"):
            assert link["href"][1:] in places
        else:
            assert (page.parent / link["href"]).resolve().is_file(), link["href"]
    linked = {link["href"] for link in tags.all("a")}
    assert {stage.name + ".html" for stage in stages_of(load_study("smoke"))} <= linked


def test_the_page_can_be_read_by_all(page):
    tags = Page(page.read_text())
    assert tags.all("html")[0]["lang"] == "en"
    assert "width=device-width" in [m.get("content", "") for m in tags.all("meta")][1]
    assert len(tags.all("h1")) == len(tags.all("main")) == len(tags.all("title")) == 1
    levels = [int(tag[1]) for tag, _ in tags.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(image["alt"] for image in tags.all("img"))
    assert all(heading["scope"] in ("col", "row") for heading in tags.all("th"))
    identities = [a["id"] for _, a in tags.tags if "id" in a]
    assert len(identities) == len(set(identities))


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ("#1a1a1a", "#ffffff"),
        ("#4d4d4d", "#ffffff"),
        ("#0b5394", "#ffffff"),
        ("#1a1a1a", "#fff4d6"),
        ("#00563f", "#e3f4ee"),
        ("#8f2d00", "#fdebe2"),
        ("#4d4d4d", "#f0f0f0"),
    ],
)
def test_text_stands_out(ink, paper):
    style = (project_root() / "wmh" / "pages" / "style.css").read_text()
    assert ink in style
    bright, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 4.5


def test_numbers_verdicts_and_captions_come_from_the_tables(page):
    html = page.read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "<strong>Simulated data.</strong>" in html
    assert "1 supported, 1 not supported, 1 inconclusive" in html
    assert "A &lt; B &amp; 0" in html
    effect = "−0.050 [−1.050, +0.950], corrected p &lt; 0.001, n = 15 (smallest that matters: 0.02)"
    assert f"Lesion Dice: FLAIR minus T1:</span> {effect}" in html
    assert "0.100 [−0.900, 1.100], no test" in html
    assert '<span class="verdict not-supported">not supported</span>' in html
    assert "<strong>Figure 3. Dice of 2 subjects.</strong> No test." in html
    assert "+0.190 to +0.210 (sd 0.010); 2 of 3 alike" in html
    rows = re.findall(r'<th scope="row">(FLAIR|T1)</th><td class="number">([\d.]+)', html)
    assert rows == [("FLAIR", "1.000"), ("T1", "0.750")]
    place = re.search(r">Place 2</th>(.*?)</tr>", html)[1]
    assert re.findall(r">([\d.]+)<", place) == ["2.000", "2.0", "50.0", "4.000", "0.625"]


def test_nobody_is_said_to_be_left_out_or_not_without_a_record(page, tmp_path, monkeypatch):
    assert "There is no record of who was left out." in page.read_text()
    shutil.copytree(page.parents[3], tmp_path / "project")
    monkeypatch.setenv("WMH_ROOT", str(tmp_path / "project"))
    study = load_study("smoke")
    record = study.results / "left_out.csv"
    record.write_text("id,split,scanner,problems\n")
    assert "No subject was left out." in write_index(study).read_text()
    record.write_text("id,split,scanner,problems\n007,test,x,The T1 is < empty.\n")
    html = write_index(study).read_text()
    assert "<strong>007</strong>: The T1 is &lt; empty." in html
    assert "No subject was left out." not in html


def test_the_receipt_names_code_machine_seeds_and_every_input(page):
    receipt = json.loads((page.parents[1] / "receipt.json").read_text())
    assert receipt["seeds"]["study"] == load_study("smoke").seed
    assert receipt["hardware"]["cores"] >= 1
    assert {"torch", "numpy", "snakemake"} <= set(receipt["packages"])
    assert receipt["inputs"]["flair.nii.gz"] == hashlib.sha256(b"image").hexdigest()
    assert {"studies/smoke.yaml", "notebooks/01_data_preparation.ipynb"} <= set(receipt["inputs"])
    stages = stages_of(load_study("smoke"))
    assert [stage["seconds"] for stage in receipt["stages"]] == [1.5] * len(stages)
    assert "commit" in receipt
    assert "dirty" in receipt


def test_the_receipt_holds_the_users_own_tables_and_a_fetched_atlas(page, monkeypatch):
    root = page.parents[3]
    monkeypatch.setenv("WMH_ROOT", str(root))
    named = ("people.csv", "participants.tsv", "atlas/labels.nii.gz")
    (root / "atlas").mkdir()
    for name in named:
        (root / name).write_bytes(name.encode())
    smoke = load_study("smoke")
    own = {
        "cohort": smoke.cohort.model_copy(update={"folder": Path("people.csv")}),
        "participants": Participants(table="participants.tsv", variable="age"),
        "regions": RegionSettings(atlas="jhu", atlas_folder="atlas"),
    }
    inputs = write_receipt(smoke.model_copy(update=own))["inputs"]
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in named}
    assert {name: inputs.get(name) for name in named} == hashes


@needs_browser
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_page_in_a_browser(page, tmp_path, width):
    script = """
      const rows = (table) => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
      const sorted = (label, column) => {
        const table = document.querySelector(`[aria-label='${label}'] table`);
        const heading = table.tHead.rows[0].cells[column], seen = [rows(table)];
        for (let i = 0; i < 2; i++) {
          heading.querySelector("button").click();
          seen.push(rows(table), heading.getAttribute("aria-sort"));
        }
        return seen;
      };
      return {
        measures: sorted("Mean measures by configuration", 1),
        agreement: sorted("Lesion burden by region", 5),
        shown: [...document.images].map((image) => image.naturalWidth),
      };"""
    found = examine(page, tmp_path, width, script)
    assert_sound(found, width)
    up, down = ["T1", "FLAIR"], ["FLAIR", "T1"]
    assert found["probed"]["measures"] == [down, up, "ascending", down, "descending"]
    unknown_last = [rows[-1] for rows in found["probed"]["agreement"][1::2]]
    assert unknown_last == ["Place 10", "Place 10"]
    assert found["probed"]["shown"] == [1800]
