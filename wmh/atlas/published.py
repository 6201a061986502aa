"""The authors' own region labels of the challenge's subjects, compared with ours.

Machnio et al. (2024) registered the JHU atlas to white matter found by FAST-AID Brain. If a study
has labelled the same people, its labels are compared with theirs. Without the people's scans, the
published labels still show the white matter (all labels above 0). Then an atlas is registered to
that, and the comparison is one of the registrations only.
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
"""Largest distance between the corners of two grids that count as one, after file conversions."""
MOST_CARRIED = 6
"""Largest number of people to whom an atlas is registered here; each takes some seconds."""


def read_published(path: Path, flair: Image) -> Image:
    """The authors' own labels of a subject, with the affine of its FLAIR.

    Raises :class:`ImageError` for labels on another grid: then the FLAIR is not the challenge's
    image of that subject.
    """
    labels = load_labels(path, ALL_LABELS)
    if not same_grid(labels, flair, GRID_TOLERANCE_MM):
        raise ImageError(
            path,
            f"these labels lie on another grid than {flair.path}",
            "They fit only the challenge's own images; set regions.atlas to jhu or built-in",
        )
    return replace(labels, affine=flair.affine)


def compare_with_published(
    ours: Path, published: dict[str, Path], atlas: Atlas, seed: int
) -> pd.DataFrame:
    """Dice of our labels and the published ones: one row per subject and region (1 to 34).

    ``ours`` is a study's folder of label images; ``published`` maps the challenge's subjects to the
    authors' labels. If none of ours has the grid of the published labels with the same id (because
    they are other people), ``atlas`` is registered to the published white matter of the first
    people. The column ``white_matter`` says whose white matter was labelled.
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
