"""What a simulated brain has besides lesions, and how FLAIR and T1 show it."""

from dataclasses import replace

import numpy as np
import pytest

from wmh.cohorts.scanners import SCANNERS
from wmh.phantom.anatomy import Anatomy, draw_anatomy
from wmh.phantom.contrast import (
    Artefacts,
    draw_artefacts,
    draw_flair_contrast,
    draw_t1_contrast,
    flair_signal,
    t1_signal,
)
from wmh.phantom.lesion_load import LesionLoad
from wmh.phantom.lesions import Lesions, draw_lesions
from wmh.phantom.references import template

SCANNER = SCANNERS["utrecht_philips_3t"]
COARSE = 8
FEW = LesionLoad(lesion_ml=5.0, lesions=4, largest_share=0.6, periventricular_share=0.9)


@pytest.fixture(scope="module")
def brain() -> tuple[Anatomy, Artefacts]:
    anatomy = draw_anatomy(np.random.default_rng(1), template(), SCANNER, COARSE, margin_mm=4.0)
    return anatomy, draw_artefacts(np.random.default_rng(4), anatomy)


@pytest.fixture(scope="module")
def drawn(brain) -> list[Lesions]:
    """The same brain's lesions, as drawn from three seeds."""
    return [draw_lesions(np.random.default_rng(seed), brain[0], FEW) for seed in range(3)]


def without(thing: Artefacts | Lesions, *names: str):
    return replace(thing, **{name: np.zeros_like(getattr(thing, name)) for name in names})


def shown(
    anatomy: Anatomy, lesions: Lesions, artefacts: Artefacts
) -> tuple[np.ndarray, np.ndarray]:
    """Noiseless FLAIR and T1, the same whenever the same is shown."""
    signals = []
    for draw_contrast, signal in (
        (draw_flair_contrast, flair_signal),
        (draw_t1_contrast, t1_signal),
    ):
        contrast = draw_contrast(np.random.default_rng(0), SCANNER)
        signals.append(signal(np.random.default_rng(0), anatomy, lesions, artefacts, contrast))
    return tuple(signals)


def added_by(name: str, anatomy: Anatomy, lesions: Lesions, artefacts: Artefacts):
    """What FLAIR and T1 show more because of one of the artefacts."""
    pairs = (
        shown(anatomy, lesions, artefacts),
        shown(anatomy, lesions, without(artefacts, name)),
    )
    return tuple(w - o for w, o in zip(*pairs, strict=True))


@pytest.mark.parametrize("artefact", ["rim", "flair_spots"])
def test_some_of_what_is_bright_on_flair_does_not_show_on_t1(brain, drawn, artefact):
    anatomy, artefacts = brain
    there = (getattr(artefacts, artefact) > 0.3) & (anatomy.white > 0.5)
    assert there.any()
    flair, t1 = added_by(artefact, anatomy, drawn[0], artefacts)
    assert (flair[there] > 0.02).all()
    assert not t1.any()


def test_perivascular_spaces_are_dark_on_both(brain, drawn):
    anatomy, artefacts = brain
    there = (artefacts.perivascular > 0) & (anatomy.white > 0.9)
    assert there.sum() > 20
    for more in added_by("perivascular", anatomy, drawn[0], artefacts):
        assert (more[there] < -0.1).all()


def test_some_have_an_infarct_and_it_is_labelled_as_other_pathology(drawn):
    with_infarct = [bool(lesions.infarct.any()) for lesions in drawn]
    assert set(with_infarct) == {True, False}
    assert [bool((lesions.truth == 2).any()) for lesions in drawn] == with_infarct


def test_an_infarct_is_fluid_within_a_ring_that_is_bright_on_flair_and_dark_on_t1(brain, drawn):
    anatomy, artefacts = brain
    lesions = max(drawn, key=lambda one: one.infarct.sum())
    core, ring = lesions.infarct > 0.98, (lesions.infarct > 0.3) & (lesions.infarct < 0.7)
    pairs = (
        shown(anatomy, lesions, artefacts),
        shown(anatomy, without(lesions, "infarct"), artefacts),
    )
    for image, plain, changes in zip(*pairs, (1, -1), strict=True):
        assert image[core].max() < 0.7
        assert ((image - plain)[ring] * changes > 0).mean() > 0.9
