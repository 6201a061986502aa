"""The ``wmh`` command: one function a subcommand, each a thin call into the package.

Heavy modules are imported inside the functions, so that ``wmh --help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="White matter lesion segmentation and localization from FLAIR and T1 MRI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Folder to write the cohort to.")],
    subjects: Annotated[int, typer.Option(min=1, help="Number of training subjects.")] = 18,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    coarsening: Annotated[int, typer.Option(min=1, help="In-plane coarsening factor.")] = 2,
) -> None:
    """Simulate a cohort in the challenge's folder layout."""
    from wmh.cohorts.phantom import simulate_cohort, simulation_of

    simulate_cohort(folder, simulation_of(subjects, coarsening), seed)


@app.command()
def predict(
    out: Annotated[Path, typer.Option(help="Folder to write the results to.")],
    flair: Annotated[Path | None, typer.Option(help="FLAIR image (NIfTI).")] = None,
    t1: Annotated[Path | None, typer.Option(help="T1 image (NIfTI).")] = None,
    study: Annotated[str, typer.Option(help="Study whose models are used.")] = "demo",
) -> None:
    """Find lesions and their regions in one person's scan."""
    from wmh.report import predict_scan

    for path in predict_scan(load(study), out, flair=flair, t1=t1):
        typer.echo(path)


@app.command()
def evaluate(
    truth: Annotated[Path, typer.Argument(help="True lesions: a NIfTI file or a folder of them.")],
    prediction: Annotated[Path, typer.Argument(help="Predicted lesions: a file or a folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Also write every measure to this CSV table.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Subjects measured at a time.")] = 2,
) -> None:
    """Measure predicted lesions as the WMH challenge does; JSON, a folder's subjects by name."""
    from wmh.analysis.evaluation import evaluate as evaluate_cases
    from wmh.analysis.evaluation import find_pairs, five_measures_json

    table = evaluate_cases(find_pairs(truth, prediction), jobs)
    if out is not None:
        table[["subject", "structure", "metric", "value"]].to_csv(out, index=False)
    typer.echo(five_measures_json(table, by_subject=truth.is_dir()))


@app.command()
def run(study: Annotated[str, typer.Argument(help="Name of a file in studies/.")] = "demo") -> None:
    """Run every notebook of a study that is not up to date."""
    from wmh.pipeline.driver import RunError, run_study

    stop_on(RunError, run_study, load(study))


@app.command()
def notebook(
    notebook: Annotated[str, typer.Argument(help="Name of a notebook, e.g. 05_evaluation.")],
    study: Annotated[str, typer.Option(help="Name of a file in studies/.")] = "demo",
    model: Annotated[str | None, typer.Option(help="Model, for the training notebooks.")] = None,
) -> None:
    """Run one notebook of a study, whether or not it is up to date."""
    from wmh.pipeline.notebook import StageError, run_notebook
    from wmh.pipeline.stages import find_stage

    settings = load(study)
    stop_on(StageError, run_notebook, settings, find_stage(settings, notebook, model))


def stop_on(error: type[Exception], call, *arguments) -> None:
    """Call a function; an ``error`` it raises is the last line printed, with exit code 1."""
    try:
        call(*arguments)
    except error as reason:
        print(f"wmh: {reason}", file=sys.stderr)
        raise typer.Exit(1) from reason


def load(study: str):
    """Read a study's settings."""
    from wmh.study import load_study

    return load_study(study)


def main() -> None:
    """Run the command. Errors of the user's files and settings are one line, exit code 2."""
    try:
        app()
    except (ValueError, FileNotFoundError) as error:
        if type(error).__module__.split(".")[0] != "wmh":
            raise
        print(f"wmh: {error}", file=sys.stderr)
        sys.exit(2)
