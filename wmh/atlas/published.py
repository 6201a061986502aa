"""The authors' own region labels of the challenge's subjects, and ours beside them.

Machnio et al. (2024) registered the JHU atlas to white matter that FAST-AID Brain had found. Where
a study has labelled the same people, its labels are compared with theirs. Of people whose scans are
not at hand, the published labels still show the white matter (all labels above 0): then an atlas is
carried onto that, which compares the registrations alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from wmh.atlas.atlases import Atlas
from wmh.atlas.regions import ALL_LABELS, REGION_LABELS, region_dice
from wmh.atlas.registration import carry_labels, register_atlas
from wmh.images import Image, ImageError, load_labels, same_grid

GRID_TOLERANCE_MM = 1.0
"""Distance by which conversions may have parted the corners of one grid."""
MOST_CARRIED = 6
"""People an atlas is carried to, at most; each takes some seconds."""


def read_published(path: Path, flair: Image) -> Image:
    """The authors' own labels of a subject, voxel for voxel on its FLAIR's grid.

    Raises :class:`ImageError` for labels on another grid: the FLAIR is then not the challenge's own
    image of that subject.
    """
    labels = load_labels(path, ALL_LABELS)
    if not same_grid(labels, flair, GRID_TOLERANCE_MM):
        raise ImageError(
            path,
            f"these labels lie on another grid than {flair.path}",
            "They fit the challenge's own images only; set regions.atlas to jhu or built-in",
        )
    return replace(labels, affine=flair.affine)


def compare_with_published(
    ours: Path, published: dict[str, Path], atlas: Atlas, seed: int
) -> pd.DataFrame:
    """Dice of our labels and the published ones: one row per subject and region (1 to 34).

    ``ours`` is a study's folder of label images, ``published`` maps the challenge's subjects to the
    authors' labels. Where none of ours has the grid of its namesake (another person under the same
    id), ``atlas`` is carried onto the published white matter of the first people. ``white_matter``
    says whose the labels fill.
    """
    rows = []

    def add(name: str, theirs: Image, labels: Image, white_matter: str) -> None:
        dice = region_dice(theirs.data, labels.data)
        for region in REGION_LABELS:
            row = {"id": name, "region": region, "dice": dice[region], "white_matter": white_matter}
            rows.append(row)

    for name, path in tqdm(published.items(), "published labels", leave=False):
        own = ours / f"{name}.nii.gz"
        if own.is_file():
            theirs, labels = load_labels(path, ALL_LABELS), load_labels(own, ALL_LABELS)
            if same_grid(labels, theirs, GRID_TOLERANCE_MM):
                add(name, theirs, labels, "ours")
    for name in () if rows else tqdm(list(published)[:MOST_CARRIED], "registration", leave=False):
        theirs = load_labels(published[name], ALL_LABELS)
        white = replace(theirs, data=(theirs.data > 0).astype(np.uint8))
        fit = register_atlas(white, atlas.cerebral_white_matter, seed)
        add(name, theirs, carry_labels(atlas.labels, fit, white), "published")
    return pd.DataFrame(rows)
