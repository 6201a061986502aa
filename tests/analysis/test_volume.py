"""Agreement of lesion volumes, against volumes whose bias is known."""

import numpy as np
import pandas as pd
import pytest

from wmh.analysis.statistics import FLAIR, T1
from wmh.analysis.volume import volume_agreement
from wmh.figures.printed import volume_table


def rows(configuration, metric, values):
    return pd.DataFrame(
        {
            "subject": [f"s{i}" for i in range(len(values))],
            "model": configuration.model,
            "inputs_given": configuration.given,
            "structure": "lesions",
            "metric": metric,
            "value": values,
        }
    )


def test_a_constant_bias_and_a_perfect_volume():
    true = np.array([1.0, 4.0, 9.0, 20.0, 2.0])
    parts = [rows(c, "volume_truth_ml", true) for c in (FLAIR, T1)]
    parts += [rows(FLAIR, "volume_prediction_ml", true), rows(T1, "volume_prediction_ml", true + 3)]
    table = volume_agreement(pd.concat(parts), [FLAIR, T1]).set_index("model")
    assert table["rho"].tolist() == pytest.approx([1, 1])
    assert table["bias_ml"].tolist() == pytest.approx([0, 3])
    assert table.loc["flair", "icc"] == pytest.approx(1)
    assert 0.8 < table.loc["t1", "icc"] < 1
    assert table.loc["t1", "limit_high_ml"] == pytest.approx(3)
    assert (table["mean_truth_ml"] == 7.2).all()
    shown = volume_table(table.reset_index())
    assert shown.loc["T1", "bias [limits of agreement], ml"] == "+3.0 [+3.0, +3.0]"
