"""The authors' own region labels of the challenge's subjects beside ours, region by region.

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

from wmh.atlas.labelling import LABELS, region_dice
from wmh.atlas.regions import REGION_LABELS
from wmh.atlas.registration import carry_labels, register_atlas
from wmh.atlas.source import GRID_TOLERANCE_MM, Atlas
from wmh.images import Image, load_labels, same_grid

MOST_CARRIED = 6
"""People an atlas is carried to, at most; each takes some seconds."""


def compare_with_published(
    ours: Path, published: dict[str, Path], atlas: Atlas, seed: int
) -> pd.DataFrame:
    """Dice of our labels and the published ones: a row a subject and region (1 to 34).

    ``ours`` is a study's folder of label images, ``published`` maps the challenge's subjects to the
    authors' labels. Where none of ours has the grid of its namesake, ``atlas`` is carried onto the
    published white matter of the first people. ``white_matter`` says whose the labels fill.
    """
    rows = []
    for name, path in tqdm(published.items(), "published labels", leave=False):
        theirs = load_labels(path, LABELS)
        labels = _on_their_grid(ours / f"{name}.nii.gz", theirs)
        if labels is not None:
            rows += _rows(name, theirs, labels, "ours")
    for name in () if rows else tqdm(list(published)[:MOST_CARRIED], "registration", leave=False):
        theirs = load_labels(published[name], LABELS)
        rows += _rows(name, theirs, carry_onto(theirs, atlas, seed), "published")
    return pd.DataFrame(rows)


def carry_onto(published: Image, atlas: Atlas, seed: int) -> Image:
    """An atlas's labels inside the white matter of published labels, and nowhere else."""
    white = replace(published, data=(published.data > 0).astype(np.uint8))
    fit = register_atlas(white, atlas.cerebral_white_matter, seed)
    return carry_labels(atlas.labels, fit, white)


def _on_their_grid(path: Path, theirs: Image) -> Image | None:
    """Our labels of a subject; None where there are none, or another person's under the same id."""
    labels = load_labels(path, LABELS) if path.is_file() else None
    return labels if labels and same_grid(labels, theirs, GRID_TOLERANCE_MM) else None


def _rows(name: str, theirs: Image, labels: Image, white_matter: str) -> list[dict]:
    dice = region_dice(theirs.data, labels.data)
    return [
        {"id": name, "region": label, "dice": dice[label], "white_matter": white_matter}
        for label in REGION_LABELS
    ]
