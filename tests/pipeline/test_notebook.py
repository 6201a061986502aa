"""Running a notebook: what it leaves, what it leaves when it fails, and what it goes on from."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from wmh.cohorts.cohort import CohortError
from wmh.pipeline.notebook import StageError, _execute, reason_of, run_notebook
from wmh.pipeline.stages import files_of, find_stage
from wmh.pipeline.watch import DRIVER, is_running, name_driver
from wmh.settings import Compute
from wmh.study import StudyError, load_study, project_root


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells; the first is the parameters cell."""
    path.parent.mkdir(exist_ok=True)
    content = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "execution_count": None,
            "metadata": {} if number else {"tags": ["parameters"]},
            "outputs": [],
            "source": source,
        }
        for number, source in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(
        json.dumps({"cells": content, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own with a study ``tiny``: two threads, two lesion models."""
    settings = yaml.safe_load((project_root() / "studies" / "smoke.yaml").read_text())
    settings |= {"compute": {"device": "cpu", "threads": 2}}
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "tiny.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    write_notebook(tmp_path / "notebooks" / "06_statistics.ipynb", "study = 'x'", "1")
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))
    monkeypatch.delenv(DRIVER, raising=False)
    return tmp_path


LOOK = """
import json, os, sys, time
from pathlib import Path
from tqdm.auto import tqdm
for _ in tqdm(range(3), desc="counting"): pass
time.sleep(1.5)  # memory is looked at once a second
seen = {"executable": sys.executable, "study": study, "model": model, "cwd": os.getcwd()}
seen |= {k: os.environ[k] for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONHASHSEED")}
Path("seen.json").write_text(json.dumps(seen))
"""


def test_a_notebook_runs_in_this_interpreter_and_leaves_its_record(project, monkeypatch, capsys):
    elsewhere = project / "home" / "kernels" / "python3" / "kernel.json"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text('{"argv": ["/bin/false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(project / "home"))
    write_notebook(project / "notebooks" / "03_train_lesions.ipynb", "study = ''\nmodel = ''", LOOK)
    study = load_study("tiny")
    stage = find_stage(study, "03_train_lesions", "t1")

    run_notebook(study, stage)

    seen = json.loads((project / "seen.json").read_text())
    assert seen == {
        "executable": sys.executable,
        "study": "tiny",
        "model": "t1",
        "cwd": str(project),
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "PYTHONHASHSEED": "0",
    }
    files = files_of(study, stage)
    record = json.loads(files.record.read_text())
    assert record["stage"] == "03_train_lesions_t1"
    assert record["seconds"] > 0
    assert record["processor_seconds"] > 0.1  # the kernel's too, which has ended
    assert record["peak_memory_mb"] > 10
    assert record["versions"]["python"] == sys.version.split()[0]
    outputs = [c["outputs"] for c in json.loads(files.executed.read_text())["cells"]]
    assert "100%" in json.dumps(outputs)
    assert "\\r" not in json.dumps(outputs)
    page = files.page.read_text()
    assert not re.search(r"<(script|link)[^>]+(src|href)=[\"']?(http|\")", page)
    assert "counting: 100%" in files.log.read_text()
    assert os.environ["JUPYTER_DATA_DIR"] == str(project / "home")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[ 4/13] 03_train_lesions t1 ..."
    assert re.fullmatch(r"\[ 4/13\] 03_train_lesions t1  \d+ s, \d+\.\d GB", lines[-1])


def test_a_failure_names_notebook_reason_and_log_and_keeps_both(project):
    study = load_study("tiny")
    stage = find_stage(study, "06_statistics")
    files = files_of(study, stage)
    write_notebook(
        project / "notebooks" / "06_statistics.ipynb",
        "study = ''",
        "raise KeyError('no column dice\\nsecond line')",
    )
    message = (
        r"notebook 06_statistics failed: KeyError: 'no column dice.*"
        r"Log: results/tiny/logs/06_statistics\.log"
    )
    with pytest.raises(StageError, match=message) as caught:
        run_notebook(study, stage)
    assert "\n" not in str(caught.value)
    assert "KeyError" in files.log.read_text()
    assert "KeyError" in files.failed.read_text()
    assert not files.executed.exists()
    assert not files.record.exists()


def test_the_reasons_that_a_first_line_announces_follow_it():
    error = CohortError("2 of 3 subjects cannot be used:\n  a: no T1.\n  b: no FLAIR.\n`wmh check`")
    assert reason_of(error) == (
        "CohortError: 2 of 3 subjects cannot be used: a: no T1. b: no FLAIR. `wmh check`"
    )
    assert reason_of(ValueError("\nno two subjects.\nmore")) == "ValueError: no two subjects"


def test_a_notebook_whose_run_was_killed_ends_with_it_and_is_run_again(project):
    write_notebook(
        project / "notebooks" / "06_statistics.ipynb",
        "study = ''",
        "import os, pathlib, time\n"
        "pathlib.Path('kernel').write_text(str(os.getpid()))\n"
        "if not pathlib.Path('second').exists(): time.sleep(60)\n",
    )
    driver = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    host = name_driver().rpartition(":")[0]
    command = [sys.executable, "-m", "wmh.cli", "notebook", "06_statistics", "--study", "tiny"]
    stage = subprocess.Popen(command, env=os.environ | {DRIVER: f"{host}:{driver.pid}"})
    said = project / "kernel"
    end = time.monotonic() + 60
    while not (said.exists() and said.read_text()):
        assert time.monotonic() < end
        time.sleep(0.1)
    kernel = int(said.read_text())
    driver.send_signal(signal.SIGKILL)
    assert stage.wait(timeout=20) == 1
    driver.wait()
    assert not is_running(kernel)
    study = load_study("tiny")
    stage = find_stage(study, "06_statistics")
    assert not files_of(study, stage).record.exists()

    (project / "second").touch()
    run_notebook(study, stage)
    assert files_of(study, stage).record.exists()


@pytest.mark.parametrize(
    ("notebook", "model", "device", "seen"),
    [
        ("03_train_lesions", "t1", "auto", "4"),
        ("05_evaluation", None, "cuda", "4"),
        ("03_train_lesions", "t1", "cpu", None),
        ("06_statistics", None, "cuda", None),
    ],
)
def test_a_kernel_that_computes_on_a_gpu_sees_a_card_of_its_own(
    notebook, model, device, seen, project, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    study = load_study("tiny")
    study = study.model_copy(update={"compute": Compute(device=device)})
    shown = []

    def execute(*_: object, **__: object) -> None:
        kernel = Path(os.environ["JUPYTER_PATH"]) / "kernels" / "python3" / "kernel.json"
        shown.append(json.loads(kernel.read_text())["env"].get("CUDA_VISIBLE_DEVICES"))

    monkeypatch.setattr("papermill.execute_notebook", execute)
    _execute(study, find_stage(study, notebook, model), project / "part.ipynb", io.StringIO())
    assert shown == [seen]


def test_an_unknown_notebook_or_model_lists_the_stages(project):
    study = load_study("tiny")
    for notebook, model in (("09_nothing", None), ("03_train_lesions", "regions")):
        with pytest.raises(StudyError, match="06_statistics; 07_localization"):
            find_stage(study, notebook, model)
