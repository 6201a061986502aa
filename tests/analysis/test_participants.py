"""An effect that is there is found where it is, and nowhere else."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from wmh.analysis.participants import (
    match_note,
    normal_scores,
    raise_without_own_columns,
    read_participants,
    relate_burden,
    relate_own_table,
    simulate_effect,
)
from wmh.cohorts.cohort import CohortError
from wmh.settings import Participants
from wmh.study import load_study


def correlated_profiles(n, seed=0):
    """Burden of ``n`` subjects whose regions rise and fall with the total load."""
    rng = np.random.default_rng(seed)
    load = rng.normal(0, 1, (n, 1))
    ml = np.exp(rng.normal(-1, 0.5, 34) + 0.8 * load + rng.normal(0, 0.5, (n, 34)))
    return pd.DataFrame(ml, index=[f"s{i}" for i in range(n)], columns=range(1, 35))


def effect_found(n, regions, effect, seed):
    raised, participants = simulate_effect(correlated_profiles(n, seed), regions, effect, seed)
    table = relate_burden(raised, participants, "risk", ["age"])
    return table.set_index("region"), set(table.loc[table["p_holm"] < 0.05, "region"])


def test_a_known_effect_is_found_where_it_is_and_nowhere_else():
    table, found = effect_found(120, [5, 22], 0.8, seed=1)
    assert found == {5, 22}
    assert (table.loc[[5, 22], "ci_low"] > 0).all()


def test_an_effect_in_the_largest_region_does_not_appear_elsewhere():
    for seed in range(10):
        profiles = correlated_profiles(60, seed)
        profiles[13] *= 40
        raised, participants = simulate_effect(profiles, [13], 1.5, seed)
        table = relate_burden(raised, participants, "risk", ["age"])
        found = set(table.loc[table["p_holm"] < 0.05, "region"])
        assert 13 in found
        assert len(found) <= 2


def test_without_an_effect_nothing_is_found_more_often_than_allowed():
    false = sum(bool(effect_found(60, [], 0.0, seed)[1]) for seed in range(40))
    assert false <= 5  # expected 2 of 40; more than 5 has a chance of 1.4 %


def test_only_the_known_regions_are_raised():
    profiles = correlated_profiles(20)
    raised, participants = simulate_effect(profiles, [3], 1.0, seed=0)
    assert raised.drop(columns=3).equals(profiles.drop(columns=3))
    rise = np.log(raised[3] / profiles[3])
    assert np.corrcoef(rise, participants["risk"])[0, 1] == pytest.approx(1)
    assert rise.std() == pytest.approx(1)


def test_normal_scores_keep_the_order_and_share_ties():
    scores = normal_scores(pd.DataFrame({1: [0.0, 5.0, 0.0, 100.0], 2: [2.0, 2.0, 2.0, 2.0]}))
    assert scores[1].rank().tolist() == [1.5, 3, 1.5, 4]
    assert scores[1].std() == pytest.approx(1)
    assert (scores[2] == 0).all()


def test_equals_statsmodels_hc3():
    sm = pytest.importorskip("statsmodels.api")
    raised, participants = simulate_effect(correlated_profiles(40), [3], 0.5, seed=2)
    participants["site"] = np.array(["a", "b", "c", "a"] * 10)
    table = relate_burden(raised, participants, "risk", ["age", "site"]).set_index("region")
    risk, scores = participants["risk"], normal_scores(raised)
    design = np.column_stack(
        [
            np.ones(40),
            stats.zscore(risk, ddof=1),
            participants["age"],
            participants["site"] == "b",
            participants["site"] == "c",
            scores.drop(columns=3).mean(axis=1),
        ]
    )
    theirs = sm.OLS(scores[3].to_numpy(), design).fit(cov_type="HC3", use_t=True)
    assert table.loc[3, "slope"] == pytest.approx(theirs.params[1])
    assert table.loc[3, "p"] == pytest.approx(theirs.pvalues[1])
    assert table.loc[3, ["ci_low", "ci_high"]].tolist() == pytest.approx(
        theirs.conf_int()[1].tolist()
    )


def test_people_without_a_value_and_regions_without_lesion_are_left_out():
    profiles = correlated_profiles(30)
    profiles[9] = 0.0
    _, participants = simulate_effect(profiles, [5], 1.0, seed=0)
    participants.loc["s3", "risk"] = np.nan
    table = relate_burden(profiles, participants, "risk").set_index("region")
    assert (table["n"] == 29).all()
    assert np.isnan(table.loc[9, "p_holm"])
    assert table["p_holm"].notna().sum() == 33


def test_an_unknown_column_is_named():
    profiles = correlated_profiles(10)
    _, participants = simulate_effect(profiles, [5], 1.0, seed=0)
    with pytest.raises(ValueError, match=r"no column mmse.*: risk, age"):
        relate_burden(profiles, participants, "mmse")


def test_too_few_people_are_related_to_nothing_and_the_note_says_so(tmp_path):
    profiles = correlated_profiles(10)
    _, people = simulate_effect(profiles, [5], 1.0, seed=0)
    assert len(relate_burden(profiles[:7], people, "risk", ["age"])) == 34
    assert relate_burden(profiles[:6], people, "risk", ["age"]).empty
    people[:2].rename_axis("id").to_csv(tmp_path / "people.csv")
    settings = Participants(table=tmp_path / "people.csv", variable="risk", covariates=("age",))
    study = load_study("smoke").model_copy(update={"participants": settings})
    relation, note = relate_own_table(study, profiles)
    assert relation.empty
    assert note.startswith("2 of 10 subjects matched.")
    assert note.endswith("too few to relate burden to risk and age.")


@pytest.mark.parametrize(
    ("variable", "covariates", "words"),
    [
        ("Age", (), "no column Age. Set variable and covariates to columns of the table: age"),
        ("site", (), "site cannot be told apart in these 20 subjects"),
        ("age", ("months",), "age and months cannot be told apart"),
        ("age", ("age",), "age is the variable and cannot be its own covariate"),
        ("age", ("dose",), "column dose holds numbers and '4,5'. Write one or the other"),
    ],
)
def test_columns_that_tell_nothing_are_named_with_their_table(
    tmp_path, variable, covariates, words
):
    profiles = correlated_profiles(20)
    age = np.arange(20) + 50
    people = pd.DataFrame({"age": age, "months": 12 * age, "site": 1, "dose": [*age[1:], "4,5"]})
    table = tmp_path / "people.csv"
    people.set_axis(profiles.index).rename_axis("id").to_csv(table)
    settings = Participants(table=table, variable=variable, covariates=covariates)
    study = load_study("smoke").model_copy(update={"participants": settings})
    with pytest.raises(CohortError) as refused:
        relate_own_table(study, profiles)
    assert str(refused.value).startswith(f"{table}: ")
    assert words in str(refused.value)


def test_a_misspelt_column_is_named_before_anything_is_trained(tmp_path):
    table = tmp_path / "people.csv"
    table.write_text("id,age,sex\n1,70,f\n")
    study = load_study("smoke").model_copy(
        update={"participants": Participants(table=table, variable="Age", covariates=("sex",))}
    )
    with pytest.raises(CohortError, match=r"people\.csv: no column Age\. .*: id, age, sex"):
        raise_without_own_columns(study)


def test_participants_are_matched_by_person(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tage\tsex\nsub-01\t70\tF\nsub-02\tn/a\tM\n")
    table = read_participants(path, ["01_ses-1", "01_ses-2", "sub-02", "03"])
    assert list(table.index) == ["01_ses-1", "01_ses-2", "sub-02"]
    assert table["age"].tolist()[:2] == [70, 70]
    assert table["age"].isna().tolist() == [False, False, True]
    assert table.loc["sub-02", "sex"] == "M"
    assert match_note(table, ["01_ses-1", "01_ses-2", "sub-02", "03"], ["age"]) == (
        "2 of 4 subjects matched. Not in the table: 03. Without a value of age: sub-02."
    )


@pytest.mark.parametrize("missing", ["n/a", "NA", "-", "", "NaN"])
@pytest.mark.parametrize(("said", "separator"), [("", "\t"), ("", ","), ("sep=;\n", ";")])
def test_ids_keep_their_zeros_and_what_is_missing_is_no_word(tmp_path, missing, said, separator):
    names = [f"{number:03d}" for number in range(1, 121)]
    rows = [("participant_id", "Age"), *((name, "70.5") for name in names), ("121", missing)]
    path = tmp_path / "participants.tsv"
    path.write_text(said + "".join(f"{name}{separator}{age}\n" for name, age in rows))
    table = read_participants(path, [*names, "121"])
    assert list(table.index) == [*names, "121"]
    assert table["Age"].dtype == float
    assert match_note(table, table.index, ["Age"]).startswith("120 of 121 subjects matched.")


def test_zeros_that_a_table_has_lost_are_not_made_up_for(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tage\n" + "".join(f"{n}\t70\n" for n in range(99, 102)))
    table = read_participants(path, ["099", "100", "101"])
    assert match_note(table, ["099", "100", "101"], ["age"]) == (
        "2 of 3 subjects matched. Not in the table: 099."
    )


def test_a_variable_with_a_word_among_its_numbers_is_refused():
    profiles = correlated_profiles(10)
    people = pd.DataFrame({"age": ["70"] * 9 + ["70,5"]}, index=profiles.index)
    with pytest.raises(ValueError, match="column age holds '70,5', which is not a number"):
        relate_burden(profiles, people, "age")


def test_a_variable_that_varies_with_nothing_or_only_with_a_covariate_is_refused():
    profiles = correlated_profiles(20)
    days = np.random.default_rng(0).normal(25_000, 3000, 20)
    people = pd.DataFrame({"age": days / 365.25, "days": days, "same": 70.0}, index=profiles.index)
    with pytest.raises(ValueError, match="same and age cannot be told apart in these"):
        relate_burden(profiles, people, "same", ["age"])
    with pytest.raises(ValueError, match="age and days cannot be told apart"):
        relate_burden(profiles, people, "age", ["days"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,age\na,1\n", "Add a column participant_id"),
        ("id,age\na,1\na,2\n", "participant a has two rows"),
        (
            "id,age\nb,1\n",
            "has none of the study's subjects, such as a. Use the same names as in the study; "
            "the table has b",
        ),
        ("id,age\na,1,2\n", "line 2: the row has more cells than the first row has column names"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, text, message):
    path = tmp_path / "people.csv"
    path.write_text(text)
    with pytest.raises(CohortError, match=message):
        read_participants(path, ["a"])
