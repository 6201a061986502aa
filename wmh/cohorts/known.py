"""The 170 subjects of the challenge: who they are, and where their files lie once fetched."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import pandas as pd

from wmh.cohorts.scanners import SCANNERS, scanner_at

FACTS = Path(__file__).parent / "facts" / "challenge_subjects.csv"


def local_path(published: str) -> str:
    """A path of the published data set, in names that every file system can store.

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
    """Places (``split/Site[/Scanner]/ID``) of known subjects that lack an image or the mask."""
    table = known_subjects()
    wanted = table if split == "all" else table[table["split"] == split]
    places = [
        local_path(f"{row.split}/{row.folder}/{row.id}") for row in wanted.itertuples(index=False)
    ]
    needed = ("pre/FLAIR.nii.gz", "pre/T1.nii.gz", "wmh.nii.gz")
    return [p for p in places if not all((Path(folder) / p / name).is_file() for name in needed)]
