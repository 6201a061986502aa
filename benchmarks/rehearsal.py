"""The paper study, rehearsed on simulated people: benchmarks/paper_study.md.

    PYTHONPATH=. python benchmarks/rehearsal.py
    PYTHONPATH=. python benchmarks/rehearsal.py --mirror MIRROR

23 simulated people on the five scanners' own grids take the names of the challenge's, are served in
its published layout by a Dataverse on this machine, fetched, checked and put through study `paper`,
of which folder, device and steps alone are changed. All is then laid out under the names of the
challenge's 170, to see statistics and figures at their true size. MIRROR holds what `wmh fetch
atlas` brings: with it the regions are also those of the JHU atlas, and published ones.

What is known of the simulation is compared with what comes out. The command ends with what each
stage took, and with exit code 1 and a list where anything is missing or wrong. Everything lies below
`data/rehearsal` and `results/rehearsal*`; run again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from typer.testing import CliRunner

from tests.cohorts.loopback import Loopback, serving
from tests.cohorts.test_challenge import LIST, entry
from wmh import results
from wmh.analysis.leaderboard import BEST_AND_WORST, PUBLISHED_SCORES
from wmh.atlas.regions import REGION_LABELS, region_dice
from wmh.cli import app
from wmh.cohorts import challenge, datasets
from wmh.cohorts.scanners import SCANNERS
from wmh.files import write_table
from wmh.images import load_image, save_image
from wmh.learning.batches import draw_batch
from wmh.learning.losses import loss_of
from wmh.learning.split import training_slices
from wmh.learning.training import Run
from wmh.learning.validation import validation_scores
from wmh.phantom.writing import simulate_cohort
from wmh.pipeline.stages import files_of, stages_of
from wmh.settings import Simulation
from wmh.study import Study, load_study, project_root

SEED, STEPS = 2025, 4
COUNTS = {"training": (4, 4, 4, 0, 0), "test": (2, 2, 2, 3, 2)}
"""People of each scanner."""
ODD = SCANNERS["amsterdam_philips_3t"]
"""The scanner whose folder has two names: one person lies under the published one, as in the
challenge's own archive, and one under that of `wmh fetch`."""
IMAGES = {
    f"{stage}/{name}.nii.gz": f"{stage}/{name.removeprefix('3D')}.nii.gz"
    for stage in ("orig", "pre")
    for name in ("FLAIR", "T1", "3DT1")
} | {"wmh.nii.gz": "wmh.nii.gz"}
"""The challenge's files of a person, and the simulated ones they are made of."""
ATLAS_MODELS = ("flair_t1", "regions", "multitask")
"""Trained for each further atlas: what depends on it, and lesions to lie in its regions."""

KINDS = ("png", "pdf", "txt")
ROOT = project_root()
DATA = ROOT / "data" / "rehearsal"
COHORT, SIMULATED, ATLAS = DATA / "wmh_challenge", DATA / "simulated", DATA / "atlas"


def simulate() -> dict[str, Path]:
    """Simulate people; their folders by the identity they take, one of their scanner and grid."""
    counts = {
        split: {scanner: n for scanner, n in zip(SCANNERS, numbers, strict=True) if n}
        for split, numbers in COUNTS.items()
    }
    simulate_cohort(SIMULATED, Simulation(**counts), SEED)
    checked = set(pd.read_csv(datasets.ATLAS_CHECKSUMS)["path"])  # these are real people's labels
    known, people = challenge.known_subjects(), {}
    for split, scanner in [(s, SCANNERS[name]) for s in counts for name in counts[s]]:
        same = known[(known["split"] == split) & (known["scanner"] == scanner.name)]
        same = same[(same[["nx", "ny", "nz"]] == scanner.shape).all(axis=1)]
        free = [one for one in same["id"] if datasets.published_regions(one) not in checked]
        people |= dict(
            zip(free, sorted((SIMULATED / split / scanner.folder).iterdir()), strict=False)
        )
    return people


def annotate(people: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Two additional observers of the training people; the Dice of each with the reference.

    The third misses the lesion in every other slice, the fourth draws all one voxel to the right.
    """
    dice: dict[str, dict[str, float]] = defaultdict(dict)
    for one, folder in people.items():
        if "training" not in folder.parts:
            continue
        truth = load_image(folder / "wmh.nii.gz")
        lesion, other = truth.data == 1, truth.data == 2
        halved, moved = lesion.copy(), np.roll(lesion, 1, axis=0)
        halved[:, :, ::2] = False
        for observer, mask in (("observer_o3", halved), ("observer_o4", moved)):
            seen = mask & ~other
            dice[observer][one] = 2 * (seen & lesion).sum() / (seen.sum() + lesion.sum())
            save_image(DATA / observer / f"{one}.nii.gz", mask.astype(np.float32), truth)
    return dice


def publish(server: Loopback, people: dict[str, Path]) -> None:
    """Serve people as the challenge's Dataverse does, by their published paths."""
    known, files = challenge.known_subjects().set_index("id"), {}
    for one, folder in people.items():
        place = f"{known['split'][one]}/{known['folder'][one]}/{one}"
        files |= {f"{place}/{name}": folder / made_of for name, made_of in IMAGES.items()}
        for observer in sorted(DATA.glob(f"observer_*/{one}.nii.gz")):
            annotated = f"additional_annotations/{observer.parent.name}/{place}/result.nii.gz"
            files[annotated] = observer
    entries = []
    for number, (path, file) in enumerate(files.items(), 1):
        body = file.read_bytes()
        server.put(f"/api/access/datafile/{number}", body)
        entries.append(entry(number, path, body, "MD5"))
    listing = {"status": "OK", "data": {"latestVersion": {"files": entries}}}
    server.put(LIST, json.dumps(listing).encode())


def fetch(people: dict[str, Path]) -> None:
    """`wmh fetch challenge --observers` from a Dataverse on this machine."""
    test = COHORT / "test"
    for moved in (test / ODD.published_folder).glob("*"):
        moved.rename(test / ODD.folder / moved.name)
    given = ["fetch", "challenge", "--observers", "--dest", str(COHORT)]
    with serving() as server:
        publish(server, people)
        defaults = challenge.fetch_challenge.__defaults__
        challenge.fetch_challenge.__defaults__ = (*defaults[:-1], server.url)
        said = CliRunner().invoke(app, given).output
    print(said)
    expect("subjects that are not fetched", f"{170 - len(people)} known subjects are not" in said)
    (test / ODD.published_folder).mkdir(parents=True, exist_ok=True)
    one = sorted((test / ODD.folder).iterdir())[0]
    one.rename(test / ODD.published_folder / one.name)


def fetch_atlas(people: dict[str, Path], mirror: Path) -> None:
    """`wmh fetch atlas` from a mirror in which the simulated people's regions are published."""
    here = DATA / "mirror"
    shutil.copytree(mirror / "eve_atlas", here / "eve_atlas", dirs_exist_ok=True)
    for file in (mirror / "wmhlocalization").glob("*.*"):
        copy(file, here / "wmhlocalization" / file.name)
    for one, folder in people.items():
        copy(folder / "regions.nii.gz", here / datasets.published_regions(one))
    wmh("fetch", "atlas", "--mirror", str(here), "--dest", str(ATLAS))


def derive(name: str, atlas: str = "built-in") -> Study:
    """Study `paper` with another folder, device and number of steps; of another atlas, in part."""
    settings = yaml.safe_load((ROOT / "studies" / "paper.yaml").read_text())
    settings["cohort"]["folder"] = str(COHORT.relative_to(ROOT))
    settings["compute"] = {"device": "cpu"}
    if atlas != "built-in":
        settings["regions"] = {"atlas": atlas, "atlas_folder": str(ATLAS.relative_to(ROOT))}
        settings["training"]["repeats"] = 1
        settings["models"] = {model: settings["models"][model] for model in ATLAS_MODELS}
    for model in settings["models"].values():
        model["steps"] = STEPS
    (ROOT / "studies" / f"{name}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return load_study(name)


def lay_out_all(study: Study, whole: Study) -> None:
    """The results of a study under the names of all 170: each has those of one of their scanner."""
    own = pd.read_csv(study.table("cohort"), dtype={"id": str})
    alike = {place: cycle(group) for place, group in own.groupby(["split", "scanner"])["id"]}
    known = challenge.known_subjects()
    twins = pd.DataFrame(
        [(row.id, next(alike[row.split, row.scanner])) for row in known.itertuples()],
        columns=["new", "id"],
    )
    for names in results.TABLES.values():
        for path in map(study.table, names):
            table = pd.read_csv(path, dtype={"id": str, "subject": str}) if path.exists() else None
            key = "id" if table is not None and "id" in table else "subject"
            if table is not None and key in table:
                tiled = twins.rename(columns={"id": key}).merge(table, on=key)
                tiled = tiled.assign(**{key: tiled["new"]})[list(table)]
                write_table(tiled, whole.table(path.stem))
    copy(study.results / "left_out.csv", whole.results / "left_out.csv")
    for folder in ("models", "regions", "predictions"):
        for path in (study.results / folder).rglob("*.*"):
            one, mark, kind = path.name.partition("_" if folder == "predictions" else ".")
            place = whole.results / path.parent.relative_to(study.results)
            for new in twins.loc[twins["id"] == one, "new"] if folder != "models" else [one]:
                copy(path, place / f"{new}{mark}{kind}")


def copy(path: Path, target: Path) -> None:
    """A second name of a file, which takes no room."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:  # another disk
        shutil.copyfile(path, target)


def wmh(*words: str, code: int = 0) -> str:
    """Run a command as a user does, and return what it prints; it is to end with ``code``."""
    began, before = time.perf_counter(), sum(os.times()[2:4])
    command = [sys.executable, "-c", "from wmh.cli import main; main()", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=words[0] != "run", text=True)
    spent = sum(os.times()[2:4]) - before, time.perf_counter() - began
    print(f"wmh {' '.join(words)}: {spent[0]:.0f} s of the processor, {spent[1]:.0f} s", flush=True)
    expect(f"wmh {' '.join(words)}: exit code", done.returncode, code)
    return done.stdout


WRONG: list[str] = []


def expect(what: str, found: object, expected: object = True) -> None:
    """Put down what is not as it must be; numbers to six places."""
    same = found == expected
    if isinstance(expected, float):
        same = bool(np.isclose(found, expected, rtol=1e-6))
    if not same:
        WRONG.append(f"{what}: {found!r} and not {expected!r}")


def expect_whole(study: Study) -> None:
    """Every stage ended, and every table, figure and page of a study is there."""
    wanted = [study.table(name) for names in results.TABLES.values() for name in names]
    wanted += [study.figures / f"{name}.{kind}" for name in results.FIGURES for kind in KINDS]
    wanted += [study.results / "html" / "index.html", study.results / "receipt.json"]
    wanted += [files_of(study, stage).record for stage in stages_of(study)]
    for path in wanted:
        expect(f"{path} is there", path.is_file() and path.stat().st_size > 0)


def expect_known(study: Study, people: dict[str, Path]) -> None:
    """The cohort table, the folds and the number of predictions are those of the simulation."""
    cohort = pd.read_csv(study.table("cohort"), dtype={"id": str}).set_index("id")
    expect(f"{study.name}: subjects", set(cohort.index), set(people))
    for one, folder in people.items():
        truth = load_image(folder / "wmh.nii.gz")
        expect(f"{one}: split", cohort["split"][one] in folder.parts)
        for label, column in ((1, "lesion_ml"), (2, "other_pathology_ml")):
            volume = float((truth.data == label).sum() * truth.voxel_ml)
            expect(f"{one}: {column}", cohort[column][one], volume)
    expect("somebody has other pathology", (cohort["other_pathology_ml"] > 0).any())
    metrics = pd.read_csv(study.table("metrics"), dtype={"subject": str})
    count = metrics.groupby(["model", "inputs_given", "repeat"])["subject"].nunique()
    expect(f"{study.name}: test subjects of each prediction", set(count), {sum(COUNTS["test"])})
    held_out = [
        frozenset(split.query("part == 'validate'")["id"])
        for one in study.repeats()
        for split in [pd.read_csv(one.model_folder("flair_t1") / "split.csv")]
    ]
    expect(
        f"{study.name}: nobody is in two folds",
        sum(map(len, held_out)),
        len(set().union(*held_out)),
    )


def expect_regions(study: Study, people: dict[str, Path], least: float) -> None:
    """The mean region Dice of each person with the simulated regions is not below ``least``."""
    for one, folder in people.items():
        truth, ours = (
            load_image(p).data for p in (folder / "regions.nii.gz", study.region_labels(one))
        )
        dice = region_dice(truth, ours)
        mean = np.nanmean([dice[region] for region in REGION_LABELS])
        expect(f"{study.name}: regions of {one}, Dice {mean:.3f}, are right", mean >= least)


def expect_observers(study: Study, dice: dict[str, dict[str, float]]) -> None:
    """The observers' ceiling is what was drawn."""
    table = pd.read_csv(study.table("observers")).query("metric == 'dice'").set_index("model")
    for observer, of_people in dice.items():
        expect(
            f"{observer}: Dice", table["mean"][observer], float(np.mean(list(of_people.values())))
        )
        expect(f"{observer}: subjects", int(table["n"][observer]), len(of_people))


def expect_leaderboard(whole: Study) -> None:
    """Scores and ranks on the names of all 110 are those computed from ``metrics.csv`` here."""
    metrics = pd.read_csv(whole.table("metrics"), dtype={"subject": str})
    ranks = pd.read_csv(whole.table("leaderboard")).set_index("configuration")
    lesions = metrics[metrics["structure"] == "lesions"]
    for (model, given), rows in lesions.groupby(["model", "inputs_given"]):
        of_people = rows.groupby(["subject", "metric"])["value"].mean().unstack()
        score = np.mean([
            np.clip((of_people[name].mean() - best) / (worst - best), 0, 1)
            for name, (best, worst) in BEST_AND_WORST.items()
        ])  # fmt: skip
        found = ranks.loc[f"{model} ({given})"]
        expect(f"{model} ({given}): score", found["score"], float(score))
        expect(
            f"{model} ({given}): rank", found["rank"], 1 + sum(p < score for p in PUBLISHED_SCORES)
        )
        expect(f"{model} ({given}): n", found["n"], 110)


def stages_table(study: Study) -> pd.DataFrame:
    """Processor seconds, seconds by the clock and peak memory of a study's notebooks."""
    records = [json.loads(files_of(study, s).record.read_text()) for s in stages_of(study)]
    table = pd.DataFrame(records)
    return table.groupby("notebook").agg(
        runs=("stage", "size"),
        processor_seconds=("processor_seconds", "sum"),
        seconds=("seconds", "sum"),
        peak_memory_mb=("peak_memory_mb", "max"),
    )


def training_seconds(study: Study, model: str) -> tuple[float, float]:
    """Processor seconds of a step, and of validating on one person."""
    learn, validate = training_slices(study, model)
    run = Run(study, model, learn, validate)
    began = time.process_time()
    for _, generator in zip(range(2), run.steps(), strict=False):
        batch = draw_batch(
            run.learn, run.configuration, run.settings.task, study.training, generator
        )
        with run.precision():
            logits = batch.logits(run.network)
        run.descend(loss_of(logits, batch.labels, study.training.loss, run.log_variances), batch)
    stepped = time.process_time()
    validation_scores(run.network, run.validate, run.configuration, study.training)
    return (stepped - began) / 2, (time.process_time() - stepped) / len(validate.ids)


def report(study: Study, whole: Study) -> None:
    """Print what each stage took, and what the paper study would: 60 people and 110, all steps."""
    paper, measured, all_people = load_study("paper"), stages_table(study), stages_table(whole)
    print(measured.to_string(), all_people.to_string(), sep="\n")
    people, tests = sum(map(sum, COUNTS.values())), sum(COUNTS["test"])
    hours = {
        stage: measured["processor_seconds"][stage] * times / 3600
        for stage, times in (
            ("01_data_preparation", 170 / people),
            ("02_atlas_registration", 170 / people),
            ("05_evaluation", 110 / tests),
        )
    } | (all_people["processor_seconds"] / 3600).to_dict()
    for model, settings in paper.models.items():
        step, validation = training_seconds(study, model)
        validations = settings.steps / paper.training.validate_every
        once = settings.steps * step + validations * validation * 60 / paper.training.folds
        print(f"{model}: {step:.2f} s a step, {validation:.1f} s to validate on a person")
        hours[model] = once * paper.training.repeats / 3600
    print(
        pd.Series(hours).round(2).to_string(), f"in all {sum(hours.values()):.0f} hours of one core"
    )
    for folder in (COHORT, *sorted(study.results.iterdir())):
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        print(f"{folder.relative_to(ROOT)}: {size / 1e9:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Rehearse the paper study on simulated people.")
    parser.add_argument("--mirror", type=Path, help="folder with what `wmh fetch atlas` brings")
    mirror = parser.parse_args().mirror
    people = simulate()
    dice = annotate(people)
    fetch(people)
    said = wmh("check", str(COHORT), code=1)
    expect("all people can be used", f"{len(people)} of {len(people)} subjects" in said)
    study = derive("rehearsal")
    wmh("run", study.name)
    expect_whole(study)
    expect_known(study, people)
    expect_regions(study, people, least=0.6)
    expect_observers(study, dice)
    expect("no rank on 11 people", not study.table("leaderboard").exists())
    whole = derive("rehearsal_all")
    lay_out_all(study, whole)
    for notebook in ("06_statistics", "07_localization", "08_figures"):
        wmh("notebook", notebook, "--study", whole.name)
    expect_leaderboard(whole)
    if mirror is not None:
        fetch_atlas(people, mirror)
        for atlas, least in (("jhu", 0.5), ("published", 1.0)):
            one = derive(f"rehearsal_{atlas}", atlas)
            wmh("run", one.name)
            expect_whole(one)
            expect_known(one, people)
            expect_regions(one, people, least)
    report(study, whole)
    sys.exit("\n".join([f"{len(WRONG)} wrong:", *WRONG]) if WRONG else 0)


if __name__ == "__main__":
    main()
