"""Groups that are there are found and stable; an effect that is there is found where it is."""

import numpy as np
import pandas as pd
import pytest

from wmh.analysis.clusters import (
    group_subjects,
    hellinger_points,
    relate_burden,
    simulate_participants,
    stability,
)


def profiles_of(groups, n=8, spread=0.3, seed=0):
    """``n`` subjects a group, each with most lesion in its group's regions."""
    rng = np.random.default_rng(seed)
    tables = []
    for regions in groups:
        ml = rng.gamma(1, 0.02, (n, 34))
        ml[:, regions] += rng.gamma(10, 0.1, (n, len(regions))) * np.exp(rng.normal(0, spread))
        ml *= rng.lognormal(0, 1, (n, 1))  # the total load differs much and must not matter
        tables.append(ml)
    stacked = np.vstack(tables)
    return pd.DataFrame(stacked, index=[f"s{i}" for i in range(len(stacked))], columns=range(1, 35))


def correlated_profiles(n, seed=0):
    """Burden of ``n`` subjects whose regions rise and fall with the total load."""
    rng = np.random.default_rng(seed)
    load = rng.normal(0, 1, (n, 1))
    ml = np.exp(rng.normal(-1, 0.5, 34) + 0.8 * load + rng.normal(0, 0.5, (n, 34)))
    return pd.DataFrame(ml, index=[f"s{i}" for i in range(n)], columns=range(1, 35))


def test_three_groups_are_found_and_stable():
    profiles = profiles_of([[0, 1, 2], [10, 11, 12], [20, 21, 22]])
    groups = group_subjects(profiles, samples=50, seed=0)
    assert groups.count == 3
    for members in (groups.labels[:8], groups.labels[8:16], groups.labels[16:]):
        assert len(set(members)) == 1
    assert groups.stability.mean() > 0.95
    assert sorted(groups.order) == sorted(profiles.index)
    in_tree_order = groups.labels[groups.order].to_numpy()
    assert np.count_nonzero(np.diff(in_tree_order)) == 2  # groups lie together in the tree


def test_without_structure_all_are_one_group():
    rng = np.random.default_rng(1)
    profiles = pd.DataFrame(rng.gamma(2, 1, (30, 34)))
    groups = group_subjects(profiles, samples=10, seed=0)
    assert groups.count == 1
    assert groups.silhouettes.max() < 0.25
    assert (groups.stability == 1).all()


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


def test_too_few_subjects_are_refused():
    with pytest.raises(ValueError, match=r"at least 4\. Use a larger cohort"):
        group_subjects(profiles_of([[0, 1]], n=3), 5, 0)


def test_equal_profiles_are_one_group():
    assert group_subjects(pd.DataFrame(np.ones((6, 34))), 5, 0).count == 1


def test_hellinger_points_have_length_one():
    points = hellinger_points(np.array([[1.0, 3.0], [5.0, 0.0]]))
    assert points == pytest.approx(np.array([[0.5, np.sqrt(0.75)], [1, 0]]))


def test_same_seed_same_stability():
    profiles = profiles_of([[0, 1], [10, 11]], spread=0.8)
    first, second = (group_subjects(profiles, 20, 4).stability for _ in range(2))
    assert (first == second).all()


def test_a_known_effect_is_found_where_it_is_and_nowhere_else():
    profiles = correlated_profiles(120)
    participants = simulate_participants(profiles, regions=[5, 22], effect=0.8, seed=1)
    table = relate_burden(profiles, participants, "score", ["age"])
    found = set(table.loc[table["p_holm"] < 0.05, "region"])
    assert found == {5, 22}
    assert (table.set_index("region").loc[[5, 22], "ci_low"] > 0).all()


def test_without_an_effect_nothing_is_found_more_often_than_allowed():
    false = 0
    for seed in range(40):
        profiles = correlated_profiles(60, seed)
        participants = simulate_participants(profiles, [], 0.0, seed + 100)
        false += (relate_burden(profiles, participants, "score")["p_holm"] < 0.05).any()
    assert false <= 5  # expected 2 of 40; more than 5 has a chance of 1.4 %


def test_equals_statsmodels_hc3():
    sm = pytest.importorskip("statsmodels.api")
    profiles = correlated_profiles(40)
    participants = simulate_participants(profiles, [3], 0.5, seed=2)
    participants["site"] = np.array(["a", "b", "c", "a"] * 10)
    table = relate_burden(profiles, participants, "score", ["age", "site"]).set_index("region")
    score = participants["score"]
    design = np.column_stack(
        [
            np.ones(40),
            (score - score.mean()) / score.std(),
            participants["age"],
            participants["site"] == "b",
            participants["site"] == "c",
            np.log1p(profiles.drop(columns=3).sum(axis=1)),
        ]
    )
    theirs = sm.OLS(np.log1p(profiles[3].to_numpy()), design).fit(cov_type="HC3", use_t=True)
    assert table.loc[3, "slope"] == pytest.approx(theirs.params[1])
    assert table.loc[3, "p"] == pytest.approx(theirs.pvalues[1])
    assert table.loc[3, ["ci_low", "ci_high"]].tolist() == pytest.approx(
        theirs.conf_int()[1].tolist()
    )


def test_people_without_a_value_and_regions_without_lesion_are_left_out():
    profiles = correlated_profiles(30)
    profiles[9] = 0.0
    participants = simulate_participants(profiles, [5], 1.0, seed=0)
    participants.loc["s3", "score"] = np.nan
    table = relate_burden(profiles, participants, "score").set_index("region")
    assert (table["n"] == 29).all()
    assert np.isnan(table.loc[9, "p_holm"])
    assert table["p_holm"].notna().sum() == 33


def test_an_unknown_column_is_named():
    profiles = correlated_profiles(10)
    participants = simulate_participants(profiles, [5], 1.0, seed=0)
    with pytest.raises(ValueError, match="no column mmse; there are score, age"):
        relate_burden(profiles, participants, "mmse")
    with pytest.raises(ValueError, match="too few for 3 terms"):
        relate_burden(profiles[:6], participants, "score", ["age"])
