"""The order of a study's notebooks: one rule per notebook, with its inputs and outputs.

`./run_all.sh STUDY` runs this here, `./run_all.sh STUDY --profile profiles/slurm` on a cluster. By hand:

    snakemake --cores 2 --config study=demo

A rule depends on its notebook, on the modules that the notebook imports, on the settings named in its
`params`, and on the tables of earlier rules. It runs again when one of them changes. `accelerator` is a
resource: with `--resources accelerator=2`, two trainings run at a time, each on its own GPU. `gpu` is
the number of GPUs that a cluster gives to a job.
"""

import sys
from pathlib import Path

from wmh import results
from wmh.dependencies import modules_reached, sources_of
from wmh.pipeline.stages import settings_of, stages_of
from wmh.study import load_study

ROOT = Path(workflow.basedir)
STUDY = load_study(config.get("study", "demo"))
RESULTS, FIGURES = f"results/{STUDY.name}", f"figures/{STUDY.name}"
LESION_MODELS = STUDY.models_of("lesions")
REGION_MODELS = STUDY.models_of("regions", "multitask")
TRAININGS = {one.run_name(model): (model, one.repeat) for one in STUDY.repeats() for model in STUDY.models}
CHECKPOINTS = expand(f"{RESULTS}/models/{{training}}/checkpoint.pt", training=TRAININGS)
DRAWN = expand(f"{FIGURES}/{{name}}.{{kind}}", name=results.FIGURES, kind=("png", "pdf", "txt"))
EVERYWHERE = ("seed", "compute")
ASKED = ("evaluation.threshold", "evaluation.mirroring", "evaluation.slices_at_once")
HALF = max(1, workflow.cores // 2)
GPU = int(STUDY.compute.device == "cuda")


def sources(notebook, **options):
    return sources_of(ROOT, notebook, **options)


def settings(*keys):
    return settings_of(STUDY, *EVERYWHERE, *keys)


def tables(*notebooks):
    """The tables that these notebooks write; without a name, all tables."""
    return [str(STUDY.table(t).relative_to(ROOT)) for n in notebooks or results.TABLES for t in results.TABLES[n]]


def participants():
    """The user's table of participants, if the study names one."""
    return [str(STUDY.participants.table)] if STUDY.participants else []


def executed(stage):
    """The files that every stage writes: the executed notebook, its page, the record of its run."""
    return [f"{RESULTS}/notebooks/{stage}.ipynb", f"{RESULTS}/html/{stage}.html", f"{RESULTS}/stages/{stage}.json"]


def atlas():
    """The files of an atlas that was fetched; the built-in one is part of the package."""
    if STUDY.regions.atlas == "built-in":
        return []
    return sorted(str(path) for path in STUDY.regions.atlas_folder.rglob("*") if path.is_file())


def images():
    """The files of a cohort that is not simulated, and of further people, as far as they exist."""
    if STUDY.cohort.simulated_alone:
        return []
    from wmh.cohorts.sources import files_read

    return [str(path) for path in files_read(STUDY)]


def run(notebook):
    return f"WMH_CORES={{threads}} {sys.executable} -m wmh.cli notebook --study {STUDY.name} {notebook}"


def trainings_of(models):
    """Regular expression for the wildcard `training`: names such as `flair` and `flair_repeat_2`.

    Without such a model it matches nothing; an empty expression would allow every name.
    """
    return "|".join(name for name, (model, _) in TRAININGS.items() if model in models) or "(?!)"


def training_settings(wildcards):
    model, _ = TRAININGS[wildcards.training]
    return settings("slices", "training", f"models.{model}")


def training_options(wildcards):
    return "--model {} --repeat {}".format(*TRAININGS[wildcards.training])


rule all:
    input:
        f"{RESULTS}/html/index.html",
        tables(),
        DRAWN,
        [executed(stage.name) for stage in stages_of(STUDY)],


rule data_preparation:
    input:
        sources("01_data_preparation"),
        images(),
    output:
        tables("01_data_preparation"),
        executed("01_data_preparation"),
    params:
        settings=settings("cohort"),
    threads: workflow.cores
    shell:
        run("01_data_preparation")


rule atlas_registration:
    input:
        sources("02_atlas_registration"),
        f"{RESULTS}/cohort.csv",
        atlas(),
    output:
        tables("02_atlas_registration"),
        executed("02_atlas_registration"),
    params:
        settings=settings("cohort", "regions"),
    threads: HALF  # the other half of the cores trains lesion models meanwhile
    priority: 1
    shell:
        run("02_atlas_registration")


rule train_lesions:
    input:
        sources("03_train_lesions"),
        f"{RESULTS}/cohort.csv",
    output:
        f"{RESULTS}/models/{{training}}/checkpoint.pt",
        executed("03_train_lesions_{training}"),
    params:
        settings=training_settings,
        options=training_options,
    wildcard_constraints:
        training=trainings_of(LESION_MODELS),
    threads: STUDY.compute.threads
    resources:
        accelerator=1,
        gpu=GPU,
    shell:
        run("03_train_lesions {params.options}")


rule train_regions_multitask:
    input:
        sources("04_train_regions_multitask"),
        f"{RESULTS}/cohort.csv",
        f"{RESULTS}/regions.csv",
    output:
        f"{RESULTS}/models/{{training}}/checkpoint.pt",
        executed("04_train_regions_multitask_{training}"),
    params:
        settings=training_settings,
        options=training_options,
    wildcard_constraints:
        training=trainings_of(REGION_MODELS),
    threads: STUDY.compute.threads
    priority: 1  # these trainings take longest
    resources:
        accelerator=1,
        gpu=GPU,
    shell:
        run("04_train_regions_multitask {params.options}")


rule evaluation:
    input:
        sources("05_evaluation"),
        f"{RESULTS}/cohort.csv",
        f"{RESULTS}/regions.csv",
        CHECKPOINTS,
    output:
        tables("05_evaluation"),
        executed("05_evaluation"),
    params:
        settings=settings("slices", "training", "models", *ASKED),
    threads: workflow.cores
    resources:
        accelerator=1,
        gpu=GPU,
    shell:
        run("05_evaluation")


rule statistics:
    input:
        sources("06_statistics"),
        tables("05_evaluation"),
    output:
        tables("06_statistics"),
        executed("06_statistics"),
    params:
        settings=settings("models", "evaluation"),
    shell:
        run("06_statistics")


rule localization:
    input:
        sources("07_localization"),
        f"{RESULTS}/burden.csv",
        participants(),
    output:
        tables("07_localization"),
        executed("07_localization"),
    params:
        settings=settings("models", "evaluation", "participants"),
    threads: HALF
    shell:
        run("07_localization")


rule figures:
    input:
        sources("08_figures", drawing=True),
        tables(),
        CHECKPOINTS,
    output:
        DRAWN,
        executed("08_figures"),
    params:
        settings=settings("title", "models", "evaluation"),
    shell:
        run("08_figures")


rule pages:
    """The index page and the receipt, made again after any stage has run."""
    input:
        expand(f"{RESULTS}/stages/{{stage}}.json", stage=[stage.name for stage in stages_of(STUDY)]),
        sorted(str(path.relative_to(ROOT)) for path in (ROOT / "wmh" / "pages").glob("*.*")),
        sorted(str(path.relative_to(ROOT)) for path in modules_reached(ROOT, "import wmh.pipeline.pages")),
    output:
        f"{RESULTS}/html/index.html",
        f"{RESULTS}/receipt.json",
    params:
        settings=settings("title"),
    shell:
        f"{sys.executable} -m wmh.pipeline.pages {STUDY.name}"
