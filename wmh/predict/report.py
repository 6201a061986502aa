"""A subject's picture and its page ``report.html``, one file that opens without a network."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from wmh.atlas.regions import ALL_LABELS, REST_LABELS
from wmh.cores import cores_here
from wmh.figures.sheets import overview
from wmh.figures.slices import (
    fullest_slice,
    grey_window,
    head_box,
    head_mask,
    in_regions,
    region_colours,
)
from wmh.figures.style import save_picture
from wmh.images import Image, rough_head, to_ras
from wmh.learning.models import Model
from wmh.pages import as_webp, write_page
from wmh.predict.brain_map import frame_mm, kept_cuts, paint, scale_top, shades
from wmh.predict.predictor import Predictor, ScanPrediction
from wmh.provenance import commit_here

DPI = 200
"""Resolution of the picture, chosen so that its slices are about as fine as a scan's."""

LARGEST_BYTES = 4_000_000
"""Largest size of all slices of a page as base64. If none of ``SIZES`` fits, the last is used."""

SIZES = ((80, 384), (65, 320), (50, 256), (35, 208))
"""WebP quality and longest edge in pixels, the best first."""

HEAD = 0.02
"""A slice shows head if more than this share of it is in the rough head mask."""


@dataclass(frozen=True)
class Slices:
    """Axial slices from the lowest with head to the highest; pictures are base64 of WebP.

    The left of each picture is the subject's left. ``outlines`` are SVG paths along the edges of
    lesion voxels, in voxels of ``columns`` x ``rows``; ``lesion_ml`` is the lesion volume of each
    slice.
    """

    pictures: dict[str, list[str]]
    regions: list[str]
    outlines: list[str]
    lesion_ml: list[float]
    columns: int
    rows: int
    height_over_width: float
    first: int
    """Number of the lowest slice in the image, counted from 1."""
    fullest: int
    """Index of the slice that is shown first: the one with most lesion in the brain."""

    def __len__(self) -> int:
        return len(self.outlines)


def write_picture(path: Path, found: ScanPrediction, note: str) -> Path:
    """Write the picture of a scan; ``note`` says which model predicted it from which images."""
    figure = overview(found.images, found.lesions, found.regions, found.burden, note)
    return save_picture(figure, path, DPI)


def write_report(path: Path, name: str, found: ScanPrediction, predictor: Predictor) -> Path:
    """Write a subject's page."""
    percent = found.burden.set_index("region")["percent_of_region"].drop(list(REST_LABELS))
    values = percent.to_dict()
    models = {"Lesions": found.lesion_model, "Regions": found.region_model}
    if found.lesion_model is found.region_model:
        models = {"Lesions and regions": found.lesion_model}
    return write_page(
        path,
        "report.html",
        name=name,
        predictor=predictor,
        found=found,
        slices=slices_of(found),
        cuts=kept_cuts(),
        painted=paint(values, "% of the region"),
        frame=frame_mm(),
        shades=shades(scale_top(values)),
        regions=found.burden.to_dict("records"),
        models={task: (model, _views(model, found)) for task, model in models.items()},
        version=version("wmh"),
        **commit_here(),
    )


def _views(model: Model, found: ScanPrediction) -> list[str]:
    views = model.configuration.views_for(found.originals)
    return [" and ".join(modality for modality in view if modality) for view in views]


def slices_of(found: ScanPrediction) -> Slices:
    """Cut a scan into pictures that together stay below ``LARGEST_BYTES``."""
    reference = next(iter(found.images.values()))
    box, (first, end) = head_box(reference), _span(reference, found.lesions)

    def planes(image: Image) -> list[np.ndarray]:
        """Slices (rows from anterior to posterior, columns from left to right)."""
        data = to_ras(image).data
        return [data[*box, z].T[::-1] for z in range(first, end)]

    colours = (region_colours()(np.array(ALL_LABELS)) * 255).astype(np.uint8)
    scans = {name: (planes(image), grey_window(image)) for name, image in found.images.items()}
    with ThreadPoolExecutor(cores_here()) as pool:
        for quality, edge in SIZES:
            pictures = {
                name: list(pool.map(partial(_grey, window, quality, edge), grey_planes))
                for name, (grey_planes, window) in scans.items()
            }
            if sum(len(text) for texts in pictures.values() for text in texts) <= LARGEST_BYTES:
                break
        regions = list(pool.map(partial(_coloured, colours), planes(found.regions)))
    lesions = [plane > 0 for plane in planes(found.lesions)]
    rows, columns = lesions[0].shape
    size = to_ras(reference).voxel_size
    return Slices(
        pictures=pictures,
        regions=regions,
        outlines=[outline_path(plane) for plane in lesions],
        lesion_ml=[round(int(plane.sum()) * found.lesions.voxel_ml, 3) for plane in lesions],
        columns=columns,
        rows=rows,
        height_over_width=float(rows * size[1] / (columns * size[0])),
        first=first + 1,
        fullest=min(max(_opening(found), first), end - 1) - first,
    )


def outline_path(mask: np.ndarray) -> str:
    """SVG path along the edges between the true and the false pixels of a mask (rows, columns).

    >>> outline_path(np.array([[True]]))
    'M0 0h1M0 1h1M0 0v1M1 0v1'
    """
    padded = np.pad(mask.astype(np.int8), 1)
    across = np.diff(padded, axis=0)[:, 1:-1] != 0  # edges above each row, and below the last
    along = (np.diff(padded, axis=1)[1:-1] != 0).T
    rows = [f"M{start} {y}h{length}" for y, start, length in _runs(across)]
    columns = [f"M{x} {start}v{length}" for x, start, length in _runs(along)]
    return "".join(rows + columns)


def _runs(lines: np.ndarray) -> Iterable[tuple[int, int, int]]:
    """Line number, start and length of every run of true values in the lines of an array."""
    edges = np.diff(np.pad(lines.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    line, start = np.nonzero(edges == 1)
    _, end = np.nonzero(edges == -1)
    return zip(line.tolist(), start.tolist(), (end - start).tolist(), strict=True)


def _span(image: Image, lesions: Image) -> tuple[int, int]:
    """The first slice with head or lesion, and the one after the last."""
    share = rough_head(to_ras(image).data).mean(axis=(0, 1))
    filled = (share > HEAD) | to_ras(lesions).data.any(axis=(0, 1))
    there = np.flatnonzero(filled) if filled.any() else np.arange(len(share))
    return int(there[0]), int(there[-1]) + 1


def _opening(found: ScanPrediction) -> int:
    """The slice with most lesion in the brain; without lesion, the one with most brain."""
    inside = in_regions(found.lesions, found.regions)
    masks = (inside, found.regions, head_mask(next(iter(found.images.values()))))
    return fullest_slice(next((mask for mask in masks if mask.data.any()), masks[-1]))


def _grey(window: tuple[float, float], quality: int, edge: int, plane: np.ndarray) -> str:
    """A slice in grey, its longest edge at most ``edge`` pixels."""
    low, high = window
    grey = np.clip((plane - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    picture = Picture.fromarray(np.ascontiguousarray(grey))
    if max(picture.size) > edge:
        shrunk = (max(1, round(n * edge / max(picture.size))) for n in picture.size)
        picture = picture.resize(tuple(shrunk), Picture.Resampling.LANCZOS)
    return as_webp(picture, quality)


def _coloured(colours: np.ndarray, plane: np.ndarray) -> str:
    """Region labels in their colours, transparent where there is none; empty for an empty slice."""
    return as_webp(Picture.fromarray(colours[plane]), 100) if plane.any() else ""
