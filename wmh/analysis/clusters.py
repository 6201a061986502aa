"""Groups of subjects by where their lesions lie, and burden against other variables.

Grouping: each subject's profile is the share of its lesion volume in each of the 34 regions. The
square root of shares puts profiles on a sphere where the Euclidean distance is Hellinger's, and
Ward's method joins them. The number of groups is the one with the largest mean silhouette; where
that stays below 0.25, there is no structure to speak of (Kaufman and Rousseeuw 1990) and all
subjects are one group. Stability: how well the groups of 80 % of the subjects, drawn again and
again, agree with those of all (adjusted Rand index; 1 the same, 0 as by chance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from sklearn.metrics import adjusted_rand_score, silhouette_score

from wmh.analysis.statistics import holm
from wmh.atlas.regions import region_name

MOST_GROUPS = 6
WEAKEST_SILHOUETTE = 0.25
SUBSAMPLE = 0.8


@dataclass(frozen=True)
class Groups:
    """Subjects in groups.

    ``labels``: group 1..k by subject. ``tree``: SciPy's linkage, and ``order``, the subjects as the
    leaves of its dendrogram. ``silhouettes``: mean silhouette by number of groups. ``stability``:
    adjusted Rand index of every subsample (1 where all are one group).
    """

    labels: pd.Series
    tree: np.ndarray
    order: list[str]
    silhouettes: pd.Series
    stability: np.ndarray

    @property
    def count(self) -> int:
        """Number of groups."""
        return int(self.labels.max())


def group_subjects(profiles: pd.DataFrame, samples: int, seed: int) -> Groups:
    """Group subjects (rows) by their burden in regions (columns), in ml or shares.

    Subjects without any lesion have no profile and are left out. Raises ``ValueError`` when fewer
    than four are left.
    """
    profiles = profiles[profiles.sum(axis=1) > 0]
    if len(profiles) < 4:
        raise ValueError(
            f"{len(profiles)} subjects with lesions: groups need at least 4. Use a larger cohort"
        )
    points = hellinger_points(profiles.to_numpy())
    tree = linkage(points, method="ward")
    silhouettes = _silhouettes(points, tree)
    best = int(silhouettes.idxmax())
    count = best if silhouettes[best] >= WEAKEST_SILHOUETTE else 1
    return Groups(
        labels=pd.Series(_cut(tree, count), index=profiles.index, name="group"),
        tree=tree,
        order=list(profiles.index[leaves_list(tree)]),
        silhouettes=silhouettes,
        stability=stability(points, count, samples, seed),
    )


def hellinger_points(profiles: np.ndarray) -> np.ndarray:
    """Square roots of the shares of each row, shape (subjects, regions); unit vectors."""
    return np.sqrt(profiles / profiles.sum(axis=1, keepdims=True))


def stability(points: np.ndarray, count: int, samples: int, seed: int) -> np.ndarray:
    """Adjusted Rand index between the groups of all subjects and those of each subsample."""
    generator = np.random.default_rng(seed)
    everyone = _cut(linkage(points, method="ward"), count)
    size = max(3, round(SUBSAMPLE * len(points)))
    found = np.empty(samples)
    for i in range(samples):
        drawn = generator.choice(len(points), size, replace=False)
        again = _cut(linkage(points[drawn], method="ward"), count)
        found[i] = adjusted_rand_score(everyone[drawn], again)
    return found


def relate_burden(
    profiles: pd.DataFrame,
    participants: pd.DataFrame,
    variable: str,
    covariates: Sequence[str] = (),
) -> pd.DataFrame:
    """Is a variable tied to the burden of a region, beyond the load everywhere else?

    For each region: ``log(1 + ml) ~ variable + covariates + log(1 + ml elsewhere)``, by least
    squares with standard errors that allow for unequal spread (HC3), corrected by Holm over the
    regions. ``profiles`` holds ml by subject and region; ``participants`` is indexed by subject.
    Covariates that are words become indicator columns. Subjects without a value are left out.

    One row a region: region, region_name, n, ``slope`` (change of log(1 + ml) for one standard
    deviation of the variable) with its 95 % interval, p, p_holm. Raises ``ValueError`` for columns
    the participants do not have, and when too few subjects are left.
    """
    missing = [name for name in (variable, *covariates) if name not in participants]
    if missing:
        known = ", ".join(map(str, participants.columns))
        raise ValueError(f"the participants have no column {', '.join(missing)}; there are {known}")
    people = participants.set_axis(participants.index.astype(str))[[variable, *covariates]].dropna()
    both = profiles.index.astype(str).intersection(people.index)
    burden = profiles.set_axis(profiles.index.astype(str)).loc[both]
    design = _design(people.loc[both], variable, covariates)
    if len(both) < design.shape[1] + 4:
        raise ValueError(
            f"{len(both)} subjects have {variable!r} and a burden: too few for "
            f"{design.shape[1]} terms. Leave out covariates or use a larger cohort"
        )
    total = burden.sum(axis=1)
    rows = []
    for region in burden.columns:
        elsewhere = np.log1p((total - burden[region]).clip(lower=0).to_numpy())
        fitted = _slope(np.log1p(burden[region].to_numpy()), np.column_stack([design, elsewhere]))
        rows.append((region, region_name(region), len(both), *fitted))
    columns = ["region", "region_name", "n", "slope", "ci_low", "ci_high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = holm(table["p"])
    return table


def simulate_participants(
    profiles: pd.DataFrame, regions: Sequence[int], effect: float, seed: int
) -> pd.DataFrame:
    """Participants whose ``score`` is tied to the burden of known ``regions``, and to no other.

    The score rises by ``effect`` for each standard deviation of burden that a region has beyond
    what the load elsewhere would suggest, and falls with ``age``; its own noise has a standard
    deviation of 1. It shows that :func:`relate_burden` finds what is there.
    """
    generator = np.random.default_rng(seed)
    n = len(profiles)
    age = generator.normal(70, 8, n)
    score = generator.normal(0, 1, n) - 0.05 * (age - 70)
    total = profiles.sum(axis=1)
    for region in regions:
        here, elsewhere = np.log1p(profiles[region]), np.log1p(total - profiles[region])
        line = stats.linregress(elsewhere, here)
        beyond = here - (line.intercept + line.slope * elsewhere)
        score += effect * (beyond / beyond.std()).to_numpy()
    return pd.DataFrame({"score": score, "age": age}, index=profiles.index)


def _silhouettes(points: np.ndarray, tree: np.ndarray) -> pd.Series:
    """Mean silhouette for each number of groups from 2 on."""
    counts = range(2, min(MOST_GROUPS, len(points) - 1) + 1)
    return pd.Series(
        [_silhouette(points, _cut(tree, count)) for count in counts],
        index=counts,
        name="silhouette",
    )


def _silhouette(points: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette, 0 where equal profiles cannot be parted into that many groups."""
    return float(silhouette_score(points, labels)) if len(np.unique(labels)) > 1 else 0.0


def _cut(tree: np.ndarray, count: int) -> np.ndarray:
    """Group 1..count of each leaf."""
    return fcluster(tree, count, criterion="maxclust")


def _design(people: pd.DataFrame, variable: str, covariates: Sequence[str]) -> np.ndarray:
    """Columns: intercept, the standardized variable, covariates."""
    values = people[variable].astype(float)
    columns = [np.ones(len(people)), (values - values.mean()) / values.std()]
    if covariates:
        others = pd.get_dummies(people[list(covariates)], drop_first=True)
        columns.append(others.to_numpy(dtype=float))
    return np.column_stack(columns)


def _slope(response: np.ndarray, design: np.ndarray) -> tuple[float, float, float, float]:
    """Slope of the design's second column, its 95 % interval and p (HC3, t distribution).

    NaN for a response that is the same for all, such as a region no subject has lesions in.
    """
    if np.ptp(response) == 0:
        return (float("nan"),) * 4
    inverse = np.linalg.pinv(design.T @ design)
    effects = inverse @ design.T @ response
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    scaled = (response - design @ effects) / np.maximum(1 - leverage, 1e-9)
    covariance = inverse @ (design.T * scaled**2) @ design @ inverse
    error, freedom = np.sqrt(covariance[1, 1]), len(response) - design.shape[1]
    half = stats.t.isf(0.025, freedom) * error
    p = 2 * stats.t.sf(abs(effects[1] / error), freedom)
    return float(effects[1]), float(effects[1] - half), float(effects[1] + half), float(p)
