"""Lesion loads: the quantiles of a real cohort, and simulated subjects that follow them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import cc3d
import numpy as np
import pandas as pd
from scipy import ndimage

from wmh.images import Image, ImageError
from wmh.study import Study

MARKER = "simulated.json"
"""Name of the file in each simulated subject's folder that holds its lesion statistics."""

MEASURES = ("lesion_ml", "lesions", "largest_share", "periventricular_share")
QUANTILES = [0.05, 0.25, 0.5, 0.75, 0.95]
"""Quantiles by which cohorts are compared."""

PERIVENTRICULAR_MM = 10.0
"""Lesion within this distance of the ventricles counts as periventricular."""

RANK_CORRELATION = np.array(
    [
        [1.00, 0.53, 0.68, -0.24],
        [0.53, 1.00, 0.00, -0.57],
        [0.68, 0.00, 1.00, 0.13],
        [-0.24, -0.57, 0.13, 1.00],
    ]
)
"""Spearman correlations between the four measures over the challenge's 170 subjects."""

LARGEST_SIMULATED_ML = 90.0
"""Largest simulated lesion volume. One real subject (195 ml) has more and is not imitated."""


@dataclass(frozen=True)
class LesionLoad:
    """Lesions that a simulated person should have; the fields are :data:`MEASURES`."""

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
    """The four :data:`MEASURES` of one subject, from label 1 of ``lesions``.

    Lesions are 26-connected parts; ``ventricles`` is a mask on the same grid. The two shares are
    NaN if there is no lesion. Raises :class:`ImageError` for an empty ventricle mask.
    """
    mask = lesions.data == 1
    if not ventricles.data.any():
        raise ImageError(
            ventricles.path, "the ventricle mask is empty", "Give a mask that shows the ventricles"
        )
    labels = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    sizes = np.bincount(labels.ravel())[1:]
    total = int(mask.sum())
    distance = ndimage.distance_transform_edt(ventricles.data == 0, sampling=lesions.voxel_size)
    near = distance[mask] <= PERIVENTRICULAR_MM
    return {
        "lesion_ml": total * lesions.voxel_ml,
        "lesions": len(sizes),
        "largest_share": float(sizes.max() / total) if total else np.nan,
        "periventricular_share": float(near.mean()) if total else np.nan,
    }


def read_statistics(folder: Path) -> pd.DataFrame:
    """Lesion statistics of the simulated subjects below a folder, one row per subject."""
    markers = sorted(folder.rglob(MARKER), key=lambda marker: int(marker.parent.name))
    return pd.DataFrame(
        [{"id": m.parent.name, **json.loads(m.read_text())["lesion_statistics"]} for m in markers]
    )


def lesion_quantiles(study: Study, cohort: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of lesion load of a study's cohort and of the challenge's 170 subjects.

    For a simulated cohort all measures are compared, because its ventricles are known; for others
    only the lesion volume.
    """
    simulated = study.cohort.simulation is not None
    own = read_statistics(study.cohort_folder) if simulated else cohort
    measures = list(MEASURES if simulated else MEASURES[:1])
    both = {
        f"this cohort, {len(own)} subjects": own[measures].quantile(QUANTILES),
        "challenge, 170 subjects": real_quantiles().loc[QUANTILES, measures],
    }
    return pd.concat(both, axis=1).swaplevel(axis=1)[measures].round(2)


def draw_lesion_loads(generator: np.random.Generator, count: int) -> list[LesionLoad]:
    """Draw ``count`` subjects, spread evenly over the real quantiles of each measure.

    The measures are correlated like the real ones (Gaussian copula). Each is then ranked, and rank
    k of n gets the quantile (k + 1/2) / n, so that a small cohort is as mixed as a large one.
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
        LesionLoad(float(ml), round(float(n)), float(largest), float(near))
        for ml, n, largest, near in zip(*columns.values(), strict=True)
    ]
