#!/usr/bin/env bash
# What a GPU does with the paper study, in one table, results/gpu.md; in eight minutes at most.
# benchmarks/gpu.md says what it measures, and how to run it where there is no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"
table=results/gpu.md
log=results/gpu.log
mkdir -p results

if compgen -G 'wheels/*.whl' >/dev/null; then
    site="$(mktemp -d)"
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" wheels/*.whl
fi
export PYTHONPATH="$PWD${site:+:$site}${PYTHONPATH:+:$PYTHONPATH}"
"$python" -c 'from importlib.metadata import version; version("wmh")' 2>/dev/null ||
    "$python" -c 'import setuptools; setuptools.setup()' --quiet egg_info

gpu="$("$python" -c 'import torch; print("yes" * torch.cuda.is_available())')"

about() {
    "$python" - <<'PYTHON'
import os, platform, re, tomllib
from importlib import metadata
from pathlib import Path

import torch

needed = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
needed = {re.match(r"[\w.-]+", one).group().lower() for one in needed}
installed = {dist.name.lower().replace("_", "-") for dist in metadata.distributions()}
gpu = torch.cuda.is_available()
print(torch.cuda.get_device_name() if gpu else "No GPU", f"{os.cpu_count()} cores", sep=", ", end=", ")
print(f"Python {platform.python_version()}, torch {torch.__version__}", end=". ")
print(f"Not installed: {', '.join(sorted(needed - installed)) or 'nothing'}.\n")
if not gpu:
    print("**A dry run on the CPU: these are no figures of a GPU.**\n")
print("| what | measured | aim |\n| --- | ---: | ---: |")
PYTHON
}

part() { # NAME SECONDS, which bind on a GPU
    echo "== $1" >>"$log"
    timeout "$([[ -n "$gpu" ]] && echo "$2" || echo 0)" "$python" benchmarks/gpu.py "$1" 2>>"$log" || case $? in
        124) echo "| $1: the rest of it | not reached in $2 s | |" ;;
        *) echo "| $1: the rest of it | failed: $(tail -n 1 "$log") | |" ;;
    esac
}

: >"$log"
{
    about
    part network 170
    part evaluation 60
    part rehearsal 220
} | tee "$table"
