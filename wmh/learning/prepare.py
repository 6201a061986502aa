"""Slices prepared once per study: the first training cuts them from the images, all others read.

One file holds a subject's images with the lesion labels, another the region labels. They are
separate because region labels are known later, and lesion trainings start without them. A file is
made again when images, settings or code have changed. Interrupted preparation continues with the
next subject.
"""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from tqdm.auto import tqdm

from wmh import images
from wmh.atlas.regions import ALL_LABELS
from wmh.cohorts import cohort
from wmh.cohorts.cohort import Subject, load_lesions, load_pair
from wmh.files import complete, fingerprint, sha256_of
from wmh.images import ImageError, load_image, load_labels, same_grid
from wmh.learning import cut, skeletons, slices
from wmh.learning.cut import normalise, plan_slices
from wmh.learning.losses import LEFT_OUT, SKELETON
from wmh.learning.skeletons import tubed_skeleton, tubed_skeletons_of_slices
from wmh.learning.slices import Files, Slices, Stored, StoredSubject, is_structure, open_slices
from wmh.study import Study, made

CODE = [Path(module.__file__) for module in (images, cohort, cut, skeletons, slices)]
"""Modules, in addition to this one, whose code makes slices from images."""


def prepared_slices(study: Study, subjects: Sequence[Subject], regions: bool) -> Slices:
    """Slices of subjects, with or without region labels, in files below ``results/STUDY/slices``.

    Missing and outdated files are written first, by one training at a time. Raises
    :class:`ImageError` for a file that cannot be written, and as :func:`cut_subject` does.
    """
    folder = study.results / "slices"
    settings = (study.slices.voxel_size_mm, study.slices.precision, _skeleton_dimensions(study))
    making = fingerprint([*CODE, Path(__file__)], repr(settings))
    structures = ("lesions", "regions") if regions else ("lesions",)
    known = []
    for subject in tqdm(subjects, desc="preparing slices", unit="subject"):
        sources = (subject.flair, subject.t1, subject.lesions)
        made_of = {"images": "/".join([making, *map(_content_of, sources)])}
        if regions:
            labels = _content_of(made(study.region_labels(subject.id), "02_atlas_registration"))
            made_of["regions"] = f"{made_of['images']}/{labels}"
        paths = {kind: folder / kind / f"{subject.id}.pt" for kind in made_of}
        if _out_of_date(paths, made_of):
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # another training may have written them meanwhile
                wanted = _out_of_date(paths, made_of)
                for kind, content in cut_subject(study, subject, wanted).items():
                    _write(paths[kind], content | {"made_of": made_of[kind]})
        content = open_slices(*paths.values())
        known.append(
            StoredSubject(
                paths=tuple(paths.values()),
                made_of=tuple(made_of.values()),
                edges=tuple(content["images"].shape[2:]),
                depth_mm=content["depth_mm"].clone(),
                labelled={name: content[f"{name}_labelled"].clone() for name in structures},
            )
        )
    files = Files(known)
    counts = torch.tensor([len(subject.depth_mm) for subject in known])
    return Slices(
        images=Stored(files, "images"),
        lesions=Stored(files, "lesions"),
        regions=Stored(files, "regions") if regions else None,
        depth_mm=torch.cat([subject.depth_mm for subject in known]),
        subject=torch.repeat_interleave(torch.arange(len(known)), counts),
        ids=tuple(subject.id for subject in subjects),
        windows=tuple(subject.edges for subject in known),
        further=tuple(subject.further for subject in subjects),
        skeletons={
            name: Stored(files, name + SKELETON)
            for name in structures
            if _skeleton_dimensions(study)
        },
    )


def cut_subject(study: Study, subject: Subject, kinds: Collection[str]) -> dict[str, dict]:
    """The content of a subject's files of these kinds, ``images`` and ``regions``.

    It holds the slices with head, in a window of the subject's own size. Raises
    :class:`ImageError`, which names the file, when labels have another grid than their FLAIR.
    """
    found = {}
    if "images" in kinds:
        flair, t1 = load_pair(subject)
        lesions = load_lesions(subject)
    elif kinds:
        flair = load_image(subject.flair)
    else:
        return {}
    plan = plan_slices(flair, study.slices.voxel_size_mm)
    head = slice(*plan.span)  # slices above and below the head are left out
    if "images" in kinds:
        pair = torch.stack([plan.to_slices(normalise(image)) for image in (flair, t1)], dim=1)
        lesion, other = (plan.to_slices(lesions.data == label) >= 0.5 for label in (1, 2))
        marked = torch.where(other, 2, lesion.byte())[head]
        precision = getattr(torch, study.slices.precision)
        found["images"] = {
            "images": pair[head].to(precision, copy=True),
            "depth_mm": plan.depth_mm,
            **_labels(study, "lesions", marked),
        }
    if "regions" in kinds:
        labels = load_labels(study.region_labels(subject.id), ALL_LABELS)
        if not same_grid(labels, flair):
            raise ImageError(
                labels.path, f"lies on another grid than {flair.path}", "Run notebook 02 again"
            )
        regions = plan.labels_to_slices(labels.data)[head]
        if not labels.data.any():  # the regions of this subject are not known
            regions[:] = LEFT_OUT
        found["regions"] = _labels(study, "regions", regions)
    return found


def _labels(study: Study, structure: str, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Labels (N, H, W), the structure's number of pixels in each slice, and its skeletons."""
    held = is_structure(structure, labels)
    found = {structure: labels.clone(), f"{structure}_labelled": held.flatten(1).sum(dim=1)}
    if dimensions := _skeleton_dimensions(study):
        thin = tubed_skeleton if dimensions == 3 else tubed_skeletons_of_slices
        found[structure + SKELETON] = torch.from_numpy(thin((labels * held).numpy()))
    return found


def _skeleton_dimensions(study: Study) -> int | None:
    """The number of dimensions of skeletons, 2 or 3; None if the loss needs none."""
    training = study.training
    return training.network.dimensions if training.loss.skeleton_recall else None


def _out_of_date(paths: Mapping[str, Path], made_of: Mapping[str, str]) -> list[str]:
    """The kinds of files that are missing, damaged, or made from other images, settings or code."""

    def is_fresh(kind: str) -> bool:
        try:
            return open_slices(paths[kind])["made_of"] == made_of[kind]
        except (OSError, RuntimeError, KeyError, EOFError, ValueError, UnpicklingError):
            return False

    return [kind for kind in paths if not is_fresh(kind)]


def _content_of(path: Path | None) -> str:
    """A hash of a file's content; ``none`` if there is no file, which reading it will report."""
    return sha256_of(path) if path and path.is_file() else "none"


def _write(path: Path, content: dict[str, object]) -> None:
    try:
        with complete(path) as part:
            torch.save(content, part)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
        raise ImageError(path, f"cannot be written ({error})", "Free space on its disk") from error
