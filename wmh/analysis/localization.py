"""How well the burden of each source agrees with the truth, and where its error comes from."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wmh.analysis.burden import (
    AGREEMENT_COLUMNS,
    TRUTH,
    agreement,
    paired_profiles,
    profile_correlation,
    regional_icc,
)
from wmh.analysis.intervals import correlation_interval
from wmh.analysis.statistics import repeats_of
from wmh.atlas.regions import REST_LABELS


def agreement_of_sources(burden: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """:func:`wmh.analysis.burden.agreement` of every source and repeat of a burden table.

    A table that holds nothing but the truth gives one without rows.
    """
    tables = [
        agreement(rows, source, alpha).assign(repeat=number)
        for number, rows in enumerate(repeats_of(burden), start=1)
        for source in other_sources(burden)
    ]
    if not tables:
        return pd.DataFrame(columns=[*AGREEMENT_COLUMNS, "repeat"])
    return pd.concat(tables, ignore_index=True)


def summary_of_sources(burden: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """Agreement of each source, mean over the repeats of a study.

    One row a source: n, ``icc`` within regions with its interval, ``profile_correlation`` (median
    over subjects of the rank correlation of the 34 regions within a subject) and its quartiles.
    """
    rows = []
    for source in other_sources(burden):
        pairs = [paired_profiles(one, source) for one in repeats_of(burden)]
        arrays = [(true.to_numpy(), found.to_numpy()) for true, found in pairs]
        subjects = len(arrays[0][0])

        def agree(drawn: np.ndarray, arrays: list = arrays) -> float:
            return float(
                np.mean([regional_icc(true[drawn], found[drawn]) for true, found in arrays])
            )

        low, high = float("nan"), float("nan")
        if subjects > 2:
            low, high = correlation_interval(agree, subjects, alpha)
        within = pd.concat([profile_correlation(one, source) for one in repeats_of(burden)], axis=1)
        quartiles = within.mean(axis=1).quantile([0.5, 0.25, 0.75])
        rows.append((source, subjects, agree(np.arange(subjects)), low, high, *quartiles))
    names = ["source", "n", "icc", "ci_low", "ci_high"]
    names += ["profile_correlation", "lower_quartile", "upper_quartile"]
    return pd.DataFrame(rows, columns=names)


def error_parts(burden: pd.DataFrame) -> pd.DataFrame:
    """How much of each source's error comes from its lesions and how much from its regions.

    One row a source: mean over subjects (and repeats) of the absolute error in ml, summed over the
    34 regions, and of each part; ``share_from_lesions`` is of both parts together.
    """
    of_regions = burden[~burden["region"].isin(REST_LABELS) & (burden["source"] != TRUTH)]
    columns = ["error_ml", "from_lesions_ml", "from_regions_ml"]
    sizes = (
        of_regions[columns]
        .abs()
        .assign(
            source=of_regions["source"],
            subject=of_regions["subject"],
            repeat=of_regions.get("repeat", pd.Series(1, of_regions.index)),
        )
    )
    by_subject = sizes.groupby(["source", "subject", "repeat"], sort=False)[columns].sum()
    table = by_subject.groupby("source", sort=False).mean()
    both = table["from_lesions_ml"] + table["from_regions_ml"]
    return table.assign(share_from_lesions=table["from_lesions_ml"] / both.where(both > 0))


def other_sources(burden: pd.DataFrame) -> list[str]:
    """The sources of a burden table beside the truth, in its order."""
    return [source for source in burden["source"].unique() if source != TRUTH]
