"""Slices are prepared once; batches are the same from files and memory, which stays flat."""

import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
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
from wmh.learning import prepare, split
from wmh.learning.batches import draw_batch
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.prepare import prepared_slices
from wmh.learning.slices import Files, Stored, StoredSubject
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


def study_of(scans, thin=False, precision="float16", **settings):
    """A study at 3 mm whose regions are those of the scans, its results in the test's own root."""
    if thin:
        settings["training"] = {"loss": {"skeleton_recall": 1.0}}
    study = tiny_study(slices={"voxel_size_mm": 3.0, "precision": precision}, **settings)
    if not (study.results / "regions").exists():
        shutil.copytree(scans / "regions", study.results / "regions")
    return study


def both(scans, **settings):
    """The same subjects in memory and in files."""
    disk = prepared_slices(study_of(scans, **settings), subjects_in(scans), regions=True)
    return disk.in_memory(), disk


def assert_equal_batches(one, other):
    for part, same in zip(one.parts, other.parts, strict=True):
        assert torch.equal(part.images, same.images)
        assert torch.equal(part.where, same.where)
        assert part.labels.keys() == same.labels.keys()
        assert all(torch.equal(part.labels[name], same.labels[name]) for name in part.labels)


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_slices_on_disk_are_those_in_memory(study, scans, precision):
    memory, disk = both(scans, thin=True, precision=precision)
    assert len({subject.edges for subject in disk.images.files.subjects}) > 1
    assert (disk.images.shape, disk.images.nbytes) == (memory.images.shape, memory.images.nbytes)
    everything = slice(None)
    assert memory.images.dtype == getattr(torch, precision)
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
def test_batches_from_disk_are_those_from_memory(study, scans, task, dimensions):
    memory, disk = both(scans)
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


def test_trainings_from_disk_and_memory_end_with_the_same_weights(study, scans):
    first, again = (
        torch.load(train(study, "multitask", s, s), weights_only=True)["weights"]
        for s in both(scans)
    )
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


def test_too_many_slices_for_memory_stay_in_files(study, scans, monkeypatch):
    asked = []
    monkeypatch.setattr(split, "fits", lambda needed, device: asked.append(needed))
    people = subjects_in(scans)
    monkeypatch.setattr(split, "split_training", lambda study: (people[:2], people[2:]))
    parts = split.training_slices(study_of(scans), "multitask")
    assert all(isinstance(part.images, Stored) for part in parts)
    stacks = [stack[:] for p in parts for stack in (p.images, p.lesions, p.regions)]
    assert asked == [sum(stack.nbytes for stack in stacks)]


@pytest.fixture
def made(monkeypatch):
    """Whose files of which kind were made, in order."""
    found = []

    def cut_subject(study, subject, kinds):
        found.extend((subject.id, kind) for kind in kinds)
        return cut(study, subject, kinds)

    cut = prepare.cut_subject
    monkeypatch.setattr(prepare, "cut_subject", cut_subject)
    return found


def all_of(kind):
    return [(name, kind) for name in GRIDS]


def test_an_interrupted_preparing_goes_on_where_it_stopped(study, scans, made, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    cut = prepare.cut_subject
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            prepare, "cut_subject", lambda s, p, kinds: stop() if made else cut(s, p, kinds)
        )
        both(scans)
    both(scans)
    assert sorted(made) == sorted(all_of("images") + all_of("regions"))


def test_a_full_disk_is_named_and_leaves_no_half_file_behind(study, scans, monkeypatch):
    def full(content, path):
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare.torch, "save", full)
    with pytest.raises(ImageError, match=r"a\.pt: cannot be written .*No space.*Free space"):
        both(scans)
    left = [path.name for path in (study.results / "slices").rglob("*") if path.is_file()]
    assert left == [".lock"]


def test_what_has_changed_is_made_anew_and_nothing_else(study, scans, tmp_path, made):
    folder = shutil.copytree(scans, tmp_path / "scans")
    labels = study_of(folder).region_labels("c")

    def made_for(regions=False, **settings) -> list[tuple[str, str]]:
        made.clear()
        prepared_slices(study_of(folder, **settings), subjects_in(folder), regions)
        return list(made)

    def fingerprint():
        return prepared_slices(study_of(folder), subjects_in(folder), False).fingerprint()

    assert made_for() == all_of("images")
    assert made_for() == []
    before = fingerprint()
    os.utime(folder / "b/flair.nii.gz", (1, 1))  # the same content
    assert made_for() == []
    assert fingerprint() == before
    assert made_for(regions=True) == all_of("regions")  # which lesion models did not wait for
    assert made_for() == made_for(regions=True) == []
    image = nib.load(folder / "b/flair.nii.gz")
    nib.save(nib.Nifti1Image(image.get_fdata() * 2 + 1, image.affine), folder / "b/flair.nii.gz")
    assert made_for() == [("b", "images")]
    assert fingerprint() != before
    assert made_for(regions=True) == [("b", "regions")]
    save_image(labels, np.zeros(GRIDS["c"], np.uint8), load_image(labels))
    assert made_for(regions=True) == [("c", "regions")]
    assert made_for(precision="float32") == all_of("images")
    (study.results / "slices/images/a.pt").write_bytes(b"no such file of ours")
    assert made_for(precision="float32") == [("a", "images")]


def test_of_two_trainings_at_once_one_prepares_what_the_other_reads(study, scans, made):
    """The second finds a file missing, waits for the first that writes it, and looks again."""
    folder = study_of(scans).results / "slices"
    folder.mkdir(parents=True)
    with ThreadPoolExecutor() as pool, (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        both_trainings = [pool.submit(both, scans) for _ in range(2)]
        with pytest.raises(TimeoutError):
            both_trainings[0].result(timeout=0.2)
        fcntl.flock(lock, fcntl.LOCK_UN)
        one, other = (training.result()[0] for training in both_trainings)
    assert sorted(made) == sorted(all_of("images") + all_of("regions"))
    assert torch.equal(one.images, other.images)


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


def test_a_subject_without_any_region_has_none_that_are_known(study, scans):
    subject = subjects_in(scans)[0]
    flair = load_image(subject.flair)
    save_image(study.region_labels(subject.id), np.zeros(flair.data.shape, np.uint8), flair)
    read = prepared_slices(study, [subject], regions=True)
    assert (read.regions[:] == 255).all()
    assert not read.holds["regions"].any()
