"""Groups of subjects with similar lesion locations.

Each subject's profile is the share of its lesion volume in each of the 34 regions. Distances are
Euclidean between the square roots of shares (Hellinger distance), and Ward's method joins subjects
into groups. The number of groups is the one with the largest mean silhouette. If that is below
0.25, there is no substantial structure (Kaufman and Rousseeuw 1990), and all subjects form one
group. Stability is the agreement between the groups of all subjects and those of random subsets of
80 % (adjusted Rand index: 1 for equal groups, 0 for agreement by chance).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage

MOST_GROUPS = 6
WEAKEST_SILHOUETTE = 0.25
SUBSAMPLE = 0.8


@dataclass(frozen=True)
class Tree:
    """Subjects joined by Ward's method: SciPy's linkage, and the subjects in the leaves' order."""

    linkage: np.ndarray
    order: list[str]


@dataclass(frozen=True)
class Groups:
    """Groups of subjects.

    ``labels`` is the group, 1..k, by subject. ``choices`` holds, for each number of groups, the
    mean ``silhouette`` and the ``stability`` (mean adjusted Rand index of the subsamples).
    """

    labels: pd.Series
    choices: pd.DataFrame

    @property
    def count(self) -> int:
        """Number of groups."""
        return int(self.labels.max())


def join_subjects(profiles: pd.DataFrame) -> Tree:
    """The tree of the subjects (rows) that have lesions, by their burden in regions (columns)."""
    profiles = profiles[profiles.sum(axis=1) > 0]
    points = hellinger_points(profiles.to_numpy())
    joined = linkage(points, method="ward", optimal_ordering=True)
    return Tree(joined, list(profiles.index[leaves_list(joined)]))


def group_subjects(profiles: pd.DataFrame, samples: int, seed: int) -> Groups:
    """Group subjects (rows) by their burden in regions (columns), in ml or shares.

    Subjects without any lesion have no profile and are left out. Two subjects form one group.
    Raises ``ValueError`` when fewer than two are left.
    """
    profiles = profiles[profiles.sum(axis=1) > 0]
    if len(profiles) < 2:
        raise ValueError(f"{len(profiles)} subjects have lesions; groups need at least two")
    points = hellinger_points(profiles.to_numpy())
    tree = join_subjects(profiles).linkage
    numbers = range(2, min(MOST_GROUPS, len(points) - 1) + 1)
    silhouettes = pd.Series(
        [_silhouette(points, _cut(tree, k)) for k in numbers], numbers, dtype=float
    )
    count = int(silhouettes.idxmax()) if silhouettes.max() >= WEAKEST_SILHOUETTE else 1
    stable = [stability(points, k, samples, seed).mean() for k in numbers]
    return Groups(
        labels=pd.Series(_cut(tree, count), index=profiles.index, name="group"),
        choices=pd.DataFrame({"silhouette": silhouettes, "stability": stable}),
    )


def hellinger_points(profiles: np.ndarray) -> np.ndarray:
    """Square roots of the shares of each row, shape (subjects, regions); unit vectors."""
    return np.sqrt(profiles / profiles.sum(axis=1, keepdims=True))


def stability(points: np.ndarray, count: int, samples: int, seed: int) -> np.ndarray:
    """Adjusted Rand index between the groups of all subjects and those of each subsample."""
    from sklearn.metrics import adjusted_rand_score  # takes a second to import, and few need it

    generator = np.random.default_rng(seed)
    everyone = _cut(linkage(points, method="ward"), count)
    size = max(3, round(SUBSAMPLE * len(points)))
    found = np.empty(samples)
    for i in range(samples):
        drawn = generator.choice(len(points), size, replace=False)
        again = _cut(linkage(points[drawn], method="ward"), count)
        found[i] = adjusted_rand_score(everyone[drawn], again)
    return found


def _silhouette(points: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette; 0 if profiles are so equal that there is only one group."""
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(points, labels)) if len(np.unique(labels)) > 1 else 0.0


def _cut(tree: np.ndarray, count: int) -> np.ndarray:
    """The group, 1..count, of each leaf."""
    return fcluster(tree, count, criterion="maxclust")
