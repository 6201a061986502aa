"""Everyone of a folder or table: BIDS derivatives, a page each, and one table of all."""

from __future__ import annotations

import fcntl
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from wmh.cohorts.bids import bids_name
from wmh.cohorts.found import Found, Problem
from wmh.cohorts.plausible import say
from wmh.cohorts.sources import find_subjects
from wmh.cores import cores_here
from wmh.images import ImageError, all_or_nothing, raise_unless_writable
from wmh.learning.models import CheckpointError
from wmh.predict.answer import Answerer, answerer_of
from wmh.predict.cohort_table import write_cohort_table
from wmh.predict.derivatives import (
    Place,
    notices_of,
    write_description,
    write_images,
    write_sidecars,
    write_tsv,
)
from wmh.predict.page import write_report
from wmh.study import Study


@dataclass(frozen=True)
class Done:
    """What became of one subject: answered now, kept from before, or left out for a problem."""

    subject: str
    place: Place
    kept: bool = False
    notices: tuple[str, ...] = ()
    problem: Problem | None = None
    answered_by: str | None = None


def predict_folder(study: Study | None, source: Path, out: Path, jobs: int = 2) -> list[Done]:
    """Predict everyone of a BIDS data set, a challenge tree or a CSV table, in that order.

    A study's models answer, or the general model where ``study`` is None. ``out`` becomes a BIDS
    derivatives data set, to which one process at a time writes. Who is there already, from the same
    images, weights and settings, is kept. A subject that cannot be answered for stops no other: it
    is returned with its problem, and listed in ``left_out.tsv``. Raises
    :class:`wmh.cohorts.cohort.CohortError` when no subject is found.
    """
    raise_unless_writable(out)
    found = find_subjects(source, needed=())
    say(notice for one in found for notice in one.notices)
    with _only_one(out):
        return _predict_everyone(study, found, source, out, jobs)


def _predict_everyone(
    study: Study | None, found: list[Found], source: Path, out: Path, jobs: int
) -> list[Done]:
    write_description(out, source)
    answerer = answerer_of(study, max(1, cores_here() // jobs))
    training = answerer.training
    places = [Place(out, bids_name(entry.subject.id)) for entry in found]
    twice = {name for name, count in Counter(place.name for place in places).items() if count > 1}

    def work(entry: Found, place: Place) -> Done:
        return _predict_subject(entry, place, place.name in twice, answerer, training, source)

    pool = ThreadPoolExecutor(jobs)
    try:
        results = pool.map(work, found, places)
        done = list(tqdm(results, "predicting", len(found), unit="subject"))
    finally:  # once it is stopped, nobody else is begun
        pool.shutdown(cancel_futures=True)
    say(notice for one in done for notice in one.notices)
    write_cohort_table(out, [(one.place, one.subject) for one in done if one.problem is None])
    _write_left_out(out, done)
    return done


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Wait until no other process writes to a folder; what that one has done is then kept."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            warnings.warn(f"{out}: waiting for another process that writes there", stacklevel=1)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _predict_subject(
    found: Found,
    place: Place,
    doubled: bool,
    answerer: Answerer,
    training: pd.DataFrame | None,
    source: Path,
) -> Done:
    subject = found.subject
    if doubled:
        remedy = "Give every subject an id that differs from all others in letters or digits"
        return _left_out(found, place, f"several subjects would be named {place.name}", remedy)
    if found.problems:
        return Done(subject.id, place, problem=found.problems[0])
    given = {"FLAIR": subject.flair, "T1": subject.t1}
    given = {modality: path for modality, path in given.items() if path is not None}
    try:
        fingerprint = answerer.fingerprint(given)
        if place.is_done(fingerprint):
            return Done(subject.id, place, kept=True, notices=notices_of(place))
        answer = answerer.answer(given)
        with all_or_nothing(place.root) as root:
            fresh = replace(place, root=root)
            sidecars = write_images(answer, fresh, given, source)
            write_report(fresh.report, subject.id, answer, training, answerer)
            write_sidecars(fresh, sidecars, fingerprint)
            place.record.unlink(missing_ok=True)  # until all is moved the subject is not done
    except ImageError as error:
        problem = Problem(str(error.path), error.problem, error.remedy)
        return Done(subject.id, place, problem=problem)
    except CheckpointError as error:
        return _left_out(found, place, str(error), "See `wmh predict --help`")
    except OSError as error:
        remedy = "Make room on the disk, or name another folder; who is done is kept"
        return _left_out(found, place, f"{place.folder}: {error.strerror or error}", remedy)
    except Exception as error:  # what nobody thought of must not cost the others their results
        remedy = "This is a fault of the program; please report it with the image's header"
        return _left_out(found, place, f"{type(error).__name__}: {error}", remedy)
    said = answerer.describe(answer)
    return Done(subject.id, place, notices=answer.notices, answered_by=said)


def _left_out(found: Found, place: Place, problem: str, remedy: str) -> Done:
    return Done(found.subject.id, place, problem=Problem(found.subject.id, problem, remedy))


def _write_left_out(out: Path, done: Iterable[Done]) -> None:
    rows = [
        (one.subject, one.problem.file, one.problem.problem, one.problem.remedy)
        for one in done
        if one.problem is not None
    ]
    write_tsv(
        pd.DataFrame(rows, columns=["source_id", "file", "problem", "remedy"]),
        out / "left_out.tsv",
    )
