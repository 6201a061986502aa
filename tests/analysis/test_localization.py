"""Agreement and error by source, on burdens whose errors are known."""

import numpy as np
import pandas as pd
import pytest

from wmh.analysis.localization import (
    agreement_of_sources,
    error_parts,
    other_sources,
    summary_of_sources,
)
from wmh.figures.printed import agreement_table


def burden_of(repeats=1, n=12):
    """``separate`` is the truth, ``joint`` has noise."""
    rng = np.random.default_rng(0)
    truth = rng.gamma(1, 2, (n, 36))
    rows = []
    for repeat in range(1, repeats + 1):
        noisy = truth + rng.normal(0, 0.5, truth.shape)
        for source, ml in (("truth", truth), ("separate", truth), ("joint", noisy)):
            for (subject, place), value in np.ndenumerate(ml):
                wrong = value - truth[subject, place]
                row = (
                    f"s{subject}",
                    repeat,
                    source,
                    place + 1,
                    value,
                    wrong,
                    3 * wrong,
                    -2 * wrong,
                )
                rows.append(row)
    columns = ["subject", "repeat", "source", "region", "lesion_ml"]
    columns += ["error_ml", "from_lesions_ml", "from_regions_ml"]
    return pd.DataFrame(rows, columns=columns)


def test_a_source_that_is_the_truth_agrees_wholly():
    summary = summary_of_sources(burden_of()).set_index("source")
    assert list(summary.index) == ["separate", "joint"]
    assert summary.loc["separate", ["icc", "profile_correlation"]].tolist() == pytest.approx([1, 1])
    joint = summary.loc["joint"]
    assert 0.8 < joint["ci_low"] < joint["icc"] < joint["ci_high"] < 1
    assert joint["lower_quartile"] < joint["profile_correlation"] < joint["upper_quartile"]


def test_repeats_are_judged_one_by_one_and_not_pooled():
    """Averaging predictions first would make noise vanish and agreement look better."""
    burden = burden_of(repeats=3)
    summary = summary_of_sources(burden).set_index("source")
    single = [
        summary_of_sources(burden[burden["repeat"] == repeat])
        .set_index("source")
        .loc["joint", "icc"]
        for repeat in (1, 2, 3)
    ]
    assert summary.loc["joint", "icc"] == pytest.approx(np.mean(single))
    agreements = agreement_of_sources(burden)
    assert set(agreements["repeat"]) == {1, 2, 3}
    totals = agreements[(agreements["region"] == "all") & (agreements["source"] == "joint")]
    assert totals["icc"].nunique() == 3
    shown = agreement_table(summary.reset_index(), agreements)
    assert shown.loc["Joint model", "ICC(A,1) of the sum"].count(";") == 2


def test_parts_of_errors_are_summed_over_the_34_regions():
    burden = burden_of()
    parts = error_parts(burden)
    joint = burden[(burden["source"] == "joint") & (burden["region"] <= 34)]
    error = joint.groupby("subject")["error_ml"].apply(lambda ml: ml.abs().sum()).mean()
    assert parts.loc["joint"].tolist() == pytest.approx([error, 3 * error, 2 * error, 0.6])
    assert parts.loc["separate", "error_ml"] == 0
    assert np.isnan(parts.loc["separate", "share_from_lesions"])
    assert other_sources(burden) == ["separate", "joint"]


def test_of_the_truth_alone_there_is_nothing_to_agree():
    alone = burden_of()[lambda table: table["source"] == "truth"]
    agreements, summary = agreement_of_sources(alone), summary_of_sources(alone)
    assert list(agreements.columns) == list(agreement_of_sources(burden_of(n=3)).columns)
    assert len(agreement_table(summary, agreements)) == len(error_parts(alone)) == 0
