from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.learning.conftest import tiny_slices, tiny_study
from wmh.images import Image, ImageError
from wmh.learning.cut import as_thick
from wmh.learning.inference import predict, predict_prepared, prepare, shows_head
from wmh.learning.models import load_model
from wmh.learning.training import train


@pytest.fixture
def trained(study):
    def load(model: str):
        return load_model(train(study, model, tiny_slices(0), tiny_slices(1, 6)))

    return load


def oblique_head(codes_flip: bool) -> Image:
    """A head of value 100 on an oblique grid of 1.2 x 0.9 x 3 mm."""
    data = np.zeros((70, 96, 9), np.float32)
    data[12:60, 14:84, 1:8] = 100
    data[30:40, 40:50, 4] = 220
    affine = np.diag([-1.2 if codes_flip else 1.2, 0.9, 3.0, 1.0])
    turn = np.array([[0.99, -0.1, 0.05], [0.1, 0.99, -0.1], [-0.04, 0.1, 0.99]])
    affine[:3, :3] = turn @ affine[:3, :3]
    return Image(data, affine)


@pytest.mark.parametrize("flip", [True, False])
def test_answers_lie_on_the_grid_they_were_asked_on(trained, flip):
    image = oblique_head(flip)
    answer = predict(trained("multitask"), {"FLAIR": image, "T1": image})
    assert answer.probability.shape == answer.regions.shape == image.data.shape
    assert answer.like is image
    assert 0 <= answer.probability.min() <= answer.probability.max() <= 1
    assert answer.regions.max() <= 36
    assert not answer.probability[:, :, 0].any()  # a slice without head


def test_both_images_give_the_mean_of_what_each_gives(trained):
    model, image = trained("interchangeable"), oblique_head(False)
    other = Image(np.where(image.data == 220, 60, image.data), image.affine)
    both = predict(model, {"FLAIR": image, "T1": other}).probability
    alone = [predict(model, {name: i}).probability for name, i in (("FLAIR", image), ("T1", other))]
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=0.02)


def test_a_model_trained_with_modality_dropout_answers_from_either(study):
    models = {"dropout": {"task": "lesions", "inputs": "flair_t1_dropout", "steps": 4}}
    dropout = tiny_study(models=models)
    model = load_model(train(dropout, "dropout", tiny_slices(0), tiny_slices(1, 6)))
    image = oblique_head(False)
    answers = [
        predict(model, dict.fromkeys(given, image)).probability
        for given in (("FLAIR",), ("T1",), ("FLAIR", "T1"))
    ]
    assert all(answer.shape == image.data.shape for answer in answers)
    assert not np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])


def test_a_model_says_what_it_cannot_answer_from(trained):
    with pytest.raises(ImageError, match=r"'flair'.*cannot predict from"):
        predict(trained("flair"), {"T1": oblique_head(False)})


def test_a_t1_on_another_grid_is_brought_to_the_flairs(trained):
    flair = oblique_head(False)
    coarse = Image(flair.data[::2].copy(), flair.affine @ np.diag([2.0, 1, 1, 1]))
    answer = predict(trained("flair_t1"), {"FLAIR": flair, "T1": coarse})
    assert answer.probability.shape == flair.data.shape
    assert answer.images["T1"].data.shape == flair.data.shape


def test_images_prepared_once_serve_every_model(trained):
    image = oblique_head(False)
    images = {"FLAIR": image, "T1": image}
    person = prepare(images, None)
    for name in ("interchangeable", "multitask"):
        model = trained(name)
        expected = predict(model, images).probability
        np.testing.assert_array_equal(predict_prepared(model, person).probability, expected)
    assert person.slices.shape[:2] == (9, 2)


def test_a_scan_with_thin_slices_is_seen_as_thick_as_those_learned_from(trained):
    model = trained("flair")
    assert model.slice_thickness_mm == 3.0
    thick = oblique_head(False)
    thin = Image(np.repeat(thick.data, 3, axis=2), thick.affine @ np.diag([1, 1, 1 / 3, 1]))
    learned, seen = (
        as_thick(person.slices, person.plan.thickness_mm, model.slice_thickness_mm)
        for person in (prepare({"FLAIR": image}, model.voxel_size_mm) for image in (thick, thin))
    )
    middle = seen[1::3]  # of the three slices that each thick one was parted into
    torch.testing.assert_close(middle, learned, atol=1e-4, rtol=0)
    found, sharp = (
        predict(asked, {"FLAIR": thin}).probability
        for asked in (model, replace(model, slice_thickness_mm=0.0))
    )
    assert np.abs(found - sharp).max() > 1e-4


@pytest.mark.parametrize("inputs", ["flair_t1_dropout", "interchangeable"])
def test_where_the_t1_is_blank_the_flair_answers_as_if_it_were_alone(study, inputs):
    models = {"model": {"task": "multitask", "inputs": inputs, "steps": 4}}
    model = load_model(train(tiny_study(models=models), "model", tiny_slices(0), tiny_slices(1, 6)))
    flair = oblique_head(False)
    t1 = Image(np.where(flair.data == 220, 60, flair.data), flair.affine)
    partial = Image(t1.data.copy(), t1.affine)
    partial.data[:, :, 6:] = 0  # head lies in slices 1 to 7
    alone, both, found = (
        predict(model, images)
        for images in (
            {"FLAIR": flair},
            {"FLAIR": flair, "T1": t1},
            {"FLAIR": flair, "T1": partial},
        )
    )
    np.testing.assert_array_equal(found.probability[:, :, 6:], alone.probability[:, :, 6:])
    np.testing.assert_array_equal(found.regions[:, :, 6:], alone.regions[:, :, 6:])
    from_both, from_one = (
        np.abs(found.probability - other.probability)[:, :, 1:6].mean() for other in (both, alone)
    )
    assert from_both < 0.2 * from_one


def test_slices_without_head_are_those_that_the_other_image_shows_and_it_does_not():
    images = torch.zeros(4, 2, 10, 10)
    images[1, 0], images[2, 1], images[3] = 1, 1, 1
    shown = shows_head(images, ("FLAIR", "T1"))
    assert shown["FLAIR"].tolist() == [True, True, False, True]
    assert shown["T1"].tolist() == [True, False, True, True]
    assert shows_head(images, ("T1",))["T1"].all()
