"""The start of every study: its images, simulated where it says so, and its cohort table."""

from __future__ import annotations

import pandas as pd

from wmh.cohorts.gather import gather_cohort
from wmh.cores import cores_here
from wmh.phantom import MEASURES, read_statistics, real_quantiles, simulate_cohort
from wmh.study import Study

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def prepare_cohort(study: Study) -> pd.DataFrame:
    """Simulate the study's subjects if it is to, check all images, write and return the table."""
    if study.cohort.simulation is not None:
        seed = study.seed_for("simulation")
        simulate_cohort(study.cohort_folder, study.cohort.simulation, seed, cores_here())
    return gather_cohort(study)


def lesion_quantiles(study: Study, cohort: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of lesion burden over a cohort beside those of the challenge's 170 subjects.

    A simulated cohort knows its ventricles, so all measures are compared; of others the volume.
    """
    simulated = study.cohort.simulation is not None
    own = read_statistics(study.cohort_folder) if simulated else cohort
    measures = list(MEASURES if simulated else MEASURES[:1])
    both = {
        f"this cohort, {len(own)} subjects": own[measures].quantile(list(QUANTILES)),
        "challenge, 170 subjects": real_quantiles().loc[list(QUANTILES), measures],
    }
    return pd.concat(both, axis=1).swaplevel(axis=1)[measures].round(2)
