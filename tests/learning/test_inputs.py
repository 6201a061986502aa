import pytest
import torch

from wmh.learning.inputs import CONFIGURATIONS, show, show_drawn

IMAGES = torch.stack([torch.full((3, 4, 5), 1.0), torch.full((3, 4, 5), 2.0)], dim=1)


@pytest.mark.parametrize(
    ("configuration", "given", "views"),
    [
        ("flair", ("FLAIR",), (("FLAIR",),)),
        ("flair", ("FLAIR", "T1"), (("FLAIR",),)),
        ("flair", ("T1",), ()),
        ("t1", ("T1",), (("T1",),)),
        ("t1", ("FLAIR",), ()),
        ("flair_t1", ("FLAIR", "T1"), (("FLAIR", "T1"),)),
        ("flair_t1", ("FLAIR",), (("FLAIR", "T1"),)),
        ("flair_t1", ("T1",), (("FLAIR", "T1"),)),
        ("interchangeable", ("FLAIR",), (("FLAIR",),)),
        ("interchangeable", ("T1",), (("T1",),)),
        ("interchangeable", ("FLAIR", "T1"), (("FLAIR",), ("T1",))),
    ],
)
def test_each_configuration_answers_from_what_it_should(configuration, given, views):
    assert CONFIGURATIONS[configuration].views_for(given) == views


def test_nothing_given_is_never_accepted():
    assert not any(c.accepts(()) for c in CONFIGURATIONS.values())


def test_only_the_concatenated_network_has_two_channels():
    channels = {name: c.channels for name, c in CONFIGURATIONS.items()}
    assert channels == {"flair": 1, "t1": 1, "flair_t1": 2, "interchangeable": 1}


def test_a_missing_modality_is_shown_as_zeros():
    shown = show(IMAGES, ("FLAIR", "T1"), given=("T1",))
    assert shown[:, 0].eq(0).all()
    assert shown[:, 1].eq(2).all()


def test_samples_of_one_batch_show_the_views_drawn_for_them():
    shown = show_drawn(IMAGES, CONFIGURATIONS["interchangeable"], torch.tensor([1, 0, 1]))
    assert shown.shape == (3, 1, 4, 5)
    assert shown[:, 0, 0, 0].tolist() == [2, 1, 2]
