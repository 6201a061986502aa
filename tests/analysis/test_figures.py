"""Every figure draws from a study's results without a warning, and says what it shows."""

import re
import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from fake_results import write_fake_study
from matplotlib.figure import Figure

from wmh.analysis.figures import (
    FIGURES,
    load_burden,
    load_claims,
    load_measures,
    load_missing,
    load_pipeline,
    parts,
    plot_claims,
)
from wmh.analysis.figures.brain import draw_brain_map, paint_regions
from wmh.analysis.figures.burden import GROUP_COLOURS, branch_colours, pair_with_truth
from wmh.analysis.figures.claims import draw_effect, scale_to_smallest
from wmh.analysis.figures.curves import structures_of
from wmh.analysis.figures.frequency import carry_to_mni, matrix_to_mni, share
from wmh.analysis.figures.parts import (
    draw_points,
    lesion_values,
    own_configurations,
    read_table,
    round_below,
    smallest_p,
    spread,
    subject_differences,
)
from wmh.analysis.figures.pipeline import lesion_ml_by_region, unseen_words
from wmh.analysis.figures.qualitative import best_median_worst
from wmh.analysis.figures.scanners import load_scanners, seen_and_unseen_means
from wmh.analysis.printed_numbers import p_text, readable, signed
from wmh.analysis.style import GREY, MM, look_of
from wmh.atlas.regions import built_in_atlas
from wmh.images import Image, ImageError
from wmh.study import StudyError


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WMH_ROOT", str(root))
        yield write_fake_study(root, resolution_mm=6)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_without_a_warning_and_states_its_n(study, name):
    load, plot = FIGURES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        data = load(study)
        figure = plot(data)
        figure.draw_without_rendering()
    assert figure.get_size_inches()[1] < 235 * MM, "no page holds it with its caption"
    said = {
        "01_pipeline": "n = 6 training and 10 test subjects",
        "09_curves": "n = 4 people to learn from and 2 to validate on",
    }
    assert said.get(name, "n = 10 test subjects") in data.caption
    assert re.search(r"imulated|Study 'fake'", data.caption)
    assert "  " not in data.caption
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_captions_name_the_test_the_correction_and_its_family(study):
    caption = load_measures(study).caption
    assert "Wilcoxon signed-rank" in caption
    assert "Holm" in caption
    assert "'input configurations' (30 tests)" in caption
    assert "little or no power in 'input configurations'" in caption


def test_captions_give_the_level_of_the_studys_own_intervals(study):
    wide = study.evaluation.model_copy(update={"alpha": 0.2})
    says = study.model_copy(update={"evaluation": wide})
    for load, words in (
        (load_measures, "80 % bootstrap intervals"),
        (load_missing, "80 % bootstrap intervals"),
        (load_claims, "80 % interval"),
        (load_burden, "80 % interval"),
    ):
        assert words in load(says).caption
        assert "95 %" not in load(says).caption
    least = [load_burden(one).totals["joint"]["icc_low"] for one in (study, says)]
    assert least[0] < least[1]


@pytest.mark.parametrize(
    ("source", "kind"),
    [("challenge", "challenge"), ("bids", "study's own"), ("csv", "study's own")],
)
def test_captions_name_the_cohort_rightly(study, source, kind):
    cohort = study.cohort.model_copy(update={"source": source, "simulation": None})
    other = study.model_copy(update={"cohort": cohort})
    assert f"10 test subjects of the {kind} cohort, study 'fake'." in load_measures(other).caption
    caption = load_pipeline(other).caption
    assert f". {kind[0].upper()}{kind[1:]} cohort, study 'fake': n = 6 training" in caption
    assert "imulated" not in caption


def test_the_scanners_caption_claims_no_test_that_is_not_made(study):
    said = load_scanners(study).caption
    assert "those in Dice of the four input configurations are tested in notebook 6, no" in said


def test_the_agreements_interval_is_a_jackknife_and_without_a_sign(study):
    data = load_claims(study)
    assert "interval (bootstrap; of the agreement, jackknife)" in data.caption
    row = data.rows[data.rows["claim"] == "joint_burden_agrees"].iloc[0]
    words = f"{row['mean_difference']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
    drawn = [text.get_text() for axes in plot_claims(data).axes for text in axes.texts]
    assert words in drawn


def test_intervals_show_however_narrow_they_are_and_where_they_are_cut_off(study):
    def marks(low, effect, high):
        claims = pd.DataFrame({"verdict": ["supported"], "low": low, "effect": effect})
        axes = Figure().subplots()
        draw_effect(axes, 0.0, claims.assign(high=high).iloc[0])
        heights = {line.get_marker(): line.get_markersize() for line in axes.lines}
        ends = [(line.get_marker(), line.get_xdata()[0]) for line in axes.lines[1:-1]]
        return ends, heights, axes.lines[-1].get_marker()

    ends, heights, mean = marks(2.0, 2.01, 2.02)
    assert ends == [("|", 2.0), ("|", 2.02)]
    assert mean == "o"
    assert heights["|"] > 1.5 * heights["o"]
    ends, _, mean = marks(-7.0, 2.0, 20.0)
    assert ends == [("<", -5.0), (">", 15.0)]
    assert mean == "o"
    ends, _, mean = marks(12.0, 18.0, 30.0)
    assert ends == [("|", 12.0), (">", 15.0)]
    assert mean == ">"


def test_captions_count_predictions_without_a_distance(study):
    path = study.results / "metrics.csv"
    kept = path.read_text()
    metrics = pd.read_csv(path, dtype={"subject": str})
    where = (metrics["model"] == "t1") & (metrics["metric"] == "hd95_mm")
    metrics.loc[metrics.index[where][:3], "value"] = np.nan
    metrics.to_csv(path, index=False)
    try:
        assert "undefined for 3 of 60 predictions" in load_measures(study).caption
    finally:
        path.write_text(kept)


def test_repeats_are_averaged_by_subject_and_their_spread_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))
    study = write_fake_study(tmp_path, resolution_mm=8, repeats=2)
    told = {
        "03_measures": "2 trainings with",
        "07_burden": "means over 2 trainings",
        "09_curves": "n = 3 to 4 people to learn from and 2 to 3 to validate on",
    }
    for name, words in told.items():
        load, plot = FIGURES[name]
        data = load(study)
        plot(data).draw_without_rendering()
        assert words in data.caption
    metrics = pd.read_csv(study.results / "metrics.csv")
    rows = metrics[(metrics["model"] == "flair") & (metrics["metric"] == "dice")]
    values = lesion_values(study)
    assert not values.duplicated(["subject", "model", "inputs_given"]).any()
    assert values.loc[values["model"] == "flair", "dice"].mean() == pytest.approx(
        rows["value"].mean()
    )
    two = load_measures(study).repeat_means.loc[("flair", "FLAIR"), "dice"]
    assert two.to_numpy() == pytest.approx(rows.groupby("repeat")["value"].mean().to_numpy())


def test_files_named_from_the_project_are_found_from_anywhere(study, monkeypatch, tmp_path):
    path = study.results / "cohort.csv"
    kept = path.read_text()
    path.write_text(kept.replace(f"{study.results.parents[1]}/", ""))
    monkeypatch.chdir(tmp_path)
    try:
        named = read_table(study, "cohort")["flair"].dropna()
        assert len(named) == 10
        assert all(file.is_file() for file in named)
    finally:
        path.write_text(kept)


def test_a_missing_table_is_named_with_the_notebook_that_makes_it(study, tmp_path, monkeypatch):
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))
    for load, _ in FIGURES.values():
        with pytest.raises(StudyError, match=r"Run notebooks? \d\d"):
            load(study)


def test_configurations_stand_in_one_order_each_with_its_own_images(study):
    assert own_configurations(lesion_values(study)) == [
        ("flair", "FLAIR"),
        ("t1", "T1"),
        ("flair_t1", "FLAIR+T1"),
        ("flair_t1_dropout", "FLAIR+T1"),
        ("interchangeable", "FLAIR+T1"),
        ("multitask", "FLAIR+T1"),
    ]


def test_only_tested_pairs_of_shown_configurations_are_drawn():
    columns = ["structure", "metric", "model_a", "inputs_a", "model_b", "inputs_b"]
    rows = [
        ("lesions", "dice", "flair", "FLAIR", "t1", "T1"),
        ("lesions", "volume", "flair", "FLAIR", "t1", "T1"),
        ("regions_mean", "dice", "flair", "FLAIR", "t1", "T1"),
        ("lesions", "dice", "flair", "FLAIR", "flair_t1", "FLAIR"),
    ]
    comparisons = pd.DataFrame(rows, columns=columns)
    shown = parts.tested_pairs(comparisons, [("flair", "FLAIR"), ("t1", "T1")], ["dice"])
    assert shown.index.tolist() == [0]


def test_paired_differences_are_first_minus_second_by_subject():
    values = pd.DataFrame(
        {
            "subject": ["b", "a", "a", "b", "c"],
            "model": ["x", "x", "y", "y", "x"],
            "inputs_given": "FLAIR",
            "dice": [0.9, 0.5, 0.4, 0.6, 0.7],
        }
    )
    pair = {"model_a": "x", "inputs_a": "FLAIR", "model_b": "y", "inputs_b": "FLAIR"}
    (apart,) = subject_differences(values, pd.DataFrame([pair]), "dice").values()
    np.testing.assert_allclose(apart, [0.1, 0.3])


def test_every_value_is_a_point_and_the_bar_is_their_mean():
    axes = Figure().subplots()
    draw_points(axes, np.array([0.2, np.nan, 0.4, 0.9]), 3, look_of("flair"), upright=True)
    places, values = axes.collections[0].get_offsets().T
    np.testing.assert_allclose(values, [0.2, 0.4, 0.9])
    assert np.abs(places - 3).max() < 0.34
    assert axes.lines[0].get_ydata()[0] == pytest.approx(0.5)


def test_points_of_a_group_never_share_a_place():
    assert len(np.unique(spread(110))) == 110
    assert np.abs(spread(110)).max() < 0.5


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0004, "p < 0.001"), (0.0123, "p = 0.012"), (0.4, "p = 0.40"), (np.nan, "not testable")],
)
def test_p_values_are_printed_one_way(p, text):
    assert p_text(p) == text


@pytest.mark.parametrize(("limit", "tick"), [(3900, 2000), (0.7, 0.5), (1000, 1000), (99, 50)])
def test_ticks_are_round(limit, tick):
    assert round_below(limit) == pytest.approx(tick)


def test_few_pairs_cannot_reach_a_small_p():
    assert smallest_p(5, 1) == 0.0625
    assert smallest_p(3, 30) == 1.0


def test_the_median_of_an_even_number_is_the_upper_one():
    assert best_median_worst(pd.Series({"a": 0.1, "b": 0.4, "c": 0.3, "d": 0.2})) == {
        "Best": "b",
        "Median": "c",
        "Worst": "a",
    }


def test_seen_scanners_are_those_with_training_subjects(study):
    data = load_scanners(study)
    assert data.seen == ["utrecht_philips_3t", "singapore_siemens_3t", "amsterdam_ge_3t"]
    assert data.unseen == ["amsterdam_ge_1p5t", "amsterdam_philips_3t"]
    values = lesion_values(study)
    values = values[values["model"] == "flair"]
    unseen = values.loc[values["scanner"].isin(data.unseen), "dice"].mean()
    assert seen_and_unseen_means(data, "flair", "FLAIR", "dice")[1] == pytest.approx(unseen)
    cohort = pd.read_csv(study.results / "cohort.csv")
    assert unseen_words(cohort).startswith("2 of 5 scanners")


def test_effects_are_scaled_by_the_smallest_that_matters():
    claims = pd.DataFrame(
        {
            "mean_difference": [0.04],
            "ci_low": [-0.01],
            "ci_high": [0.1],
            "smallest_difference": 0.02,
        }
    )
    scaled = scale_to_smallest(claims).iloc[0]
    assert (scaled["low"], scaled["effect"], scaled["high"]) == pytest.approx((-0.5, 2.0, 5.0))


def test_comparisons_are_printed_with_the_names_of_the_figures():
    text = readable("lesion Dice: interchangeable (T1) minus flair_t1 (T1)")
    assert text == "lesion Dice: Interchangeable, T1 only minus Concatenated, FLAIR blank"


def test_branches_have_the_colour_of_their_group_where_they_are_in_one():
    joined = np.array([[0, 1, 0.1, 2], [2, 3, 0.2, 2], [4, 5, 0.9, 4]])
    first, second = GROUP_COLOURS[:2]
    assert branch_colours(joined, np.array([1, 1, 2, 2])) == {4: first, 5: second, 6: GREY}
    assert set(branch_colours(joined, np.ones(4)).values()) == {GREY}


def test_burden_is_paired_with_the_truth_by_subject_and_region():
    rows = [
        (subject, source, region, factor * (region + number))
        for number, subject in enumerate("ab")
        for source, factor in (("truth", 1.0), ("joint", 2.0))
        for region in range(1, 37)
    ]
    burden = pd.DataFrame(rows, columns=["subject", "source", "region", "lesion_ml"])
    pairs = pair_with_truth(burden, "joint")
    assert len(pairs) == 2 * 34
    np.testing.assert_allclose(pairs["found"], 2 * pairs["true"])


def test_lesion_volume_is_counted_in_its_region():
    lesions = Image(np.array([[[1, 1, 2, 0, 1]]], dtype=np.uint8), np.diag([10.0, 10, 10, 1]))
    regions = Image(np.array([[[3, 3, 3, 3, 36]]], dtype=np.uint8), lesions.affine)
    volumes = lesion_ml_by_region(lesions, regions)
    assert volumes[3] == pytest.approx(2.0)
    assert volumes.sum() == pytest.approx(2.0)


def test_regions_are_painted_with_their_values():
    painted = paint_regions({1: 0.5, 34: 0.0, 2: float("nan")})
    atlas, values = built_in_atlas(2).data, painted.get_fdata()
    assert (values[atlas == 1] == 0.5).all()
    assert (values[atlas == 34] > 0).all()
    assert not values[(atlas != 1) & (atlas != 34)].any()


def test_regions_tell_the_way_to_mni():
    atlas = built_in_atlas(4)
    way = nib.affines.from_matvec(
        [[1.1, 0.05, 0.0], [-0.04, 0.95, 0.1], [0.0, -0.1, 1.02]], [5.0, -8.0, 12.0]
    )
    subject = Image(atlas.data, np.linalg.inv(way) @ atlas.affine)
    at = nib.affines.apply_affine(subject.affine, np.argwhere(atlas.data == 13))
    found = nib.affines.apply_affine(matrix_to_mni(subject), at)
    wanted = nib.affines.apply_affine(way, at)
    assert np.abs(found - wanted).max() < 1.5  # mm; the atlas of 2 mm has other voxels


def test_the_way_to_mni_needs_regions():
    few = Image(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.eye(4))
    with pytest.raises(ImageError, match="holds 7 regions"):
        matrix_to_mni(few)


def test_lesions_land_at_their_place_in_mni():
    lesions = Image(np.zeros((9, 9, 9), dtype=np.uint8), np.diag([2.0, 2, 2, 1]))
    lesions.data[4, 4, 4], lesions.data[0, 0, 0] = 1, 2
    moved = carry_to_mni(lesions, nib.affines.from_matvec(np.eye(3), [10, 20, 30]))
    centre = np.average(
        nib.affines.apply_affine(moved.affine, np.argwhere(moved.data > 0)),
        axis=0,
        weights=moved.data[moved.data > 0],
    )
    np.testing.assert_allclose(centre, [18, 28, 38], atol=1e-3)
    assert moved.data.sum() == pytest.approx(1, abs=1e-3)
    assert not carry_to_mni(Image(lesions.data * 0, lesions.affine), np.eye(4)).data.any()


def test_frequency_is_the_share_of_subjects():
    masks = [Image(np.full((2, 2, 2), value, dtype=np.float32), np.eye(4)) for value in (0, 1, 1)]
    np.testing.assert_allclose(share(masks).data, 2 / 3)


def test_brain_maps_show_the_subjects_left_on_the_left():
    figure = Figure()
    axes = figure.subplots()
    draw_brain_map(axes, paint_regions(dict.fromkeys(range(1, 18), 0.5)), "viridis", (0, 1))
    cut = figure.axes[-1]
    drawn = cut.images[-1]
    left, right, *_ = drawn.get_extent()
    filled = ~np.ma.getmaskarray(np.ma.masked_invalid(drawn.get_array()))
    columns = np.argwhere(filled)[:, 1] / filled.shape[1] * (right - left) + left
    assert columns.mean() < -5
    assert cut.get_xlim()[0] < cut.get_xlim()[1]


def test_brain_maps_without_any_value_show_the_template_alone():
    figure = Figure()
    axes = figure.subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        draw_brain_map(axes, paint_regions({}), "viridis", (0, 1))
    assert len(figure.axes[-1].images) == 1


def test_brain_maps_draw_values_below_the_limits_too():
    figure = Figure()
    axes = figure.subplots()
    draw_brain_map(axes, paint_regions(dict.fromkeys(range(1, 35), 0.1)), "viridis", (0.4, 1))
    drawn = figure.axes[-1].images[-1].get_array()
    assert np.ma.count(drawn) > 100
    assert drawn.max() == pytest.approx(0.4, abs=1e-3)


def test_a_joint_model_shows_the_dice_of_both_structures():
    alone = pd.DataFrame({"validation_dice": [0.5]})
    joint = alone.assign(validation_lesions_dice=0.4, validation_regions_dice=0.6)
    assert [column for column, *_ in structures_of(alone)] == ["validation_dice"]
    assert [name for _, name, _ in structures_of(joint)] == ["lesions", "regions"]


def test_effects_that_round_to_nothing_have_no_sign():
    assert [signed(value) for value in (0.0217, -0.0217, -0.0001)] == [
        "+0.022",
        "\N{MINUS SIGN}0.022",
        "0.000",
    ]
