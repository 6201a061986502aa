"""One subject's results as BIDS derivatives: images, their sidecars and a table of regions."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from wmh.atlas.regions import REGIONS
from wmh.cohorts.bids import OWN_PREDICTIONS
from wmh.figures.slices import region_colours
from wmh.images import save_image
from wmh.learning.models import Model
from wmh.predict.answer import Answer

BIDS_VERSION = "1.10.0"
MASK, PROBABILITY = "label-WMH_mask", "label-WMH_probseg"
REGION_LABELS, REGION_TABLE = "label-WMregions_dseg", "label-WMregions_morph"


@dataclass(frozen=True)
class Place:
    """Where one subject's derivatives lie: ``sub-1`` or ``sub-1_ses-a`` in a folder."""

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
        """The sidecar that is written last and holds the fingerprint of what was answered."""
        return self.file(MASK, ".json")

    def files(self) -> list[Path]:
        """All of the subject's files, the record last."""
        images = (PROBABILITY, REGION_LABELS, MASK)
        return [
            *(self.file(kind, ".nii.gz") for kind in images),
            self.file(REGION_TABLE, ".tsv"),
            self.report,
            *(self.file(kind, ".json") for kind in images),
        ]

    def is_done(self, fingerprint: str) -> bool:
        """Whether all files are there and answer from what the fingerprint stands for."""
        if not all(path.is_file() for path in self.files()):
            return False
        try:
            record = json.loads(self.record.read_text())
            return record.get("Fingerprint") == fingerprint and "Notices" in record
        except ValueError:
            return False


def notices_of(place: Place) -> tuple[str, ...]:
    """What a finished subject's record says looks wrong with the images."""
    return tuple(json.loads(place.record.read_text())["Notices"])


def write_description(root: Path, source: Path) -> None:
    """``dataset_description.json``, the look-up table of regions and ``.bidsignore``."""
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
    write_json(root / "dataset_description.json", description)
    colours = region_colours()
    rows = [
        {"index": region.label, "name": region.name, "color": to_hex(colours(region.label))}
        for region in REGIONS
    ]
    write_tsv(pd.DataFrame(rows), root / f"{REGION_LABELS}.tsv")
    _write(root / ".bidsignore", "**/report.html\nparticipants_burden.*\nleft_out.tsv\n")


def write_images(
    answer: Answer, place: Place, given: Mapping[str, Path], source: Path
) -> dict[str, dict]:
    """Write a subject's images and table of regions; returns the sidecars, not written yet."""
    save_image(place.file(MASK, ".nii.gz"), answer.lesions.data, answer.like)
    # three decimals, so that it packs small
    save_image(place.file(PROBABILITY, ".nii.gz"), np.round(answer.probability, 3), answer.like)
    save_image(place.file(REGION_LABELS, ".nii.gz"), answer.regions.data, answer.like)
    table = answer.burden.rename(columns={"region": "index", "region_name": "name"})
    write_tsv(table, place.file(REGION_TABLE, ".tsv"))
    sources = [_uri(path, source) for path in given.values()]
    common = {"Sources": sources, "SpatialReference": sources[0], "Manual": False}
    common["AveragedWithMirrored"] = answer.mirrored
    common["Given"] = answer.given
    lesions = _model_facts(answer.lesion_model)
    return {
        PROBABILITY: {**common, "LabelMap": ["WMH"], **lesions},
        REGION_LABELS: {**common, **_model_facts(answer.region_model)},
        MASK: {
            **common,
            "Type": "Lesion",
            "Threshold": answer.threshold,
            **lesions,
            "LesionVolumeMl": round(answer.lesion_ml, 4),
            "LesionCount": answer.lesion_count,
            "Notices": list(answer.notices),
        },
    }


def write_sidecars(place: Place, sidecars: Mapping[str, dict], fingerprint: str) -> None:
    """Write the sidecars of :func:`write_images`, the record last: now the subject is done."""
    for kind, content in sidecars.items():
        write_json(place.file(kind, ".json"), content | {"Fingerprint": fingerprint})


def write_tsv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as BIDS has it: tabs, and ``n/a`` for what is not known."""
    _write(path, table.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.6g"))


def _model_facts(model: Model) -> dict[str, object]:
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
    """A file as BIDS names it: ``bids:raw:sub-1/anat/...`` below the source, else its path."""
    data = source if source.is_dir() else source.parent
    path, data = path.resolve(), data.resolve()
    return (
        f"bids:raw:{path.relative_to(data).as_posix()}" if path.is_relative_to(data) else str(path)
    )


def write_json(path: Path, content: object) -> None:
    _write(path, json.dumps(content, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    """Write a text; it appears under its name only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
