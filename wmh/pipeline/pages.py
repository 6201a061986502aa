"""The page of a study: its claims, tables and figures, in one file that opens without a network."""

from __future__ import annotations

import base64
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from PIL import Image

import wmh
from wmh.pipeline.receipt import write_receipt
from wmh.pipeline.stages import files_of, stages_of
from wmh.study import Study, load_study, project_root

PAGES = Path(wmh.__file__).parent / "pages"
FIGURE_WIDTH = 1800
"""Pixels a figure is shown at in the page; the file beside it holds all it has."""

MEASURES = {
    "dice": "Dice",
    "hd95_mm": "HD95, mm",
    "avd_percent": "AVD, %",
    "lesion_recall": "Lesion recall",
    "lesion_f1": "Lesion F1",
}


@dataclass(frozen=True)
class Figure:
    """A figure of the study as the page shows it."""

    name: str
    title: str
    caption: str
    source: str
    """The picture itself, as a data address."""
    width: int
    height: int
    pdf: str | None
    """Path of the vector file, relative to the page."""


def write_index(study: Study) -> Path:
    """Write the study's receipt and its page ``results/STUDY/html/index.html``."""
    receipt = write_receipt(study)
    page = study.results / "html" / "index.html"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"difference": _difference, "p": _p_value, "measure": _measure}
    html = environment.get_template("index.html").render(
        study=study,
        receipt=receipt,
        simulated=study.cohort.source == "simulated",
        subjects=_subjects(study),
        left_out=_table(study, "left_out"),
        claims=_table(study, "claims"),
        measures=_measures(study),
        measure_titles=MEASURES,
        figures=_figures(study),
        stages=_stages(study, receipt["stages"]),
        tables=sorted(path.name for path in study.results.glob("*.csv")),
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    temporary = page.with_suffix(".part")
    temporary.write_text(html, encoding="utf-8")
    temporary.replace(page)
    return page


def _table(study: Study, name: str) -> list[dict]:
    """The rows of one of the study's tables; none when the study has not written it."""
    path = study.results / f"{name}.csv"
    if not path.exists():
        return []
    table = pd.read_csv(path)
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _subjects(study: Study) -> list[dict]:
    """Subjects and lesion volume by scanner and split."""
    rows = pd.DataFrame(_table(study, "cohort"))
    if rows.empty or "scanner" not in rows:
        return []
    rows["lesion_ml"] = rows["lesion_ml"].astype(float)
    groups = rows.groupby(["split", "scanner"], sort=False)["lesion_ml"]
    return (
        groups.agg(n="size", median="median", low="min", high="max")
        .reset_index()
        .to_dict("records")
    )


def _measures(study: Study) -> list[dict]:
    """Mean lesion measures of each model and input, over the test subjects."""
    rows = pd.DataFrame(_table(study, "metrics"))
    if rows.empty or "structure" not in rows:
        return []
    rows = rows[(rows["structure"] == "lesions") & rows["metric"].isin(list(MEASURES))]
    rows = rows.assign(value=rows["value"].astype(float))
    keys = ["model", "inputs_given"]
    means = rows.pivot_table("value", keys, "metric", sort=False).reindex(columns=list(MEASURES))
    means["n"] = rows.groupby(keys)["subject"].nunique()
    return means.reset_index().to_dict("records")


def _difference(value: float | None) -> str:
    """A difference with its sign, e.g. ``+0.041``; a real minus sign."""
    return "–" if value is None else f"{float(value):+.3f}".replace("-", "−")


def _p_value(value: float | None) -> str:
    """A p-value to two digits, or that it is below 0.001."""
    if value is None:
        return "–"
    return "< 0.001" if float(value) < 0.001 else f"{float(value):.2g}"


def _measure(value: float, metric: str) -> str:
    """A mean of a measure: mm and % with one decimal, shares with three."""
    if pd.isna(value):
        return "–"
    return f"{value:.1f}" if metric in ("hd95_mm", "avd_percent") else f"{value:.3f}"


def _figures(study: Study) -> list[Figure]:
    """The study's figures in the order of their names."""
    return [_figure(path, study) for path in sorted(study.figures.glob("*.png"))]


def _figure(path: Path, study: Study) -> Figure:
    picture = Image.open(path).convert("RGB")
    if picture.width > FIGURE_WIDTH:
        height = round(picture.height * FIGURE_WIDTH / picture.width)
        picture = picture.resize((FIGURE_WIDTH, height), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=88, method=4)
    caption = path.with_suffix(".txt")
    vector = path.with_suffix(".pdf")
    return Figure(
        name=path.stem,
        title=path.stem.lstrip("0123456789_").replace("_", " ").capitalize(),
        caption=caption.read_text().strip() if caption.exists() else "",
        source="data:image/webp;base64," + base64.b64encode(encoded.getvalue()).decode(),
        width=picture.width,
        height=picture.height,
        pdf=_from_page(vector, study) if vector.exists() else None,
    )


def _from_page(path: Path, study: Study) -> str:
    """A path as a link from the page."""
    up = len((study.results / "html").relative_to(project_root()).parts)
    return "../" * up + path.relative_to(project_root()).as_posix()


def _stages(study: Study, records: list[dict]) -> list[dict]:
    """Every stage: its title, its page and what it cost."""
    cost = {record["stage"]: record for record in records}
    return [
        {
            "title": stage.title,
            "page": files_of(study, stage).page.name,
            **{
                key: cost[stage.name][key]
                for key in ("seconds", "peak_memory_mb", "commit", "dirty")
            },
        }
        for stage in stages_of(study)
        if stage.name in cost
    ]


if __name__ == "__main__":
    write_index(load_study(sys.argv[1]))
