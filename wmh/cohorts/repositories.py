"""Public files in GitHub repositories, pinned to a commit, or in a mirror of them."""

from __future__ import annotations

import csv
from pathlib import Path
from urllib.parse import quote

from wmh.cohorts.download_source import is_web_address

REPOSITORIES = {
    "eve_atlas": "muschellij2/Eve_Atlas/f1cd7c1a462d2806f74d75850fb19b824d59df35",
    "wmhlocalization": "juliamachnio/WMHLocalization/1e91392d8560fa76802c76725a3a7d71691bf727",
    "synthseg": "BBillot/SynthSeg/66342c1f05e520f3729a6d7ca1042eb7f01b6266"
    "/data/training_label_maps",
    "open_ms_data": "muschellij2/open_ms_data/65704901f60650824565aa5a4818611aa89716f4",
    "sim_vent_wmh_seg": "Mahdi-Bashiri/Sim-Vent-WMH-Seg/914e4ed9e313259605fdc1042e02841934571f5f",
}
"""Folder of a mirror, and the repository, commit (and folder there) that it copies."""

UPSTREAM = "https://raw.githubusercontent.com"


def address(path: str, mirror: str | None) -> str:
    """Where the file at ``path``, a folder of :data:`REPOSITORIES` and a name, is to be had.

    ``mirror`` is a folder or an http(s) address with the same folders.
    """
    folder, _, name = path.partition("/")
    if mirror is None:
        return f"{UPSTREAM}/{REPOSITORIES[folder]}/{quote(name)}"
    if is_web_address(mirror):
        return f"{mirror.rstrip('/')}/{quote(path)}"
    return str(Path(mirror).expanduser() / path)


def known_checksums(table: Path) -> dict[str, str]:
    """Checksums by path, from a table with the columns path and sha256."""
    with table.open(newline="") as file:
        return {row["path"]: f"sha256:{row['sha256']}" for row in csv.DictReader(file)}
