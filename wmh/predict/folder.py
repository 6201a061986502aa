"""Prediction of all people of a folder or table: BIDS derivatives, a page each, and one table."""

from __future__ import annotations

import fcntl
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from wmh.cohorts.bids import bids_name
from wmh.cohorts.cohort import Found, Problem
from wmh.cohorts.plausible import say
from wmh.cohorts.sources import find_subjects
from wmh.cores import cores_here
from wmh.files import all_or_nothing
from wmh.images import ImageError, raise_unless_writable
from wmh.learning.models import CheckpointError
from wmh.predict.derivatives import (
    Place,
    write_cohort_table,
    write_derivatives,
    write_description,
    write_tsv,
)
from wmh.predict.predictor import Predictor
from wmh.predict.report import write_report
from wmh.study import Study


@dataclass(frozen=True)
class Done:
    """The outcome for one subject: predicted now, kept from before, or left out with a problem."""

    subject: str
    place: Place
    kept: bool = False
    notices: tuple[str, ...] = ()
    problem: Problem | None = None
    predicted_by: str | None = None


People = list[tuple[Found, Place]]
"""Subjects, each with the place of its derivatives."""


def predict_folder(study: Study | None, source: Path, out: Path, jobs: int = 2) -> list[Done]:
    """Predict all people of a folder or table on this machine, ``jobs`` subjects at a time.

    The study's models predict, or the general model if ``study`` is None. See :func:`predict_all`.
    """
    return predict_all(source, out, lambda people: predict_people(study, source, people, jobs))


def predict_all(
    source: Path, out: Path, predict_these: Callable[[People], list[Done]]
) -> list[Done]:
    """Predict all people of a BIDS data set, a challenge tree or a CSV table by ``predict_these``.

    ``out`` becomes a BIDS derivatives data set; one process at a time writes to it. A subject that
    cannot be predicted does not stop the others: it is returned with its problem, and listed in
    ``left_out.tsv``. Raises :class:`wmh.cohorts.cohort.CohortError` when no subject is found.
    """
    raise_unless_writable(out)
    people = find_people(source, out)
    say(warning for entry, _ in people for warning in entry.warnings)
    with only_one(out):
        write_description(out, source)
        done = predict_these(people)
        say(notice for one in done for notice in one.notices)
        write_cohort_table(out, [(one.place, one.subject) for one in done if not one.problem])
        left_out = [
            (one.subject, one.problem.file, one.problem.problem, one.problem.remedy)
            for one in done
            if one.problem
        ]
        columns = ["source_id", "file", "problem", "remedy"]
        write_tsv(pd.DataFrame(left_out, columns=columns), out / "left_out.tsv")
    return done


def find_people(source: Path, out: Path) -> People:
    """All people of a data set, in order; a problem is added where two would get one file name."""
    found = find_subjects(source, needed=())
    places = [Place(out, bids_name(entry.subject.id)) for entry in found]
    named = Counter(place.name for place in places)
    remedy = "Give every subject an id that differs from all others in letters or digits"

    def doubled(entry: Found, place: Place) -> Found:
        problem = f"several subjects would get the name {place.name}"
        return replace(entry, problems=(Problem(entry.subject.id, problem, remedy),))

    return [
        (doubled(entry, place) if named[place.name] > 1 else entry, place)
        for entry, place in zip(found, places, strict=True)
    ]


def predict_people(study: Study | None, source: Path, people: People, jobs: int) -> list[Done]:
    """Predict people of a data set, ``jobs`` at a time, and write each person's files.

    Results that exist already, from the same images, weights and settings, are kept. Images do not
    stay in memory, so that it does not grow with the number of people.
    """
    predictor = Predictor(study, max(1, cores_here() // jobs))
    _ = predictor.training  # computed here, once, before the threads need it
    pool = ThreadPoolExecutor(jobs)
    try:
        results = pool.map(lambda one: _predict_subject(*one, predictor, source), people)
        return list(tqdm(results, "predicting", len(people), unit="subject"))
    finally:  # when stopped, no further subject is begun
        pool.shutdown(cancel_futures=True)


@contextmanager
def only_one(out: Path) -> Iterator[int]:
    """Hold a folder's lock, so that no other process writes there; wait until it is free.

    Yields the lock's descriptor; a child process that inherits it holds the lock, too.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            warnings.warn(f"{out}: waiting until another process has finished there", stacklevel=1)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _predict_subject(entry: Found, place: Place, predictor: Predictor, source: Path) -> Done:
    subject = entry.subject

    def left_out(problem: str, remedy: str) -> Done:
        return Done(subject.id, place, problem=Problem(subject.id, problem, remedy))

    if entry.problems:
        return Done(subject.id, place, problem=entry.problems[0])
    given = {"FLAIR": subject.flair, "T1": subject.t1}
    given = {modality: path for modality, path in given.items() if path is not None}
    try:
        fingerprint = predictor.fingerprint(given)
        if place.is_done(fingerprint):
            notices = tuple(place.read_record()["Notices"])
            return Done(subject.id, place, kept=True, notices=notices)
        found = predictor.predict(given)
        # files move in the order in which they were written, the record last
        with all_or_nothing(place.root, place.name) as root:
            fresh = replace(place, root=root)
            write_report(fresh.report, subject.id, found, predictor)
            write_derivatives(found, fresh, given, source, fingerprint)
            place.record.unlink(missing_ok=True)  # not done until all new files are moved
    except ImageError as error:
        problem = Problem(str(error.path), error.problem, error.remedy)
        return Done(subject.id, place, problem=problem)
    except CheckpointError as error:
        return left_out(str(error), "See `wmh predict --help`")
    except OSError as error:
        remedy = "Free space on the disk, or name another folder; finished subjects are kept"
        return left_out(f"{place.folder}: {error.strerror or error}", remedy)
    except Exception as error:  # an unexpected error must not cost the others their results
        remedy = "This is an error in wmh; please report it together with the image's header"
        return left_out(f"{type(error).__name__}: {error}", remedy)
    said = predictor.describe(found)
    return Done(subject.id, place, notices=found.notices, predicted_by=said)
