"""A report of all problems of all subjects of a cohort, each with its remedy.

It can be printed for people (a table and a list of remedies) and for programs (JSON).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm.auto import tqdm

from wmh.cohorts.align import bring_t1_to_flair, head_mask, raise_without_overlap
from wmh.cohorts.challenge import known_subjects, missing_subjects
from wmh.cohorts.cohort import LESION_LABELS, Found, Problem
from wmh.cohorts.plausible import notices
from wmh.cohorts.sources import Layout, find_subjects, layout_of
from wmh.cores import cores_here, processes
from wmh.files import write_table
from wmh.images import Image, ImageError, load_image, load_labels, same_grid, save_image

MOST_LESION_OUTSIDE_HEAD = 0.05
"""Largest share of the lesion volume that may lie outside the rough head mask."""
SEED = 0
"""Seed of the rigid registration that measures how far T1 and FLAIR lie apart."""
WORTH_PROCESSES = 12
"""Smallest number of subjects for which several processes are started, which takes some seconds."""


@dataclass(frozen=True)
class Report:
    """All subjects of a folder or table, and the challenge's subjects that are missing in it."""

    path: Path
    layout: Layout
    rows: list[Found]
    missing: list[str]

    @property
    def usable(self) -> bool:
        """True if every subject can be used as it is, and none is missing."""
        return not self.missing and all(row.usable for row in self.rows)


def check_path(path: Path | str) -> Report:
    """Check all subjects of a challenge tree, a BIDS folder or a CSV table.

    Raises :class:`CohortError` when no subject is found.
    """
    path, layout = Path(path), layout_of(path)
    rows = add_duplicates(map_subjects(check_subject, find_subjects(path, layout), "checking"))
    if layout != "challenge" or any(row.subject.true_regions for row in rows):
        return Report(path, layout, rows, [])  # simulated subjects are none of the challenge's
    splits = [split for split in ("training", "test") if (path / split).is_dir()]
    missing = [place for split in splits for place in missing_subjects(path, split)]
    return Report(path, layout, [_compare_with_known(row) for row in rows], missing)


def map_subjects(work: Callable[[Found], Found], subjects: list[Found], title: str) -> list[Found]:
    """Apply ``work`` to each subject, in order; for many subjects, with one process per core."""
    bar = partial(tqdm, total=len(subjects), desc=title, leave=False)
    if len(subjects) < WORTH_PROCESSES:
        return list(bar(map(work, subjects)))
    with processes(cores_here()) as pool:
        return list(bar(pool.map(work, subjects)))


def check_subject(found: Found) -> Found:
    """Find all problems of one subject's files, and whatever looks wrong in the images.

    If T1 and FLAIR have different grids, also measure how far the T1 lies off the FLAIR.
    """
    row, flair, t1 = read_subject(found)
    if flair and t1 and not same_grid(flair, t1):
        _, offset = bring_t1_to_flair(t1, flair, register=False, seed=SEED)
        row = replace(row, t1_offset_mm=round(offset, 1))
    images = {name: image for name, image in (("FLAIR", flair), ("T1", t1)) if image}
    try:
        said = notices(images) if images else ()
    except ImageError as error:  # no brain found: a study may still use the image, so only warn
        said = (str(error),)
    return replace(row, warnings=(*row.warnings, *said))


def read_subject(found: Found) -> tuple[Found, Image | None, Image | None]:
    """Read a subject's files once; return the subject with its problems, the FLAIR and the T1.

    An image is None if it cannot be used; so is a T1 that does not overlap the FLAIR.
    """
    subject, problems, facts = found.subject, list(found.problems), {}
    flair = _try(problems, load_image, subject.flair)
    t1 = _try(problems, load_image, subject.t1)
    lesions = _try(problems, lambda path: load_labels(path, LESION_LABELS), subject.lesions)
    images = {"FLAIR": flair, "T1": t1, "lesions": lesions}
    images = {name: image for name, image in images.items() if image}
    if flair:
        facts["shape"] = flair.data.shape
        facts["voxel_size_mm"] = tuple(flair.voxel_size.round(4).tolist())
        facts["orientation"] = flair.orientation
    if lesions:
        volumes = [round(float((lesions.data == k).sum() * lesions.voxel_ml), 4) for k in (1, 2)]
        facts["lesion_ml"], facts["other_pathology_ml"] = volumes
    if flair and lesions:
        _try(problems, lambda mask: _raise_unless_on_head(mask, flair), lesions)
    if flair and t1 and not same_grid(flair, t1):
        t1 = _try(problems, lambda image: raise_without_overlap(image, flair) or image, t1)
    fingerprints = {
        str(image.path): _fingerprint(image) for image in images.values() if image.data.any()
    }
    facts |= {"present": tuple(images), "fingerprints": fingerprints}
    return replace(found, problems=tuple(problems), **facts), flair, t1


def _try(problems: list[Problem], action: Callable, argument: object) -> object | None:
    """The result of an action on a file. If the file cannot be used: None, and a problem added."""
    if argument is None:
        return None
    try:
        return action(argument)
    except ImageError as error:
        problems.append(Problem(str(error.path), error.problem, error.remedy))
        return None


def _raise_unless_on_head(lesions: Image, flair: Image) -> None:
    """Raise :class:`ImageError` for a mask on another grid than the FLAIR, or outside its head."""
    if not same_grid(lesions, flair):
        remedy = (
            "Resample the mask by nearest neighbour: nilearn.image.resample_to_img(mask, flair, "
            "interpolation='nearest')"
        )
        raise ImageError(lesions.path, f"lies on another grid than {flair.path}", remedy)
    lesion = lesions.data == 1
    head = ndimage.binary_dilation(head_mask(flair), iterations=2)
    outside = (lesion & ~head).sum() / max(lesion.sum(), 1)
    if outside > MOST_LESION_OUTSIDE_HEAD:
        problem = f"{outside:.0%} of the lesion volume lies outside the head"
        remedy = "Look at the mask on the FLAIR; it may be flipped, or belong to another person"
        raise ImageError(lesions.path, problem, remedy)


def _fingerprint(image: Image) -> str:
    """Hash of the voxels, so that a copy is found however it was compressed."""
    content = np.ascontiguousarray(image.data)
    return hashlib.sha256(repr(content.shape).encode() + content.tobytes()).hexdigest()


def add_duplicates(rows: list[Found]) -> list[Found]:
    """Add problems that show only between subjects: duplicate ids, people and images."""
    names = Counter(row.subject.id for row in rows)
    splits, pictures = defaultdict(set), defaultdict(list)
    for number, row in enumerate(rows):
        splits[row.subject.person].add(row.subject.split)
        for path, fingerprint in row.fingerprints.items():
            pictures[fingerprint].append((number, path))
    checked = []
    for number, row in enumerate(rows):
        problems, name = list(row.problems), row.subject.id
        if names[name] > 1:
            problem = f"the id occurs {names[name]} times"
            problems.append(Problem(name, problem, "Give every subject an id of its own"))
        if len(splits[row.subject.person]) > 1:
            remedy = "Keep all sessions of a person in one split, so that test people are unseen"
            problems.append(Problem(name, "the person is in both splits", remedy))
        for path, fingerprint in row.fingerprints.items():
            doubles = [
                (other, elsewhere)
                for other, elsewhere in pictures[fingerprint]
                if (other, elsewhere) != (number, path)
                and (elsewhere != path or rows[other].subject.person != row.subject.person)
            ]  # sessions of a person may share a file
            if doubles:
                other_number, other_path = doubles[0]
                twin = rows[other_number].subject.id
                problem = f"is the same image as {other_path} of subject {twin}"
                remedy = "Find out whose image it is, and remove the other"
                problems.append(Problem(path, problem, remedy))
        checked.append(replace(row, problems=tuple(problems)))
    return checked


def _compare_with_known(row: Found) -> Found:
    """Compare a subject with the facts that the challenge publishes about it."""
    table, subject = known_subjects(), row.subject
    known = next(iter(table[table["id"] == subject.id].itertuples()), None)
    if known is None:
        warning = f"{subject.id}: the challenge has no subject with this id"
        return replace(row, warnings=(*row.warnings, warning))
    problems, warnings = list(row.problems), list(row.warnings)
    if known.split != subject.split:
        problem = f"lies in {subject.split}/, but is a {known.split} subject of the challenge"
        problems.append(Problem(subject.id, problem, f"Move its folder to {known.split}/"))
    if row.shape and row.shape != (known.nx, known.ny, known.nz):
        shown = " x ".join(map(str, (known.nx, known.ny, known.nz)))
        warnings.append(f"{subject.flair}: does not have the challenge's grid of {shown} voxels")
    return replace(row, problems=tuple(problems), warnings=tuple(warnings))


def as_text(report: Report) -> str:
    """A table of the subjects, then each problem with its remedy, then a verdict."""
    table = pd.DataFrame([_cells(row) for row in report.rows])
    lists = {
        "Problems": [problem for row in report.rows for problem in row.problems],
        "Warnings": [warning for row in report.rows for warning in row.warnings],
        f"Missing subjects of the challenge ({len(report.missing)})": report.missing,
    }
    parts = [table.to_string(index=False)]
    for title, lines in lists.items():
        if lines:
            parts += [f"\n{title}:", *(f"  - {line}" for line in lines)]
    if report.missing:
        parts.append("  `wmh fetch challenge` fetches them.")
    if any(_is_repairable(row) for row in report.rows):
        parts.append(
            "\nSome masks hold 0 and 255. `wmh check PATH --repair FOLDER` writes copies with 0 "
            "and 1, and a table that names them; the originals stay as they are."
        )
    usable = sum(row.usable for row in report.rows)
    return "\n".join([*parts, f"\n{usable} of {len(report.rows)} subjects can be used."])


def as_json(report: Report) -> str:
    """The same facts as JSON; volumes in ml, lengths in mm."""
    rows = []
    for row in report.rows:
        facts = asdict(row)
        facts.pop("fingerprints")
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
    """Write 0/1 copies of masks of 0 and 255, and the table ``cohort.csv``; return its path.

    The table lists every subject with its repaired mask, and the other images where they lie.
    """
    rows = []
    for row in report.rows:
        subject, lesions = row.subject, row.subject.lesions
        if _is_repairable(row):
            file = nib.load(lesions)
            data = (np.asanyarray(file.dataobj) > 0).astype(np.uint8)
            data = data.reshape(data.shape[:3])
            mask = Image(data, file.affine, lesions, file.header)
            lesions = save_image(folder / f"{subject.id}_lesions.nii.gz", data, mask)
        images = {"flair": subject.flair, "t1": subject.t1, "lesions": lesions}
        about = {name: getattr(subject, name) for name in ("id", "split", "scanner")}
        rows.append(about | {name: path and path.resolve() for name, path in images.items()})
    return write_table(pd.DataFrame(rows), folder / "cohort.csv")


def _is_repairable(row: Found) -> bool:
    """Return whether a subject's mask marks lesions by 255, as image editors do."""
    if "lesions" in row.present or row.subject.lesions is None:
        return False
    try:
        values = np.unique(np.asanyarray(nib.load(row.subject.lesions).dataobj))
    except (OSError, ValueError, TypeError, EOFError, nib.filebasedimages.ImageFileError):
        return False
    return set(values.tolist()) == {0, 255}


def _cells(row: Found) -> dict[str, object]:
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
