"""Groups that are there are found and stable, and those that are not are not."""

import numpy as np
import pandas as pd
import pytest

from wmh.analysis.clusters import (
    group_subjects,
    hellinger_points,
    join_subjects,
    stability,
)


def profiles_of(groups, n=8, spread=0.3, seed=0):
    """``n`` subjects per group, each with most lesion in its group's regions."""
    rng = np.random.default_rng(seed)
    tables = []
    for regions in groups:
        ml = rng.gamma(1, 0.02, (n, 34))
        ml[:, regions] += rng.gamma(10, 0.1, (n, len(regions))) * np.exp(rng.normal(0, spread))
        ml *= rng.lognormal(0, 1, (n, 1))  # the total load differs much and must not matter
        tables.append(ml)
    stacked = np.vstack(tables)
    return pd.DataFrame(stacked, index=[f"s{i}" for i in range(len(stacked))], columns=range(1, 35))


def test_three_groups_are_found_and_stable():
    profiles = profiles_of([[0, 1, 2], [10, 11, 12], [20, 21, 22]])
    groups = group_subjects(profiles, samples=50, seed=0)
    assert groups.count == 3
    for members in (groups.labels[:8], groups.labels[8:16], groups.labels[16:]):
        assert len(set(members)) == 1
    assert groups.choices.loc[3, "stability"] > 0.95
    assert groups.choices["silhouette"].idxmax() == 3
    order = join_subjects(profiles).order
    assert sorted(order) == sorted(profiles.index)
    in_tree_order = groups.labels[order].to_numpy()
    assert np.count_nonzero(np.diff(in_tree_order)) == 2  # groups lie together in the tree


def test_without_structure_all_are_one_group():
    rng = np.random.default_rng(1)
    profiles = pd.DataFrame(rng.gamma(2, 1, (30, 34)))
    groups = group_subjects(profiles, samples=10, seed=0)
    assert groups.count == 1
    assert groups.choices["silhouette"].max() < 0.25


def test_the_total_load_does_not_matter():
    profiles = profiles_of([[0, 1], [10, 11]])
    scaled = profiles.mul(np.linspace(0.1, 30, len(profiles)), axis=0)
    labels = [group_subjects(table, 5, 0).labels for table in (profiles, scaled)]
    assert labels[0].equals(labels[1])


def test_groups_without_a_boundary_are_not_stable():
    rng = np.random.default_rng(2)
    points = hellinger_points(rng.gamma(2, 1, (30, 34)))
    assert stability(points, 4, 40, 0).mean() < 0.8


def test_subjects_without_lesions_have_no_group():
    profiles = profiles_of([[0, 1], [10, 11]])
    profiles.loc["none"] = 0.0
    assert "none" not in group_subjects(profiles, 5, 0).labels.index


def test_three_subjects_are_one_group_and_one_is_refused():
    groups = group_subjects(profiles_of([[0, 1]], n=3), 5, 0)
    assert groups.count == 1
    assert groups.labels.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="groups need at least two"):
        group_subjects(profiles_of([[0, 1]], n=1), 5, 0)


def test_subjects_with_one_profile_stand_side_by_side():
    lesions = pd.DataFrame(
        [[9, 1, 0], [0, 1, 9], [90, 10, 0], [0, 10, 90]], index=list("abcd"), columns=[1, 2, 3]
    )
    assert set(join_subjects(lesions).order[:2]) in ({"a", "c"}, {"b", "d"})


def test_equal_profiles_are_one_group():
    assert group_subjects(pd.DataFrame(np.ones((6, 34))), 5, 0).count == 1


def test_hellinger_points_have_length_one():
    points = hellinger_points(np.array([[1.0, 3.0], [5.0, 0.0]]))
    assert points == pytest.approx(np.array([[0.5, np.sqrt(0.75)], [1, 0]]))


def test_same_seed_same_stability():
    profiles = profiles_of([[0, 1], [10, 11]], spread=0.8)
    first, second = (group_subjects(profiles, 20, 4).choices for _ in range(2))
    assert first.equals(second)
