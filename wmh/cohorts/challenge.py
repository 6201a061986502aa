"""The MICCAI WMH Segmentation Challenge (Kuijf et al. 2019): its 170 subjects, and its files.

DataverseNL also offers the whole data set as one archive, but its preparation times out. Therefore
the files are listed through the Dataverse API and fetched one by one.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pandas as pd

from wmh.cohorts.cohort import SPLITS
from wmh.cohorts.fetch import DownloadError, Fetched, RemoteFile, fetch
from wmh.cohorts.scanners import SCANNERS, scanner_at

FACTS = Path(__file__).parent / "facts" / "challenge_subjects.csv"
SERVER = "https://dataverse.nl"
DOI = "10.34894/AECRSD"
NOTICE = """\
Data of the White Matter Hyperintensity (WMH) Segmentation Challenge
  https://doi.org/10.34894/AECRSD, licence CC BY-NC 4.0: no commercial use, name the source.
  170 subjects, 1791 files, 8.8 GB.
Please cite, wherever you use them:
  Kuijf, H. J., et al. (2019). Standardized Assessment of Automatic Segmentation of White Matter
  Hyperintensities and Results of the WMH Segmentation Challenge. IEEE Transactions on Medical
  Imaging 38(11), 2556-2568. https://doi.org/10.1109/TMI.2019.2905770
  Kuijf, H. J., et al. (2022). Data of the White Matter Hyperintensity (WMH) Segmentation
  Challenge. DataverseNL. https://doi.org/10.34894/AECRSD"""

_CHECKSUMS = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}
"""Names of checksums in Dataverse, and the same in hashlib."""


def local_path(published: str) -> str:
    """A path of the published data set, with names that every file system can store.

    >>> local_path("test/Amsterdam/Philips_VU .PETMR_01./160/wmh.nii.gz")
    'test/Amsterdam/Philips_VU_PETMR_01/160/wmh.nii.gz'
    """
    for scanner in SCANNERS.values():
        published = f"/{published}".replace(
            f"/{scanner.published_folder}/", f"/{scanner.folder}/"
        ).removeprefix("/")
    return published


@cache
def known_subjects() -> pd.DataFrame:
    """The 170 subjects: id, split, scanner (short name), grid (voxels, mm), orientation."""
    table = pd.read_csv(FACTS, dtype={"id": str})
    return table.assign(scanner=[scanner_at(folder).name for folder in table["folder"]])


def missing_subjects(folder: Path | str, split: Literal["training", "test", "all"]) -> list[str]:
    """Folders (``split/Site[/Scanner]/ID``) of the challenge's subjects without all their files.

    A folder may have its published name or the one from :func:`local_path`.
    """
    table = known_subjects()
    wanted = table if split == "all" else table[table["split"] == split]
    published = [f"{row.split}/{row.folder}/{row.id}" for row in wanted.itertuples()]

    def is_whole(place: str) -> bool:
        needed = ("pre/FLAIR.nii.gz", "pre/T1.nii.gz", "wmh.nii.gz")
        return all((Path(folder) / place / name).is_file() for name in needed)

    return [local_path(p) for p in published if not (is_whole(p) or is_whole(local_path(p)))]


def fetch_challenge(
    destination: Path | str,
    split: Literal["training", "test", "all"] = "all",
    observers: bool = False,
    server: str = SERVER,
) -> Fetched:
    """Fetch the challenge's files into ``destination``, laid out as published.

    ``observers`` adds the masks of the additional observers (``additional_annotations/``). Files
    that are there and correct are kept. Raises :class:`DownloadError` when files could not be
    fetched.
    """
    address = f"{server}/api/datasets/:persistentId/?persistentId=doi:{DOI}"
    with TemporaryDirectory() as folder:
        file = RemoteFile("files.json", address, check=lambda path: json.loads(path.read_bytes()))
        fetch([file], folder, "list of files")
        listing = json.loads((Path(folder) / file.path).read_bytes())
    files = files_in(listing, server, split, observers)
    if not files:
        raise DownloadError(
            f"{server}: doi:{DOI} lists no files of the {split} split. The data set may have "
            "changed; look for a newer version of wmh"
        )
    return fetch(files, destination, f"challenge, {split}")


def files_in(
    listing: dict, server: str, split: Literal["training", "test", "all"], observers: bool
) -> list[RemoteFile]:
    """The files to fetch, from a Dataverse listing of the data set."""
    files = []
    try:
        for entry in listing["data"]["latestVersion"]["files"]:
            data, checksum = entry["dataFile"], entry["dataFile"]["checksum"]
            place = "/".join(filter(None, (entry.get("directoryLabel"), data["filename"])))
            file = RemoteFile(
                path=local_path(place),
                url=f"{server}/api/access/datafile/{int(data['id'])}",
                size=int(data["filesize"]),
                checksum=f"{_CHECKSUMS[checksum['type']]}:{checksum['value'].lower()}",
            )
            files.append(file)
    except (KeyError, TypeError) as error:
        raise DownloadError(
            f"{server}: the list of files does not have the expected form ({error!r}). "
            "The Dataverse API may have changed; look for a newer version of wmh"
        ) from error
    return [file for file in files if _wanted(file.path, split, observers)]


def _wanted(path: str, split: str, observers: bool) -> bool:
    """True if a file belongs to the wanted split; files outside both splits always do."""
    folders = path.split("/")[:-1]
    if "additional_annotations" in folders and not observers:
        return False
    of_split = [folder for folder in folders if folder in SPLITS]
    return split == "all" or not of_split or of_split[0] == split
