"""A rehearsal of the paper study on simulated people; results are in benchmarks/paper_study.md.

    PYTHONPATH=. python benchmarks/rehearsal.py [--mirror MIRROR] [--small]

23 simulated people on the five scanners' own grids get names of the challenge's people. A Dataverse
on this machine serves them in the published layout. They are fetched, checked and used in study
`paper` with another folder, device and number of steps. The results are then laid out under the
names of all 170 people, to test statistics and figures at their true size. MIRROR holds the files
of `wmh fetch atlas`; with it, the regions of the JHU atlas and the published ones are used, too.
`--small` uses the demo study's network and pixels instead of the paper's, which is faster.

The results are compared with what is known from the simulation. The command ends with the time of
each stage. If anything is missing or wrong, it lists it and ends with exit code 1. Everything lies
in `data/rehearsal` and `results/rehearsal*`; a second run continues where the first stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from typer.testing import CliRunner

from tests.cohorts.loopback import serving
from tests.cohorts.test_challenge import dataverse
from wmh import results
from wmh.analysis.leaderboard import BEST_AND_WORST, PUBLISHED_SCORES
from wmh.atlas.regions import REGION_LABELS, region_dice
from wmh.cli import app
from wmh.cohorts import challenge, datasets
from wmh.cohorts.scanners import SCANNERS
from wmh.files import write_table
from wmh.images import load_image, load_labels, save_image
from wmh.phantom.writing import simulate_cohort
from wmh.pipeline.stages import files_of, stages_of
from wmh.settings import Simulation
from wmh.study import Study, load_study, project_root

SEED, STEPS = 2025, 4
COUNTS = {"training": (4, 4, 4, 0, 0), "test": (2, 2, 2, 3, 2)}
"""People of each scanner."""
ODD = SCANNERS["amsterdam_philips_3t"]
"""Its folder has two names: one person lies under the published one, as in the challenge's own
archive, and one under that of `wmh fetch`."""
IMAGES = {
    f"{stage}/{name}.nii.gz": f"{stage}/{name.removeprefix('3D')}.nii.gz"
    for stage in ("orig", "pre")
    for name in ("FLAIR", "T1", "3DT1")
} | {"wmh.nii.gz": "wmh.nii.gz"}
"""The challenge's files of a person, and the simulated ones they are made of."""
ATLAS_MODELS = ("flair_t1", "regions", "multitask")
"""Trained for each further atlas: what depends on it, and lesions to lie in its regions."""
ROOT = project_root()
DATA = ROOT / "data" / "rehearsal"
COHORT, SIMULATED, ATLAS = DATA / "wmh_challenge", DATA / "simulated", DATA / "atlas"
WRONG: list[str] = []


def expect(what: str, found: object, expected: object = True) -> None:
    """Put down what is not as it must be; numbers to the four places that tables have."""
    same = abs(found - expected) < 1e-4 if isinstance(expected, float) else found == expected
    if not same:
        WRONG.append(f"{what}: {found!r} and not {expected!r}")


def wmh(*words: str, code: int = 0) -> str:
    """Run a command as a user does, and return what it prints; it is to end with ``code``."""
    before = os.times()
    command = [sys.executable, "-c", "from wmh.cli import main; main()", *words]
    shown = None if words[0] == "run" else subprocess.PIPE
    done = subprocess.run(command, cwd=ROOT, stdout=shown, text=True)
    *_, user, system, clock = np.subtract(os.times(), before)
    command = f"wmh {' '.join(words)}"
    print(f"{command}: {user + system:.0f} s of the processor, {clock:.0f} s", flush=True)
    expect(f"{command}: exit code", done.returncode, code)
    return done.stdout


def simulate() -> dict[str, Path]:
    """Simulate people; their folders by the identity they take, one of their scanner and grid."""
    counts = {
        split: {scanner: n for scanner, n in zip(SCANNERS, numbers, strict=True) if n}
        for split, numbers in COUNTS.items()
    }
    simulate_cohort(SIMULATED, Simulation(**counts), SEED)
    real = set(pd.read_csv(datasets.ATLAS_CHECKSUMS)["path"])  # labels known by their checksum
    known, people = challenge.known_subjects(), {}
    for split, scanner in [(s, SCANNERS[name]) for s in counts for name in counts[s]]:
        same = known[(known["split"] == split) & (known["scanner"] == scanner.name)]
        same = same[(same[["nx", "ny", "nz"]] == list(scanner.shape)).all(axis=1)]
        free = [one for one in same["id"] if datasets.published_regions(one) not in real]
        made = sorted((SIMULATED / split / scanner.folder).iterdir())
        people |= dict(zip(free, made, strict=False))
    return people


def annotate(people: dict[str, Path]) -> dict[str, list[float]]:
    """Two additional observers of the training people, and the Dice of each with the reference.

    The third misses the lesion in every other slice, the fourth draws all one voxel to the right.
    """
    dice = defaultdict(list)
    for one, folder in people.items():
        if "training" in folder.parts:
            truth = load_image(folder / "wmh.nii.gz")
            lesion, other = truth.data == 1, truth.data == 2
            halved = lesion & (np.arange(lesion.shape[2]) % 2 == 1)
            for observer, mask in (("o3", halved), ("o4", np.roll(lesion, 1, axis=0))):
                seen = mask & ~other
                dice[observer].append(2 * (seen & lesion).sum() / (seen.sum() + lesion.sum()))
                path = DATA / f"observer_{observer}" / f"{one}.nii.gz"
                save_image(path, mask.astype(np.float32), truth)
    return dice


def fetch(people: dict[str, Path]) -> None:
    """`wmh fetch challenge --observers` from a Dataverse on this machine, in published names."""
    known, files = challenge.known_subjects().set_index("id"), {}
    for one, folder in people.items():
        place = f"{known['split'][one]}/{known['folder'][one]}/{one}"
        files |= {f"{place}/{name}": folder / made_of for name, made_of in IMAGES.items()}
        for mask in DATA.glob(f"observer_*/{one}.nii.gz"):
            files[f"additional_annotations/{mask.parent.name}/{place}/result.nii.gz"] = mask
    ours, published = (COHORT / "test" / name for name in (ODD.folder, ODD.published_folder))
    for moved in published.glob("*"):
        moved.rename(ours / moved.name)
    with serving() as server:
        dataverse(server, files, lambda path: files[path].read_bytes())
        defaults = challenge.fetch_challenge.__defaults__
        challenge.fetch_challenge.__defaults__ = (*defaults[:-1], server.url)
        said = CliRunner().invoke(app, f"fetch challenge --observers --dest {COHORT}").output
    expect(
        "who was not fetched", f"{170 - len(people)} of the challenge's subjects lack files" in said
    )
    published.mkdir(exist_ok=True)
    moved = min(ours.iterdir())
    moved.rename(published / moved.name)


def fetch_atlas(people: dict[str, Path], mirror: Path) -> None:
    """`wmh fetch atlas` from a mirror in which the simulated people's regions are published."""
    own, others = DATA / "mirror", shutil.ignore_patterns("WMH_*", "synthseg")
    shutil.copytree(mirror, own, ignore=others, dirs_exist_ok=True)
    for one, folder in people.items():
        labels = datasets.published_regions(one)
        link(folder / "regions.nii.gz", own / labels)
        (ATLAS / labels).unlink(missing_ok=True)  # of people simulated before, perhaps otherwise
    wmh("fetch", "atlas", "--mirror", str(own), "--dest", str(ATLAS))


def derive(name: str, small: bool, atlas: str = "built-in") -> Study:
    """Study `paper` with another folder, device and number of steps; of another atlas, in part."""
    files = (ROOT / "studies" / f"{study}.yaml" for study in ("paper", "demo"))
    settings, demo = (yaml.safe_load(file.read_text()) for file in files)
    if small:
        name = name.replace("rehearsal", "rehearsal_small")
        settings["slices"] |= demo["slices"]
        settings["training"]["network"] = demo["training"]["network"]
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
    """A study's results under the names of all 170: each has those of one of the same scanner."""
    own = pd.read_csv(study.table("cohort"), dtype={"id": str})
    alike = {place: cycle(group) for place, group in own.groupby(["split", "scanner"])["id"]}
    twins = defaultdict(list)
    for row in challenge.known_subjects().itertuples():
        twins[next(alike[row.split, row.scanner])].append(row.id)
    for name in ("cohort", "regions", "region_volumes", "metrics", "burden"):
        table = pd.read_csv(study.table(name), dtype={"id": str, "subject": str})
        key = "id" if "id" in table else "subject"
        write_table(table.assign(**{key: table[key].map(twins)}).explode(key), whole.table(name))
    link(study.table("left_out"), whole.table("left_out"))
    for folder in ("models", "regions", "predictions"):
        for path in (study.results / folder).rglob("*.*"):
            one, mark, kind = path.name.partition("_" if folder == "predictions" else ".")
            place = whole.results / path.parent.relative_to(study.results)
            for new in [one] if folder == "models" else twins[one]:
                link(path, place / f"{new}{mark}{kind}")


def link(path: Path, target: Path) -> None:
    """A second name of a file, which takes no room."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    os.link(path, target)


def expect_known(study: Study, people: dict[str, Path], least_dice: float) -> None:
    """All that a study leaves is there, and what is known of the simulation comes out."""
    wanted = [study.table(name) for names in results.TABLES.values() for name in names]
    wanted += [study.figures / f"{n}.{k}" for n in results.FIGURES for k in ("png", "pdf", "txt")]
    wanted += [study.results / "html" / "index.html", study.results / "receipt.json"]
    wanted += [files_of(study, stage).record for stage in stages_of(study)]
    for path in wanted:
        expect(f"{path} is there", path.is_file() and path.stat().st_size > 0)
    cohort = pd.read_csv(study.table("cohort"), dtype={"id": str}).set_index("id")
    expect(f"{study.name}: subjects", set(cohort.index), set(people))
    for one, folder in people.items():
        truth, regions = (load_labels(folder / f"{name}.nii.gz") for name in ("wmh", "regions"))
        for label, column in ((1, "lesion_ml"), (2, "other_pathology_ml")):
            volume = float((truth.data == label).sum() * truth.voxel_ml)
            expect(f"{one}: {column}", cohort[column][one], volume)
        dice = region_dice(regions.data, load_labels(study.region_labels(one)).data)
        mean = np.nanmean([dice[region] for region in REGION_LABELS])
        expect(f"{study.name}: {one}: region Dice is {mean:.3f}", mean >= least_dice)
    expect("other pathology somewhere", (cohort["other_pathology_ml"] > 0).any().item())
    metrics = pd.read_csv(study.table("metrics"))
    counts = metrics.groupby(["model", "inputs_given", "repeat"])["subject"].nunique()
    expect(f"{study.name}: people of each prediction", set(counts), {sum(COUNTS["test"])})
    splits = [pd.read_csv(one.model_folder("flair_t1") / "split.csv") for one in study.repeats()]
    held_out = [one for split in splits for one in split.query("part == 'validate'")["id"]]
    expect(f"{study.name}: nobody is in two folds", len(held_out), len(set(held_out)))


def expect_observers(study: Study, dice: dict[str, list[float]]) -> None:
    """The observers' ceiling is what they drew."""
    table = pd.read_csv(study.table("observers")).query("metric == 'dice'").set_index("model")
    for observer, of_people in dice.items():
        found = table["mean"][f"observer_{observer}"]
        expect(f"observer {observer}: Dice", found, float(np.mean(of_people)))


def expect_leaderboard(whole: Study) -> None:
    """Score and rank on the names of all 110 are those computed here from `metrics.csv`."""
    metrics = pd.read_csv(whole.table("metrics")).query("structure == 'lesions'")
    ranks = pd.read_csv(whole.table("leaderboard")).set_index("configuration")
    ends = pd.DataFrame(BEST_AND_WORST, index=["best", "worst"]).T
    names = metrics["model"] + " (" + metrics["inputs_given"] + ")"
    for name, found in ranks.iterrows():
        of_people = metrics[names == name].groupby(["metric", "subject"])["value"].mean()
        distance = of_people.groupby("metric").mean()[ends.index] - ends["best"]
        score = float((distance / (ends["worst"] - ends["best"])).clip(0, 1).mean())
        expected = [score, float(1 + sum(one < score for one in PUBLISHED_SCORES)), 110.0]
        for what, value in zip(("score", "rank", "n"), expected, strict=True):
            expect(f"{name}: {what}", found[what], value)


def show_cost(study: Study) -> None:
    """Print what the notebooks of a study took, and the room that its files take."""
    files = [files_of(study, stage).record for stage in stages_of(study)]
    table = pd.DataFrame([json.loads(path.read_text()) for path in files if path.exists()])
    cost = {"stage": "size", "processor_seconds": "sum", "seconds": "sum", "peak_memory_mb": "max"}
    groups = table.groupby(["notebook", "model"], dropna=False)
    print(study.name, groups.agg(cost).to_string(), sep="\n")
    for folder in (COHORT, *sorted(filter(Path.is_dir, study.results.iterdir()))):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder.relative_to(ROOT)}: {size / 1e9:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Rehearse the paper study on simulated people.")
    parser.add_argument("--mirror", type=Path, help="folder with what `wmh fetch atlas` brings")
    parser.add_argument("--small", action="store_true", help="the demo study's network and pixels")
    given = parser.parse_args()
    people = simulate()
    dice = annotate(people)
    fetch(people)
    said = wmh("check", str(COHORT), code=1)  # of 170, most are missing
    expect("all can be used", f"{len(people)} of {len(people)} subjects can be used" in said)
    study = derive("rehearsal", given.small)
    wmh("run", study.name)
    expect_known(study, people, least_dice=0.6)
    expect_observers(study, dice)
    expect("no rank on 11 people", not study.table("leaderboard").exists())
    whole = derive("rehearsal_all", given.small)
    lay_out_all(study, whole)
    for notebook in ("06_statistics", "07_localization", "08_figures"):
        wmh("notebook", notebook, "--study", whole.name)
    expect_leaderboard(whole)
    studies = [study, whole]
    if given.mirror is not None:
        fetch_atlas(people, given.mirror)
        for atlas, least_dice in (("jhu", 0.5), ("published", 1.0)):
            studies.append(derive(f"rehearsal_{atlas}", given.small, atlas))
            wmh("run", studies[-1].name)
            expect_known(studies[-1], people, least_dice)
    for one in studies:
        show_cost(one)
    sys.exit("\n".join([f"{len(WRONG)} wrong:", *WRONG]) if WRONG else 0)


if __name__ == "__main__":
    main()
