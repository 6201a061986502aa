"""The atlases that can be carried to a subject, each with its labels and its white matter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from wmh.atlas.grids import crop, isotropic
from wmh.atlas.regions import (
    JHU_LABELS,
    REST_LABELS,
    WHITE_MATTER_THRESHOLD,
    built_in_atlas,
    merge_jhu,
    mni_white_matter,
)
from wmh.atlas.registration import FINE_MM, MARGIN_MM
from wmh.images import Image, ImageError, load_image, load_labels

JHU_LABEL_FILE = "eve_atlas/JHU_MNI_SS_WMPM_Type-II.nii.gz"
JHU_WHITE_MATTER_FILE = "eve_atlas/JHU_MNI_SS_T1_FSL_Tissue_Classes_pve_2.nii.gz"


@dataclass(frozen=True)
class Atlas:
    """Refined labels (uint8, 0 to 36) and white matter (0 to 1) in one space.

    White matter lies on the finest voxels that a registration looks at, brought there once.
    """

    labels: Image
    white_matter: Image
    cerebral_white_matter: Image
    """For masks without cerebellum and brainstem, such as FAST-AID's."""


@cache
def built_in() -> Atlas:
    """Nearest seeds in the white matter of the MNI152 template."""
    labels, white = built_in_atlas(), mni_white_matter()
    cerebral = white.data * ~np.isin(labels.data, REST_LABELS)
    return _atlas(labels, white, cerebral)


@cache
def jhu(folder: Path) -> Atlas:
    """The JHU MNI type II atlas, as ``wmh fetch atlas`` lays it out, merged.

    Its labels cover grey matter too, as in the published script: a subject's white matter finds its
    label wherever it lies. The white matter to register is drawn one voxel wider than the
    partial-volume map: so it overlaps the published FAST-AID masks best.
    """
    jhu_labels = load_labels(folder / JHU_LABEL_FILE, JHU_LABELS)
    labels = replace(jhu_labels, data=merge_jhu(jhu_labels.data))
    white = load_image(folder / JHU_WHITE_MATTER_FILE)
    wide = ndimage.binary_dilation(white.data > WHITE_MATTER_THRESHOLD)
    cerebral = wide & (labels.data > 0) & ~np.isin(labels.data, REST_LABELS)
    return _atlas(labels, white, cerebral.astype(np.float32))


def _atlas(labels: Image, white: Image, cerebral: np.ndarray) -> Atlas:
    """Both kinds of white matter as a registration will look at them."""
    maps = white, replace(white, data=cerebral)
    return Atlas(labels, *(isotropic(crop(image, MARGIN_MM), FINE_MM) for image in maps))


def load_atlas(name: str, folder: Path) -> Atlas:
    """``"built-in"``, or ``"jhu"`` from the folder it was fetched to.

    Raises :class:`ImageError`, which says how to fetch it, for a file that is not there.
    """
    if name == "built-in":
        return built_in()
    for path in (folder / JHU_LABEL_FILE, folder / JHU_WHITE_MATTER_FILE):
        if not path.is_file():
            raise ImageError(path, "no such file", f"Fetch it: wmh fetch atlas --dest {folder}")
    return jhu(folder)
