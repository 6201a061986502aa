"""Real scans with lesion masks under open licences, fetched and laid out as a study reads them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from wmh.cohorts.download import Fetched, RemoteFile, fetch
from wmh.cohorts.download_source import Patience
from wmh.cohorts.repositories import address
from wmh.images import Image, load_image, resample_to, save_image

NOTICE = """\
Scans of 35 people with multiple sclerosis: FLAIR, T1 and lesion masks. Please cite
  open_ms_data (30 people, licence CC BY): Lesjak, Z., et al. (2018). A Novel Public MR Image
  Dataset of Multiple Sclerosis Patients With Lesion Segmentations Based on Multi-rater Consensus.
  Neuroinformatics 16, 51-63. https://doi.org/10.1007/s12021-017-9348-7
  sim_vent_wmh_seg (5 people, licence MIT): https://github.com/Mahdi-Bashiri/Sim-Vent-WMH-Seg"""

FACTS = Path(__file__).parent / "facts" / "open_scans.csv"
IMAGES = ("FLAIR", "T1", "lesions")
ORIGINALS, TABLE = "original", "subjects.csv"
REVERSED_T1 = "sim_vent_wmh_seg/"
"""The data set whose T1 images are stored with the second array axis back to front."""


def fetch_open_scans(
    destination: Path | str, mirror: str | None = None, patience: Patience | None = None
) -> Fetched:
    """Fetch the scans and lay out each person whose three files are there.

    What comes is kept as it is in ``original/``; ``ID/FLAIR.nii.gz``, ``T1.nii.gz`` and
    ``lesions.nii.gz`` lie on one grid, and ``subjects.csv`` lists the people for a study.
    ``mirror`` is a folder or an http(s) address with ``open_ms_data/`` and ``sim_vent_wmh_seg/``,
    each laid out as its repository. Files that the source lacks are returned as absent. Raises
    :class:`DownloadError` when a file is not as published.
    """
    destination, facts = Path(destination), _facts()
    files = [
        RemoteFile(
            row.path, address(row.path, mirror), checksum=f"gitblob:{row.git_blob}", optional=True
        )
        for row in facts.itertuples()
    ]
    fetched = fetch(files, destination / ORIGINALS, "open scans", patience=patience)
    absent = {path.relative_to(destination / ORIGINALS).as_posix() for path in fetched.absent}
    there = known_people(destination)
    paths = {
        person: dict(zip(rows["image"], rows["path"], strict=True))
        for person, rows in facts.groupby("id", sort=False)
        if not there[person] and absent.isdisjoint(rows["path"])
    }
    for person in tqdm(paths, desc="laying out", unit="person", leave=False):
        _lay_out(destination, person, paths[person])
    _write_table(destination, facts)
    return fetched


def known_people(folder: Path | str) -> dict[str, bool]:
    """All people there are, and whether each one's images and mask lie in a folder, laid out."""
    return {
        person: all((Path(folder) / person / f"{image}.nii.gz").is_file() for image in IMAGES)
        for person in _facts()["id"].unique()
    }


def _facts() -> pd.DataFrame:
    """A row a file: id, image, path (data set first), git_blob, age and sex, all as text."""
    return pd.read_csv(FACTS, comment="#", dtype=str, keep_default_na=False)


def _lay_out(destination: Path, person: str, paths: dict[str, str]) -> None:
    folder = destination / person
    flair, t1, lesions = (load_image(destination / ORIGINALS / paths[name]) for name in IMAGES)
    if paths["T1"].startswith(REVERSED_T1):  # turned back, it lies on the FLAIR's grid
        t1 = Image(t1.data[:, ::-1], flair.affine, t1.path)
    lesions = resample_to(lesions, flair, order=0)
    save_image(folder / "FLAIR.nii.gz", flair.data, flair)
    save_image(folder / "T1.nii.gz", resample_to(t1, flair).data, flair)
    # half of the largest value parts masks of 0 and 1, of 0 and 255, and blurred edges alike
    save_image(folder / "lesions.nii.gz", lesions.data > lesions.data.max() / 2, flair)


def _write_table(folder: Path, facts: pd.DataFrame) -> None:
    """List the people who are there: id, flair, t1, lesions, split, scanner, age and sex."""
    people = facts[facts["id"].map(known_people(folder))].drop_duplicates("id")
    if people.empty:
        return
    table = people[["id"]].assign(
        **{image.lower(): people["id"] + f"/{image}.nii.gz" for image in IMAGES},
        split="training",
        scanner=people["path"].str.partition("/")[0],
        age=people["age"],
        sex=people["sex"],
    )
    temporary = folder / f".{TABLE}.part"
    table.to_csv(temporary, index=False)
    temporary.replace(folder / TABLE)
