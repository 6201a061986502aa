"""A model trained twice: other weights in another folder, and each training repeats itself."""

import torch

from tests.learning.conftest import tiny_slices, tiny_study
from wmh.learning.models import load_model
from wmh.learning.training import train


def test_repeats_train_other_weights_into_other_folders(study):
    settings = study.training.model_dump() | {"repeats": 2}
    first, second = tiny_study(training=settings).repeats()
    slices = tiny_slices(0), tiny_slices(1, 6)
    paths = [train(one, "flair", *slices) for one in (first, second)]
    again = torch.load(train(second, "flair", *slices), weights_only=True)
    assert [path.parent.name for path in paths] == ["flair", "flair_repeat_2"]
    contents = [torch.load(path, weights_only=True) for path in paths]
    assert [content["repeat"] for content in contents] == [1, 2]
    weights = [content["weights"] for content in (*contents, again)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(torch.equal(weights[1][name], weights[2][name]) for name in weights[1])
    assert load_model(paths[1]).name == "flair"


def test_the_only_repeat_is_the_first_of_several(study):
    slices = tiny_slices(0), tiny_slices(1, 6)
    alone = torch.load(train(study, "flair", *slices), weights_only=True)["weights"]
    several = tiny_study(training=study.training.model_dump() | {"repeats": 3})
    first = torch.load(train(several, "flair", *slices), weights_only=True)["weights"]
    assert all(torch.equal(alone[name], first[name]) for name in alone)
