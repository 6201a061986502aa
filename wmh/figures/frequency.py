"""Figure 8: how often each place of the brain holds lesion, in truth and in predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import nibabel as nib
import numpy as np
from scipy import ndimage
from tqdm.auto import tqdm

from wmh.atlas.grids import bounding_box, cut
from wmh.atlas.regions import ALL_LABELS, REGION_LABELS, built_in_atlas, mni_t1
from wmh.figures.brain import RESOLUTION_MM, ColourScale, draw_maps, lay_out_maps
from wmh.figures.parts import (
    cohort_words,
    lesion_values,
    own_configurations,
    predicted,
    prediction,
    read_table,
)
from wmh.figures.style import (
    DOUBLE_COLUMN,
    StyledFigure,
    configuration_name,
    new_figure,
    styled,
)
from wmh.images import Image, ImageError, load_labels, resample_to
from wmh.study import Study

COLOURS = "magma_r"
ROW_MM = 31
"""Height of a row; with seven, a page still has room for the caption."""

RAREST = 0.02
"""Share of subjects below which a place is left grey."""


@dataclass(frozen=True)
class Frequency:
    """Share of subjects with lesion (0 to 1) at each voxel of MNI152, truth first."""

    maps: dict[str, Image]
    subjects: int
    caption: str


def load_frequency(study: Study) -> Frequency:
    """Carry every test subject's true and predicted lesions to MNI152 and average them."""
    values, cohort = lesion_values(study), read_table(study, "cohort").set_index("id")
    truth = cohort.loc[cohort["split"] == "test", "lesions"].sort_index()
    subjects = list(truth.index)
    configurations = predicted(study, own_configurations(values), subjects[0])
    masks: dict[str, list[Image]] = {}
    for subject in tqdm(subjects, "lesions to MNI152", unit="subject"):
        matrix = matrix_to_mni(load_labels(study.region_labels(subject)))
        found = {"Truth": load_labels(truth[subject])}
        found |= {
            configuration_name(*c): prediction(study, *c, subject, "lesions")
            for c in configurations
        }
        for name, lesions in found.items():
            masks.setdefault(name, []).append(carry_to_mni(lesions, matrix))
    caption = (
        "Where lesions lie: share of test subjects with lesion at each voxel of MNI152 space, in "
        "truth and as each configuration predicts it from the images it was made for (axial cuts, "
        "heights z in mm; L: the subject's left). Masks were carried over by the affine transform "
        "that best brings the centres of the subject's regions to those of the atlas; places "
        f"below {RAREST:.0%} are not coloured. Nothing is tested here. "
        f"{cohort_words(study, len(subjects))}"
    )
    return Frequency({name: share(of) for name, of in masks.items()}, len(subjects), caption)


@styled
def plot_frequency(data: Frequency) -> StyledFigure:
    """A row of axial cuts for the truth and for each configuration, in one colour scale."""
    figure = new_figure(DOUBLE_COLUMN, ROW_MM * len(data.maps) + 4)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    limits = (0.0, max(RAREST, *(float(image.data.max()) for image in data.maps.values())))
    scale = ColourScale(COLOURS, limits, f"share of {data.subjects} subjects with lesion")
    panels = lay_out_maps(figure, {name: name for name in data.maps}, scale, weight="bold")
    common = {
        name: Image(np.where(image.data >= RAREST, image.data, 0).astype(np.float32), image.affine)
        for name, image in data.maps.items()
    }
    draw_maps(panels, common, scale)
    return figure


def matrix_to_mni(regions: Image) -> np.ndarray:
    """The affine (4, 4) from a subject's world to MNI152's, both mm, told by its regions.

    Least squares over the centres of the 34 regions, each weighted by its volume; so it can be had
    for any region labels, published ones included, that come without a transform. Raises
    :class:`ImageError` for labels that hold fewer than ten regions.
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
    """A lesion mask on the grid of MNI152: how much of each voxel is lesion, 0 to 1.

    An affine moves an image by moving its grid, so it is resampled once, and only where the box
    around the lesions comes to lie.
    """
    template = mni_t1(RESOLUTION_MM)
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
    carried.data[box] = resample_to(moved, cut(template, box)).data
    return carried


def share(masks: Sequence[Image]) -> Image:
    """The mean of maps on one grid: in which share of subjects each voxel is lesion, 0 to 1."""
    mean = np.mean([mask.data for mask in masks], axis=0, dtype=np.float32)
    return Image(mean, masks[0].affine)


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
    return _centres(built_in_atlas(RESOLUTION_MM))
