"""The ``wmh`` command: one short function per subcommand.

Heavy modules are imported inside the functions, so that ``wmh --help`` answers at once. The help
keeps the line breaks of docstrings, so lines below the first are short enough for a terminal.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    help="White matter lesion segmentation and localization from FLAIR and T1 MRI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
fetch = typer.Typer(help="Fetch the public data that a study needs.", no_args_is_help=True)
app.add_typer(fetch, name="fetch")

File = Path | None
Mirror = Annotated[
    str | None,
    typer.Option(
        envvar="WMH_MIRROR", help="Folder or web address to fetch from instead of the source."
    ),
]
Destination = Annotated[Path, typer.Option(help="Folder for the fetched files.")]
Flair = Annotated[File, typer.Option(help="FLAIR image (NIfTI).")]
T1 = Annotated[File, typer.Option(help="T1 image (NIfTI), of the head or the brain only.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed: the same seed gives the same files.")]
Jobs = Annotated[int, typer.Option(min=1, help="Subjects at a time.")]
Profile = Annotated[
    File, typer.Option(help="Folder of a Snakemake profile: profiles/slurm for a cluster.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
STUDY = "Name of a file in studies/."


@fetch.command()
def challenge(
    split: Annotated[
        Literal["training", "test", "all"], typer.Option(help="Which subjects.")
    ] = "all",
    observers: Annotated[
        bool, typer.Option("--observers", help="Also the masks of the additional observers.")
    ] = False,
    dest: Destination = Path("data/wmh_challenge"),
) -> None:
    """Fetch the WMH Segmentation Challenge (CC BY-NC 4.0) from DataverseNL; can be resumed."""
    from wmh.cohorts import challenge

    typer.echo(challenge.NOTICE)
    echo_fetched(challenge.fetch_challenge(dest, split, observers), dest)
    missing = challenge.missing_subjects(dest, split)
    if missing:
        typer.echo(
            f"{dest}: {len(missing)} of the challenge's subjects lack files: {', '.join(missing)}"
        )
        raise typer.Exit(1)


@fetch.command()
def atlas(mirror: Mirror = None, dest: Destination = Path("data/atlas")) -> None:
    """Fetch the JHU atlas, the refined labels and the authors' labels of the 170 subjects."""
    from wmh.cohorts import datasets

    typer.echo(datasets.ATLAS_NOTICE)
    fetched = datasets.fetch_atlas(dest, mirror)
    echo_fetched(fetched, dest)
    if fetched.absent:
        typer.echo(f"{mirror}: has no published labels of {len(fetched.absent)} subjects.")


@fetch.command()
def heads(mirror: Mirror = None, dest: Destination = Path("data/heads")) -> None:
    """Fetch label maps of twenty people's whole heads (Apache 2.0)."""
    from wmh.cohorts import datasets

    typer.echo(datasets.HEADS_NOTICE)
    echo_fetched(datasets.fetch_heads(dest, mirror), dest)


@fetch.command("open")
def open_scans(mirror: Mirror = None, dest: Destination = Path("data/open_scans")) -> None:
    """Fetch openly licensed scans of 35 people with multiple sclerosis (CC BY, MIT).

    subjects.csv lists the people whose files are complete. A study reads that
    table with source: csv.
    """
    from wmh.cohorts import datasets

    typer.echo(datasets.OPEN_NOTICE)
    echo_fetched(datasets.fetch_open_scans(dest, mirror), dest)
    people = datasets.known_people(dest)
    missing = [person for person, complete in people.items() if not complete]
    if missing:
        typer.echo(
            f"{dest}: {len(missing)} of {len(people)} people lack files: {', '.join(missing)}"
        )
    if len(missing) == len(people):
        raise typer.Exit(1)
    count = len(people) - len(missing)
    typer.echo(f"{dest / datasets.OPEN_TABLE}: lists the {count} people whose files are complete")


@app.command()
def check(
    path: Annotated[
        Path, typer.Argument(help="A folder (challenge layout or BIDS), or a CSV file.")
    ],
    json: Json = False,
    repair: Annotated[
        File,
        typer.Option(help="Folder for copies, with 0 and 1, of masks that hold 0 and 255."),
    ] = None,
) -> None:
    """List every problem of a cohort and its remedy; exit code 0 only if there is none."""
    from wmh.cohorts import check

    report = check.check_path(path)
    typer.echo(check.as_json(report) if json else check.as_text(report))
    if repair is not None:
        typer.echo(f"Written: {check.repair_masks(report, repair)}", err=json)
    if not report.usable:
        raise typer.Exit(1)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Folder to write the cohort to.")],
    subjects: Annotated[int, typer.Option(min=8, help="Subjects in both splits together.")] = 33,
    seed: Seed = 0,
    coarsening: Annotated[
        int, typer.Option(min=1, help="Pixels are this many times larger than the scanners' own.")
    ] = 2,
) -> None:
    """Simulate a cohort in the challenge's folder layout."""
    from wmh.images import raise_unless_writable
    from wmh.phantom.writing import simulate_cohort, simulation_of

    raise_unless_writable(folder)
    simulate_cohort(folder, simulation_of(subjects, coarsening), seed)


@app.command()
def regions(
    out: Annotated[Path, typer.Option(help="Label image to write.")],
    t1: T1 = None,
    flair: Flair = None,
    lesions: Annotated[File, typer.Option(help="Lesion mask; counts as white matter.")] = None,
    white_matter: Annotated[
        File, typer.Option(help="Instead of a scan: a white-matter mask.")
    ] = None,
    atlas_white_matter: Annotated[
        File, typer.Option(help="With --white-matter: the atlas's white matter.")
    ] = None,
    atlas_labels: Annotated[
        File, typer.Option(help="With --white-matter: the atlas's labels.")
    ] = None,
    method: Annotated[
        Literal["model", "affine", "deformable", "paper"] | None,
        typer.Option(
            help="model: the general model (default for a scan). The others register the atlas: "
            "affine (default for a mask), deformable, or paper (as in the paper)."
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Label the white-matter regions of a scan, or register any atlas to a white-matter mask.

    The labels lie on the grid of the FLAIR, or of the T1 when it is alone.
    """
    from wmh.atlas.labelling import carry_atlas, label_scan
    from wmh.atlas.tissue import LEAST_BORDER_CONTRAST
    from wmh.cohorts.plausible import notices, say
    from wmh.images import load_image, raise_unless_writable

    raise_unless_writable(out, image=True)
    masks = (white_matter, atlas_white_matter, atlas_labels)
    paths = {"FLAIR": flair, "T1": t1}
    given = {modality: load_image(path) for modality, path in paths.items() if path}
    by_model = method is None or method == "model"
    fit, contrast = None, None
    if given and not any(masks) and (t1 or by_model):
        say(notices(given, in_slices=by_model))
        if by_model:
            from wmh.predict.scan import label_by_model

            contrast = label_by_model(out, given, lesions)
        else:
            fit, contrast = label_scan(out, t1, flair, lesions, method, seed)
    elif not given and all(masks) and method != "model":
        fit = carry_atlas(out, *masks, method or "affine", seed)
    else:
        raise typer.BadParameter(
            "give --t1, --flair or both, or --white-matter with --atlas-white-matter and "
            "--atlas-labels. --method affine, deformable and paper need --t1 or --white-matter"
        )
    told = "regions labelled by the general model"
    if fit is not None:
        told = (
            f"atlas registered, white-matter Dice {fit.white_matter_dice:.3f} after "
            f"{fit.attempts} starts"
        )
    if contrast is not None:
        told += f", border contrast {contrast:.2f}"
        if contrast < LEAST_BORDER_CONTRAST:
            say([f"{out}: the regions do not follow the image; look at them on {t1 or flair}"])
    typer.echo(f"{out}: {told}")


@app.command()
def segment_tissue(
    folder: Annotated[Path, typer.Argument(help="Folder of T1 images.")],
    out: Annotated[Path, typer.Argument(help="Folder for the segmentations.")],
    container: Annotated[Path, typer.Option(help="The FAST-AID Brain container.")] = Path(
        "fast_aid_brain.sif"
    ),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 16,
    device: Annotated[str, typer.Option(help="gpu or cpu.")] = "gpu",
) -> None:
    """Segment T1 images with the FAST-AID Brain container, as for the published labels."""
    from wmh.atlas.fast_aid import run_fast_aid

    run_fast_aid(folder, out, container, threads, device)


@app.command()
def predict(
    scans: Annotated[
        File,
        typer.Argument(help="A BIDS data set, a challenge tree or a CSV table (id, flair, t1)."),
    ] = None,
    flair: Flair = None,
    t1: T1 = None,
    out: Annotated[
        File,
        typer.Option(help="Folder for the results. Default: NAME_wmh, with the input's name."),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Study whose models are used instead of the general model.")
    ] = None,
    jobs: Jobs = 2,
    profile: Profile = None,
    people_a_job: Annotated[
        int, typer.Option(min=1, help="With --profile: subjects in each job.")
    ] = 200,
) -> None:
    """Find lesions and their regions in one person's scan, or in all scans of a folder.

    The general model of the package is used unless --study is given. A folder
    becomes BIDS derivatives with a page for each subject and one table of all.
    Finished subjects are not predicted again. Exit code 1 when subjects were left
    out; they are listed at the end.
    """
    given = scans or flair or t1
    if given is None or (scans and (flair or t1)):
        raise typer.BadParameter("give either a folder or table, or --flair, --t1 or both")
    if profile and not scans:
        raise typer.BadParameter("--profile needs a folder or table; remove it for a single scan")
    asked = None
    if study is not None:
        from wmh.ready import raise_without_gpu
        from wmh.study import load_study

        asked = load_study(study)
        if profile is None:
            raise_without_gpu(asked)
        if asked.cohort.simulated_alone:
            typer.echo(
                f"The models of study {study} were trained on simulated heads only.", err=True
            )
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: others compute beside it
    name = re.sub(r"\.(nii|nii\.gz|csv|tsv)$", "", given.absolute().name)
    out = out or Path(f"{name}_wmh")
    if scans is None:
        from wmh.predict.scan import predict_scan

        written = predict_scan(asked, out, flair=flair, t1=t1)
        for path in written.paths:
            typer.echo(path)
        typer.echo(f"Predicted by {written.predicted_by}. Not for diagnosis.", err=True)
        return
    if profile is None:
        from wmh.predict.folder import predict_folder

        done = predict_folder(asked, scans, out, jobs)
    else:
        from wmh.pipeline.people import predict_on_cluster

        done = predict_on_cluster(asked, scans, out, profile, people_a_job)
    left_out = [one.problem for one in done if one.problem is not None]
    kept = sum(one.kept for one in done)
    typer.echo(f"{out}: {len(done) - kept - len(left_out)} predicted, {kept} kept")
    for who, count in Counter(one.predicted_by for one in done if one.predicted_by).items():
        typer.echo(f"  {count} by {who}", err=True)
    if left_out:
        typer.echo(f"{len(left_out)} left out:\n" + "\n".join(f"  - {p}" for p in left_out))
        raise typer.Exit(1)


@app.command()
def evaluate(
    truth: Annotated[
        File, typer.Argument(help="True lesions: a NIfTI file or a folder of them.")
    ] = None,
    prediction: Annotated[
        File, typer.Argument(help="Predicted lesions: a file or a folder.")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Measure this study's predictions instead.")
    ] = None,
    out: Annotated[File, typer.Option(help="Also write every measure to this CSV table.")] = None,
    jobs: Jobs = 2,
    json: Json = False,
) -> None:
    """Measure predicted lesions as the WMH challenge does.

    Two files: their five measures, always as JSON. Two folders (wmh predict
    writes one): the measures of each subject and their means. --study: the means
    of each model by the images it was given. Exit code 1 when truths have no
    prediction; the message names them.
    """
    import pandas as pd

    from wmh.analysis import evaluation
    from wmh.files import write_table
    from wmh.images import raise_unless_writable

    pairs = None
    if (study is None) == (truth is None or prediction is None):
        raise typer.BadParameter("give either TRUTH and PREDICTION, or --study NAME")
    if out is not None:
        raise_unless_writable(out.parent)
        if out.is_dir():
            raise typer.BadParameter(f"--out {out} is a folder; name the CSV file to write")
    if study is not None:
        from wmh.analysis.testing import cases_to_evaluate
        from wmh.study import load_study

        table = evaluation.evaluate(cases_to_evaluate(load_study(study)), jobs)
        shown = evaluation.five_of_configurations(table)
    else:
        pairs = evaluation.find_pairs(truth, prediction)
        table = evaluation.evaluate(pairs.cases, jobs)
        shown = evaluation.five_of_subjects(table)
        if truth.is_dir():
            shown["mean"] = evaluation.mean_of(shown)
            typer.echo(pairs.note(), err=True)
        else:
            (shown,), json = shown.values(), True
    if out is not None:
        write_table(table, out)
    if json:
        typer.echo(evaluation.as_json(shown))
    else:
        typer.echo(pd.DataFrame(shown).T.to_string(float_format="{:.3f}".format, na_rep="-"))
    if pairs is not None and pairs.unpaired:
        raise typer.Exit(1)


@app.command()
def run(
    study: Annotated[str, typer.Argument(help=STUDY)] = "demo",
    profile: Profile = None,
) -> None:
    """Run the notebooks of a study that are not up to date."""
    from wmh.pipeline.driver import run_study
    from wmh.study import load_study

    run_study(load_study(study), profile)


@app.command()
def notebook(
    notebook: Annotated[str, typer.Argument(help="Name of a notebook, e.g. 05_evaluation.")],
    study: Annotated[str, typer.Option(help=STUDY)] = "demo",
    model: Annotated[str | None, typer.Option(help="Model, for the training notebooks.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Number of the repeated training.")] = 1,
) -> None:
    """Run one notebook of a study, whether or not it is up to date."""
    from wmh.pipeline.notebook import run_notebook
    from wmh.pipeline.stages import find_stage
    from wmh.study import load_study

    settings = load_study(study)
    run_notebook(settings, find_stage(settings, notebook, model, repeat))


def echo_fetched(fetched, folder: Path) -> None:
    """Print how many files were fetched, and how many were there before."""
    typer.echo(
        f"{folder}: {len(fetched.new)} files fetched, {len(fetched.kept)} were there already"
    )


def _notice(standard: Callable, message: Warning, category: type, file: str, *where: object) -> str:
    """Format a warning: in one line if it comes from this package, else as usual."""
    ours = Path(file).is_relative_to(Path(__file__).parent)
    return f"wmh: {message}\n" if ours else standard(message, category, file, *where)


def main() -> None:
    """Run the command; errors are reported in one line.

    Exit code 2 for errors in the user's files and settings. Exit code 1 for a stage or program that
    fails, and for errors of the machine (a full disk, too little memory). SIGTERM ends the command
    without half-written files and without workers left behind.
    """
    signal.signal(signal.SIGTERM, _stop)
    warnings.formatwarning = partial(_notice, warnings.formatwarning)
    for stream in filter(None, (sys.stdout, sys.stderr)):  # so that any file name can be printed
        stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except Exception as error:
        ours = type(error).__module__.split(".")[0] == "wmh"
        machine = isinstance(error, OSError | MemoryError | ImportError | RuntimeError)
        said = error if ours else of_the_machine(error) if machine else None
        if said is None:
            raise
        print(f"wmh: {said}", file=sys.stderr)
        sys.exit(2 if ours and isinstance(error, ValueError | FileNotFoundError) else 1)


def _stop(number: int, frame: object) -> None:
    from wmh.pipeline.watch import kill_children

    kill_children()
    sys.exit(128 + number)


def of_the_machine(error: Exception) -> str | None:
    """Explain an error of the machine (disk, files or memory); None for any other error."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{error.filename or 'the folder written to'}: the disk is full. Free some space, or "
            "write to another disk; complete files are kept."
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}. Check its name, its folder and the disk."
    words = ("memory", "failed to map segment", "can't start new thread")
    if isinstance(error, MemoryError) or any(word in str(error).lower() for word in words):
        return f"not enough memory ({str(error) or 'none is left'}). Close other programs."
    return None


if __name__ == "__main__":
    main()
