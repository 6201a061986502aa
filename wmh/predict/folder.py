"""Everyone of a folder or table: BIDS derivatives, a page each, and one table of all."""

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
from wmh.images import ImageError, all_or_nothing, raise_unless_writable
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
    """Outcome of one subject: predicted now, kept from before, or left out for a problem."""

    subject: str
    place: Place
    kept: bool = False
    notices: tuple[str, ...] = ()
    problem: Problem | None = None
    predicted_by: str | None = None


People = list[tuple[Found, Place]]
"""Subjects, and the places of their derivatives."""


def predict_folder(study: Study | None, source: Path, out: Path, jobs: int = 2) -> list[Done]:
    """Predict everyone of a folder or table here, by a study's models or the general one.

    Where ``study`` is None the general model predicts, for ``jobs`` subjects at a time. Otherwise
    like :func:`predict_all`.
    """
    return predict_all(source, out, lambda people: predict_people(study, source, people, jobs))


def predict_all(
    source: Path, out: Path, predict_these: Callable[[People], list[Done]]
) -> list[Done]:
    """Have everyone of a BIDS data set, a challenge tree or a CSV table predicted, in that order.

    ``out`` becomes a BIDS derivatives data set, to which one process at a time writes. A subject
    that cannot be predicted stops no other: it is returned with its problem, and listed in
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
    """Everyone of a data set, in order; of one name for several people's derivatives, a problem."""
    found = find_subjects(source, needed=())
    places = [Place(out, bids_name(entry.subject.id)) for entry in found]
    named = Counter(place.name for place in places)
    remedy = "Give every subject an id that differs from all others in letters or digits"

    def doubled(entry: Found, place: Place) -> Found:
        problem = f"several subjects would be named {place.name}"
        return replace(entry, problems=(Problem(entry.subject.id, problem, remedy),))

    return [
        (doubled(entry, place) if named[place.name] > 1 else entry, place)
        for entry, place in zip(found, places, strict=True)
    ]


def predict_people(study: Study | None, source: Path, people: People, jobs: int) -> list[Done]:
    """Predict people of a data set, so many at a time, and write what is of each alone.

    Who is there already, from the same images, weights and settings, is kept. Of no subject more
    than names, words and numbers stays in memory.
    """
    predictor = Predictor(study, max(1, cores_here() // jobs))
    _ = predictor.training  # a study's scans are looked at once, before anybody's
    pool = ThreadPoolExecutor(jobs)
    try:
        results = pool.map(lambda one: _predict_subject(*one, predictor, source), people)
        return list(tqdm(results, "predicting", len(people), unit="subject"))
    finally:  # once it is stopped, nobody else is begun
        pool.shutdown(cancel_futures=True)


@contextmanager
def only_one(out: Path) -> Iterator[int]:
    """Wait until no other process writes to a folder; what that one has done is then kept.

    Yields the descriptor of the lock, which a process that inherits it holds too.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            warnings.warn(f"{out}: waiting for another process that writes there", stacklevel=1)
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
        # in the order written, the record last
        with all_or_nothing(place.root, place.name) as root:
            fresh = replace(place, root=root)
            write_report(fresh.report, subject.id, found, predictor)
            write_derivatives(found, fresh, given, source, fingerprint)
            place.record.unlink(missing_ok=True)  # until all is moved the subject is not done
    except ImageError as error:
        problem = Problem(str(error.path), error.problem, error.remedy)
        return Done(subject.id, place, problem=problem)
    except CheckpointError as error:
        return left_out(str(error), "See `wmh predict --help`")
    except OSError as error:
        remedy = "Make room on the disk, or name another folder; who is done is kept"
        return left_out(f"{place.folder}: {error.strerror or error}", remedy)
    except Exception as error:  # what nobody thought of must not cost the others their results
        remedy = "This is a fault of the program; please report it with the image's header"
        return left_out(f"{type(error).__name__}: {error}", remedy)
    said = predictor.describe(found)
    return Done(subject.id, place, notices=found.notices, predicted_by=said)
