"""How much lesion a person has: the real cohort's quantiles, and subjects drawn to follow them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import cc3d
import numpy as np
import pandas as pd
from scipy import ndimage

from wmh.images import Image, ImageError

MEASURES = ("lesion_ml", "lesions", "largest_share", "periventricular_share")

PERIVENTRICULAR_MM = 10.0
"""Lesion this near to the ventricles counts as periventricular."""

RANK_CORRELATION = np.array(
    [
        [1.00, 0.53, 0.68, -0.24],
        [0.53, 1.00, 0.00, -0.57],
        [0.68, 0.00, 1.00, 0.13],
        [-0.24, -0.57, 0.13, 1.00],
    ]
)
"""Spearman correlations between the four measures over the same 170 subjects."""

LARGEST_SIMULATED_ML = 90.0
"""The one real subject above this (195 ml) is not simulated."""


@dataclass(frozen=True)
class Burden:
    """What a simulated person's lesions should come to, in the words of :data:`MEASURES`."""

    lesion_ml: float
    lesions: int
    largest_share: float
    periventricular_share: float


@cache
def real_quantiles() -> pd.DataFrame:
    """Quantiles of :data:`MEASURES` over the challenge's 170 subjects, indexed by quantile."""
    with (files("wmh.phantom") / "facts" / "lesion_quantiles.csv").open() as table:
        return pd.read_csv(table, comment="#", index_col="quantile")


def lesion_statistics(lesions: Image, ventricles: Image) -> dict[str, float]:
    """The four :data:`MEASURES` of one subject; label 1 counts.

    ``lesions`` is 26-connected on its own grid; ``ventricles`` is a mask on the same grid. The two
    shares are NaN where there is no lesion. Raises :class:`ImageError` for an empty ventricle mask.
    """
    mask = lesions.data == 1
    if not ventricles.data.any():
        raise ImageError(ventricles.path, "the ventricle mask is empty", "Give one with ventricles")
    sizes = _component_sizes(mask)
    total = int(mask.sum())
    distance = ndimage.distance_transform_edt(ventricles.data == 0, sampling=lesions.voxel_size)
    return {
        "lesion_ml": total * lesions.voxel_ml,
        "lesions": len(sizes),
        "largest_share": float(sizes.max() / total) if total else np.nan,
        "periventricular_share": (
            float((distance[mask] <= PERIVENTRICULAR_MM).mean()) if total else np.nan
        ),
    }


def draw_burdens(generator: np.random.Generator, count: int) -> list[Burden]:
    """Draw ``count`` subjects spread evenly over the real quantiles of each measure.

    The measures are correlated as the real ones are (a Gaussian copula); each is then ranked, and
    rank k of n stands for quantile (k + 1/2) / n: a small cohort is as mixed as a large one.
    """
    factor = np.linalg.cholesky(2 * np.sin(np.pi / 6 * RANK_CORRELATION))
    normal = generator.standard_normal((count, len(MEASURES))) @ factor.T
    levels = (normal.argsort(axis=0).argsort(axis=0) + 0.5) / count
    table = real_quantiles()
    columns = {
        name: np.exp(np.interp(levels[:, i], table.index, np.log(table[name])))
        for i, name in enumerate(MEASURES)
    }
    columns["lesion_ml"] = columns["lesion_ml"].clip(max=LARGEST_SIMULATED_ML)
    return [
        Burden(float(ml), round(float(n)), float(largest), float(near))
        for ml, n, largest, near in zip(*columns.values(), strict=True)
    ]


def _component_sizes(mask: np.ndarray) -> np.ndarray:
    """Voxels of each 26-connected component."""
    labels = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    return np.bincount(labels.ravel())[1:]
