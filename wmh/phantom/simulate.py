"""Simulation of one subject from its anatomy, lesions and contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wmh.cohorts.scanners import VARIOUS, Scanner, draw_scanner
from wmh.images import Image
from wmh.phantom.anatomy import draw_anatomy
from wmh.phantom.contrast import (
    draw_artefacts,
    draw_flair_contrast,
    draw_t1_contrast,
    finish,
    flair_signal,
    t1_signal,
)
from wmh.phantom.lesion_load import LesionLoad, draw_lesion_loads
from wmh.phantom.lesions import draw_lesions
from wmh.phantom.references import head, template
from wmh.phantom.surroundings import (
    FACE_MARGIN_MM,
    HEAD_MARGIN_MM,
    add_head,
    add_real_head,
    draw_brain_mask,
)

STRIPPED_MARGIN_MM = 4.0
WHOLE_HEAD_SHARE = 0.6


@dataclass(frozen=True)
class SimulatedSubject:
    """Images of one subject, all on one native grid.

    ``flair`` and ``t1`` are mostly corrected for the bias field (the challenge's ``pre/``);
    ``flair_raw`` and ``t1_raw`` are not (``orig/``). ``lesions`` is 1 in lesion, 2 in other
    pathology, else 0. ``regions`` holds 0 to 36, in all white matter including lesions.
    ``ventricles`` is a mask of the lateral ventricles.
    """

    flair: Image
    t1: Image
    flair_raw: Image
    t1_raw: Image
    lesions: Image
    regions: Image
    ventricles: Image


def simulate_subject(
    scanner: Scanner,
    seed: int,
    load: LesionLoad | None = None,
    coarsening: int = 1,
    heads: Sequence[Path] = (),
) -> SimulatedSubject:
    """Simulate one person on one scanner; the same arguments give the same voxels.

    ``load`` is the lesion load (by default drawn from the real quantiles). ``coarsening`` divides
    the in-plane resolution, not the slice thickness. ``heads`` are label maps of real heads, of
    which one is used; without them the MNI152 template is used.
    """
    generator = np.random.default_rng(seed)
    load = load or draw_lesion_loads(generator, 99)[0]
    whole_head = generator.random() < WHOLE_HEAD_SHARE
    reference = template() if not heads else head(heads[generator.integers(len(heads))])
    margin_mm = STRIPPED_MARGIN_MM
    if whole_head:
        margin_mm = FACE_MARGIN_MM if heads else HEAD_MARGIN_MM
    if scanner.name == VARIOUS.name:
        scanner = draw_scanner(generator)
    anatomy = draw_anatomy(generator, reference, scanner, coarsening, margin_mm)
    lesions = draw_lesions(generator, anatomy, load)
    artefacts = draw_artefacts(generator, anatomy)
    flair_contrast = draw_flair_contrast(generator, scanner)
    t1_contrast = draw_t1_contrast(generator, scanner)
    flair = flair_signal(generator, anatomy, lesions, artefacts, flair_contrast)
    t1 = t1_signal(generator, anatomy, lesions, artefacts, t1_contrast)
    flair, t1 = (add_real_head if heads else add_head)(generator, anatomy, flair, t1)
    grid = anatomy.grid
    flair_corrected, flair_raw = finish(generator, flair, grid, flair_contrast)
    t1_corrected, t1_raw = finish(generator, t1, grid, t1_contrast)
    if not whole_head:
        scanned = grid.embed(grid.average(draw_brain_mask(generator, anatomy))) > 0.5
        for image in (flair_corrected, flair_raw, t1_corrected, t1_raw):
            image[~scanned] = 0
    white = grid.average(anatomy.white) > 0.5
    regions = np.where(white | (lesions.truth == 1), anatomy.regions, 0)
    ventricles = (grid.average(anatomy.from_ventricles) < 0).astype(np.uint8)
    return SimulatedSubject(
        *(Image(data, grid.affine) for data in (flair_corrected, t1_corrected, flair_raw, t1_raw)),
        lesions=Image(grid.embed(lesions.truth.astype(np.uint8)), grid.affine),
        regions=Image(grid.embed(regions.astype(np.uint8)), grid.affine),
        ventricles=Image(grid.embed(ventricles), grid.affine),
    )
