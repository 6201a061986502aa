"""Running one notebook of a study: execute it, save it as a page, record its cost and versions.

Only a notebook that succeeded is saved as executed. One that failed is kept beside its log, and the
last printed line names the log.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from wmh.files import complete
from wmh.pipeline.cards import card_of_ones_own
from wmh.pipeline.stages import ON_A_CARD, Stage, StageFiles, files_of, stages_of
from wmh.pipeline.watch import Progress, Watch
from wmh.provenance import commit_here, versions_here
from wmh.study import Study, project_root

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


class StageError(RuntimeError):
    """A notebook that failed. The message names it, the reason and the log."""


def run_notebook(study: Study, stage: Stage) -> None:
    """Run a stage's notebook; write the executed notebook, its page and its record.

    Trainings, region labels and predictions continue from an interrupted run if they were made from
    the same code, settings and inputs. Raises :class:`StageError` when a cell fails.
    """
    files = files_of(study, stage)
    for path in (files.executed, files.page, files.record, files.log):
        path.parent.mkdir(parents=True, exist_ok=True)
    with files.log.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits for a stage that a killed run left running
        files.failed.unlink(missing_ok=True)
        _execute_and_record(study, stage, files)


def reason_of(error: Exception) -> str:
    """The reason of a failure: its first line, or all lines as one if that ends with a colon."""
    name, text = type(error).__name__, str(error)
    if hasattr(error, "ename"):  # an error in a cell, as papermill reports it
        name, text = error.ename, error.evalue
    first, *others = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    told = " ".join([first, *others] if first.endswith(":") else [first]).rstrip(".")
    return f"{name}: {told}"


def _execute_and_record(study: Study, stage: Stage, files: StageFiles) -> None:
    stages = stages_of(study)
    count = str(len(stages))
    tag = f"[{stages.index(stage) + 1:>{len(count)}}/{count}] {stage.title}"
    print(f"{tag} ...", flush=True)
    began = datetime.now(UTC)
    clock, processor = time.perf_counter(), _processor_seconds()
    files.log.write_text(f"{stage.title}, study {study.name}, {began:%Y-%m-%d %H:%M:%S} UTC\n")
    output = Progress(files.log)

    def say() -> None:
        shown = re.sub(r"\|[^|]*\|", "", output.last)[:100]  # a progress line without its bar
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
        log = files.log.relative_to(project_root())
        raise StageError(f"notebook {stage.title} failed: {reason}. Log: {log}") from error
    finally:
        output.close()
    seconds = time.perf_counter() - clock
    record = {
        "stage": stage.name,
        **asdict(stage),
        "study": study.name,
        "began": began.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "processor_seconds": round(_processor_seconds() - processor, 1),
        "peak_memory_mb": round(watch.peak_mb),
        "threads": study.compute.threads,
        "versions": versions_here(),
        **commit_here(),
    }
    part.replace(files.executed)
    with complete(files.record) as unfinished:
        unfinished.write_text(json.dumps(record, indent=2) + "\n")
    print(f"{tag}  {seconds:.0f} s, {watch.peak_mb / 1024:.1f} GB", flush=True)


def _processor_seconds() -> float:
    """Processor time of this process and of all child processes that it has waited for."""
    return sum(os.times()[:4])


def _execute(study: Study, stage: Stage, part: Path, output: Progress) -> None:
    """Run the notebook with papermill in this interpreter, and write it to ``part``."""
    # without this, jsonschema builds a grammar of web addresses, which is slower than all imports
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill

    training = {"model": stage.model, "repeat": stage.repeat} if stage.model else {}
    parameters = {"study": study.name} | training
    root = project_root()
    on_gpu = stage.notebook in ON_A_CARD and study.compute.device != "cpu"
    with card_of_ones_own() if on_gpu else nullcontext({}) as card, _kernel(study, card):
        papermill.execute_notebook(
            root / "notebooks" / f"{stage.notebook}.ipynb",
            part,
            parameters=parameters,
            kernel_name="python3",
            cwd=root,
            progress_bar=False,
            request_save_on_cell_execute=False,  # would save and check the whole notebook per cell
            start_timeout=600,  # a busy machine or a slow disk may take minutes to import
            stdout_file=output,
            stderr_file=output,
            coalesce_streams=True,
        )


@contextmanager
def _kernel(study: Study, card: dict[str, str]) -> Iterator[None]:
    """Make this interpreter the kernel ``python3``, whatever kernels and profiles a user has.

    Threads and hash seed are set before it starts, because results depend on them. ``card`` holds
    the environment variable that makes its GPU visible.
    """
    threads = str(study.compute.threads)
    with tempfile.TemporaryDirectory(prefix="wmh-kernel-") as folder:
        environment = {
            **dict.fromkeys(THREAD_VARIABLES, threads),
            "PYTHONHASHSEED": "0",
            "MALLOC_MMAP_MAX_": "0",  # freeing the memory of each array takes a third of the time
            "MALLOC_TRIM_THRESHOLD_": str(2**30),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # makes results of cuBLAS reproducible
            "WMH_ROOT": str(project_root()),
            "WMH_HEADLESS": "1",  # pictures instead of widgets, because nobody can use them
            "IPYTHONDIR": folder,
            "SPYDER_KERNEL": "none",  # makes tqdm.auto draw bars as text, which a log can hold
            **card,
        }
        launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        specification = {
            "argv": [*launch, "--log-level=ERROR"],  # hides the warning about its local port
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
    with complete(page) as unfinished:
        unfinished.write_text(html, encoding="utf-8")
