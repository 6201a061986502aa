"""A checked cohort for people (a table and a list of remedies) and for programs (JSON)."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from wmh.cohorts.check import Checked, Report, holds_0_and_255
from wmh.images import Image, save_image


def as_text(report: Report) -> str:
    """A table of the subjects, then each problem with its remedy, then a verdict."""
    table = pd.DataFrame([_cells(row) for row in report.rows])
    problems = [str(problem) for row in report.rows for problem in row.problems]
    warnings = [warning for row in report.rows for warning in row.warnings]
    parts = [table.to_string(index=False)]
    parts += [f"\nProblems:\n{_listed(problems)}"] * bool(problems)
    parts += [f"\nWarnings:\n{_listed(warnings)}"] * bool(warnings)
    if report.missing:
        parts.append(
            f"\nMissing, of the challenge's subjects ({len(report.missing)}):\n"
            f"{_listed(report.missing)}\n  `wmh fetch challenge` fetches what is missing."
        )
    if any(_is_repairable(row) for row in report.rows):
        parts.append(
            "\n`wmh check PATH --repair FOLDER` writes copies of the masks of 0 and 255 as 0 and 1 "
            "and a table that uses them; the originals stay as they are."
        )
    usable = sum(row.usable for row in report.rows)
    return "\n".join([*parts, f"\n{usable} of {len(report.rows)} subjects can be used."])


def as_json(report: Report) -> str:
    """The same facts as JSON; volumes in ml, lengths in mm."""
    rows = []
    for row in report.rows:
        facts = asdict(row)
        facts.pop("fingerprints"), facts.pop("overlaps")
        rows.append({**facts.pop("subject"), "usable": row.usable, **facts})
    content = {
        "path": str(report.path),
        "layout": report.layout,
        "usable": report.usable,
        "subjects": rows,
        "missing": report.missing,
    }
    return json.dumps(content, indent=2, default=str)


def repair_masks(report: Report, folder: Path) -> Path:
    """Write 0/1 copies of masks of 0 and 255, and ``cohort.csv``, which names them; its path.

    The table lists every subject, with the other images where they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "cohort.csv"
    temporary = table.with_suffix(".part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", "scanner", "flair", "t1", "lesions"])
        for row in report.rows:
            subject, lesions = row.subject, row.subject.lesions
            if _is_repairable(row):
                lesions = _repaired(lesions, folder / f"{subject.id}_lesions.nii.gz")
            paths = [p.resolve() if p else "" for p in (subject.flair, subject.t1, lesions)]
            writer.writerow([subject.id, subject.split, subject.scanner, *paths])
    temporary.replace(table)
    return table


def _is_repairable(row: Checked) -> bool:
    return "lesions" not in row.present and holds_0_and_255(row.subject.lesions)


def _repaired(mask: Path, target: Path) -> Path:
    file = nib.load(mask)
    data = (np.asanyarray(file.dataobj) > 0).astype(np.uint8)
    data = data.reshape(data.shape[:3])
    return save_image(target, data, Image(data, file.affine, mask, file.header))


def _cells(row: Checked) -> dict[str, object]:
    def joined(values: tuple | None) -> str:
        return " x ".join(f"{value:g}" for value in values) if values else "-"

    return {
        "subject": row.subject.id,
        "split": row.subject.split or "to be drawn",
        "scanner": row.subject.scanner,
        "there": "+".join(row.present) or "-",
        "grid": joined(row.shape),
        "voxel mm": joined(row.voxel_size_mm),
        "axes": row.orientation or "-",
        "lesion ml": "-" if row.lesion_ml is None else f"{row.lesion_ml:.1f}",
        "T1 off mm": "-" if row.t1_offset_mm is None else f"{row.t1_offset_mm:.1f}",
        "problems": len(row.problems) or "none",
    }


def _listed(lines: list[str]) -> str:
    return "\n".join(f"  - {line}" for line in lines)
