"""The study's page: self-contained, accessible, its tables sort; and the receipt beside it."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from wmh.pipeline.pages import MEASURES, write_index
from wmh.pipeline.stages import files_of, stages_of
from wmh.study import load_study, project_root

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(HTMLParser):
    """The tags of a page with their attributes, in order."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


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
        for i, (s, ml) in enumerate([("utrecht_philips_3t", 3.0), ("utrecht_philips_3t", 5.0)])
    ]
    pd.DataFrame(cohort).to_csv(study.results / "cohort.csv", index=False)
    metrics = [
        {"subject": subject, "scanner": "x", "model": model, "inputs_given": "FLAIR"}
        | {"structure": "lesions", "metric": metric, "value": value + subject}
        for subject in (0, 1)
        for model, value in (("flair", 0.5), ("t1", 0.25))
        for metric in MEASURES
    ]
    pd.DataFrame(metrics).to_csv(study.results / "metrics.csv", index=False)
    claims = [
        {"claim": f"c{n}", "sentence": f"A < B & {n}", "comparison": "a minus b", "n": 15}
        | {"mean_difference": d, "ci_low": d - 1, "ci_high": d + 1, "p_holm": p, "verdict": v}
        for n, d, p, v in [
            (0, -0.05, 0.0001, "supported"),
            (1, 0.2, 0.04, "not supported"),
            (2, 0.1, None, "inconclusive"),
        ]
    ]
    pd.DataFrame(claims).to_csv(study.results / "claims.csv", index=False)
    study.figures.mkdir(parents=True)
    Image.new("RGB", (3000, 1000), "white").save(study.figures / "03_lesion_measures.png")
    (study.figures / "03_lesion_measures.txt").write_text("Dice of 2 subjects.\n")
    (study.figures / "03_lesion_measures.pdf").touch()
    for stage in stages_of(study):
        files = files_of(study, stage)
        for path in (files.page, files.record):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        cost = {"seconds": 1.5, "peak_memory_mb": 300, "commit": "0" * 40, "dirty": True}
        files.record.write_text(json.dumps({"stage": stage.name, **cost}))


def test_the_page_needs_nothing_but_itself(page):
    html = page.read_text()
    tags = Page(html)
    loaded = [a.get("src") for a in tags.all("img", "script", "iframe")]
    assert all(address is None or address.startswith("data:") for address in loaded)
    assert not tags.all("link")
    assert "@import" not in html
    assert not re.search(r"url\((?!data:)", html)


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
    html = page.read_text()
    for text in ("−0.050", "+0.200", "&lt; 0.001", "A &lt; B &amp; 0", "Dice of 2 subjects."):
        assert text in html
    assert '<span class="verdict not-supported">not supported</span>' in html
    assert "<strong>Simulated data.</strong>" in html
    cells = re.findall(r'<th scope="row">(?:flair|t1)</th>.*?</tr>', html)
    assert [re.findall(r"\d+\.\d+", cell)[0] for cell in cells] == ["1.000", "0.750"]


def test_the_receipt_names_code_machine_seeds_and_every_input(page):
    receipt = json.loads((page.parents[1] / "receipt.json").read_text())
    assert receipt["seeds"]["study"] == load_study("smoke").seed
    assert receipt["hardware"]["cores"] >= 1
    assert {"torch", "numpy", "snakemake"} <= set(receipt["packages"])
    assert receipt["inputs"]["flair.nii.gz"] == hashlib.sha256(b"image").hexdigest()
    assert {"studies/smoke.yaml", "notebooks/01_data_preparation.ipynb"} <= set(receipt["inputs"])
    assert [stage["seconds"] for stage in receipt["stages"]] == [1.5] * 12
    assert "commit" in receipt
    assert "dirty" in receipt


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_tables_sort_in_a_browser_without_an_error(page, tmp_path):
    probe = """<script>
      const rows = (table) => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
      const table = document.querySelector("[aria-label='Lesion measures'] table");
      const heading = table.tHead.rows[0].cells[3], seen = [rows(table)];
      for (let i = 0; i < 2; i++) {
        heading.querySelector("button").click();
        seen.push(rows(table), heading.getAttribute("aria-sort"));
      }
      const shown = [...document.images].map((image) => image.naturalWidth);
      const wide = document.documentElement.scrollWidth;
      document.title = JSON.stringify({seen, shown, wide, errors});
    </script></body>"""
    trap = "<head><script>window.errors = []; onerror = (m) => { errors.push(m); };</script>"
    html = page.read_text().replace("<head>", trap).replace("</body>", probe)
    copy = tmp_path / "probe.html"
    copy.write_text(html.replace('loading="lazy"', ""))
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=500,900"]
    command += ["--virtual-time-budget=2000", "--dump-dom", copy.as_uri()]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    found = json.loads(re.search(r"<title>(.*?)</title>", printed)[1])
    assert found["errors"] == []
    assert found["seen"][1:] == [["t1", "flair"], "ascending", ["flair", "t1"], "descending"]
    assert found["shown"] == [1800]
    assert found["wide"] <= 500
