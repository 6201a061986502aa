"""Real people's whole heads as references for simulated ones: label maps, prepared once.

``wmh fetch heads`` brings the maps of twenty people (Billot et al. 2023): FreeSurfer's labels
inside the brain, and 502 to 530 for what surrounds it. The regions are those of the built-in atlas,
carried onto each head's own white matter.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from wmh.atlas.atlases import built_in
from wmh.atlas.grids import crop
from wmh.atlas.registration import carry_labels, register_atlas
from wmh.cohorts.cohort import CohortError
from wmh.images import Image, load_image, to_ras
from wmh.phantom.reference import Reference, distance_from, spread_regions

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
"""Standard deviation by which tissues are blurred: an edge of labels is a staircase."""
CLOSED = 3
"""Voxels of 2 mm over which the brain is closed before distances from it are taken."""
KEPT_AT_ONCE = 3


def head_files(folder: Path) -> list[Path]:
    """The label maps in a folder; raises :class:`CohortError` where there is none."""
    files = sorted(folder.glob("training_seg_*.nii.gz"))
    if not files:
        raise CohortError(f"{folder}: no heads here. Fetch them: wmh fetch heads")
    return files


@lru_cache(KEPT_AT_ONCE)
def head(file: Path) -> Reference:
    """One person's head as a reference, kept prepared in ``prepared/`` beside its label map."""
    kept = file.parent / "prepared" / f"{file.name.partition('.')[0]}.npz"
    stamp = np.array(_fingerprint(file))
    if kept.is_file():
        with np.load(kept) as content:
            if content["stamp"] == stamp:
                return Reference(**{f.name: content[f.name] for f in fields(Reference)})
    made = _prepare(file)
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_name(f".{os.getpid()}.{kept.name}")
    np.savez(temporary, stamp=stamp, **{f.name: getattr(made, f.name) for f in fields(Reference)})
    temporary.replace(kept)
    return made


def _prepare(file: Path) -> Reference:
    image = crop(to_ras(load_image(file)), 4)
    labels = np.rint(image.data).astype(np.int16)
    white, grey, csf = (_fraction(labels, members) for members in (WHITE, GREY, CSF))
    regions, to_mni = _regions(Image(np.isin(labels, WHITE).astype(np.uint8), image.affine, file))
    around = np.zeros(labels.shape, dtype=np.uint8)
    for number, label in enumerate(AROUND, start=1):
        around[labels == label] = number
    brain = (labels > 0) & (labels < AROUND[0])
    return Reference(
        affine=to_mni @ image.affine,
        white=white,
        grey=grey,
        brain=_fraction(brain, (True,)),
        regions=spread_regions(regions),
        from_ventricles=distance_from(np.isin(labels, VENTRICLES)),
        from_brain=distance_from(np.isin(labels, WHITE + GREY), closed=CLOSED),
        csf=csf,
        around=around,
    )


def _fraction(labels: np.ndarray, members: tuple[int, ...]) -> np.ndarray:
    """Share of each voxel that is one of some labels, 0 to 255."""
    share = ndimage.gaussian_filter(np.isin(labels, members).astype(np.float32), EDGE_MM)
    return np.rint(share * 255).astype(np.uint8)


def _regions(white: Image) -> tuple[np.ndarray, np.ndarray]:
    """Region labels of a head's white matter, and the affine from its world to MNI152's."""
    atlas = built_in()
    fit = register_atlas(white, atlas.white_matter, seed=0, method="deformable")
    return carry_labels(atlas.labels, fit, white).data, fit.transform.matrix


def _fingerprint(file: Path) -> str:
    digest = hashlib.sha256(file.read_bytes())
    for source in (Path(__file__), Path(__file__).with_name("reference.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
