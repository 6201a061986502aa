"""The atlases that can be carried to a subject, each with its labels and its white matter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from wmh.atlas.grids import crop, isotropic
from wmh.atlas.regions import (
    REST_LABELS,
    WHITE_MATTER_THRESHOLD,
    built_in_atlas,
    merge_jhu,
    mni_white_matter,
)
from wmh.atlas.registration import FINE_MM, MARGIN_MM
from wmh.images import Image, ImageError, load_image, load_labels, same_grid

GRID_TOLERANCE_MM = 1.0
"""How far apart conversions may have put the corners of one grid."""
JHU_LABELS = "eve_atlas/JHU_MNI_SS_WMPM_Type-II.nii.gz"
JHU_WHITE_MATTER = "eve_atlas/JHU_MNI_SS_T1_FSL_Tissue_Classes_pve_2.nii.gz"


@dataclass(frozen=True)
class Atlas:
    """Refined labels (uint8, 0 to 36) and white matter (0 to 1) in one space.

    White matter lies on the finest voxels that a registration looks at, brought there once.
    """

    labels: Image
    white_matter: Image
    cerebral_white_matter: Image
    """What a mask without cerebellum and brainstem, such as FAST-AID's, is registered to."""


@cache
def built_in() -> Atlas:
    """Nearest seeds in the white matter of the MNI152 template."""
    labels, white = built_in_atlas(), mni_white_matter()
    cerebral = white.data * ~np.isin(labels.data, REST_LABELS)
    return Atlas(labels, for_registration(white), for_registration(replace(white, data=cerebral)))


@cache
def jhu(folder: Path) -> Atlas:
    """The JHU MNI type II atlas, as ``wmh fetch atlas`` lays it out, merged.

    Its labels cover grey matter too, as in the published script: a subject's white matter finds its
    label wherever it lies. The white matter to register is drawn one voxel wider than the
    partial-volume map: so it overlaps the published FAST-AID masks best.
    """
    jhu_labels = load_labels(folder / JHU_LABELS, range(131))
    labels = replace(jhu_labels, data=merge_jhu(jhu_labels.data))
    white = load_image(folder / JHU_WHITE_MATTER)
    wide = ndimage.binary_dilation(white.data > WHITE_MATTER_THRESHOLD)
    cerebral = wide & (labels.data > 0) & ~np.isin(labels.data, REST_LABELS)
    cerebral = replace(white, data=cerebral.astype(np.float32))
    return Atlas(labels, for_registration(white), for_registration(cerebral))


def for_registration(white_matter: Image) -> Image:
    """An atlas's white matter as :func:`~wmh.atlas.registration.register_atlas` will look at it."""
    return isotropic(crop(white_matter, MARGIN_MM), FINE_MM)


def load_atlas(name: str, folder: Path) -> Atlas:
    """``"built-in"``, or ``"jhu"`` from the folder it was fetched to.

    Raises :class:`ImageError`, which says how to fetch it, for a file that is not there.
    """
    if name == "built-in":
        return built_in()
    for path in (folder / JHU_LABELS, folder / JHU_WHITE_MATTER):
        if not path.is_file():
            raise ImageError(path, "no such file", f"Fetch it: wmh fetch atlas --dest {folder}")
    return jhu(folder)


def read_published(path: Path, flair: Image) -> Image:
    """The authors' own labels of a subject, voxel for voxel on its FLAIR's grid.

    Raises :class:`ImageError` for labels on another grid: the FLAIR is then not the challenge's own
    image of that subject.
    """
    labels = load_labels(path, range(37))
    if not same_grid(labels, flair, GRID_TOLERANCE_MM):
        raise ImageError(
            path,
            f"these labels lie on another grid than {flair.path}",
            "They fit the challenge's own images only; set regions.atlas to jhu or built-in",
        )
    return replace(labels, affine=flair.affine)
