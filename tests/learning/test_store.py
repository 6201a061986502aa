"""Slices on disk: the same batches as from memory, whatever is drawn, and never all in memory."""

import os
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch

from tests.cohorts.scans import head, lesions, oblique, save
from tests.learning.conftest import tiny_study
from tests.learning.test_volumes import study_of_volumes
from wmh.cohorts.cohort import Subject, write_cohort
from wmh.images import ImageError, load_image, save_image
from wmh.learning import split, store
from wmh.learning.batches import draw_batch
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.slices import load_slices
from wmh.learning.stacks import Files, Stored, StoredSubject
from wmh.learning.store import most_bytes, stored_slices
from wmh.learning.training import train

GRIDS = {"a": (24, 28, 12), "b": (30, 24, 14), "c": (24, 28, 10)}
"""Subjects whose heads fill windows of different sizes at 3 mm."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Three subjects with lesions, other pathology and regions, in files."""
    folder = tmp_path_factory.mktemp("scans")
    for seed, (name, shape) in enumerate(GRIDS.items()):
        affine = oblique(shape)
        save(folder / name / "flair.nii.gz", head(shape, affine, seed=seed), affine)
        save(folder / name / "t1.nii.gz", head(shape, affine, "t1", seed + 9), affine)
        mask = lesions(shape)
        mask[8 + seed, 12, 8] = 1
        save(folder / name / "wmh.nii.gz", mask, affine)
        regions = (head(shape, affine) > 50) * np.uint8(3 + seed)
        save(folder / f"regions/{name}.nii.gz", regions, affine)
    return folder


def subjects_in(folder) -> list[Subject]:
    return [
        Subject(
            name,
            "training",
            "utrecht_philips_3t",
            *(folder / name / f"{file}.nii.gz" for file in ("flair", "t1", "wmh")),
        )
        for name in GRIDS
    ]


def both(scans, folder, thin=None, precision=torch.float16):
    """The same subjects in memory and on disk."""
    settings = (subjects_in(scans), 3.0, scans / "regions", precision, thin)
    return load_slices(*settings), stored_slices(folder, *settings)


def assert_equal_batches(one, other):
    for part, same in zip(one.parts, other.parts, strict=True):
        assert torch.equal(part.images, same.images)
        assert torch.equal(part.where, same.where)
        assert part.labels.keys() == same.labels.keys()
        assert all(torch.equal(part.labels[name], same.labels[name]) for name in part.labels)


@pytest.mark.parametrize("precision", [torch.float16, torch.float32])
def test_slices_on_disk_are_those_in_memory(scans, tmp_path, precision):
    memory, disk = both(scans, tmp_path, thin=2, precision=precision)
    assert len({subject.edges for subject in disk.images.files.subjects}) > 1
    assert (disk.images.shape, disk.images.nbytes) == (memory.images.shape, memory.images.nbytes)
    everything = slice(None)
    assert torch.equal(disk.images[everything], memory.images)
    structures = ("lesions", "regions")
    labels = memory.labels(structures, everything)
    assert labels.keys() == {*structures, "lesions_skeleton", "regions_skeleton"}
    for name, stack in disk.labels(structures, everything).items():
        assert torch.equal(stack, labels[name])
    for structure in structures:
        assert torch.equal(disk.holds[structure], memory.holds[structure])
    assert torch.equal(disk.spans, memory.spans)
    assert torch.equal(disk.depth_mm, memory.depth_mm)
    assert disk.windows == memory.windows
    assert len(set(memory.windows)) > 1
    voxels = torch.arange(len(memory.lesion_voxels) - 1, -1, -5)
    assert len(disk.lesion_voxels) == len(memory.lesion_voxels)
    assert torch.equal(disk.lesion_voxels[voxels], memory.lesion_voxels[voxels])


@pytest.mark.parametrize("task", ["lesions", "multitask"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_batches_from_disk_are_those_from_memory(scans, tmp_path, task, dimensions):
    memory, disk = both(scans, tmp_path)
    training = (tiny_study() if dimensions == 2 else study_of_volumes()).training
    for seed in range(4):
        batches = [
            draw_batch(
                slices,
                CONFIGURATIONS["interchangeable"],
                task,
                training,
                torch.Generator().manual_seed(seed),
            )
            for slices in (memory, disk)
        ]
        assert_equal_batches(*batches)


def test_trainings_from_disk_and_memory_end_with_the_same_weights(study, scans, tmp_path):
    checkpoints = [train(study, "multitask", s, s) for s in both(scans, tmp_path / "slices")[:1]]
    first = torch.load(checkpoints[0], weights_only=True)["weights"]
    disk = both(scans, tmp_path / "slices")[1]
    again = torch.load(train(study, "multitask", disk, disk), weights_only=True)["weights"]
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_study_says_where_its_slices_lie(study, scans):
    people = [replace(s, id=f"{s.id}{n}") for n in range(2) for s in subjects_in(scans)]
    rows = [{k: getattr(s, k) for k in s.__dataclass_fields__} for s in people]
    write_cohort(rows, study.results / "cohort.csv")
    kinds = {}
    for storage in ("auto", "device", "host", "disk"):
        slices = {"storage": storage, "voxel_size_mm": 3.0}
        learn, _ = split.training_slices(tiny_study(slices=slices), "flair")
        kinds[storage] = type(learn.images)
    memory = dict.fromkeys(("auto", "device", "host"), torch.Tensor)
    assert kinds == memory | {"disk": Stored}


def test_too_many_slices_for_memory_go_to_disk(study, scans, monkeypatch):
    asked = []
    monkeypatch.setattr(split, "fits", lambda needed, device: asked.append(needed))
    people = subjects_in(scans)
    assert split._lie_on_disk(study, people)
    memory = load_slices(people, None, scans / "regions", torch.float32, 2)
    stacks = memory.labels(("lesions", "regions"), slice(None)).values()
    needed = sum(stack.nbytes for stack in (memory.images, *stacks))
    assert needed <= asked[0] < 10 * needed
    assert most_bytes([replace(people[0], flair=scans / "none.nii")], None, torch.float16) == 0


def test_an_interrupted_writing_goes_on_where_it_stopped(scans, tmp_path, monkeypatch):
    written = []

    def stop_at_the_second(subject, *settings):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(subject.id)
        return prepare(subject, *settings)

    prepare = store.subject_slices
    monkeypatch.setattr(store, "subject_slices", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        both(scans, tmp_path)
    monkeypatch.setattr(
        store, "subject_slices", lambda s, *a: written.append(s.id) or prepare(s, *a)
    )
    memory, disk = both(scans, tmp_path)
    assert written == ["a", "b", "c"]
    assert torch.equal(disk.images[:], memory.images)


def test_a_full_disk_is_named_and_leaves_no_half_file_behind(scans, tmp_path, monkeypatch):
    def full(content, path):
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.torch, "save", full)
    with pytest.raises(ImageError, match=r"a\.pt: cannot be written .*No space.*slices\.storage"):
        both(scans, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_has_changed_is_made_anew_and_nothing_else(scans, tmp_path, monkeypatch):
    folder = shutil.copytree(scans, tmp_path / "scans")
    made = []
    prepare = store.subject_slices
    monkeypatch.setattr(store, "subject_slices", lambda s, *a: made.append(s.id) or prepare(s, *a))
    arguments = (tmp_path / "slices", subjects_in(folder), 3.0)

    def made_for(*settings, **changes) -> list[str]:
        made.clear()
        stored_slices(*arguments, *settings, **changes)
        return list(made)

    assert made_for() == ["a", "b", "c"]
    assert made_for() == []
    before = stored_slices(*arguments).fingerprint()
    image = nib.load(folder / "b/flair.nii.gz")
    nib.save(nib.Nifti1Image(image.get_fdata() * 2 + 1, image.affine), folder / "b/flair.nii.gz")
    assert made_for() == ["b"]
    assert stored_slices(*arguments).fingerprint() != before
    regions = (folder / "regions",)
    assert made_for(*regions) == ["a", "b", "c"]  # which lesion models did not need
    assert made_for() == made_for(*regions) == []
    os.utime(folder / "regions/c.nii.gz", (1, 1))
    assert made_for(*regions) == ["c"]
    assert made_for(precision=torch.float16) == ["a", "b", "c"]
    (tmp_path / "slices/images/a.pt").write_bytes(b"no such file of ours")
    assert made_for(precision=torch.float16) == ["a"]


def test_memory_stays_flat_whatever_is_drawn(tmp_path):
    """120 subjects of 10 MB each; they are one file under many names, to spare the disk."""
    count, size = 30, (256, 256)
    content = {
        "images": torch.ones(count, 2, *size, dtype=torch.float16),
        "lesions": torch.ones(count, *size, dtype=torch.uint8),
    }
    torch.save(content, tmp_path / "0.pt")
    one = (tmp_path / "0.pt").stat().st_size
    for number in range(1, 120):
        (tmp_path / f"{number}.pt").hardlink_to(tmp_path / "0.pt")
    depth_mm, labelled = torch.zeros(count), {"lesions": torch.ones(count, dtype=torch.long)}
    subjects = [
        StoredSubject((tmp_path / f"{n}.pt",), (str(n),), size, depth_mm, labelled)
        for n in range(120)
    ]
    images, process = Stored(Files(subjects), "images"), psutil.Process()
    generator, held = torch.Generator().manual_seed(0), []
    for _ in range(60):
        images[torch.randint(len(images), (16,), generator=generator)]
        held.append(process.memory_info().rss)
    assert max(held[10:]) - min(held[10:]) < 3 * one < images.nbytes / 20


def test_a_subject_without_any_region_has_none_that_are_known(scans, tmp_path):
    (subject,) = subjects_in(scans)[:1]
    flair = load_image(subject.flair)
    save_image(tmp_path / f"{subject.id}.nii.gz", np.zeros(flair.data.shape, np.uint8), flair)
    read = load_slices([subject], 4.0, tmp_path)
    assert (read.regions == 255).all()
    assert not read.holds["regions"].any()
