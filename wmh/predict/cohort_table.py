"""The burden of a cohort in one table: a row a subject, and what each column means."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from wmh.atlas.regions import REGION_LABELS, region_name
from wmh.predict.derivatives import REGION_TABLE, Place, notices_of, write_json, write_tsv

NAME = "participants_burden"
QUANTITIES = {
    "lesion_ml": ("wmh_ml", "Lesion volume in {}", "ml"),
    "percent_of_region": ("percent", "Share of {} that is lesion", "%"),
    "share_of_lesions": ("share", "Share of all lesion volume that lies in {}", "1"),
}
"""Columns of a subject's table of regions: their ending here, meaning and unit."""


def write_cohort_table(root: Path, subjects: Iterable[tuple[Place, str]]) -> Path:
    """Write ``participants_burden.tsv`` and its data dictionary from the subjects' own files.

    ``subjects`` are places that are done, each with the subject's id in the source.
    """
    rows = [_row(place, source_id) for place, source_id in subjects]
    path = root / f"{NAME}.tsv"
    write_tsv(pd.DataFrame(rows, columns=list(_dictionary())), path)
    write_json(root / f"{NAME}.json", _dictionary())
    return path


def _row(place: Place, source_id: str) -> dict[str, object]:
    record = json.loads(place.record.read_text())
    regions = pd.read_csv(place.file(REGION_TABLE, ".tsv"), sep="\t").set_index("index")
    person, _, session = place.name.partition("_")
    facts = {
        "participant_id": person,
        "session_id": session or None,
        "source_id": source_id,
        "model": record["GeneratedBy"]["Model"],
        "given": record["Given"],
        "wmh_total_ml": record["LesionVolumeMl"],
        "wmh_count": record["LesionCount"],
        "notices": "; ".join(notices_of(place)) or None,
    }
    burden = {
        _column(label, ending): regions.loc[label, quantity]
        for quantity, (ending, _, _) in QUANTITIES.items()
        for label in REGION_LABELS
    }
    return facts | burden


def _dictionary() -> dict[str, dict[str, str]]:
    """Every column with its meaning and unit, in the order of the table."""
    first = {
        "participant_id": {"Description": "Person"},
        "session_id": {"Description": "Session; n/a where there is one only"},
        "source_id": {"Description": "The subject's id in the data that were given"},
        "model": {"Description": "Model that answered for lesions"},
        "given": {"Description": "Images it was given: FLAIR+T1, FLAIR or T1"},
        "wmh_total_ml": {"Description": "Volume of all lesions", "Units": "ml"},
        "wmh_count": {"Description": "Number of connected lesions", "Units": "1"},
        "notices": {"Description": "What looks wrong with the images; n/a where nothing does"},
    }
    burden = {
        _column(label, ending): {"Description": meaning.format(region_name(label)), "Units": unit}
        for ending, meaning, unit in QUANTITIES.values()
        for label in REGION_LABELS
    }
    return first | burden


def _column(label: int, ending: str) -> str:
    return f"region_{label:02d}_{ending}"
