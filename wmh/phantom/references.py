"""The references that simulated people are made from: the MNI152 template, or real whole heads.

``wmh fetch heads`` brings label maps of twenty people (Billot et al. 2023): FreeSurfer's labels
inside the brain, and 502 to 530 for its surroundings. The regions come from the built-in atlas,
registered to each head's own white matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from wmh.atlas.atlases import built_in
from wmh.atlas.grids import bounding_box, crop
from wmh.atlas.regions import built_in_atlas, mni_grey_matter, mni_t1, mni_white_matter
from wmh.atlas.registration import carry_labels, register_atlas
from wmh.cohorts.cohort import CohortError
from wmh.files import complete, fingerprint
from wmh.images import Image, load_image, to_ras

MARGIN = 22
"""Voxels of 2 mm added around the template, so that distances are known up to the skin."""

WHITE = (2, 41, 7, 46, 16, 28, 60, 25, 57, 77, 78, 79, 85)
"""Cerebral and cerebellar white matter, brain stem, ventral diencephalon, real lesions, chiasm."""
GREY = (3, 42, 8, 47, 10, 11, 12, 13, 17, 18, 26, 49, 50, 51, 52, 53, 54, 58, 136, 137, 163, 164)
"""Cortex of cerebrum and cerebellum, deep nuclei, small parts beside the ventricles."""
CSF = (4, 43, 5, 44, 14, 15, 72, 24, 30, 62)
"""Ventricles, fluid around the brain, vessels."""
VENTRICLES = (4, 43)
"""The lateral ventricles, without their temporal horns."""

AROUND = (502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530)
"""Labels around the brain, numbered from 1 in :attr:`Reference.around`.

506 eyes, 507 muscle and fat, 509 nasal mucosa, 511 skin, 514 dura and sinuses, 515 skull; the
others are small.
"""
EDGE_MM = 0.6
"""Standard deviation by which tissues are blurred, because edges of labels are jagged."""
CLOSED = 3
"""Voxels of 2 mm by which gaps in the brain are closed before distances from it are computed."""
KEPT_AT_ONCE = 3
"""Number of heads that a process keeps in memory."""


@dataclass(frozen=True)
class Reference:
    """One brain to make people from, on a 1 mm grid; distances in mm on a padded 2 mm grid.

    ``affine`` maps voxels to MNI152 mm. ``white``, ``grey`` and ``brain`` are fractions, 0 to 1 or,
    as uint8, 0 to 255. ``regions`` holds the labels 0 to 36, extended outwards. ``csf`` and
    ``around`` (labels around the brain, :data:`AROUND`) are known only for real heads.
    """

    affine: np.ndarray
    white: np.ndarray
    grey: np.ndarray
    brain: np.ndarray
    regions: np.ndarray
    from_ventricles: np.ndarray
    from_brain: np.ndarray
    csf: np.ndarray | None = None
    around: np.ndarray | None = None


@cache
def template() -> Reference:
    """The template as a reference, prepared once per process."""
    white, grey = mni_white_matter(1).data, mni_grey_matter(1).data
    brain = (mni_t1(1).data > 0).astype(np.float32)
    ventricles = _lateral_ventricles(brain - white - grey, mni_t1(1).affine)
    white, grey = _without_grey_rim(white, grey, ventricles)
    return Reference(
        affine=mni_t1(1).affine,
        white=white,
        grey=grey,
        brain=ndimage.gaussian_filter(brain, 0.7),
        regions=_spread_regions(built_in_atlas(1).data),
        from_ventricles=_distance_from(ventricles),
        from_brain=_distance_from(brain > 0, closed=5),
    )


def head_files(folder: Path) -> list[Path]:
    """The label maps in a folder; raises :class:`CohortError` if there are none."""
    files = sorted(folder.glob("training_seg_*.nii.gz"))
    if not files:
        raise CohortError(f"{folder}: holds no label maps. Fetch them with wmh fetch heads")
    return files


@lru_cache(KEPT_AT_ONCE)
def head(file: Path) -> Reference:
    """One person's head as a reference, kept on disk in ``prepared/`` beside its label map."""
    kept = file.parent / "prepared" / f"{file.name.partition('.')[0]}.npz"
    stamp = fingerprint([file, Path(__file__)])
    if kept.is_file():
        with np.load(kept) as content:
            arrays = dict(content)
        if arrays.pop("stamp") == stamp:
            return Reference(**arrays)
    made = _prepare(file)
    with complete(kept) as part:
        np.savez(part, stamp=np.array(stamp), **vars(made))
    return made


def _prepare(file: Path) -> Reference:
    image = crop(to_ras(load_image(file)), 4)
    labels = np.rint(image.data).astype(np.int16)
    white, grey, csf = (_fraction(labels, members) for members in (WHITE, GREY, CSF))
    own_white = Image(np.isin(labels, WHITE).astype(np.uint8), image.affine, file)
    atlas = built_in()
    fit = register_atlas(own_white, atlas.white_matter, seed=0, method="deformable")
    around = np.zeros(labels.shape, dtype=np.uint8)
    for number, label in enumerate(AROUND, start=1):
        around[labels == label] = number
    brain = (labels > 0) & (labels < AROUND[0])
    return Reference(
        affine=fit.transform.matrix @ image.affine,
        white=white,
        grey=grey,
        brain=_fraction(brain, (True,)),
        regions=_spread_regions(carry_labels(atlas.labels, fit, own_white).data),
        from_ventricles=_distance_from(np.isin(labels, VENTRICLES)),
        from_brain=_distance_from(np.isin(labels, WHITE + GREY), closed=CLOSED),
        csf=csf,
        around=around,
    )


def _fraction(labels: np.ndarray, members: tuple[int, ...]) -> np.ndarray:
    """Share of each voxel that is one of some labels, 0 to 255."""
    share = ndimage.gaussian_filter(np.isin(labels, members).astype(np.float32), EDGE_MM)
    return np.rint(share * 255).astype(np.uint8)


def _spread_regions(labels: np.ndarray) -> np.ndarray:
    """Labels on a 1 mm grid, extended outwards at 2 mm: each voxel gets its own or the nearest."""
    coarse = labels[::2, ::2, ::2]
    nearest = ndimage.distance_transform_edt(
        coarse == 0, return_distances=False, return_indices=True
    )
    spread = coarse[tuple(nearest)]
    spread = spread.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(slice(n) for n in labels.shape)]
    return np.where(labels > 0, labels, spread)


def _distance_from(mask: np.ndarray, closed: int = 0) -> np.ndarray:
    """Distance in mm to the surface of a mask on a 1 mm grid, negative inside, smoothed.

    The result has a padded 2 mm grid. Before, gaps in the mask are closed by ``closed`` voxels.
    """
    mask = np.pad(mask[::2, ::2, ::2], MARGIN)
    if closed:
        mask = ndimage.binary_closing(mask, iterations=closed)
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    distance = 2 * (outside - inside) - np.where(mask, -1, 1)
    return ndimage.gaussian_filter(distance.astype(np.float32), 0.7)


def _lateral_ventricles(csf: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Mask of the lateral ventricles: fluid connected to the middle of their body on each side."""
    parts, _ = ndimage.label(csf > 0.5)
    middles = nib.affines.apply_affine(np.linalg.inv(affine), [(-12, -20, 25), (12, -20, 25)])
    return np.isin(parts, [parts[tuple(np.round(m).astype(int))] for m in middles])


def _without_grey_rim(
    white: np.ndarray, grey: np.ndarray, ventricles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Remove the thin grey rim between ventricles and white matter, an effect of partial volume."""
    box = bounding_box(ventricles, 12)
    near = ndimage.binary_dilation(ventricles[box], iterations=6)
    rim = np.zeros_like(grey)
    rim[box] = np.where(near, grey[box] - ndimage.grey_opening(grey[box], size=5), 0)
    return white + np.where(white > 0.35, rim, 0), grey - rim
