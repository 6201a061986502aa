"""The relation of regional burden to a variable in the user's own table of participants.

The variable may be, for instance, age, blood pressure or a test score.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy

from wmh.analysis.statistics import holm
from wmh.atlas.regions import region_name
from wmh.cohorts.cohort import CohortError
from wmh.cohorts.tables import read_table
from wmh.study import Study, project_root

IDENTITIES = ("participant_id", "subject", "id")
"""Columns that may name the participants; the first one found is used."""

RELATION = ["region", "region_name", "n", "slope", "ci_low", "ci_high", "p", "p_holm"]


def read_participants(path: Path | str, subjects: Sequence[str]) -> pd.DataFrame:
    """Read a participants table (TSV as in BIDS, or CSV) and return the rows of the subjects.

    Names are compared as written (``001`` is not ``1``), but without a leading ``sub-``. All
    sessions of a person share a row. A column becomes numbers if every known cell is a number.
    Raises :class:`CohortError` for a table without a column of names, with a name twice, with a row
    that has too many cells, or without any of the subjects.
    """
    cells = read_table(Path(path))
    columns = {column.lower(): column for column in reversed(cells.columns)}
    names = next((columns[name] for name in IDENTITIES if name in columns), None)
    if names is None:
        raise CohortError(
            f"{path}: no column names the participants. Add a column {' or '.join(IDENTITIES)}"
        )
    cells = cells.dropna(subset=names)
    cells.index = cells.pop(names).str.removeprefix("sub-").rename(None)
    twice = cells.index[cells.index.duplicated()]
    if len(twice):
        raise CohortError(f"{path}: participant {twice[0]} has two rows. Keep one of them")
    people = {name: name.partition("_ses-")[0].removeprefix("sub-") for name in subjects}
    known = [name for name, person in people.items() if person in cells.index]
    if not known:
        raise CohortError(
            f"{path}: has none of the study's subjects, such as {next(iter(people.values()), '')}. "
            f"Use the same names as in the study; the table has {', '.join(cells.index[:3])}"
        )
    return cells.loc[[people[name] for name in known]].set_axis(known).apply(_numbers)


def match_note(
    participants: pd.DataFrame, subjects: Sequence[str], variables: Sequence[str]
) -> str:
    """Say how many subjects have values of all variables, and which subjects have not.

    >>> match_note(participants, ["01", "02", "03"], ["age"])  # doctest: +SKIP
    '1 of 3 subjects matched. Not in the table: 03. Without a value of age: 02.'
    """
    absent = [name for name in subjects if name not in participants.index]
    empty = participants.index[participants[list(variables)].isna().any(axis=1)]
    parts = [f"{len(participants) - len(empty)} of {len(subjects)} subjects matched."]
    parts += [f"Not in the table: {', '.join(absent)}."] * bool(absent)
    value = " or ".join(variables)
    parts += [f"Without a value of {value}: {', '.join(empty)}."] * bool(len(empty))
    return " ".join(parts)


def relate_burden(
    profiles: pd.DataFrame,
    participants: pd.DataFrame,
    variable: str,
    covariates: Sequence[str] = (),
) -> pd.DataFrame:
    """Relate a variable to the burden of each region, adjusted for the load in all other regions.

    The model of each region is ``burden ~ variable + covariates + load``. It is fitted by least
    squares with standard errors that allow for unequal spread (HC3); p is corrected by Holm over
    the regions. Burdens are skewed and have many zeros, so they are replaced by normal scores of
    their ranks. The load is the mean score of all other regions. Their volume would depend mostly
    on the few largest regions, and an effect in one of these would then appear, with the opposite
    sign, in all others.

    ``profiles`` holds ml by subject and region; ``participants`` is indexed by subject. Covariates
    that are words become indicator columns. Subjects without a value are left out.

    One row per region: region, region_name, n, ``slope`` (in standard deviations of burden per
    standard deviation of the variable) with its 95 % interval, p, p_holm. The table is empty unless
    there are at least four subjects more than terms. Raises ``ValueError`` for columns that the
    participants do not have or that mix words and numbers, and for a variable that holds words, is
    the same for everybody or follows from the covariates.
    """
    # takes a second, and only one notebook needs it
    from statsmodels.regression.linear_model import OLS

    _raise_without_columns(participants, (variable, *covariates))
    people = participants.set_axis(participants.index.astype(str))[[variable, *covariates]].dropna()
    if variable in covariates:
        raise ValueError(f"{variable} is the variable and cannot be its own covariate")
    both = profiles.index.astype(str).intersection(people.index)
    scores = normal_scores(profiles.set_axis(profiles.index.astype(str)).loc[both])
    design = _design(people.loc[both], variable, covariates)
    if len(both) < design.shape[1] + 4:
        return pd.DataFrame(columns=RELATION)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        terms = " and ".join((variable, *covariates))
        raise ValueError(
            f"{terms} cannot be told apart in these {len(both)} subjects: one is the same for all, "
            "or follows from the others. Leave it out"
        )
    rows = []
    for region in scores:
        slope = (float("nan"),) * 4
        if np.ptp(scores[region]) > 0:  # the subjects' burdens in the region differ
            load = scores.drop(columns=region).mean(axis=1)
            with_load = np.column_stack([design, load])
            fitted = OLS(scores[region].to_numpy(), with_load).fit(cov_type="HC3", use_t=True)
            slope = (fitted.params[1], *fitted.conf_int()[1], fitted.pvalues[1])
        rows.append((region, region_name(region), len(both), *slope))
    table = pd.DataFrame(rows, columns=RELATION[:-1])
    return table.assign(p_holm=holm(table["p"]))


def raise_without_own_columns(study: Study) -> None:
    """Raise :class:`CohortError` if the study's table of participants lacks a column it names.

    Made before the first stage, because the table is used after the trainings.
    """
    table, variable, covariates = study.participants.model_dump().values()
    people = read_table(project_root() / table)
    try:
        _raise_without_columns(people, (variable, *covariates))
    except ValueError as error:
        raise CohortError(f"{table}: {error} (participants of study {study.name})") from error


def _raise_without_columns(participants: pd.DataFrame, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in participants]
    if missing:
        known = ", ".join(map(str, participants.columns))
        raise ValueError(
            f"no column {', '.join(missing)}. Set variable and covariates to columns of the table: "
            f"{known}"
        )


def relate_own_table(study: Study, profiles: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Relate the burden to the study's table of participants; also returns a note on its subjects.

    The relation is empty if the study names no table.
    """
    if study.participants is None:
        return pd.DataFrame(columns=RELATION), "This study has no table of participants."
    table, variable, covariates = study.participants.model_dump().values()
    people = read_participants(project_root() / table, profiles.index)
    try:
        relation = relate_burden(profiles, people, variable, covariates)
    except ValueError as error:
        raise CohortError(f"{table}: {error} (participants of study {study.name})") from error
    note = match_note(people, profiles.index, (variable, *covariates))
    terms = " and ".join((variable, *covariates))
    return relation, note + f" These are too few to relate burden to {terms}." * relation.empty


def relate_simulated_risk(
    profiles: pd.DataFrame, regions: Sequence[int], effect: float, seed: int
) -> pd.DataFrame:
    """Relate burden to a simulated risk (:func:`simulate_effect`), with age as covariate.

    The relation is empty for fewer than eight subjects.
    """
    if len(profiles) < 8:
        return pd.DataFrame(columns=RELATION)
    raised, people = simulate_effect(profiles, regions, effect, seed)
    return relate_burden(raised, people, "risk", ["age"])


def normal_scores(profiles: pd.DataFrame) -> pd.DataFrame:
    """Ranks of the subjects (rows) in each region as quantiles of a normal distribution.

    Ties share a rank. Scores of a region have standard deviation 1, or are all 0.
    """
    shares = (profiles.rank() - 0.5) / len(profiles)
    scores = pd.DataFrame(scipy.stats.norm.ppf(shares), profiles.index, profiles.columns)
    spread = scores.std()
    return (scores - scores.mean()) / spread.where(spread > 1e-12, 1)


def simulate_effect(
    profiles: pd.DataFrame, regions: Sequence[int], effect: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Raise the burden of the given ``regions``, and of no other, by a simulated ``risk``.

    The risk increases with ``age``. Each standard deviation of it multiplies the burden of these
    regions by ``exp(effect)``. Returns the new burden and the participants, to show that
    :func:`relate_burden` finds the effect in these regions.
    """
    generator = np.random.default_rng(seed)
    age = generator.normal(70, 8, len(profiles))
    risk = generator.normal(0, 1, len(profiles)) + 0.05 * (age - 70)
    standardized = (risk - risk.mean()) / risk.std(ddof=1)
    raised = profiles.copy()
    raised[list(regions)] = raised[list(regions)].mul(np.exp(effect * standardized), axis=0)
    return raised, pd.DataFrame({"risk": risk, "age": age}, index=profiles.index)


def _numbers(cells: pd.Series) -> pd.Series:
    """A column as numbers if all known cells are numbers; else unchanged."""
    numbers = pd.to_numeric(cells, errors="coerce")
    return numbers if numbers.notna().equals(cells.notna()) else cells


def _design(people: pd.DataFrame, variable: str, covariates: Sequence[str]) -> np.ndarray:
    """Columns: intercept, the standardized variable, covariates."""
    values = pd.to_numeric(people[variable], errors="coerce")
    if values.isna().any():
        word = people.loc[values.isna(), variable].iloc[0]
        raise ValueError(
            f"column {variable} holds {word!r}, which is not a number. Write numbers such as 70.5"
        )
    spread = values.std()
    columns = [np.ones(len(people)), (values - values.mean()) / (spread if spread > 0 else 1)]
    for name in covariates:
        is_number = pd.to_numeric(people[name], errors="coerce").notna()
        if is_number.any() and not is_number.all():
            word = people.loc[~is_number, name].iloc[0]
            raise ValueError(f"column {name} holds numbers and {word!r}. Write one or the other")
    if covariates:
        others = pd.get_dummies(people[list(covariates)], drop_first=True)
        columns.append(others.to_numpy(dtype=float))
    return np.column_stack(columns)
