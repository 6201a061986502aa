"""Every figure draws from a study's results without a warning, and says what it shows."""

import re
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.analysis.fake_results import keep_models, write_fake_study
from wmh import results
from wmh.dependencies import notebook_code
from wmh.figures import brain, make_figure, regions
from wmh.figures.claims import draw_effect
from wmh.figures.parts import cohort_words, lesion_values, own_configurations, read_table
from wmh.figures.pipeline import unseen_words
from wmh.images import Image, load_labels, save_image
from wmh.study import StudyError, project_root


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WMH_ROOT", str(root))
        yield write_fake_study(root, resolution_mm=6)


@pytest.fixture
def without_maps(monkeypatch):
    """Figures without the brains in them, which take a second each."""
    monkeypatch.setattr(brain, "draw_brain_map", lambda axes, image, scale: None)


def drawn(study, name):
    """A figure and its caption, drawn without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        figure, caption = make_figure(study, name)
        figure.draw_without_rendering()
    return figure, caption


def texts(figure) -> list[str]:
    """All that is printed in a figure."""
    return [text.get_text() for text in figure.findobj(Text)]


def test_notebook_8_shows_every_figure_there_is():
    code = notebook_code(project_root() / "notebooks" / "08_figures.ipynb")
    assert tuple(re.findall(r'show\("(\w+)"\)', code)) == results.FIGURES


@pytest.mark.parametrize("name", results.FIGURES)
def test_every_figure_draws_without_a_warning_and_states_its_n(study, name):
    figure, caption = drawn(study, name)
    assert figure.get_size_inches()[1] < 235 / 25.4, "no page holds it with its caption"
    said = {
        "01_pipeline": "n = 6 training and 10 test subjects",
        "09_curves": "n = 4 people to learn from and 2 to validate on",
    }
    assert said.get(name, "n = 10 test subjects") in caption
    assert re.search(r"imulated|Study 'fake'", caption)
    assert "  " not in caption
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_without_a_lesion_model_figures_show_the_regions_and_the_truth(study):
    few = keep_models(study, "regions")
    captions = {name: drawn(few, name)[1] for name in results.FIGURES}
    for name in ("02_qualitative", "03_measures", "04_missing", "05_scanners"):
        assert captions[name] == (
            "No model of study 'regions' predicts lesions: there is nothing to show."
        )
    assert "lesions (the true ones) and regions (regions model)" in captions["01_pipeline"]
    assert "n = 10 test subjects" in captions["06_regions"]
    assert "(c)" not in captions["07_burden"]
    assert "5 not judged" in captions["10_claims"]


def test_with_one_lesion_model_figures_show_it_and_the_registered_regions(study):
    few = keep_models(study, "flair")
    about = [name for name in results.FIGURES if name not in ("08_frequency", "09_curves")]
    captions = {name: drawn(few, name)[1] for name in about}
    assert "predicts regions: there is nothing to show" in captions["06_regions"]
    assert "lesions (flair model) and regions (the registered ones)" in captions["01_pipeline"]
    for name in ("03_measures", "04_missing"):
        assert "No difference was tested." in captions[name]
    assert "for predicted lesions in registered regions; one point" in captions["07_burden"]


def test_a_model_is_shown_by_the_most_images_it_was_given(study):
    few = keep_models(study, "multitask")
    path = few.results / "metrics.csv"
    metrics = pd.read_csv(path, dtype={"subject": str})
    metrics["inputs_given"] = "T1"
    metrics.drop_duplicates(["subject", "structure", "metric"]).to_csv(path, index=False)
    folder = few.results / "predictions" / "multitask"
    (folder / "FLAIR+T1").rename(folder / "T1")
    _, caption = drawn(few, "01_pipeline")
    assert "lesions (joint model) and regions (joint model)" in caption
    for name in ("03_measures", "06_regions"):
        drawn(few, name)
    assert own_configurations(lesion_values(few)) == [("multitask", "T1")]


def test_regions_of_a_subject_are_compared_on_the_same_slices(study, without_maps, monkeypatch):
    images_of = regions._images

    def with_few_regions_at_the_end(*given):
        flair, labels = images_of(*given)
        *_, (name, last) = labels.items()
        upper = np.arange(last.data.shape[2]) >= last.data.shape[2] // 2
        return flair, labels | {name: Image(last.data * upper, last.affine)}

    monkeypatch.setattr(regions, "_images", with_few_regions_at_the_end)
    figure, _ = drawn(study, "06_regions")
    pictures = np.array(figure.subfigs[0].axes).reshape(len(regions.SLICE_SHARES), -1)
    for row in pictures[:, 1:]:  # beside the atlas
        shown = [np.asarray(axes.images[0].get_array()) for axes in row]
        assert all(np.array_equal(shown[0], one) for one in shown)


def test_captions_name_the_test_the_correction_and_its_family(study):
    _, caption = make_figure(study, "03_measures")
    assert "Wilcoxon signed-rank" in caption
    assert "Holm" in caption
    assert "'input configurations' (30 tests)" in caption
    assert "little or no power in 'input configurations'" in caption


def test_captions_give_the_level_of_the_studys_own_intervals(study, without_maps):
    wide = study.evaluation.model_copy(update={"alpha": 0.2})
    says = study.model_copy(update={"evaluation": wide})
    for name, words in (
        ("03_measures", "80 % bootstrap intervals"),
        ("04_missing", "80 % bootstrap intervals"),
        ("07_burden", "80 % interval"),
        ("10_claims", "80 % interval"),
    ):
        _, caption = make_figure(says, name)
        assert words in caption
        assert "95 %" not in caption


@pytest.mark.parametrize(
    ("source", "kind"),
    [("challenge", "challenge"), ("bids", "study's own"), ("csv", "study's own")],
)
def test_captions_name_the_cohort_rightly(study, source, kind):
    cohort = study.cohort.model_copy(update={"source": source, "simulation": None})
    other = study.model_copy(update={"cohort": cohort})
    words = f"of the {kind} cohort, study 'fake'."
    assert cohort_words(other, ["1", "2", "1"]) == f"n = 2 test subjects {words}"
    sessions = ["sub-1_ses-1", "sub-1_ses-2", "sub-2"]
    assert cohort_words(other, sessions) == f"n = 2 test subjects in 3 sessions {words}"
    _, caption = make_figure(other, "01_pipeline")
    assert f". {kind[0].upper()}{kind[1:]} cohort, study 'fake': n = 6 training" in caption
    assert "imulated" not in caption


def test_the_scanners_caption_claims_no_test_that_is_not_made(study):
    _, said = make_figure(study, "05_scanners")
    assert "only those in Dice of the four input configurations are tested (notebook 6)" in said


def test_the_agreements_interval_is_a_jackknife_and_without_a_sign(study):
    figure, caption = make_figure(study, "10_claims")
    assert "interval (bootstrap; of the agreement, jackknife)" in caption
    claims = read_table(study, "claims")
    row = claims[claims["claim"] == "joint_burden_agrees"].iloc[0]
    words = f"{row['mean_difference']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
    assert words in texts(figure)


def test_intervals_show_however_narrow_they_are_and_where_they_are_cut_off():
    def marks(low, effect, high):
        numbers = {"ci_low": low / 2, "mean_difference": effect / 2, "ci_high": high / 2}
        row = numbers | {"verdict": "supported", "smallest_difference": 0.5}
        axes = Figure().subplots()
        draw_effect(axes, 0.0, pd.Series(row))
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
        assert "truth is empty: 3 of 60 are left out" in make_figure(study, "03_measures")[1]
    finally:
        path.write_text(kept)


def test_repeats_are_averaged_by_subject_and_their_spread_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))
    study = write_fake_study(tmp_path, resolution_mm=8, repeats=2)
    told = {
        "03_measures": "2 trainings with",
        "02_qualitative": "are those of the first of 2 trainings. Values are means over 2",
        "04_missing": "Values are means over 2 trainings of each model",
        "05_scanners": "Values are means over 2 trainings of each model",
        "06_regions": "Values are means over 2 trainings of each model",
        "07_burden": "means over 2 trainings",
        "08_frequency": "are those of the first of 2 trainings",
        "09_curves": "n = 3 to 4 people to learn from and 2 to 3 to validate on",
    }
    figures = {}
    for name, words in told.items():
        figures[name], caption = drawn(study, name)
        assert words in caption
    for folder in ("regions", "regions_repeat_2"):  # a model that learned from fewer people
        split = pd.read_csv(path := study.results / "models" / folder / "split.csv")
        split.drop(split.index[split["part"] == "learn"][0]).to_csv(path, index=False)
    caption = drawn(study, "09_curves")[1]
    assert "Regions: n = 2 to 3 people to learn from and 2 to 3 to validate on;" in caption
    assert "FLAIR: n = 3 to 4 people to learn from and 2 to 3 to validate on;" in caption
    metrics = pd.read_csv(study.results / "metrics.csv")
    rows = metrics[(metrics["model"] == "flair") & (metrics["metric"] == "dice")]
    values = lesion_values(study)
    assert not values.duplicated(["subject", "model", "inputs_given"]).any()
    assert values.loc[values["model"] == "flair", "dice"].mean() == pytest.approx(
        rows["value"].mean()
    )
    told = read_table(study, "agreement")
    sums = told[(told["region"] == "all") & (told["source"] == "joint")]["icc"]
    assert len(sums) == 2
    assert any(f"ICC of totals {sums.mean():.3f} [" in text for text in texts(figures["07_burden"]))
    two = figures["03_measures"].axes[0].lines[1]
    means = rows.groupby("repeat")["value"].mean()
    assert two.get_xdata() == pytest.approx(means.to_numpy())


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
    for name in results.FIGURES:
        with pytest.raises(StudyError, match=r"Run notebooks? \d\d"):
            make_figure(study, name)


def test_a_misspelt_figure_is_named_with_those_there_are(study):
    with pytest.raises(StudyError, match="no figure '02_qualitativ'; the figures are 01_pipeline"):
        make_figure(study, "02_qualitativ")


def test_configurations_stand_in_one_order_each_with_its_own_images(study):
    assert own_configurations(lesion_values(study)) == [
        ("flair", "FLAIR"),
        ("t1", "T1"),
        ("flair_t1", "FLAIR+T1"),
        ("flair_t1_dropout", "FLAIR+T1"),
        ("interchangeable", "FLAIR+T1"),
        ("multitask", "FLAIR+T1"),
    ]


def test_seen_scanners_are_those_with_training_subjects(study):
    figure, _ = make_figure(study, "05_scanners")
    points, means = figure.axes[:2]
    assert [tick.get_text().split("\n")[:2] for tick in figure.axes[4].get_xticklabels()] == [
        ["Utrecht", "Philips 3 T"],
        ["Singapore", "Siemens 3 T"],
        ["Amsterdam", "GE 3 T"],
        ["Amsterdam", "GE 1.5 T"],
        ["Amsterdam", "Philips 3 T"],
    ]
    assert [text.get_text() for text in points.texts[-3:]][:2] == ["← seen", "unseen →"]
    values = lesion_values(study)
    values = values[values["model"] == "flair"]
    unseen = values["scanner"].isin(["amsterdam_ge_1p5t", "amsterdam_philips_3t"])
    wanted = [values.loc[~unseen, "dice"].mean(), values.loc[unseen, "dice"].mean()]
    assert means.lines[0].get_ydata() == pytest.approx(wanted)
    cohort = pd.read_csv(study.results / "cohort.csv")
    assert unseen_words(cohort).startswith("2 of 5 scanners")


def changed(study, name: str, tables: dict):
    """The study with some of its tables changed, each by a function."""
    other = study.model_copy(update={"name": name})
    shutil.copytree(study.results, other.results)
    for table, change in tables.items():
        path = other.results / f"{table}.csv"
        change(pd.read_csv(path, dtype={"id": str, "subject": str})).to_csv(path, index=False)
    return other


def test_the_burden_figure_shows_the_icc_of_the_table(study, without_maps):
    def half(agreement):
        return agreement.assign(icc=0.5, icc_low=0.25, icc_high=0.75)

    figure, _ = make_figure(changed(study, "half", {"agreement": half}), "07_burden")
    assert sum("ICC of totals 0.500 [0.250, 0.750]" in text for text in texts(figure)) == 3


def test_no_mark_of_the_measures_is_cut_at_the_edge_of_its_panel(study):
    figure, _ = make_figure(study, "03_measures")
    parts = [part for axes in figure.axes for part in axes.collections]
    assert len(parts) > 30
    assert not any(part.get_clip_on() for part in parts)


def test_a_test_subject_without_known_regions_is_left_out_of_the_map_of_lesions(
    study, without_maps
):
    some = changed(study, "some", {})
    labels = [load_labels(some.region_labels(subject)) for subject in ("106", "107")]
    for image in labels:
        save_image(image.path, np.zeros_like(image.data), like=image)
    figure, caption = drawn(some, "08_frequency")
    assert "n = 8 test subjects" in caption
    assert "share of 8 subjects with lesion" in texts(figure)
    for path in labels[0].path.parent.glob("*.nii.gz"):
        save_image(path, np.zeros_like(labels[0].data), like=labels[0])
    with pytest.raises(StudyError, match=r"study 'some': no test subject has region labels"):
        make_figure(some, "08_frequency")


def test_one_test_subject_is_shown_once_and_no_scanner_as_unseen(study):
    def first(table):
        return table[table["subject"] == "106"]

    one = changed(study, "one", {"metrics": first})
    figure, caption = make_figure(one, "02_qualitative")
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == ["Only: subject 106\nSingapore\nSiemens 3 T"]
    assert caption.startswith("The only test subject")
    figure, caption = make_figure(one, "05_scanners")
    assert [tick.get_text() for tick in figure.axes[-1].get_xticklabels()] == ["seen"]
    assert "by scanner: all have training subjects" in caption
    assert "unseen" not in caption


def test_who_has_no_lesion_stands_at_the_edge_of_the_volumes(study):
    def healed(cohort):
        return cohort.assign(lesion_ml=cohort["lesion_ml"].where(cohort["id"] != "100", 0))

    figure, caption = make_figure(changed(study, "healed", {"cohort": healed}), "01_pipeline")
    assert "one point per subject; those without lesion at the left edge." in caption
    axes = next(a for a in figure.axes if a.get_xlabel() == "lesion volume (ml)")
    points = np.concatenate([part.get_offsets()[:, 0] for part in axes.collections])
    assert len(points) == 16
    assert points.min() == axes.get_xlim()[0] > 0


def test_a_single_validation_shows_as_points_and_a_joint_model_has_the_dice_of_both(study):
    one = changed(study, "once", {})
    for path in one.results.glob("models/*/history.csv"):
        checked = pd.read_csv(path).dropna().head(1)
        if path.parent.name == "multitask":
            checked = checked.assign(validation_lesions_dice=0.4, validation_regions_dice=0.6)
        checked.to_csv(path, index=False)
    figure, _ = make_figure(one, "09_curves")
    assert {line.get_marker() for axes in figure.axes for line in axes.lines} == {"."}
    named = [[line.get_label().split()[0] for line in axes.lines] for axes in figure.axes[7:]]
    assert named == [["last"]] * 6 + [["lesions", "regions"]]


@pytest.mark.parametrize(
    ("atlas", "columns"),
    [
        ("built-in", ["True regions", "Registered"]),
        ("known", ["True regions"]),
        ("published", ["True regions", "Published"]),
    ],
)
def test_region_labels_are_called_what_they_are(study, without_maps, atlas, columns):
    regions = study.regions.model_copy(update={"atlas": atlas})
    few = study.model_copy(update={"regions": regions})
    kind = columns[-1].split()[0].lower()
    figure, caption = make_figure(few, "06_regions")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[1 : len(columns) + 1] == columns
    assert f"between model and {kind} labels" in caption
    means = next(a for a in figure.axes if a.get_ylabel() == "Dice, mean over regions")
    named = [tick.get_text() for tick in means.get_xticklabels()]
    assert ("Registered" in named) == (kind == "registered")
    assert kind in make_figure(few, "01_pipeline")[1]
    figure, caption = make_figure(few, "07_burden")
    assert f"predicted lesions in {kind} regions" in caption
    assert f"{kind.capitalize()} regions" in texts(figure)
