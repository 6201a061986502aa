"""A small results folder, as if a study had run: for looking at figures, not for any claim.

Ten test subjects on five scanners, each the MNI152 template with lesions drawn at random near the
ventricles; predictions miss and add some; the tables hold plausible numbers.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from wmh.analysis.agreement import agreement
from wmh.analysis.claims import judge, paper_claims
from wmh.analysis.statistics import compare, planned_comparisons
from wmh.atlas.regions import built_in_atlas, mni_t1, region_name
from wmh.images import save_image
from wmh.study import Study, load_study

SCANNERS = (
    "utrecht_philips_3t",
    "singapore_siemens_3t",
    "amsterdam_ge_3t",
    "amsterdam_ge_1p5t",
    "amsterdam_philips_3t",
)
MODELS = {
    "flair": (("FLAIR", 0.72),),
    "t1": (("T1", 0.45),),
    "flair_t1": (("FLAIR+T1", 0.76), ("FLAIR", 0.55), ("T1", 0.1)),
    "flair_t1_dropout": (("FLAIR+T1", 0.74), ("FLAIR", 0.69), ("T1", 0.4)),
    "interchangeable": (("FLAIR+T1", 0.68), ("FLAIR", 0.70), ("T1", 0.42)),
    "multitask": (("FLAIR+T1", 0.64), ("FLAIR", 0.66), ("T1", 0.38)),
}
DRAWN = {"flair": "FLAIR", "t1": "T1", "flair_t1": "FLAIR+T1", "flair_t1_dropout": "FLAIR+T1",
         "interchangeable": "FLAIR+T1", "multitask": "FLAIR+T1"}  # fmt: skip
STUDY_FILE = """title: Invented numbers
cohort:
  source: simulated
  folder: data/fake
  simulation: {training: {utrecht_philips_3t: 1}, test: {utrecht_philips_3t: 1}}
evaluation: {bootstrap_samples: 100}
training: {repeats: REPEATS}
models:
  flair: {task: lesions, inputs: flair, steps: 10}
  t1: {task: lesions, inputs: t1, steps: 10}
  flair_t1: {task: lesions, inputs: flair_t1, steps: 10}
  flair_t1_dropout: {task: lesions, inputs: flair_t1_dropout, steps: 10}
  interchangeable: {task: lesions, inputs: interchangeable, steps: 10}
  regions: {task: regions, inputs: interchangeable, steps: 10}
  multitask: {task: multitask, inputs: interchangeable, steps: 10}
"""


def write_fake_study(root: Path, resolution_mm: int, repeats: int = 1) -> Study:
    """Write the study below ``root``; ``WMH_ROOT`` must point there when its paths are used."""
    for folder in ("studies", "notebooks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "studies" / "fake.yaml").write_text(STUDY_FILE.replace("REPEATS", str(repeats)))
    study = load_study(root / "studies" / "fake.yaml")
    study.results.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(3)
    cohort = _cohort(study, generator, resolution_mm)
    test = cohort[cohort["split"] == "test"]
    metrics, burden = (
        pd.concat([make(test, generator).assign(repeat=i + 1) for i in range(repeats)])
        for make in (_metrics, _burden)
    )
    tables = {
        "cohort": cohort,
        "metrics": metrics,
        "comparisons": compare(metrics, planned_comparisons(metrics), study.evaluation, 0),
        "claims": judge(metrics, burden, study.evaluation, 0, paper_claims()),
        "burden": burden,
        "agreement": agreement(burden, study.evaluation.alpha),
        "cohort_burden": burden[(burden["source"] == "truth") & (burden["repeat"] == 1)],
        "groups": pd.DataFrame({"subject": test["id"], "group": np.arange(len(test)) % 2 + 1}),
        "regions": _region_fits(cohort, generator),
    }
    for name, table in tables.items():
        table.to_csv(study.results / f"{name}.csv", index=False)
    for one in study.repeats():
        for model in study.models:
            _history(one.model_folder(model), generator)
            _split(one.model_folder(model), cohort, one.repeat)
    return study


def keep_models(study: Study, *models: str) -> Study:
    """The results of the same study, had it had these models only."""
    kept = {name: study.models[name] for name in models}
    few = study.model_copy(update={"name": "_".join(models), "models": kept})
    shutil.copytree(study.results, few.results)
    for name in study.models.keys() - kept.keys():
        for folder in ("models", "predictions"):
            shutil.rmtree(few.results / folder / name, ignore_errors=True)
    metrics, burden = (
        pd.read_csv(few.results / f"{name}.csv", dtype={"subject": str})
        for name in ("metrics", "burden")
    )
    sources = {"truth"}
    if few.models_of("lesions"):
        sources |= {"registered", "separate"} if few.models_of("regions") else {"registered"}
    if few.models_of("multitask"):
        sources |= {"joint"}
    metrics, burden = metrics[metrics["model"].isin(models)], burden[burden["source"].isin(sources)]
    tables = {
        "metrics": metrics,
        "burden": burden,
        "agreement": agreement(burden, few.evaluation.alpha),
        "comparisons": compare(metrics, planned_comparisons(metrics), few.evaluation, 0),
        "claims": judge(metrics, burden, few.evaluation, 0, paper_claims()),
    }
    for name, table in tables.items():
        table.to_csv(few.results / f"{name}.csv", index=False)
    return few


def _cohort(study: Study, generator: np.random.Generator, resolution_mm: int) -> pd.DataFrame:
    rows = []
    for number in range(16):
        split = "training" if number < 6 else "test"
        scanner = SCANNERS[number % (3 if split == "training" else 5)]
        row = {"id": str(100 + number), "split": split, "scanner": scanner}
        row["lesion_ml"] = round(float(generator.lognormal(2, 0.9)), 3)
        if split == "test":
            row |= _images(study, row["id"], generator, resolution_mm)
        rows.append(row)
    return pd.DataFrame(rows)


def _images(study: Study, subject: str, generator, resolution_mm: int) -> dict[str, str]:
    folder = study.cohort_folder / subject
    t1, atlas = mni_t1(resolution_mm), built_in_atlas(resolution_mm)
    field = ndimage.gaussian_filter(generator.standard_normal(t1.data.shape), 6 / resolution_mm)
    middle = np.isin(atlas.data, (12, 13, 14, 17, 29, 30, 31, 34))
    lesions = ((field > 0.8 * field.std()) & middle).astype(np.uint8)
    flair = t1.data.copy()
    flair[atlas.data > 0] *= 0.8
    flair[lesions > 0] = 1.1
    flair += generator.normal(0, 0.03, flair.shape).astype(np.float32) * (flair > 0)
    paths = {}
    for name, data in (("flair", flair), ("t1", t1.data), ("lesions", lesions),
                       ("true_regions", atlas.data)):  # fmt: skip
        paths[name] = str(save_image(folder / f"{name}.nii.gz", data, t1))
    regions = save_image(study.region_labels(subject), atlas.data, t1)
    for model, given in DRAWN.items():
        out = study.results / "predictions" / model / given
        wrong = ndimage.gaussian_filter(generator.standard_normal(lesions.shape), 2)
        wrong_lesions = np.where(np.abs(wrong) > 2 * wrong.std(), middle & (wrong > 0), lesions > 0)
        save_image(out / f"{subject}_lesions.nii.gz", wrong_lesions, t1)
    for model in ("regions", "multitask"):
        out = study.results / "predictions" / model / "FLAIR+T1"
        shifted = np.roll(atlas.data, 1, axis=1)
        save_image(out / f"{subject}_regions.nii.gz", shifted, t1)
    assert regions.exists()
    return paths


def _metrics(test: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    rows = []

    def add(subject, model, given, structure, metric, value):
        keys = {"subject": subject["id"], "scanner": subject["scanner"], "model": model}
        rows.append({**keys, "inputs_given": given, "structure": structure, "metric": metric,
                     "value": value})  # fmt: skip

    for subject in test.to_dict("records"):
        ease = generator.normal(0, 0.08)
        for model, answers in MODELS.items():
            for given, level in answers:
                dice = float(np.clip(level + ease + generator.normal(0, 0.03), 0, 1))
                nothing = dice < 0.05
                add(subject, model, given, "lesions", "dice", dice)
                hd95 = np.nan if nothing else 4 / max(dice, 0.1) ** 1.5
                add(subject, model, given, "lesions", "hd95_mm", hd95)
                avd = 30 * (1 - dice) * generator.lognormal(0, 0.6)
                add(subject, model, given, "lesions", "avd_percent", avd)
                add(subject, model, given, "lesions", "lesion_recall", dice**0.8)
                add(subject, model, given, "lesions", "lesion_f1", dice**1.2)
        for model, level in (("regions", 0.82), ("multitask", 0.78)):
            dice = np.clip(generator.normal(level, 0.05, 34), 0, 1)
            for label, value in enumerate(dice, 1):
                add(subject, model, "FLAIR+T1", f"region_{label:02d}", "dice", value)
            add(subject, model, "FLAIR+T1", "regions_mean", "dice", dice.mean())
    return pd.DataFrame(rows)


def _burden(test: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    usual = generator.lognormal(-2, 1.3, 36)
    usual[[11, 12, 13, 16, 28, 29, 30, 33]] += 2.0
    rows = []
    for subject in test.to_dict("records"):
        true = usual * generator.lognormal(0, 0.7, 36) * generator.lognormal(0, 0.6)
        for source, error in (("truth", 0.0), ("registered", 0.1), ("separate", 0.3),
                              ("joint", 0.4)):  # fmt: skip
            lesion = true * generator.lognormal(0, error, 36)
            region = np.linspace(5, 30, 36)
            for label in range(1, 37):
                name, side = region_name(label).rsplit(", ", 1)
                rows.append({
                    "subject": subject["id"], "scanner": subject["scanner"], "source": source,
                    "region": label, "region_name": f"{name}, {side}", "side": side,
                    "lesion_ml": lesion[label - 1], "region_ml": region[label - 1],
                    "percent_of_region": 100 * min(1, lesion[label - 1] / region[label - 1]),
                    "share_of_lesions": lesion[label - 1] / lesion.sum(),
                })  # fmt: skip
    return pd.DataFrame(rows)


def _region_fits(cohort: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    fits = cohort[["id", "scanner", "split"]].copy()
    fits["white_matter_dice"] = generator.normal(0.85, 0.02, len(fits))
    fits["attempts"], fits["seconds"] = 1, 2.0
    fits["mean_region_dice"] = generator.normal(0.8, 0.03, len(fits))
    return fits


def _history(folder: Path, generator: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    steps = np.arange(10, 251, 10)
    rows = pd.DataFrame({"step": steps, "learning_rate": 3e-3 * (1 - steps / 260)})
    rows["train_loss"] = np.exp(-steps / 80) + 0.3 + generator.normal(0, 0.04, len(steps))
    checked = steps % 50 == 0
    rows["validation_loss"] = np.where(checked, np.exp(-steps / 90) + 0.4, np.nan)
    rows["validation_dice"] = np.where(checked, 0.75 * (1 - np.exp(-steps / 60)), np.nan)
    rows["seconds"] = 3.0
    rows.to_csv(folder / "history.csv", index=False)


def _split(folder: Path, cohort: pd.DataFrame, repeat: int) -> None:
    """Repeat 1 validates on two of the six people, repeat 2 on three, as folds may."""
    rows = cohort.loc[cohort["split"] == "training", ["id", "scanner"]]
    parts = ["learn"] * (5 - repeat) + ["validate"] * (1 + repeat)
    rows.assign(part=parts).to_csv(folder / "split.csv", index=False)
