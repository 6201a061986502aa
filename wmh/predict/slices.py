"""The slices of a scan as small pictures to scroll through, with outlines to lay over them."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture

from wmh.cores import cores_here
from wmh.figures.slices import (
    fullest_slice,
    grey_window,
    head_box,
    head_mask,
    in_regions,
    region_colours,
)
from wmh.images import Image, rough_head, to_ras
from wmh.pages import as_webp
from wmh.predict.answer import Answer

LARGEST_BYTES = 4_000_000
"""Of all slices in a page, as base64; the coarsest of ``SIZES`` is taken if none stays below."""

SIZES = ((80, 384), (65, 320), (50, 256), (35, 208))
"""WebP quality and longest edge in pixels, the best first."""

HEAD = 0.02
"""Share of a slice that is brighter than a fifth of the image's bright end, where there is head."""


@dataclass(frozen=True)
class Slices:
    """Axial slices, from the lowest with head to the highest; pictures as base64 of WebP.

    Left of each picture is the subject's left. ``outlines`` are SVG paths along the edges of lesion
    voxels, in voxels of ``columns`` x ``rows``; ``lesion_ml`` is the lesion volume of each slice.
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
    """Place in the lists of the slice that is shown first: that with most lesion in the brain."""

    def __len__(self) -> int:
        return len(self.outlines)


def slices_of(answer: Answer) -> Slices:
    """Cut an answer's images into pictures, no larger in all than a page can carry."""
    reference = next(iter(answer.images.values()))
    box, (first, end) = head_box(reference), _span(reference, answer.lesions)
    lesions = _planes(answer.lesions, box, first, end)
    regions = _planes(answer.regions, box, first, end)
    grey = {
        name: _grey(_planes(image, box, first, end), grey_window(image))
        for name, image in answer.images.items()
    }
    for quality, edge in SIZES:
        pictures = {name: _encode(planes, quality, edge) for name, planes in grey.items()}
        if sum(len(text) for texts in pictures.values() for text in texts) <= LARGEST_BYTES:
            break
    rows, columns = lesions[0].shape
    size = to_ras(reference).voxel_size
    return Slices(
        pictures=pictures,
        regions=_coloured(regions),
        outlines=[outline_path(plane > 0) for plane in lesions],
        lesion_ml=[round(int((plane > 0).sum()) * answer.lesions.voxel_ml, 3) for plane in lesions],
        columns=columns,
        rows=rows,
        height_over_width=float(rows * size[1] / (columns * size[0])),
        first=first + 1,
        fullest=min(max(_opening(answer), first), end - 1) - first,
    )


def _opening(answer: Answer) -> int:
    """The slice with most lesion in the brain, or of a brain without any that with most brain."""
    inside = in_regions(answer.lesions, answer.regions)
    masks = (inside, answer.regions, head_mask(next(iter(answer.images.values()))))
    return fullest_slice(next((mask for mask in masks if mask.data.any()), masks[-1]))


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
    """Line, start and length of every run of true values."""
    edges = np.diff(np.pad(lines.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    line, start = np.nonzero(edges == 1)
    _, end = np.nonzero(edges == -1)
    return zip(line.tolist(), start.tolist(), (end - start).tolist(), strict=True)


def _span(image: Image, lesions: Image) -> tuple[int, int]:
    """The first slice with head or lesion, and the first one past the last."""
    data = to_ras(image).data
    share = rough_head(data).mean(axis=(0, 1))
    filled = (share > HEAD) | to_ras(lesions).data.any(axis=(0, 1))
    there = np.flatnonzero(filled) if filled.any() else np.arange(len(share))
    return int(there[0]), int(there[-1]) + 1


def _planes(image: Image, box: tuple[slice, slice], first: int, end: int) -> list[np.ndarray]:
    """Slices (rows from anterior to posterior, columns from left to right)."""
    data = to_ras(image).data
    return [data[*box, z].T[::-1] for z in range(first, end)]


def _grey(planes: Iterable[np.ndarray], window: tuple[float, float]) -> list[np.ndarray]:
    low, high = window
    return [
        np.clip((plane - low) / (high - low) * 255, 0, 255).astype(np.uint8) for plane in planes
    ]


def _encode(planes: Iterable[np.ndarray], quality: int, edge: int) -> list[str]:
    def encode(plane: np.ndarray) -> str:
        picture = Picture.fromarray(np.ascontiguousarray(plane))
        if max(picture.size) > edge:
            shrunk = (max(1, round(n * edge / max(picture.size))) for n in picture.size)
            picture = picture.resize(tuple(shrunk), Picture.Resampling.LANCZOS)
        return as_webp(picture, quality)

    with ThreadPoolExecutor(cores_here()) as pool:
        return list(pool.map(encode, planes))


def _coloured(planes: Iterable[np.ndarray]) -> list[str]:
    """Region labels in their colours; clear where there is none. Nothing for an empty slice."""
    colours = (region_colours()(np.arange(37)) * 255).astype(np.uint8)

    def encode(plane: np.ndarray) -> str:
        return as_webp(Picture.fromarray(colours[plane]), 100) if plane.any() else ""

    with ThreadPoolExecutor(cores_here()) as pool:
        return list(pool.map(encode, planes))
