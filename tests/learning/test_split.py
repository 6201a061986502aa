"""Who learns and who validates: folds, by scanner, the same for every repeat that asks."""

import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from tests.learning.conftest import tiny_slices, tiny_study
from wmh.cohorts.cohort import CohortError, Subject, write_cohort
from wmh.learning import split
from wmh.learning.split import fold_of, split_training, training_slices


def people(count: int, scanner: str) -> list[Subject]:
    return [Subject(f"{scanner}{i}", "training", scanner, None, None) for i in range(count)]


def test_folds_have_equal_shares_of_every_scanner():
    subjects = people(7, "a") + people(5, "b") + people(3, "c")
    fold = fold_of(subjects, 3, seed=0)
    assert set(fold) == {s.id for s in subjects}
    assert set(Counter(fold.values()).values()) == {5}
    for scanner in "abc":
        sizes = Counter(fold[s.id] for s in subjects if s.scanner == scanner).values()
        assert max(sizes) - min(sizes) <= 1
    assert fold == fold_of(subjects, 3, seed=0)
    assert fold != fold_of(subjects, 3, seed=1)


def test_more_folds_than_people_are_refused():
    with pytest.raises(CohortError, match=r"4 people .* training\.folds: 5"):
        fold_of(people(4, "a"), 5, seed=0)


@pytest.mark.parametrize("folds", [None, 4])
def test_repeats_validate_on_their_own_fold_or_all_on_the_same(study, folds):
    del study  # its fixture makes the project's root
    repeated = tiny_study(training={"repeats": 3, "folds": folds, "validation_share": 0.3})
    write_cohort(people(8, "a") + people(8, "b"), repeated.results / "cohort.csv")
    splits = [split_training(one) for one in repeated.repeats()]
    validated = [{s.id for s in validate} for _, validate in splits]
    for learn, validate in splits:
        assert not {s.id for s in learn} & {s.id for s in validate}
        assert len(learn) + len(validate) == 16
    if folds is None:
        assert validated[0] == validated[1] == validated[2]
    else:
        assert len(set.union(*validated)) == 12


@pytest.mark.parametrize("part", ["learn", "validate"])
@pytest.mark.parametrize(
    ("structure", "remedy"),
    [
        ("lesions", "lesion masks of all {} subjects to {}. Check .* (wmh check)"),
        ("regions", "region labels of all {} subjects to {}. Run notebook 02 again"),
    ],
)
def test_labels_that_are_all_empty_are_named_before_any_training(
    study, monkeypatch, part, structure, remedy
):
    write_cohort(people(5, "a"), study.results / "cohort.csv")
    nothing = replace(tiny_slices(), **{structure: torch.zeros(12, 32, 32, dtype=torch.uint8)})
    order = [nothing, tiny_slices()] if part == "learn" else [tiny_slices(), nothing]
    monkeypatch.setattr(split, "prepared_slices", lambda *_: order.pop(0))
    count, purpose = {"learn": (4, "learn from"), "validate": (1, "validate on")}[part]
    expected = re.escape(remedy.format(count, purpose)).replace(r"\.\*", ".*")
    with pytest.raises(CohortError, match=f"empty, and so are the {expected}"):
        training_slices(study, "multitask")


def test_a_lesion_model_needs_no_regions(study, monkeypatch):
    write_cohort(people(5, "a"), study.results / "cohort.csv")
    monkeypatch.setattr(split, "prepared_slices", lambda *_: replace(tiny_slices(), regions=None))
    assert len(training_slices(study, "flair")) == 2


def test_further_people_learn_and_are_never_validated_on(study):
    further = [replace(s, further=True) for s in people(4, "b")]
    write_cohort([asdict(s) for s in people(6, "a") + further], study.results / "cohort.csv")
    for folds in (None, 3):
        repeated = tiny_study(training={"repeats": 2, "folds": folds, "validation_share": 0.5})
        for repeat in repeated.repeats():
            learn, validate = split_training(repeat)
            assert {s.id for s in further} <= {s.id for s in learn}
            assert 1 <= len(validate) <= 3
            assert len(learn) + len(validate) == 10


def test_people_whose_regions_are_not_known_teach_a_model_of_regions_nothing(study, monkeypatch):
    del study
    known = tiny_study(
        regions={"atlas": "known"},
        models={
            task: {"task": task, "inputs": "flair", "steps": 1} for task in ("lesions", "regions")
        },
    )
    subjects = [replace(s, true_regions=Path(f"{s.id}.nii.gz")) for s in people(6, "a")]
    subjects += [replace(s, further=True) for s in people(4, "b")]
    write_cohort([asdict(s) for s in subjects], known.results / "cohort.csv")
    seen = []
    monkeypatch.setattr(split, "prepared_slices", lambda _, s, *__: seen.append(s) or tiny_slices())
    counts = {}
    for model in ("lesions", "regions"):
        training_slices(known, model)
        counts[model] = sum(len(part) for part in seen)
        seen.clear()
    assert counts == {"lesions": 10, "regions": 6}
