"""The Snakefile: what runs in which order, what runs again after a change, and what does not.

The real Snakefile and the real dependencies of a copy of this checkout; only the notebooks
themselves are not executed (``stub``).
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from wmh.cores import cores_here
from wmh.pipeline.stages import stages_of
from wmh.study import load_study, project_root

AFTER_TRAINING = {"evaluation", "statistics", "localization", "figures", "pages"}


class Checkout:
    """A copy of this checkout in which stages are stubs."""

    def __init__(self, folder: Path):
        self.folder = folder
        root = project_root()
        parts = ("wmh", "notebooks", "studies", "figures", "Snakefile", "pyproject.toml")
        for name in parts:
            copy = shutil.copytree if (root / name).is_dir() else shutil.copy2
            copy(root / name, folder / name)
        shutil.copy(Path(__file__).with_name("stub.py"), self.path("wmh/pipeline/notebook.py"))

    def path(self, name: str) -> Path:
        return self.folder / name

    def python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        here = {"PYTHONPATH": str(self.folder), "WMH_ROOT": str(self.folder)}
        environment = os.environ | here | variables
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def run(self, study: str = "smoke") -> str:
        """Run a study through its driver; what it printed."""
        done = self.try_to_run(study)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def try_to_run(self, study: str = "smoke", **variables: str) -> subprocess.CompletedProcess:
        command = "from wmh.cli import main; main()"
        return self.python("-c", command, "run", study, **variables)

    def snakemake(self, *arguments: str, study: str = "smoke") -> str:
        given = ("--cores", "2", "--scheduler", "greedy", "--config", f"study={study}")
        done = self.python("-m", "snakemake", *arguments, *given)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def plan(self) -> set[str]:
        """The rules that would run now; trainings with what they are called."""
        output = self.snakemake("--dry-run")
        jobs = re.split(r"\n(?:local)?rule ", output)[1:]
        names = {(job.split(":")[0], re.search(r"wildcards: training=(\w+)", job)) for job in jobs}
        return {f"{name} {found[1]}" if found else name for name, found in names} - {"all"}

    def times(self) -> dict[str, tuple[float, float]]:
        return {name: (began, ended) for name, (began, ended, _) in self.order().items()}

    def order(self) -> dict[str, tuple[float, ...]]:
        """When each stage began and ended, and how many cores it was given."""
        lines = self.path("results/smoke/order.txt").read_text().split("\n")[:-1]
        return {line.split()[0]: tuple(map(float, line.split()[1:])) for line in lines}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    """A copy in which the smoke study has been run once."""
    copy = Checkout(tmp_path_factory.mktemp("checkout"))
    copy.printed = copy.run()
    return copy


@pytest.fixture
def changed(checkout):
    """Change files of the checkout for one test: a line more at the end, or ``old`` to ``new``."""
    originals: dict[Path, bytes] = {}

    def change(name: str, old: str = "", new: str = "\n# more") -> None:
        path = checkout.path(name)
        text = path.read_text()
        originals.setdefault(path, path.read_bytes())
        assert old in text
        path.write_text(text.replace(old, new, 1) if old else text + new)

    yield change
    for path, content in originals.items():
        path.write_bytes(content)


def test_every_stage_runs_once_and_the_last_line_says_where_to_look(checkout):
    stages = stages_of(load_study("smoke"))
    assert set(checkout.times()) == {stage.name for stage in stages}
    assert re.fullmatch(
        rf"Study smoke: {len(stages)} stages run, \d+ s\. results/smoke/html/index\.html",
        checkout.printed.splitlines()[-1],
    )
    assert checkout.path("results/smoke/html/index.html").exists()
    assert checkout.path("results/smoke/receipt.json").exists()


def test_a_stage_begins_after_those_it_depends_on(checkout):
    times = checkout.times()
    trainings = [name for name in times if name.startswith(("03", "04"))]
    chains = [
        ("01_data_preparation", "02_atlas_registration"),
        ("02_atlas_registration", "04_train_regions_multitask_regions"),
        *(("01_data_preparation", name) for name in trainings),
        *((name, "05_evaluation") for name in trainings),
        ("05_evaluation", "06_statistics"),
        ("05_evaluation", "07_localization"),
        ("06_statistics", "08_figures"),
        ("07_localization", "08_figures"),
    ]
    assert [chain for chain in chains if times[chain[0]][1] > times[chain[1]][0]] == []


def overlaps(times: dict[str, tuple[float, float]]) -> int:
    """The largest number of stages that ran at one time."""
    return max(sum(b <= t < e for b, e in times.values()) for t, _ in times.values())


def test_trainings_run_two_at_a_time_on_two_cores(checkout):
    trainings = {n: t for n, t in checkout.times().items() if n.startswith("03")}
    assert overlaps(trainings) == min(2, cores_here())


def test_the_atlas_takes_half_the_cores_and_lesions_are_learned_meanwhile(checkout):
    cores = {name: given for name, (_, _, given) in checkout.order().items()}
    assert cores["01_data_preparation"] == cores["05_evaluation"] == cores_here()
    assert cores["02_atlas_registration"] == max(1, cores_here() // 2)
    side_by_side = {n: t for n, t in checkout.times().items() if n.startswith(("02", "03"))}
    first = min(t for n, t in side_by_side.items() if n.startswith("03"))
    assert (first[0] < side_by_side["02_atlas_registration"][1]) == (cores_here() > 1)


def test_trainings_run_one_at_a_time_on_one_accelerator(checkout):
    checkout.path("results/smoke/order.txt").unlink()
    trained = [f"results/smoke/models/{m}/checkpoint.pt" for m in ("flair", "t1", "flair_t1")]
    checkout.snakemake("--force", *trained, "--resources", "accelerator=1")
    trainings = {n: t for n, t in checkout.times().items() if n.startswith(("03", "04"))}
    assert len(trainings) == 3
    assert overlaps(trainings) == 1


def test_with_nothing_to_do_it_ends_soon(checkout):
    began = time.monotonic()
    printed = checkout.run()
    assert time.monotonic() - began < 20
    assert "all results were up to date" in printed


def test_a_figure_style_draws_figures_again_and_nothing_else(checkout, changed):
    changed("wmh/figures/style.py")
    assert checkout.plan() == {"figures", "pages"}


def test_a_figure_that_was_removed_is_drawn_again(checkout):
    picture = checkout.path("figures/smoke/07_burden.png")
    hidden = picture.rename(picture.with_suffix(".hidden"))
    plan = checkout.plan()
    hidden.rename(picture)
    assert plan == {"figures", "pages"}


def test_a_page_style_makes_pages_again_and_nothing_else(checkout, changed):
    changed("wmh/pages/style.css", "body", "\nbody")
    assert checkout.plan() == {"pages"}


def test_a_notebook_runs_itself_and_what_follows(checkout, changed):
    changed("notebooks/06_statistics.ipynb", "Statistics", "More statistics")
    assert checkout.plan() == {"statistics", "figures", "pages"}


def test_a_module_runs_what_reaches_it_and_what_follows(checkout, changed):
    changed("wmh/learning/training.py")
    plan = checkout.plan()
    assert plan >= {f"train_lesions {model}" for model in ("flair", "t1")} | AFTER_TRAINING
    assert not plan & {"data_preparation", "atlas_registration"}


def test_a_setting_of_one_model_trains_that_model_again(checkout, changed):
    changed("studies/smoke.yaml", "inputs: flair, steps: 40", "inputs: flair, steps: 41")
    assert checkout.plan() == {"train_lesions flair"} | AFTER_TRAINING


def test_one_more_repeat_trains_every_model_once_more_and_nothing_again(checkout, changed):
    changed("studies/smoke.yaml", "validate_every: 20", "validate_every: 20\n  repeats: 2")
    lesions = {
        f"train_lesions {model}_repeat_2" for model in load_study("smoke").models_of("lesions")
    }
    regions = {f"train_regions_multitask {model}_repeat_2" for model in ("regions", "multitask")}
    assert checkout.plan() == lesions | regions | AFTER_TRAINING


def test_a_setting_of_the_statistics_predicts_nothing_before_it_again(checkout, changed):
    changed("studies/smoke.yaml", "bootstrap_samples: 500", "bootstrap_samples: 501")
    assert checkout.plan() == {"statistics", "localization", "figures", "pages"}


def test_the_seed_runs_everything_again(checkout, changed):
    changed("studies/smoke.yaml", "seed: 2025", "seed: 2026")
    assert len(checkout.plan()) == len(stages_of(load_study("smoke"))) + 1  # and the pages


def test_a_file_touched_but_not_changed_runs_nothing(checkout):
    checkout.path("wmh/learning/training.py").touch()
    checkout.path("notebooks/01_data_preparation.ipynb").touch()
    assert checkout.plan() == set()


def test_a_table_that_was_removed_is_made_again(checkout):
    claims = checkout.path("results/smoke/claims.csv")
    kept = claims.read_text()
    claims.unlink()
    try:
        assert checkout.plan() == {"statistics", "figures", "pages"}
    finally:
        claims.write_text(kept)
        checkout.run()


def test_a_stage_that_fails_is_named_with_reason_and_log_and_made_up_for_by_the_next_run(checkout):
    claims = checkout.path("results/smoke/claims.csv")
    claims.unlink()
    failed = checkout.try_to_run(FAILING_STAGE="06_statistics")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == (
        "wmh: notebook 06_statistics failed: ValueError: no two subjects. "
        "Log: results/smoke/logs/06_statistics.log"
    )
    assert not claims.exists()
    assert "Study smoke: 2 stages run" in checkout.run()  # the statistics, and the figures of them
    assert claims.exists()


@pytest.mark.parametrize("name", ["scans/flair.nii", "people.csv", "more.csv"])
def test_an_image_that_a_table_names_is_read_again_once_it_changed(checkout, name):
    settings = yaml.safe_load(checkout.path("studies/smoke.yaml").read_text())
    settings["cohort"] = {"source": "csv", "folder": "people.csv", "further": "more.csv"}
    settings["models"] = {"flair": {"task": "lesions", "inputs": "flair", "steps": 1}}
    checkout.path("studies/own.yaml").write_text(yaml.safe_dump(settings))
    checkout.path("scans").mkdir(exist_ok=True)
    checkout.path("scans/flair.nii").write_text("an image")
    checkout.path("people.csv").write_text("id,flair,t1,lesions\n1,scans/flair.nii,a.nii,b.nii\n")
    checkout.path("more.csv").write_text("id,flair,t1,lesions\n")
    checkout.run("own")
    assert "rule data_preparation" not in checkout.snakemake("--dry-run", study="own")
    with checkout.path(name).open("a") as file:
        file.write("\n")
    assert "rule data_preparation" in checkout.snakemake("--dry-run", study="own")


@pytest.mark.parametrize("study", ["demo", "paper"])
def test_the_plan_of_a_study_builds_without_its_data(checkout, study):
    planned = checkout.snakemake("--dry-run", study=study)
    jobs = len(stages_of(load_study(study))) + len(("pages", "all"))
    assert re.search(rf"^total\s+{jobs}$", planned, re.MULTILINE)


@pytest.mark.parametrize("task", ["lesions", "regions"])
def test_the_plan_builds_for_models_of_one_task_only(checkout, task):
    settings = yaml.safe_load(checkout.path("studies/smoke.yaml").read_text())
    models = {name: one for name, one in settings["models"].items() if one["task"] == task}
    path = checkout.path(f"studies/only_{task}.yaml")
    path.write_text(yaml.safe_dump(settings | {"models": models}))
    planned = checkout.snakemake("--dry-run", study=path.stem)
    jobs = len(stages_of(load_study(path))) + len(("pages", "all"))
    assert re.search(rf"^total\s+{jobs}$", planned, re.MULTILINE)


def test_stages_of_a_study_are_numbered_in_the_order_of_the_story():
    stages = stages_of(load_study("smoke"))
    assert [stage.name for stage in stages] == sorted(
        (stage.name for stage in stages), key=lambda name: name[:2]
    )
    assert len({stage.name for stage in stages}) == len(stages)
    assert all(a != b for a, b in itertools.pairwise(stages))
