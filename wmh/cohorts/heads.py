"""Label maps of twenty people's whole heads, fetched from the commit they are pinned to."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from wmh.cohorts.download import Fetched, RemoteFile, fetch
from wmh.cohorts.download_source import Patience
from wmh.cohorts.repositories import address, known_checksums

NOTICE = """\
Label maps of twenty whole heads, from BBillot/SynthSeg on GitHub, licence Apache 2.0: please cite
  Billot, B., et al. (2023). SynthSeg: Segmentation of brain MRI scans of any contrast and
  resolution without retraining. Medical Image Analysis 86, 102789."""

CHECKSUMS = Path(__file__).parent / "facts" / "heads_checksums.csv"


def fetch_heads(
    destination: Path | str, mirror: str | None = None, patience: Patience | None = None
) -> Fetched:
    """Fetch ``training_seg_01.nii.gz`` to ``training_seg_20.nii.gz`` into ``destination``.

    ``mirror`` is a folder or an http(s) address with the same files in ``synthseg/``. Raises
    :class:`DownloadError` when any of them could not be had.
    """
    files = [
        RemoteFile(PurePosixPath(path).name, address(path, mirror), checksum=checksum)
        for path, checksum in known_checksums(CHECKSUMS).items()
    ]
    return fetch(files, destination, "heads", patience=patience)
