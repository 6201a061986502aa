"""Region labels of a single scan: the built-in atlas, or any atlas onto any white matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from wmh.atlas.labelling import label_image
from wmh.atlas.registration import Fit, carry_labels, register_atlas
from wmh.atlas.source import built_in
from wmh.atlas.tissue import border_contrast
from wmh.images import load_image, load_labels, raise_unless_writable, resample_to, save_image


def label_scan(
    out: Path,
    t1: Path,
    flair: Path | None = None,
    lesions: Path | None = None,
    method: str = "affine",
    seed: int = 0,
) -> tuple[Fit, float]:
    """Write the regions of a scan, on the FLAIR's grid or, without one, the T1's.

    Returns the fit of the atlas, and the contrast of the T1 at the border of the regions: whether
    they follow the picture.
    """
    raise_unless_writable(out, image=True)
    t1_image = load_image(t1)
    flair_image = None if flair is None else load_image(flair)
    known = None if lesions is None else load_labels(lesions, range(3))
    labels, fit = label_image(t1_image, flair_image, built_in(), method, seed, known)
    save_image(out, labels.data, like=t1_image if flair_image is None else flair_image)
    return fit, border_contrast(resample_to(t1_image, labels), labels)


def carry_atlas(
    out: Path,
    white_matter: Path,
    atlas_white_matter: Path,
    atlas_labels: Path,
    method: str = "affine",
    seed: int = 0,
) -> Fit:
    """Write any atlas's labels inside a white-matter mask, on the mask's grid.

    Masks are 1, and probabilities above 0.5, in white matter; labels go up to 255.
    """
    raise_unless_writable(out, image=True)
    white = load_image(white_matter)
    fit = register_atlas(white, load_image(atlas_white_matter), seed, method)
    mask = replace(white, data=(white.data > 0.5).astype(np.uint8))
    save_image(out, carry_labels(load_labels(atlas_labels), fit, mask).data, like=white)
    return fit
