import subprocess
import sys

import pytest
import torch

from wmh.learning.inputs import CONFIGURATIONS, show

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
        ("flair_t1_dropout", ("FLAIR", "T1"), (("FLAIR", "T1"),)),
        ("flair_t1_dropout", ("FLAIR",), (("FLAIR", None),)),
        ("flair_t1_dropout", ("T1",), ((None, "T1"),)),
        ("interchangeable", ("FLAIR",), (("FLAIR",),)),
        ("interchangeable", ("T1",), (("T1",),)),
        ("interchangeable", ("FLAIR", "T1"), (("FLAIR",), ("T1",))),
    ],
)
def test_each_configuration_answers_from_what_it_should(configuration, given, views):
    assert CONFIGURATIONS[configuration].views_for(given) == views


def test_nothing_given_is_never_accepted():
    assert not any(c.views_for(()) for c in CONFIGURATIONS.values())


def test_only_the_concatenated_networks_have_two_channels():
    two = {name for name, c in CONFIGURATIONS.items() if c.channels == 2}
    assert two == {"flair_t1", "flair_t1_dropout"}
    assert all(len(v) == c.channels for c in CONFIGURATIONS.values() for v in c.views)


def test_a_missing_modality_is_shown_as_zeros():
    shown = show(IMAGES, ("FLAIR", "T1"), given=("T1",))
    assert shown[:, 0].eq(0).all()
    assert shown[:, 1].eq(2).all()


def test_a_view_picks_its_modality():
    assert show(IMAGES, ("FLAIR",)).eq(1).all()
    assert show(IMAGES, ("T1",)).eq(2).all()
    assert show(IMAGES, ("T1", "FLAIR"))[:, 0].eq(2).all()


def test_a_blank_channel_is_zero_whatever_is_given():
    assert show(IMAGES, ("FLAIR", None))[:, 0].eq(1).all()
    assert show(IMAGES, ("FLAIR", None))[:, 1].eq(0).all()
    assert show(IMAGES, (None, "T1"))[:, 0].eq(0).all()


def test_the_most_that_a_configuration_can_be_given_comes_last():
    both = ["FLAIR", "T1", "FLAIR+T1"]
    given = {name: configuration.can_be_given for name, configuration in CONFIGURATIONS.items()}
    one = {"flair": ["FLAIR"], "t1": ["T1"]}
    assert given == dict.fromkeys(("flair_t1", "flair_t1_dropout", "interchangeable"), both) | one


def test_the_tables_are_read_without_torch():
    code = "import sys, wmh.learning.inputs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
