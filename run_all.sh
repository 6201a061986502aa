#!/usr/bin/env bash
# Sets up the environment if needed, then runs a study, the tests, or JupyterLab.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# A study starts Python some thirty times; each start takes half as long if compiled modules are kept.
unset PYTHONDONTWRITEBYTECODE

usage() {
    cat <<'USAGE'
Usage: ./run_all.sh [STUDY|test|lab]

  ./run_all.sh          every notebook, table and figure of the demo study (two CPU cores, minutes)
  ./run_all.sh STUDY    the same for studies/STUDY.yaml: open, smoke, paper, or your own
                        (STUDY --profile profiles/slurm: each notebook as a job of a cluster)
  ./run_all.sh test     the tests; further arguments go to pytest
  ./run_all.sh lab      JupyterLab, on the notebooks
  ./run_all.sh --help   this text

The active conda or virtual environment is used when wmh is installed in it. Otherwise .venv is made
here with Python 3.11 or newer, from requirements.lock (PYTHON=... chooses the interpreter).
Results: results/STUDY/html/index.html. Stages that are up to date are not run again, and an
interrupted run continues where it stopped.
USAGE
}

fail() {
    echo "run_all.sh: $*" >&2
    exit 1
}

set_up() {
    if python -P -c 'import wmh' 2>/dev/null; then # -P: only an installed wmh counts, not this folder
        return
    fi
    local wanted
    wanted="$(cat requirements.lock pyproject.toml | cksum)"
    if [[ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]]; then
        install_into_venv
        echo "$wanted" >.venv/installed
    fi
    export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
}

install_into_venv() {
    local interpreter="${PYTHON:-python3}" python=.venv/bin/python
    "$interpreter" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "$interpreter is not Python 3.11 or newer. Install a newer one and name it: PYTHON=python3.12 ./run_all.sh"
    echo "Setting up .venv (once; a few GB are downloaded) ..."
    "$python" -c '' 2>/dev/null || rm -rf .venv
    "$interpreter" -m venv .venv ||
        fail "no virtual environment could be made. On Debian and Ubuntu: apt-get install python3-venv"
    # uv installs all packages in a minute, pip in several. pip installs uv from the same lock.
    sed -n '/^uv==/,/^    # via/p' requirements.lock >.venv/uv.txt
    "$python" -m pip install --quiet --require-hashes -r .venv/uv.txt ||
        fail "uv could not be installed. Check the network, and whether pip reaches its package index."
    "$python" -m uv pip install --quiet --python "$python" --require-hashes -r requirements.lock ||
        "$python" -m pip install --quiet --require-hashes -r requirements.lock ||
        fail "the packages of requirements.lock could not be installed; see the messages above"
    "$python" -m pip install --quiet --no-deps --editable . ||
        fail "the package wmh itself could not be installed; see the messages above"
}

case "${1:-demo}" in
    -h | --help)
        usage
        ;;
    test)
        set_up
        exec python -m pytest "${@:2}"
        ;;
    lab)
        set_up
        exec python -m jupyter lab notebooks "${@:2}"
        ;;
    -*)
        usage >&2
        fail "unknown option $1"
        ;;
    *)
        [[ $# -le 1 || "$2" == -* ]] || fail "give one study at a time, not: $*"
        set_up
        exec wmh run "${@:-demo}"
        ;;
esac
