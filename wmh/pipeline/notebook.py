"""Running one notebook of a study: executed, shown as a page, its cost and versions on record.

A stage leaves the executed notebook only when it went through. One that failed is kept beside its
log, and the last line printed names both.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from wmh.pipeline.stages import Stage, StageFiles, files_of, find_stage, stages_of
from wmh.pipeline.watch import Progress, Watch
from wmh.provenance import commit_here, versions_here
from wmh.study import Study, load_study, project_root

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


class StageError(RuntimeError):
    """A notebook that did not go through. The message names it, the reason and the log."""


def run_notebook(
    study: Study,
    stage: Stage,
    depends_on: Iterable[Path] = (),
    settings: str = "",
    state: Iterable[Path] = (),
) -> None:
    """Run a stage's notebook and leave the executed notebook, its page and its record.

    ``state`` are folders an interrupted run may go on from. They are kept only when that run had
    the same ``depends_on`` (files) and ``settings``; otherwise they are removed, so that nothing
    made by other code or settings is taken for this run's. Raises :class:`StageError` when a cell
    fails.
    """
    files = files_of(study, stage)
    for path in (files.executed, files.page, files.record, files.log):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _only_run(files):
        fingerprint = fingerprint_of(depends_on, settings)
        resumed = _goes_on(files, fingerprint)
        if not resumed:
            for folder in state:
                shutil.rmtree(folder, ignore_errors=True)
        _write_json(files.started, {"fingerprint": fingerprint})
        files.failed.unlink(missing_ok=True)
        _execute_and_record(study, stage, files, {"fingerprint": fingerprint, "resumed": resumed})
        files.started.unlink()


def fingerprint_of(files: Iterable[Path], settings: str) -> str:
    """A hash of the contents of files and of settings."""
    digest = hashlib.sha256(settings.encode())
    for path in sorted(files):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def reason_of(error: Exception) -> str:
    """Why a notebook failed, in one line; a list that the first one announces comes along."""
    if hasattr(error, "ename"):  # papermill's, for an error in a cell
        return f"{error.ename}: {_one_line(error.evalue)}"
    return f"{type(error).__name__}: {_one_line(str(error))}"


def _execute_and_record(study: Study, stage: Stage, files: StageFiles, record: dict) -> None:
    tag = _tag(study, stage)
    print(f"{tag} ...", flush=True)
    began = datetime.now(UTC)
    clock = time.perf_counter()
    files.log.write_text(f"{stage.title}, study {study.name}, {began:%Y-%m-%d %H:%M:%S} UTC\n")
    output = Progress(files.log)

    def say() -> None:
        shown = re.sub(r"\|[^|]*\|", "", output.last)[:100]  # a progress bar without its bar
        print(f"{tag}  {time.perf_counter() - clock:.0f} s  {shown}".rstrip(), flush=True)

    part = files.log.with_suffix(".part.ipynb")
    try:
        with Watch(say) as watch:
            _execute(study, stage, part, output)
        _save_page(part, files.page, stage.title)
    except Exception as error:
        output.write(traceback.format_exc())
        if part.exists():
            part.replace(files.failed)
        reason = reason_of(error)
        print(f"{tag} failed: {reason}", flush=True)
        _write_json(files.started, record | {"error": reason})
        log = files.log.relative_to(project_root())
        raise StageError(f"notebook {stage.title} failed: {reason}. Log: {log}") from error
    finally:
        output.close()
    seconds = time.perf_counter() - clock
    record |= {
        "stage": stage.name,
        "notebook": stage.notebook,
        "model": stage.model,
        "repeat": stage.repeat,
        "study": study.name,
        "began": began.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(watch.peak_mb),
        "threads": study.compute.threads,
        "versions": versions_here(),
        **commit_here(),
    }
    part.replace(files.executed)
    _write_json(files.record, record)
    print(f"{tag}  {seconds:.0f} s, {watch.peak_mb / 1024:.1f} GB", flush=True)


def _execute(study: Study, stage: Stage, part: Path, output: Progress) -> None:
    """Run the notebook with papermill in this interpreter; ``part`` grows cell by cell."""
    import papermill

    training = {"model": stage.model, "repeat": stage.repeat} if stage.model else {}
    parameters = {"study": study.name} | training
    root = project_root()
    with _kernel(study):
        papermill.execute_notebook(
            root / "notebooks" / f"{stage.notebook}.ipynb",
            part,
            parameters=parameters,
            kernel_name="python3",
            cwd=root,
            progress_bar=False,
            start_timeout=600,  # a busy machine or a slow disk may take minutes to import
            stdout_file=output,
            stderr_file=output,
            coalesce_streams=True,
        )


@contextmanager
def _kernel(study: Study) -> Iterator[None]:
    """Make the kernel ``python3`` this interpreter, whatever kernels and profiles a user has.

    Threads and hash seed are set before it starts, since results depend on them.
    """
    threads = str(study.compute.threads)
    with tempfile.TemporaryDirectory(prefix="wmh-kernel-") as folder:
        environment = {
            **dict.fromkeys(THREAD_VARIABLES, threads),
            "PYTHONHASHSEED": "0",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS repeats itself only with this
            "WMH_ROOT": str(project_root()),
            "WMH_HEADLESS": "1",  # nobody turns a control: pictures instead of widgets
            "IPYTHONDIR": folder,
            "SPYDER_KERNEL": "none",  # tqdm.auto then draws bars as text, which logs can hold
        }
        specification = {
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Python 3",
            "language": "python",
            "env": environment,
        }
        place = Path(folder) / "kernels" / "python3" / "kernel.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(specification))
        before = {key: os.environ.get(key) for key in ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR")}
        os.environ |= {"JUPYTER_PATH": folder, "JUPYTER_RUNTIME_DIR": folder}
        try:
            yield
        finally:
            for key, value in before.items():
                os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)


def _save_page(notebook: Path, page: Path, title: str) -> None:
    """Write the executed notebook as HTML that needs no network."""
    from nbconvert import HTMLExporter

    no_network = dict.fromkeys(
        ("require_js_url", "jquery_url", "mathjax_url", "jupyter_widgets_base_url"), ""
    )
    exporter = HTMLExporter(embed_images=True, **no_network)
    html, _ = exporter.from_filename(str(notebook), resources={"metadata": {"name": title}})
    html = re.sub(r'<script\b[^>]*\bsrc=""[^>]*>\s*</script>', "", html)
    temporary = page.with_suffix(".part")
    temporary.write_text(html, encoding="utf-8")
    temporary.replace(page)


@contextmanager
def _only_run(files: StageFiles) -> Iterator[None]:
    """Wait until no other process runs this stage, such as one left by a killed run."""
    with files.log.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _goes_on(files: StageFiles, fingerprint: str) -> bool:
    """Whether an interrupted run of the same code, settings and inputs can be gone on with."""
    try:
        return json.loads(files.started.read_text())["fingerprint"] == fingerprint
    except (FileNotFoundError, json.JSONDecodeError):
        return False


def _tag(study: Study, stage: Stage) -> str:
    """The stage's place in the story and its title: ``[ 3/12] 03_train_lesions flair``."""
    stages = stages_of(study)
    count = str(len(stages))
    return f"[{stages.index(stage) + 1:>{len(count)}}/{count}] {stage.title}"


def _one_line(text: str) -> str:
    first, *others = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return " ".join([first, *others] if first.endswith(":") else [first]).rstrip(".")


def _write_json(path: Path, content: dict) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def main() -> int:
    """``python -m wmh.pipeline.notebook STUDY NOTEBOOK``: what the Snakefile's rules call."""
    parser = argparse.ArgumentParser(description="Run one notebook of a study.")
    parser.add_argument("study")
    parser.add_argument("notebook")
    parser.add_argument("--model")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--depends-on", nargs="*", type=Path, default=[])
    parser.add_argument("--settings", default="")
    parser.add_argument("--state", nargs="*", type=Path, default=[])
    given = parser.parse_args()
    study = load_study(given.study)
    stage = find_stage(study, given.notebook, given.model, given.repeat)
    try:
        run_notebook(study, stage, given.depends_on, given.settings, given.state)
    except StageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
