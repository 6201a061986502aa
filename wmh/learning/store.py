"""Slices too many for memory: prepared once per study, a file a subject, and read from there.

A file holds one subject's slices with their lesion labels, another its regions, in a window of
their own. Each is written under a temporary name and renamed, so that a cut-short writing goes on
with the next subject; its stamp says what it was made of, so that it is made anew when images,
settings or code have changed.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from pickle import UnpicklingError

import nibabel as nib
import torch
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from tqdm.auto import tqdm

from wmh import images
from wmh.cohorts import cohort
from wmh.cohorts.cohort import Subject
from wmh.images import ImageError
from wmh.learning import cut, skeletons, slices
from wmh.learning.losses import SKELETON
from wmh.learning.slices import Slices, subject_slices
from wmh.learning.stacks import Files, Stored, StoredSubject, is_structure, open_slices

CODE = (images, cohort, cut, slices, skeletons)
"""The modules that make slices out of images."""

NOT_AN_IMAGE = (ImageFileError, HeaderDataError)


def stored_slices(
    folder: Path,
    subjects: Sequence[Subject],
    voxel_size_mm: float | None,
    regions_folder: Path | None = None,
    precision: torch.dtype = torch.float32,
    thin: int | None = None,
) -> Slices:
    """The slices that :func:`wmh.learning.slices.load_slices` reads, from files in ``folder``.

    Files that are not there, or out of date, are written first, one subject after the other. Raises
    :class:`ImageError` as that function does, and for a file that cannot be written.
    """
    settings = (voxel_size_mm, regions_folder, precision, thin)
    making = _making(voxel_size_mm, precision, thin)
    known = []
    for subject in tqdm(subjects, desc="preparing slices", unit="subject"):
        sources = {"images": (subject.flair, subject.t1, subject.lesions)}
        if regions_folder is not None:
            sources["regions"] = (regions_folder / f"{subject.id}.nii.gz",)
        stamps = {kind: making + _stamp(files) for kind, files in sources.items()}
        paths = {kind: folder / kind / f"{subject.id}.pt" for kind in sources}
        stale = [kind for kind in sources if not _is_fresh(paths[kind], stamps[kind])]
        if stale:
            content = _content(subject_slices(subject, *settings))
            for kind in stale:
                _write(paths[kind], content[kind] | {"stamp": stamps[kind]})
        known.append(_known(tuple(paths.values()), tuple(stamps.values())))
    files = Files(known)
    counts = torch.tensor([len(subject.depth_mm) for subject in known])
    structures = ("lesions",) if regions_folder is None else ("lesions", "regions")
    return Slices(
        images=Stored(files, "images"),
        lesions=Stored(files, "lesions"),
        regions=Stored(files, "regions") if regions_folder else None,
        depth_mm=torch.cat([subject.depth_mm for subject in known]),
        subject=torch.repeat_interleave(torch.arange(len(known)), counts),
        ids=tuple(subject.id for subject in subjects),
        windows=tuple(subject.edges for subject in known),
        further=tuple(subject.further for subject in subjects),
        skeletons={name: Stored(files, name + SKELETON) for name in structures if thin},
    )


def most_bytes(
    subjects: Iterable[Subject], voxel_size_mm: float | None, precision: torch.dtype
) -> int:
    """The most that the subjects' slices can take, from the headers of their FLAIR alone.

    A header that cannot be read counts nothing: reading the image will say what is wrong with it.
    """
    count, edges = 0, [0, 0]
    for subject in subjects:
        try:
            header = nib.load(subject.flair)
            order = nib.io_orientation(header.affine)[:, 0].argsort()
            shape = [header.shape[axis] for axis in order]
            voxel_mm = nib.affines.voxel_sizes(header.affine)[order]
            zoom = voxel_mm / voxel_size_mm if voxel_size_mm else [1.0, 1.0]
            own = [_window(n * z) for n, z in zip(shape, zoom, strict=False)]
        except (OSError, TypeError, ValueError, ArithmeticError, *NOT_AN_IMAGE):
            continue
        count += shape[2]
        edges = [max(pair) for pair in zip(edges, own, strict=False)]
    labels = 4  # lesions, regions and their skeletons, a byte each
    return count * edges[0] * edges[1] * (2 * precision.itemsize + labels)


def _content(part: Slices) -> dict[str, dict]:
    """What goes into a subject's files, copied out of the larger tensors it was cut from."""

    def labels(structure: str) -> dict:
        stacks = part.stacks([structure])
        labelled = is_structure(structure, stacks[structure]).flatten(1).sum(dim=1)
        copies = {name: stack.clone() for name, stack in stacks.items()}
        return copies | {f"{structure}_labelled": labelled}

    images = {"images": part.images.clone(), "depth_mm": part.depth_mm}
    return {"images": images | labels("lesions"), "regions": labels("regions")}


def _write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # of torch's own, on a full disk
        raise ImageError(
            path,
            f"cannot be written ({error})",
            "Make room on its disk, or set slices.storage to host",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _known(paths: tuple[Path, ...], stamps: tuple[str, ...]) -> StoredSubject:
    content = open_slices(*paths)
    return StoredSubject(
        paths=paths,
        stamps=stamps,
        edges=tuple(content["images"].shape[2:]),
        depth_mm=content["depth_mm"].clone(),
        labelled={
            structure: content[f"{structure}_labelled"].clone()
            for structure in ("lesions", "regions")
            if structure in content
        },
    )


def _is_fresh(path: Path, stamp: str) -> bool:
    try:
        return open_slices(path)["stamp"] == stamp
    except (OSError, RuntimeError, KeyError, EOFError, ValueError, UnpicklingError):
        return False


def _making(*settings: object) -> str:
    """A hash of the settings and the code that make slices out of images."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for module in CODE:
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()


def _stamp(files: Iterable[Path | None]) -> str:
    """What tells whether files have changed: size and time, without reading them."""
    stats = [path.stat() if path and path.is_file() else None for path in files]
    return "".join(f"/{stat.st_size}.{stat.st_mtime_ns}" if stat else "/none" for stat in stats)


def _window(edge: float) -> int:
    """Edge in pixels of a window that holds an image of this edge for certain."""
    return math.ceil((edge + 2 * cut.MARGIN) / cut.MULTIPLE) * cut.MULTIPLE
