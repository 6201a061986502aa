"""The code and the machine of a result: commit, versions, hardware."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from wmh.study import StudyError, project_root


def commit_here() -> dict[str, object]:
    """The checked-out commit, and whether files differ from it; None outside a checkout."""
    commit = _output("git", "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    return {
        "commit": commit,
        "dirty": bool(_output("git", "--no-optional-locks", "status", "--porcelain")),
    }


def versions_here() -> dict[str, str]:
    """Versions of Python, of this package and of its direct dependencies that are installed."""
    versions = {"python": platform.python_version(), "wmh": metadata.version("wmh")}
    for requirement in metadata.requires("wmh") or []:
        if "extra ==" not in requirement:
            name = re.match(r"[\w.-]+", requirement).group()
            with suppress(metadata.PackageNotFoundError):  # not every stage needs every package
                versions[name] = metadata.version(name)
    return versions


def all_versions() -> dict[str, str]:
    """Versions of all packages in the environment."""
    found = {dist.name.lower(): dist.version for dist in metadata.distributions()}
    return dict(sorted(found.items()))


def hardware_here() -> dict[str, object]:
    """Processor, cores, memory in GB and GPUs of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "system": platform.platform(),
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory, 1),
        "gpus": gpus_here(),
    }


def gpus_here() -> list[str]:
    """Names of the NVIDIA GPUs of this machine."""
    listed = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return listed.splitlines() if listed else []


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model.group(1) if model else platform.processor() or platform.machine()


def _output(*command: str) -> str | None:
    """Run a command and return what it prints; None when it fails, or outside a checkout."""
    try:
        done = subprocess.run(command, cwd=project_root(), capture_output=True, text=True)
    except (FileNotFoundError, StudyError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
