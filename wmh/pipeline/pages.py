"""The page of a study: its claims, tables and figures, in one file that opens without a network.

All cells of the tables are text. Each table's index holds the names of the rows, and the index's
name is their heading.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pandas as pd
from PIL import Image

from wmh.analysis.statistics import REGIONS_MEAN
from wmh.cohorts.cohort import left_out_note, read_left_out, scanners_table
from wmh.figures.parts import read_table, source_names
from wmh.figures.printed import (
    evidence_table,
    means_table,
    p_text,
    printed,
    signed,
    with_interval,
)
from wmh.figures.style import (
    MEASURES,
    configuration_name,
    in_order,
    look_of,
    scanner_name,
)
from wmh.pages import as_webp, webp_address, write_page
from wmh.pipeline.receipt import write_receipt
from wmh.pipeline.stages import Stage, files_of, stages_of
from wmh.study import Study, load_study

Made = TypeVar("Made")

FIGURE_WIDTH = 1800
"""Largest width of a figure on the page, in pixels; the figure's own file may have more."""

FIGURE_DPI, SCREEN_DPI = 300, 96
"""Pixels per inch of a saved figure, and of a page."""


def write_index(study: Study) -> Path:
    """Write the study's receipt and its page ``results/STUDY/html/index.html``."""
    receipt = write_receipt(study)
    names = ("cohort", "claims", "burden", "agreement")
    cohort, claims, burden, agreement = (_read(study, name) for name in names)
    records = {record["stage"]: record for record in receipt["stages"]}
    return write_page(
        study.results / "html" / "index.html",
        "index.html",
        study=study,
        receipt=receipt,
        simulated=study.cohort.source == "simulated",
        models=[(look_of(name).name, model) for name, model in study.models.items()],
        cohort=_about(cohort),
        left_out=_left_out(study),
        glance=_made(claims_at_a_glance, claims),
        verdicts=_verdicts(claims),
        subjects=_made(subjects_table, cohort),
        measures=_made(measures_table, _read(study, "means")),
        comparisons=_made(comparisons_table, _read(study, "comparisons")),
        burden=None if burden is None else burden_table(burden, agreement, source_names(study)),
        figures=[_figure(path, study) for path in sorted(study.figures.glob("*.png"))],
        stages=[
            (_title(stage), files_of(study, stage).page.name, records[stage.name])
            for stage in stages_of(study)
            if stage.name in records
        ],
        files=sorted(path.name for path in study.results.glob("*.csv")),
    )


def subjects_table(cohort: pd.DataFrame) -> pd.DataFrame:
    """Subjects and their lesion volume by split and scanner."""
    table = scanners_table(cohort).reset_index().drop(columns="grid")
    table["scanner"] = [scanner_name(name).replace("\n", ", ") for name in table["scanner"]]
    volumes = table.columns[table.columns.str.startswith("lesion_ml")]
    table[volumes] = table[volumes].map(printed, metric="ml")
    headings = ("Split", "Scanner", "Subjects", "Median lesion volume, ml", "Smallest", "Largest")
    return table.set_axis(headings, axis="columns").set_index("Scanner")


def claims_at_a_glance(claims: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Every claim: its sentence, its verdict, and the results that the verdict rests on."""
    return [
        (rows["sentence"].iloc[0], rows["claim_verdict"].iloc[0], evidence_table(rows))
        for _, rows in claims.groupby("claim", sort=False)
    ]


def measures_table(means: pd.DataFrame) -> pd.DataFrame:
    """Mean measures of each configuration with their intervals over the test subjects."""
    return means_table(means).replace("", "–").rename_axis("configuration")


def comparisons_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Every planned comparison: paired difference, effect size and corrected p."""
    rows = []
    for row in comparisons.itertuples():
        first = configuration_name(row.model_a, row.inputs_a)
        second = configuration_name(row.model_b, row.inputs_b)
        known = MEASURES.get(row.metric)
        measure = known.label if known else row.metric.replace("_", " ")
        cells = {
            "comparison": f"{first} minus {second}",
            "measure": f"Region {measure}" if row.structure == REGIONS_MEAN else measure,
            "family": row.family,
            "n": row.n,
            "mean difference [interval]": with_interval(
                row.mean_difference, row.ci_low, row.ci_high, row.metric, difference=True
            ),
            "rank-biserial effect": signed(row.rank_biserial),
            "corrected p": p_text(row.p_holm),
        }
        rows.append(cells)
    return pd.DataFrame(rows).set_index("comparison")


def burden_table(
    burden: pd.DataFrame, agreement: pd.DataFrame | None, names: dict[str, str]
) -> pd.DataFrame:
    """Mean lesion volume by region, true and from each source, with the source's agreement.

    ``names`` are the printed names of the sources.
    """
    measured = ["lesion_ml", "percent_of_region", "share_of_lesions"]
    means = burden.groupby(["source", "region", "region_name"])[measured].mean()
    truth = means.loc["truth"]
    table = pd.DataFrame(
        {
            "truth, ml": truth["lesion_ml"].map(printed),
            "truth, % of region": truth["percent_of_region"].map(printed, metric="percent"),
            "truth, % of all lesion": (100 * truth["share_of_lesions"]).map(
                printed, metric="percent"
            ),
        }
    )
    regions = table.index.get_level_values("region").astype(str)
    for source in in_order(burden["source"], names)[1:]:  # the truth stands first
        name = names[source]
        table[f"{name}, ml"] = means.loc[source, "lesion_ml"].map(printed)
        if agreement is not None:
            own = agreement[agreement["source"] == source]
            icc = own.groupby("region")["icc"].mean().reindex(regions)
            table[f"{name}, ICC(A,1)"] = icc.map(printed).to_numpy()
    return table.fillna("–").droplevel("region").rename_axis("region")


def _read(study: Study, name: str) -> pd.DataFrame | None:
    """One of the study's tables; None if no stage has written it, or it has no rows."""
    table = read_table(study, name) if study.table(name).exists() else pd.DataFrame()
    return None if table.empty else table


def _made(make: Callable[[pd.DataFrame], Made], table: pd.DataFrame | None) -> Made | None:
    return None if table is None else make(table)


def _about(cohort: pd.DataFrame | None) -> dict | None:
    """Count the subjects and scanners of each split."""
    if cohort is None:
        return None
    scanners = {split: set(rows["scanner"]) for split, rows in cohort.groupby("split")}
    return {
        "training": int((cohort["split"] == "training").sum()),
        "test": int((cohort["split"] == "test").sum()),
        "scanners": cohort["scanner"].nunique(),
        "unseen": len(scanners.get("test", set()) - scanners.get("training", set())),
    }


def _left_out(study: Study) -> dict:
    """Subjects that were left out: a sentence, and each subject with its problems."""
    if not study.table("left_out").exists():
        return {"note": "There is no record of who was left out.", "who": []}
    who = read_left_out(study.results).to_dict("records")
    return {"note": left_out_note(study.results), "who": who}


def _verdicts(claims: pd.DataFrame | None) -> str:
    """Count the claims of each verdict, in words."""
    if claims is None:
        return ""
    count = Counter(claims.groupby("claim")["claim_verdict"].first())
    known = ("supported", "not supported", "inconclusive", "not judged")
    return ", ".join(f"{count[verdict]} {verdict}" for verdict in known if count[verdict])


def _figure(path: Path, study: Study) -> dict[str, object]:
    """A figure for the page, with its title, caption and sizes (``print_width`` in CSS pixels)."""
    picture = Image.open(path).convert("RGB")
    print_width = round(picture.width * SCREEN_DPI / FIGURE_DPI)
    if picture.width > FIGURE_WIDTH:
        height = round(picture.height * FIGURE_WIDTH / picture.width)
        picture = picture.resize((FIGURE_WIDTH, height), Image.Resampling.LANCZOS)
    number, _, name = path.stem.partition("_")
    text = path.with_suffix(".txt")
    words = text.read_text().strip() if text.exists() else f"{name.replace('_', ' ')}."
    title, _, caption = words.partition(". ")
    vector = path.with_suffix(".pdf")
    return {
        "name": path.stem,
        "label": f"Figure {int(number)}",
        "title": title.rstrip("."),
        "caption": caption,
        "source": webp_address(as_webp(picture)),
        "width": picture.width,
        "height": picture.height,
        "print_width": print_width,  # at a smaller width its text could not be read
        "pdf": os.path.relpath(vector, study.results / "html") if vector.exists() else None,
    }


def _title(stage: Stage) -> str:
    """A stage's name on the page, e.g. ``03 Train lesions: FLAIR, repeat 2``."""
    number, _, words = stage.notebook.partition("_")
    title = f"{number} {words.replace('_', ' ').capitalize()}"
    if stage.model:
        title += f": {look_of(stage.model).name}"
    return title + (f", repeat {stage.repeat}" if stage.repeat > 1 else "")


if __name__ == "__main__":
    write_index(load_study(sys.argv[1]))
