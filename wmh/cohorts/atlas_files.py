"""The published atlas files, fetched from the commits they are pinned to, or from a mirror of them.

The JHU MNI type II atlas (Oishi et al. 2009) comes from muschellij2/Eve_Atlas; the refined labels
and the authors' own region labels of the challenge's 170 subjects (Machnio et al. 2024) from
juliamachnio/WMHLocalization. ``facts/atlas_checksums.csv`` holds the sha256 of the atlas files and
of six subjects; the other subjects' labels are checked against the known grid of their subject.
"""

from __future__ import annotations

import gzip
import zlib
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from wmh.cohorts.download import Fetched, RemoteFile, fetch
from wmh.cohorts.download_source import Patience
from wmh.cohorts.known import known_subjects
from wmh.cohorts.repositories import address, known_checksums

NOTICE = """\
JHU MNI type II atlas: please cite Oishi, K., et al. (2009). Atlas-based whole brain white matter
  analysis using large deformation diffeomorphic metric mapping. NeuroImage 46(2), 486-499.
Refined labels: please cite Machnio, J., et al. (2024). Deep Learning for Localization of White
  Matter Lesions in Neurological Diseases. Northern Lights Deep Learning Conference 2025."""

CHECKSUMS = Path(__file__).parent / "facts" / "atlas_checksums.csv"
LARGEST_LABEL = 36


def fetch_atlas(
    destination: Path | str, mirror: str | None = None, patience: Patience | None = None
) -> Fetched:
    """Fetch the atlas files and the subjects' published region labels into ``destination``.

    ``mirror`` is a folder or an http(s) address with the same files in ``eve_atlas/`` and
    ``wmhlocalization/``; they pass the same checks. A mirror need not hold every subject's labels:
    those it lacks are returned as absent. Raises :class:`DownloadError` when any other file could
    not be had.
    """
    return fetch(atlas_files(mirror), destination, "atlas", patience=patience)


def atlas_files(mirror: str | None = None) -> list[RemoteFile]:
    """All files to fetch, and where from."""
    checksums = known_checksums(CHECKSUMS)
    subjects = {published_regions(subject.id): subject for subject in known_subjects().itertuples()}
    return [
        RemoteFile(
            path=path,
            url=address(path, mirror),
            checksum=checksums.get(path),
            check=partial(_check_grid, subjects[path]) if path in subjects else None,
            optional=mirror is not None and path in subjects,
        )
        for path in sorted(checksums | dict.fromkeys(subjects))
    ]


def published_regions(subject: str) -> str:
    """Path, below the destination, of the authors' own region labels of a challenge subject."""
    splits = known_subjects().set_index("id")["split"]
    folder = {"training": "Train", "test": "Test"}[splits[subject]]
    return f"wmhlocalization/WMH_refined_labels/{folder}/WMH_{subject}.nii.gz"


def published_labels(folder: Path) -> dict[str, Path]:
    """The authors' region labels that were fetched to a folder, by challenge subject."""
    paths = {subject: folder / published_regions(subject) for subject in known_subjects()["id"]}
    return {subject: path for subject, path in paths.items() if path.is_file()}


def _check_grid(subject: tuple, path: Path) -> None:
    """Raise ValueError unless a label image is whole and lies on its subject's native grid."""
    try:
        image = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
        labels = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"it is no whole NIfTI image ({error})") from error
    shape, size = (subject.nx, subject.ny, subject.nz), image.header.get_zooms()
    expected = (subject.voxel_x_mm, subject.voxel_y_mm, subject.voxel_z_mm)
    if labels.shape != shape or not np.allclose(size, expected, atol=2e-3):
        raise ValueError(
            f"a grid of {labels.shape} voxels is not that of subject {subject.id}: {shape} voxels "
            f"of {expected} mm"
        )
    if labels.min() < 0 or labels.max() > LARGEST_LABEL:
        raise ValueError(f"labels of {labels.min()} to {labels.max()} are not the refined regions")
