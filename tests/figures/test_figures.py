"""Every figure draws from a study's results without a warning, and says what it shows."""

import re
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from tests.analysis.fake_results import keep_models, write_fake_study
from wmh import results
from wmh.dependencies import notebook_code
from wmh.figures import (
    FIGURES,
    load_burden,
    load_claims,
    load_measures,
    load_missing,
    load_pipeline,
    load_regions,
    make_figure,
    plot_claims,
    plot_curves,
    plot_measures,
    plot_pipeline,
    plot_scanners,
)
from wmh.figures.claims import draw_effect
from wmh.figures.curves import Curves
from wmh.figures.parts import (
    draw_differences,
    lesion_values,
    own_configurations,
    read_table,
    root_scale,
)
from wmh.figures.pipeline import unseen_words
from wmh.figures.qualitative import load_qualitative
from wmh.figures.scanners import load_scanners, seen_and_unseen_means
from wmh.figures.style import MM
from wmh.study import StudyError, project_root


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WMH_ROOT", str(root))
        yield write_fake_study(root, resolution_mm=6)


def test_notebook_8_shows_every_figure_there_is():
    assert tuple(FIGURES) == results.FIGURES
    code = notebook_code(project_root() / "notebooks" / "08_figures.ipynb")
    assert tuple(re.findall(r'show\("(\w+)"\)', code)) == results.FIGURES


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


def drawn_captions(study, names) -> dict[str, str]:
    """The captions of some figures, each drawn without a warning."""
    captions = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        for name in names:
            figure, captions[name] = make_figure(study, name)
            figure.draw_without_rendering()
    return captions


def test_without_a_lesion_model_figures_show_the_regions_and_the_truth(study):
    few = keep_models(study, "regions")
    captions = drawn_captions(few, FIGURES)
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
    about = [name for name in FIGURES if name not in ("08_frequency", "09_curves")]
    captions = drawn_captions(few, about)
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
    captions = drawn_captions(few, ("01_pipeline", "03_measures", "06_regions"))
    assert "lesions (joint model) and regions (joint model)" in captions["01_pipeline"]
    assert own_configurations(lesion_values(few)) == [("multitask", "T1")]


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
    told = read_table(study, "agreement")
    sums = told[(told["region"] == "all") & (told["source"] == "joint")]["icc"]
    assert len(sums) == 2
    assert load_burden(study).totals.loc["joint", "icc"] == pytest.approx(sums.mean())
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


def changed(study, name: str, tables: dict):
    """The study with some of its tables changed, each by a function."""
    other = study.model_copy(update={"name": name})
    shutil.copytree(study.results, other.results)
    for table, change in tables.items():
        path = other.results / f"{table}.csv"
        change(pd.read_csv(path, dtype={"id": str, "subject": str})).to_csv(path, index=False)
    return other


def test_the_burden_figure_shows_the_icc_of_the_table(study):
    def half(agreement):
        return agreement.assign(icc=0.5, icc_low=0.25, icc_high=0.75)

    totals = load_burden(changed(study, "half", {"agreement": half})).totals
    assert totals.loc["joint"].tolist() == [0.5, 0.25, 0.75]


def test_no_mark_of_the_measures_is_cut_at_the_edge_of_its_panel(study):
    parts = [part for axes in plot_measures(load_measures(study)).axes for part in axes.collections]
    assert len(parts) > 30
    assert not any(part.get_clip_on() for part in parts)


def test_one_test_subject_is_shown_once_and_no_scanner_as_unseen(study):
    def first(table):
        return table[table["subject"] == "106"]

    one = changed(study, "one", {"metrics": first})
    data = load_qualitative(one)
    assert [case.rank for case in data.cases] == ["Only"]
    assert data.caption.startswith("The only test subject")
    data = load_scanners(one)
    means = plot_scanners(data).axes[-1]
    assert [tick.get_text() for tick in means.get_xticklabels()] == ["seen"]
    assert "by scanner: all have training subjects" in data.caption
    assert "unseen" not in data.caption


def test_who_has_no_lesion_stands_at_the_edge_of_the_volumes(study):
    def healed(cohort):
        return cohort.assign(lesion_ml=cohort["lesion_ml"].where(cohort["id"] != "100", 0))

    data = load_pipeline(changed(study, "healed", {"cohort": healed}))
    assert "one point per subject; at the left edge, who has none." in data.caption
    axes = next(a for a in plot_pipeline(data).axes if a.get_xlabel() == "lesion volume (ml)")
    points = np.concatenate([part.get_offsets()[:, 0] for part in axes.collections])
    assert len(points) == 16
    assert points.min() == axes.get_xlim()[0] > 0


def test_a_single_validation_shows_as_points():
    columns = {"step": 10, "train_loss": 2.0, "validation_loss": 1.0, "validation_dice": 0.4}
    figure = plot_curves(Curves({"flair": [pd.DataFrame([columns])]}, ""))
    assert {line.get_marker() for axes in figure.axes for line in axes.lines} == {"."}


def test_panels_without_a_test_say_so_and_ticks_are_readable():
    axes = Figure().subplots()
    draw_differences(axes, pd.DataFrame({"n": []}), pd.DataFrame(), "dice", 0.05)
    assert axes.get_title(loc="left") + axes.get_title() == "none tested"
    axes.set_ylim(-100, 90)
    root_scale(axes, "y", (1, 4, 10, 20, 40, 80))
    assert axes.get_ylim() == (-100, 90)
    assert axes.get_yticks().tolist() == [-80, -40, -10, 0, 10, 40, 80]


@pytest.mark.parametrize(
    ("atlas", "columns"),
    [
        ("built-in", ["True regions", "Registered"]),
        ("known", ["True regions"]),
        ("published", ["True regions", "Published"]),
    ],
)
def test_region_labels_are_called_what_they_are(study, atlas, columns):
    regions = study.regions.model_copy(update={"atlas": atlas})
    few = study.model_copy(update={"regions": regions})
    data = load_regions(few)
    kind = columns[-1].split()[0].lower()
    assert list(data.labels)[1:-2] == columns
    assert f"between model and {kind} labels" in data.caption
    assert ("Registered" in data.by_subject) == (kind == "registered")
    assert kind in load_pipeline(few).caption
    burden = load_burden(few)
    assert f"predicted lesions in {kind} regions" in burden.caption
    assert burden.names["registered"] == f"{kind.capitalize()} regions"
