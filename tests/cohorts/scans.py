"""Small scans to spoil: a head with structure, in files as users have them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

SHAPE, VOXEL_MM = (24, 28, 12), (8.0, 7.0, 12.0)


def oblique(shape=SHAPE, voxel=VOXEL_MM, degrees=10.0, shift=(0.0, 0.0, 0.0)) -> np.ndarray:
    """A tilted affine, left-posterior-superior, whose middle lies at ``shift`` (mm)."""
    a = np.radians(degrees)
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.diag([-voxel[0], -voxel[1], voxel[2]])
    affine[:3, 3] = np.array(shift) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def head(shape=SHAPE, affine=None, kind="flair", seed=0) -> np.ndarray:
    """A head of 140 x 180 x 150 mm around the origin, seen on a grid: (x, y, z) float32."""
    affine = oblique() if affine is None else affine
    voxels = np.indices(shape).reshape(3, -1)
    world = (affine[:3, :3] @ voxels + affine[:3, 3:]).reshape(3, *shape)

    def ball(centre, radii):
        return sum(((w - c) / r) ** 2 for w, c, r in zip(world, centre, radii, strict=True)) < 1

    brain = ball((0, 0, 0), (65, 85, 75)) | ball((0, 80, -25), (18, 22, 22))
    parts = [
        (ball((-8, 10, 5), (9, 35, 12)), -60.0),
        (ball((30, 45, 20), (16, 12, 25)), -45.0),
        (ball((25, -50, -30), (30, 22, 20)), 35.0),
        (ball((-35, 40, 30), (18, 20, 25)), 50.0),
        (ball((-40, -30, -15), (14, 25, 14)), 30.0),
        (ball((10, -20, 45), (30, 12, 14)), 45.0),
    ]
    image = 100.0 * brain + sum(value * (part & brain) for part, value in parts)
    image = image if kind == "flair" else np.where(brain, 260.0 - image, 0)
    noise = np.random.default_rng(seed).normal(0, 2, shape)
    return ndimage.gaussian_filter(np.where(brain, image + noise, 0), 0.5).astype(np.float32)


def lesions(shape=SHAPE) -> np.ndarray:
    """A mask with a lesion well inside the head and some other pathology."""
    mask = np.zeros(shape, np.float32)
    mask[11:14, 14:17, 6:8] = 1
    mask[9:10, 10:12, 5:6] = 2
    return mask


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a NIfTI file with both form codes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, oblique() if affine is None else affine)
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    nib.save(image, path)
    return path


def save_subject(folder: Path, seed: int = 0) -> Path:
    """A usable challenge subject: pre/FLAIR, pre/T1 and wmh; its folder."""
    save(folder / "pre/FLAIR.nii.gz", head(seed=seed))
    save(folder / "pre/T1.nii.gz", head(kind="t1", seed=seed + 100))
    mask = lesions()
    mask[8 + seed % 8, 12, 8] = 1
    save(folder / "wmh.nii.gz", mask)
    return folder


def save_bids(folder: Path, people: int = 3, sessions: tuple[str, ...] = ()) -> Path:
    """A BIDS folder with lesion masks under derivatives."""
    for k in range(people * max(len(sessions), 1)):
        person, session = f"sub-{k // max(len(sessions), 1) + 1:02d}", ""
        if sessions:
            session = f"ses-{sessions[k % len(sessions)]}"
        stem = "_".join(filter(None, (person, session)))
        place = folder / person / session / "anat"
        save(place / f"{stem}_FLAIR.nii.gz", head(seed=k))
        save(place / f"{stem}_T1w.nii.gz", head(kind="t1", seed=k + 100))
        mask = lesions()
        mask[8 + k, 14, 6] = 1
        name = f"{stem}_space-FLAIR_label-lesion_mask.nii.gz"
        save(folder / "derivatives/manual" / person / session / "anat" / name, mask)
    return folder
