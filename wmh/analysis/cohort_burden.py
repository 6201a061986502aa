"""Where the true lesions of every subject of a study lie, training subjects included.

Predictions are judged on test subjects; groups and relations to other variables are about people,
and want as many of them as have true lesions.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from wmh.analysis.burden import TRUTH, regional_burden
from wmh.cohorts.cohort import Subject, load_lesions, read_cohort
from wmh.cores import cores_here
from wmh.images import load_labels
from wmh.study import Study


def cohort_burden(study: Study) -> pd.DataFrame:
    """The burden table of all subjects' true lesions in true regions; else in registered ones.

    Who has no region labels, as further people where only known ones count, is left out.
    """
    subjects = read_cohort(study.results / "cohort.csv")
    with ThreadPoolExecutor(cores_here()) as pool:
        tables = list(pool.map(partial(_burden_of, study.results / "regions"), subjects))
    labelled = [table for table in tables if table["region_ml"].any()]
    return pd.concat(labelled or tables, ignore_index=True)


def _burden_of(registered: Path, subject: Subject) -> pd.DataFrame:
    lesions = load_lesions(subject)
    regions = load_labels(subject.true_regions or registered / f"{subject.id}.nii.gz")
    table = regional_burden(lesions.data, regions.data, lesions.voxel_ml)
    about = {"subject": subject.id, "split": subject.split, "scanner": subject.scanner}
    for place, (column, value) in enumerate({**about, "source": TRUTH}.items()):
        table.insert(place, column, value)
    return table
