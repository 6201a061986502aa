"""Figure 8: how often each place of the brain holds lesion, in truth and in predictions."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from itertools import product

import nibabel as nib
import numpy as np
from scipy import ndimage
from tqdm.auto import tqdm

from wmh.atlas.grids import bounding_box, cut
from wmh.atlas.regions import ALL_LABELS, REGION_LABELS, built_in_atlas, mni_t1
from wmh.figures import brain, parts, style
from wmh.images import Image, ImageError, load_labels, resample_to
from wmh.study import Study, StudyError

ROW_MM = 31
"""Height of a row, chosen so that seven rows leave room for the caption on a page."""

RAREST = 0.02
"""Voxels with lesion in a smaller share of the subjects are left grey."""


def draw(study: Study) -> tuple[style.StyledFigure, str]:
    """A row of axial cuts for the truth and for each configuration, in one colour scale.

    Every test subject's true and predicted lesions are transformed to MNI152 and averaged. Subjects
    without region labels, by which they are placed, are left out; :class:`StudyError` if all are.
    """
    cohort = parts.read_table(study, "cohort").set_index("id")
    truth = cohort.loc[cohort["split"] == "test", "lesions"].sort_index()
    labelled = ((subject, load_labels(study.region_labels(subject))) for subject in truth.index)
    matrices = {s: matrix_to_mni(regions) for s, regions in labelled if regions.data.any()}
    if not matrices:
        raise StudyError(f"study {study.name!r}: no test subject has region labels")
    subjects = list(matrices)
    configurations = parts.predicted_configurations(study, parts.lesion_values(study), subjects[0])
    sums: dict[str, np.ndarray] = {}
    for subject, matrix in tqdm(matrices.items(), "lesions to MNI152", unit="subject"):
        files = {"Truth": truth[subject]} | {
            style.configuration_name(*c): study.prediction(*c, subject, "lesions")
            for c in configurations
        }
        for name, file in files.items():
            sums[name] = sums.get(name, 0) + carry_to_mni(load_labels(file), matrix).data
    shares = {name: total / len(subjects) for name, total in sums.items()}
    figure = style.new_figure(ROW_MM * len(shares) + 4, pad=0.02, space=0.01)
    limits = (0.0, max(RAREST, *(float(share.max()) for share in shares.values())))
    scale = brain.ColourScale(limits, f"share of {len(subjects)} subjects with lesion")
    panels = brain.lay_out_maps(figure, {name: name for name in shares}, scale, weight="bold")
    affine = mni_t1(brain.RESOLUTION_MM).affine
    common = {n: Image(np.where(s >= RAREST, s, 0), affine) for n, s in shares.items()}
    brain.draw_maps(panels, common, scale)
    return figure, (
        "Where lesions lie: share of test subjects with lesion at each voxel of MNI152 space, in "
        "truth and as each configuration predicts it from the images it was made for (axial cuts, "
        "heights z in mm; L: the subject's left). Masks were carried over by the affine transform "
        "that best brings the centres of the subject's regions to those of the atlas; places "
        f"below {RAREST:.0%} are not coloured. {parts.first_training_words(study)}"
        "Nothing is tested here. "
        f"{parts.cohort_words(study, subjects)}"
    )


def matrix_to_mni(regions: Image) -> np.ndarray:
    """The affine (4, 4) from a subject's world to MNI152's, both in mm, computed from its regions.

    It is the least-squares fit of the centres of the 34 regions, weighted by volume. Therefore it
    can be computed for any region labels, also published ones, which come without a transform.
    Raises :class:`ImageError` for labels with fewer than ten regions.
    """
    centres, weights = _centres(regions)
    targets, _ = _atlas_centres()
    known = np.isfinite(centres[:, 0]) & np.isfinite(targets[:, 0])
    if known.sum() < 10:
        raise ImageError(
            regions.path, f"holds {known.sum()} regions", "Look at its registration in notebook 02"
        )
    points = np.column_stack([centres[known], np.ones(known.sum())])
    weight = np.sqrt(weights[known])[:, None]
    solution, *_ = np.linalg.lstsq(weight * points, weight * targets[known], rcond=None)
    return np.vstack([solution.T, [0, 0, 0, 1]])


def carry_to_mni(lesions: Image, matrix: np.ndarray) -> Image:
    """A lesion mask on the grid of MNI152: the share of each voxel that is lesion, 0 to 1.

    The affine is applied to the image's grid, so that the mask is resampled only once, and only in
    the box around the lesions.
    """
    template = mni_t1(brain.RESOLUTION_MM)
    mask = (lesions.data == 1).astype(np.float32)
    carried = Image(np.zeros(template.data.shape, dtype=np.float32), template.affine)
    if not mask.any():
        return carried
    moved = Image(mask, matrix @ lesions.affine, lesions.path)
    corners = list(product(*((side.start - 1, side.stop) for side in bounding_box(mask))))
    to_template = np.linalg.inv(template.affine) @ moved.affine
    last = np.array(template.data.shape) - 1
    index = np.clip(nib.affines.apply_affine(to_template, corners), 0, last)
    low, high = np.floor(index.min(axis=0)), np.ceil(index.max(axis=0)) + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    with suppress(ImageError):  # so small that it lies between voxels, or outside the template
        carried.data[box] = resample_to(moved, cut(template, box)).data
    return carried


def _centres(regions: Image) -> tuple[np.ndarray, np.ndarray]:
    """Centres (34, 3) of regions 1 to 34 in world mm, NaN where absent, and their voxel counts."""
    labels = np.array(REGION_LABELS)
    counts = np.bincount(regions.data.ravel(), minlength=len(ALL_LABELS))[labels]
    centres = np.full((len(labels), 3), np.nan)
    there = counts > 0
    found = ndimage.center_of_mass(regions.data > 0, regions.data, labels[there])
    centres[there] = nib.affines.apply_affine(regions.affine, np.array(found).reshape(-1, 3))
    return centres, counts


@cache
def _atlas_centres() -> tuple[np.ndarray, np.ndarray]:
    return _centres(built_in_atlas(brain.RESOLUTION_MM))
