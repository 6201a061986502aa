"""The atlases that can be registered to a subject, each with labels and white matter."""

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

    White matter is resampled once, to the finest voxels that a registration uses.
    """

    labels: Image
    white_matter: Image
    cerebral_white_matter: Image
    """For subjects' masks without cerebellum and brainstem, such as FAST-AID's."""


@cache
def built_in() -> Atlas:
    """The built-in atlas: labels of the nearest seeds in the MNI152 template's white matter."""
    labels, white = built_in_atlas(), mni_white_matter()
    cerebral = white.data * ~np.isin(labels.data, REST_LABELS)
    return _atlas(labels, white, cerebral)


@cache
def jhu(folder: Path) -> Atlas:
    """The JHU MNI type II atlas with merged labels, from a folder of ``wmh fetch atlas``.

    Its labels also cover grey matter, as in the published script, so that all of a subject's white
    matter gets a label. The cerebral white matter to register is one voxel wider than the
    partial-volume map, because it then overlaps the published FAST-AID masks best.
    """
    jhu_labels = load_labels(folder / JHU_LABEL_FILE, JHU_LABELS)
    labels = replace(jhu_labels, data=merge_jhu(jhu_labels.data))
    white = load_image(folder / JHU_WHITE_MATTER_FILE)
    wide = ndimage.binary_dilation(white.data > WHITE_MATTER_THRESHOLD)
    cerebral = wide & (labels.data > 0) & ~np.isin(labels.data, REST_LABELS)
    return _atlas(labels, white, cerebral.astype(np.float32))


def _atlas(labels: Image, white: Image, cerebral: np.ndarray) -> Atlas:
    """An atlas with both kinds of white matter cropped and resampled for registration."""
    maps = white, replace(white, data=cerebral)
    return Atlas(labels, *(isotropic(crop(image, MARGIN_MM), FINE_MM) for image in maps))


def load_atlas(name: str, folder: Path) -> Atlas:
    """The atlas ``"built-in"``, or ``"jhu"`` from the folder to which it was fetched.

    Raises :class:`ImageError`, which says how to fetch it, if a file is missing.
    """
    if name == "built-in":
        return built_in()
    for path in (folder / JHU_LABEL_FILE, folder / JHU_WHITE_MATTER_FILE):
        if not path.is_file():
            raise ImageError(
                path, "no such file", f"Fetch the atlas with wmh fetch atlas --dest {folder}"
            )
    return jhu(folder)
