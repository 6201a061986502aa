"""BIDS derivatives: images, sidecars and a table of regions per subject; a table of the cohort."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from wmh.atlas.regions import REGION_LABELS, REGIONS, region_name
from wmh.cohorts.bids import OWN_PREDICTIONS
from wmh.figures.slices import region_colours
from wmh.files import complete
from wmh.images import save_image
from wmh.learning.models import Model
from wmh.predict.predictor import ScanPrediction

BIDS_VERSION = "1.10.0"
MASK, PROBABILITY = "label-WMH_mask", "label-WMH_probseg"
LABEL_IMAGE, REGION_TABLE = "label-WMregions_dseg", "label-WMregions_morph"

COHORT_TABLE = "participants_burden"
COHORT_COLUMNS = {
    "participant_id": {"Description": "Person"},
    "session_id": {"Description": "Session; n/a if the person has only one"},
    "source_id": {"Description": "The subject's id in the input data"},
    "model": {"Description": "Model that predicted the lesions"},
    "given": {"Description": "Images that the model was given: FLAIR+T1, FLAIR or T1"},
    "wmh_total_ml": {"Description": "Volume of all lesions", "Units": "ml"},
    "wmh_count": {"Description": "Number of connected lesions", "Units": "1"},
    "notices": {"Description": "What looks wrong with the images; n/a if nothing does"},
}
"""The first columns of the cohort's table, with meanings and units; columns of regions follow."""

QUANTITIES = {
    "lesion_ml": ("wmh_ml", "Lesion volume in {}", "ml"),
    "percent_of_region": ("percent", "Share of {} that is lesion", "%"),
    "share_of_lesions": ("share", "Share of all lesion volume that lies in {}", "1"),
}
"""Columns of a subject's table of regions: ending of their name in the cohort's table, meaning and
unit."""


@dataclass(frozen=True)
class Place:
    """The files of one subject's derivatives, ``sub-1`` or ``sub-1_ses-a``, in a folder."""

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        """``sub-1/`` or ``sub-1/ses-a/``."""
        return self.root.joinpath(*self.name.split("_"))

    @property
    def report(self) -> Path:
        """The subject's page."""
        return self.folder / "report.html"

    def file(self, kind: str, ending: str) -> Path:
        """A file of the subject, e.g. ``sub-1/anat/sub-1_label-WMH_mask.nii.gz``."""
        return self.folder / "anat" / f"{self.name}_{kind}{ending}"

    @property
    def record(self) -> Path:
        """The sidecar that is written last; it holds the fingerprint of the prediction."""
        return self.file(MASK, ".json")

    def read_record(self) -> dict:
        """The content of :attr:`record`."""
        return json.loads(self.record.read_text())

    def is_done(self, fingerprint: str) -> bool:
        """Return whether all files exist and their prediction has this fingerprint."""
        kinds = (PROBABILITY, LABEL_IMAGE, MASK)
        files = [self.file(kind, ending) for kind in kinds for ending in (".nii.gz", ".json")]
        if not all(
            path.is_file() for path in (*files, self.file(REGION_TABLE, ".tsv"), self.report)
        ):
            return False
        try:
            record = self.read_record()
            return record.get("Fingerprint") == fingerprint and "Notices" in record
        except ValueError:
            return False


def write_description(root: Path, source: Path) -> None:
    """Write ``dataset_description.json``, the look-up table of regions and ``.bidsignore``."""
    data = source if source.is_dir() else source.parent
    made_by = {
        "Name": OWN_PREDICTIONS,
        "Version": version("wmh"),
        "Description": "White matter hyperintensities and white-matter regions. Not for diagnosis.",
    }
    description = {
        "Name": "White matter hyperintensities and regions",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [made_by],
        "DatasetLinks": {"raw": Path(os.path.relpath(data, root)).as_posix()},
    }
    _write_json(root / "dataset_description.json", description)
    colours = region_colours()
    rows = [
        {"index": region.label, "name": region.name, "color": to_hex(colours(region.label))}
        for region in REGIONS
    ]
    write_tsv(pd.DataFrame(rows), root / f"{LABEL_IMAGE}.tsv")
    with complete(root / ".bidsignore") as part:
        part.write_text(f"**/report.html\n{COHORT_TABLE}.*\nleft_out.tsv\n")


def write_derivatives(
    found: ScanPrediction,
    place: Place,
    given: Mapping[str, Path],
    source: Path,
    fingerprint: str,
) -> None:
    """Write a subject's images, table of regions and sidecars; the record last, to mark the end."""
    save_image(place.file(MASK, ".nii.gz"), found.lesions.data, found.like)
    # rounded to three decimals, so that the compressed file is small
    save_image(place.file(PROBABILITY, ".nii.gz"), np.round(found.probability, 3), found.like)
    save_image(place.file(LABEL_IMAGE, ".nii.gz"), found.regions.data, found.like)
    table = found.burden.rename(columns={"region": "index", "region_name": "name"})
    write_tsv(table, place.file(REGION_TABLE, ".tsv"))
    sources = [_uri(path, source) for path in given.values()]
    common = {
        "Sources": sources,
        "SpatialReference": sources[0],
        "Manual": False,
        "Given": "+".join(found.images),
    }
    mirrored = "AveragedWithMirrored"
    lesions = _generated_by(found.lesion_model) | {mirrored: found.mirrored}
    regions = _generated_by(found.region_model) | {mirrored: found.regions_mirrored}
    measured = {
        "LesionVolumeMl": round(found.lesion_ml, 4),
        "LesionCount": found.lesion_count,
        "Notices": list(found.notices),
    }
    kind = {"Type": "Lesion", "Threshold": found.threshold}
    for name, content in (
        (PROBABILITY, common | {"LabelMap": ["WMH"]} | lesions),
        (LABEL_IMAGE, common | regions),
        (MASK, common | kind | lesions | measured),
    ):
        _write_json(place.file(name, ".json"), content | {"Fingerprint": fingerprint})


def write_cohort_table(root: Path, subjects: Iterable[tuple[Place, str]]) -> None:
    """Write ``participants_burden.tsv`` and its data dictionary from the subjects' own files.

    ``subjects`` are finished subjects' places, each with the subject's id in the source.
    """
    meanings = COHORT_COLUMNS | {
        f"region_{label:02d}_{ending}": {
            "Description": meaning.format(region_name(label)),
            "Units": unit,
        }
        for ending, meaning, unit in QUANTITIES.values()
        for label in REGION_LABELS
    }
    rows = []
    for place, source_id in subjects:
        record = place.read_record()
        regions = pd.read_csv(place.file(REGION_TABLE, ".tsv"), sep="\t").set_index("index")
        person, _, session = place.name.partition("_")
        facts = (
            person,
            session or None,
            source_id,
            record["GeneratedBy"]["Model"],
            record["Given"],
            record["LesionVolumeMl"],
            record["LesionCount"],
            "; ".join(record["Notices"]) or None,
        )
        burden = regions.loc[list(REGION_LABELS), list(QUANTITIES)].to_numpy().ravel(order="F")
        rows.append([*facts, *burden])
    write_tsv(pd.DataFrame(rows, columns=list(meanings)), root / f"{COHORT_TABLE}.tsv")
    _write_json(root / f"{COHORT_TABLE}.json", meanings)


def write_tsv(table: pd.DataFrame, path: Path) -> None:
    """Write a table in BIDS form: separated by tabs, ``n/a`` for missing values."""
    with complete(path) as part:
        table.to_csv(part, sep="\t", index=False, na_rep="n/a", float_format="%.6g")


def _write_json(path: Path, content: object) -> None:
    with complete(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


def _generated_by(model: Model) -> dict[str, object]:
    return {
        "GeneratedBy": {
            "Name": OWN_PREDICTIONS,
            "Version": version("wmh"),
            "Study": model.study,
            "Model": model.name,
            "Inputs": model.configuration.title,
            "TrainingStep": model.step,
            "InPlaneVoxelSizeMm": model.voxel_size_mm,
            "SliceThicknessMm": model.slice_thickness_mm,
        }
    }


def _uri(path: Path, source: Path) -> str:
    """A file's BIDS URI, ``bids:raw:sub-1/anat/...``, if it is below the source; else its path."""
    data = source if source.is_dir() else source.parent
    path, data = path.resolve(), data.resolve()
    return (
        f"bids:raw:{path.relative_to(data).as_posix()}" if path.is_relative_to(data) else str(path)
    )
