"""Does a model find as much lesion as there is? Lesion volume (ml), predicted against true."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy import stats

from wmh.analysis.burden import bland_altman, icc_agreement
from wmh.analysis.statistics import LESIONS, Configuration, subject_values


def volume_agreement(
    metrics: pd.DataFrame, configurations: Sequence[Configuration], alpha: float = 0.05
) -> pd.DataFrame:
    """Agreement of the lesion volume of each subject with the truth.

    One row a configuration: n, mean_truth_ml, Bland and Altman's bias and limits (ml), Spearman's
    ``rho``, and ICC(A,1) with its interval.
    """
    rows = []
    for configuration in configurations:
        true, found = (
            subject_values(metrics, LESIONS, f"volume_{side}_ml", configuration).to_numpy()
            for side in ("truth", "prediction")
        )
        limits, icc = bland_altman(true, found), icc_agreement(true, found, alpha)
        rho = float(stats.spearmanr(true, found).statistic)
        side = (configuration.model, configuration.given)
        rows.append((*side, len(true), true.mean(), *limits, rho, *icc))
    names = ["model", "inputs_given", "n", "mean_truth_ml"]
    names += ["bias_ml", "limit_low_ml", "limit_high_ml", "rho", "icc", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=names)
