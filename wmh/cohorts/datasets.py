"""Public data from GitHub at fixed commits, or from a mirror: the atlas, heads and open scans.

A mirror is a folder or an http(s) address with the folders of :data:`REPOSITORIES`, each laid out
as its repository. Its files must pass the same checks.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import nibabel as nib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from wmh.atlas.regions import ALL_LABELS
from wmh.cohorts.challenge import known_subjects
from wmh.cohorts.fetch import Fetched, RemoteFile, fetch, is_web_address
from wmh.files import write_table
from wmh.images import Image, load_image, resample_to, save_image

REPOSITORIES = {
    "eve_atlas": "muschellij2/Eve_Atlas/f1cd7c1a462d2806f74d75850fb19b824d59df35",
    "wmhlocalization": "juliamachnio/WMHLocalization/1e91392d8560fa76802c76725a3a7d71691bf727",
    "synthseg": "BBillot/SynthSeg/66342c1f05e520f3729a6d7ca1042eb7f01b6266"
    "/data/training_label_maps",
    "open_ms_data": "muschellij2/open_ms_data/65704901f60650824565aa5a4818611aa89716f4",
    "sim_vent_wmh_seg": "Mahdi-Bashiri/Sim-Vent-WMH-Seg/914e4ed9e313259605fdc1042e02841934571f5f",
}
"""For each folder of a mirror: the repository, the commit (and the folder in it) that it copies."""

ATLAS_NOTICE = """\
JHU MNI type II atlas: please cite Oishi, K., et al. (2009). Atlas-based whole brain white matter
  analysis using large deformation diffeomorphic metric mapping. NeuroImage 46(2), 486-499.
Refined labels: please cite Machnio, J., et al. (2024). Deep Learning for Localization of White
  Matter Lesions in Neurological Diseases. Northern Lights Deep Learning Conference 2025."""
HEADS_NOTICE = """\
Label maps of twenty whole heads, from BBillot/SynthSeg on GitHub, licence Apache 2.0: please cite
  Billot, B., et al. (2023). SynthSeg: Segmentation of brain MRI scans of any contrast and
  resolution without retraining. Medical Image Analysis 86, 102789."""
OPEN_NOTICE = """\
Scans of 35 people with multiple sclerosis: FLAIR, T1 and lesion masks. Please cite
  open_ms_data (30 people, licence CC BY): Lesjak, Z., et al. (2018). A Novel Public MR Image
  Dataset of Multiple Sclerosis Patients With Lesion Segmentations Based on Multi-rater Consensus.
  Neuroinformatics 16, 51-63. https://doi.org/10.1007/s12021-017-9348-7
  sim_vent_wmh_seg (5 people, licence MIT): https://github.com/Mahdi-Bashiri/Sim-Vent-WMH-Seg"""

FACTS = Path(__file__).parent / "facts"
ATLAS_CHECKSUMS = FACTS / "atlas_checksums.csv"
"""Checksums of the atlas files and of six subjects' labels. The labels of all other subjects are
checked against the subject's grid."""
HEADS_CHECKSUMS = FACTS / "heads_checksums.csv"
OPEN_SCANS = FACTS / "open_scans.csv"
OPEN_IMAGES = ("FLAIR", "T1", "lesions")
OPEN_TABLE = "subjects.csv"
REVERSED_T1 = "sim_vent_wmh_seg/"
"""The data set whose T1 images are stored with the second array axis reversed."""


def fetch_atlas(destination: Path | str, mirror: str | None = None) -> Fetched:
    """Fetch the atlas files and the subjects' published region labels into ``destination``.

    The JHU MNI type II atlas (Oishi et al. 2009); the refined labels and the authors' own region
    labels of the challenge's 170 subjects (Machnio et al. 2024). A mirror need not hold every
    subject's labels: missing ones are returned as absent. Raises :class:`DownloadError` when any
    other file could not be fetched.
    """
    return fetch(atlas_files(mirror), destination, "atlas")


def atlas_files(mirror: str | None = None) -> list[RemoteFile]:
    """All files of the atlas, with their addresses."""
    checksums = _checksums(ATLAS_CHECKSUMS)
    subjects = {published_regions(subject.id): subject for subject in known_subjects().itertuples()}
    return [
        RemoteFile(
            path=path,
            url=_address(path, mirror),
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
    """The authors' region labels that exist in a folder, by challenge subject."""
    paths = {subject: folder / published_regions(subject) for subject in known_subjects()["id"]}
    return {subject: path for subject, path in paths.items() if path.is_file()}


def fetch_heads(destination: Path | str, mirror: str | None = None) -> Fetched:
    """Fetch label maps of twenty people's whole heads, ``training_seg_01.nii.gz`` to ``20``.

    Raises :class:`DownloadError` when any of them could not be fetched.
    """
    files = [
        RemoteFile(PurePosixPath(path).name, _address(path, mirror), checksum)
        for path, checksum in _checksums(HEADS_CHECKSUMS).items()
    ]
    return fetch(files, destination, "heads")


def fetch_open_scans(destination: Path | str, mirror: str | None = None) -> Fetched:
    """Fetch scans with lesion masks under open licences, and lay them out for a study.

    The fetched files are kept unchanged in ``original/``. Each person with all three files gets
    ``ID/FLAIR.nii.gz``, ``T1.nii.gz`` and ``lesions.nii.gz`` on one grid, and a row in
    ``subjects.csv``, from which a study reads them and draws its splits. Files that the source does
    not have are returned as absent. Raises :class:`DownloadError` when a file is not as published.
    """
    destination, facts = Path(destination), _open_scans()
    originals = destination / "original"
    files = [
        RemoteFile(
            row.path,
            _address(row.path, mirror),
            check=partial(raise_unless_git_blob, row.git_blob),
            optional=True,
        )
        for row in facts.itertuples()
    ]
    fetched = fetch(files, originals, "open scans")
    there = known_people(destination)
    paths = {
        person: {row.image: originals / row.path for row in rows.itertuples()}
        for person, rows in facts.groupby("id", sort=False)
        if not there[person]
    }
    complete = {
        p: images for p, images in paths.items() if set(images.values()).isdisjoint(fetched.absent)
    }
    for person, images in tqdm(complete.items(), desc="laying out", unit="person", leave=False):
        reverse_t1 = images["T1"].is_relative_to(originals / REVERSED_T1)
        _lay_out(images, destination / person, reverse_t1)
    people = facts[facts["id"].map(known_people(destination))].drop_duplicates("id")
    if not people.empty:
        table = people[["id"]].assign(
            **{image.lower(): people["id"] + f"/{image}.nii.gz" for image in OPEN_IMAGES},
            scanner=people["path"].str.partition("/")[0],
            age=people["age"],
            sex=people["sex"],
        )
        write_table(table, destination / OPEN_TABLE)
    return fetched


def known_people(folder: Path | str) -> dict[str, bool]:
    """For each person of the open scans, whether all images and the mask are in a folder."""
    return {
        person: all((Path(folder) / person / f"{name}.nii.gz").is_file() for name in OPEN_IMAGES)
        for person in _open_scans()["id"].unique()
    }


def raise_unless_git_blob(blob: str, path: Path) -> None:
    """Raise ValueError unless git's id of a file is ``blob`` (hexadecimal)."""
    content = path.read_bytes()
    found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if found != blob:
        raise ValueError(f"the checksum is {found}, not {blob}")


def _address(path: str, mirror: str | None) -> str:
    """Return the address of ``path``, a folder of :data:`REPOSITORIES` and a file's name."""
    folder, _, name = path.partition("/")
    if mirror is None:
        return f"https://raw.githubusercontent.com/{REPOSITORIES[folder]}/{quote(name)}"
    if is_web_address(mirror):
        return f"{mirror.rstrip('/')}/{quote(path)}"
    return str(Path(mirror.removeprefix("file://")).expanduser() / path)


def _checksums(table: Path) -> dict[str, str]:
    """Checksums by path, from a table with the columns path and sha256."""
    return ("sha256:" + pd.read_csv(table, index_col="path")["sha256"]).to_dict()


def _check_grid(subject: tuple, path: Path) -> None:
    """Raise ValueError unless a label image is complete and has its subject's native grid."""
    try:
        image = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
        labels = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"not a complete NIfTI image ({error})") from error
    shape, size = (subject.nx, subject.ny, subject.nz), image.header.get_zooms()
    expected = (subject.voxel_x_mm, subject.voxel_y_mm, subject.voxel_z_mm)
    if labels.shape != shape or not np.allclose(size, expected, atol=2e-3):
        raise ValueError(
            f"the grid of {labels.shape} voxels differs from that of subject {subject.id}: {shape} "
            f"voxels of {expected} mm"
        )
    if labels.min() < 0 or labels.max() > max(ALL_LABELS):
        raise ValueError(
            f"the labels {labels.min()} to {labels.max()} are not those of the refined regions"
        )


def _open_scans() -> pd.DataFrame:
    """One row per file: id, image, path (data set first), git_blob, age and sex, all as text."""
    return pd.read_csv(OPEN_SCANS, comment="#", dtype=str, keep_default_na=False)


def _lay_out(originals: dict[str, Path], folder: Path, reverse_t1: bool) -> None:
    """Save a person's images to a folder, on the FLAIR's grid."""
    flair, t1, lesions = (load_image(originals[name]) for name in OPEN_IMAGES)
    if reverse_t1:  # with the axis turned back, the T1 has the FLAIR's grid
        t1 = Image(t1.data[:, ::-1], flair.affine, t1.path)
    lesions = resample_to(lesions, flair, order=0)
    save_image(folder / "FLAIR.nii.gz", flair.data, flair)
    save_image(folder / "T1.nii.gz", resample_to(t1, flair).data, flair)
    # half of the largest value is a threshold for masks of 0 and 1, of 0 and 255, and blurred ones
    save_image(folder / "lesions.nii.gz", lesions.data > lesions.data.max() / 2, flair)
