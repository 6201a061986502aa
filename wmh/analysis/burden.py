"""Lesion burden: the lesion volume inside each white-matter region, true and predicted.

It is given in ml, in percent of the region, and as a share of the total lesion volume. A burden
table has one row per subject, source and region. ``source`` says which lesions and regions were
combined: ``truth``, ``separate``, ``joint`` or ``registered`` (see
:func:`wmh.analysis.testing.burden_table`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from wmh.analysis.metrics import raise_unless_same_shape
from wmh.atlas.regions import ALL_LABELS, REGION_LABELS, REGIONS, REST_LABELS
from wmh.cohorts.cohort import Subject, load_lesions, people_of, read_cohort
from wmh.cores import cores_here
from wmh.images import load_labels
from wmh.study import Study, made

TRUTH = "truth"


def regional_burden(lesions: np.ndarray, regions: np.ndarray, voxel_ml: float) -> pd.DataFrame:
    """Burden of the 36 labels, one row per region.

    ``lesions`` (x, y, z) is 1 in lesion; 2, other pathology, does not count. ``regions`` holds the
    labels 0 to 36. ``share_of_lesions`` is the share of all lesion volume, including lesion outside
    of all regions; it is NaN if there is no lesion. ``percent_of_region`` is NaN for a region that
    is not in the image. Raises :class:`wmh.images.ImageError` when the shapes differ.
    """
    raise_unless_same_shape(lesions, regions)
    lesion = (lesions >= 0.5) & (lesions <= 1.5)
    labels = np.array([region.label for region in REGIONS])
    region_ml, lesion_ml = (
        np.bincount(voxels, minlength=len(ALL_LABELS))[labels] * voxel_ml
        for voxels in (regions.ravel(order="K"), regions[lesion])
    )
    all_ml = np.count_nonzero(lesion) * voxel_ml
    return pd.DataFrame(
        {
            "region": labels,
            "region_name": [region.name for region in REGIONS],
            "side": [region.side for region in REGIONS],
            "lesion_ml": lesion_ml,
            "region_ml": region_ml,
            "percent_of_region": 100 * lesion_ml / np.where(region_ml > 0, region_ml, np.nan),
            "share_of_lesions": lesion_ml / (all_ml if all_ml else np.nan),
        }
    )


def split_error(
    true_lesions: np.ndarray,
    true_regions: np.ndarray,
    lesions: np.ndarray,
    regions: np.ndarray,
    voxel_ml: float,
) -> pd.DataFrame:
    """Split the error of a burden into the part from the lesions and the part from the regions.

    One row per region: ``error_ml`` (prediction minus truth), ``from_lesions_ml``,
    ``from_regions_ml``. The part from the lesions is the change when predicted lesions replace the
    true ones, averaged over true and predicted regions (Shapley value); the part from the regions
    likewise. The two parts add up to the error.
    """
    of_truth, of_lesions, of_regions, of_both = (
        regional_burden(*pair, voxel_ml)["lesion_ml"]
        for pair in (
            (true_lesions, true_regions),
            (lesions, true_regions),
            (true_lesions, regions),
            (lesions, regions),
        )
    )
    from_lesions = (of_lesions - of_truth + (of_both - of_regions)) / 2
    error = of_both - of_truth
    return pd.DataFrame(
        {
            "region": [region.label for region in REGIONS],
            "error_ml": error,
            "from_lesions_ml": from_lesions,
            "from_regions_ml": error - from_lesions,
        }
    )


def cohort_burden(study: Study) -> pd.DataFrame:
    """The burden table of the true lesions of all subjects, training subjects included.

    True regions are used, or else the labels of notebook 2. Subjects without region labels are left
    out: with ``regions.atlas: known``, the further people have none.
    """

    def true_burden(subject: Subject) -> pd.DataFrame:
        lesions = load_lesions(subject)
        regions = load_labels(
            subject.true_regions or made(study.region_labels(subject.id), "02_atlas_registration")
        )
        table = regional_burden(lesions.data, regions.data, lesions.voxel_ml)
        about = {"subject": subject.id, "split": subject.split, "scanner": subject.scanner}
        return table.assign(**about, source=TRUTH)[[*about, "source", *table]]

    with ThreadPoolExecutor(cores_here()) as pool:
        tables = list(pool.map(true_burden, read_cohort(study.table("cohort"))))
    labelled = [table for table in tables if table["region_ml"].any()]
    return pd.concat(labelled or tables, ignore_index=True)


def profiles(burden: pd.DataFrame, source: str, quantity: str = "lesion_ml") -> pd.DataFrame:
    """People (rows) by the 34 regions (columns) of one source.

    The mean over repeats, and over the sessions of a person.
    """
    return _profiles(burden.assign(subject=people_of(burden["subject"])), source, quantity)


def paired_profiles(burden: pd.DataFrame, source: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Profiles (ml) of truth and of a source over the subjects that have both.

    Each session counts: averaged first, predictions would agree better than any of them does.
    """
    burden = burden.assign(subject=burden["subject"].astype(str))
    truth, found = (_profiles(burden, one, "lesion_ml") for one in (TRUTH, source))
    both = truth.index.intersection(found.index)
    return truth.loc[both], found.loc[both]


def _profiles(burden: pd.DataFrame, source: str, quantity: str) -> pd.DataFrame:
    rows = burden[(burden["source"] == source) & ~burden["region"].isin(REST_LABELS)]
    wide = rows.pivot_table(index="subject", columns="region", values=quantity, dropna=False)
    return wide.reindex(columns=list(REGION_LABELS))


def error_parts(burden: pd.DataFrame) -> pd.DataFrame:
    """Mean size of each source's error, and of its parts from lesions and from regions.

    One row per source: the absolute error in ml, summed over the 34 regions and averaged over
    subjects and repeats, and the same for each part. ``share_from_lesions`` is the lesions' share
    of the sum of both parts.
    """
    columns = ["error_ml", "from_lesions_ml", "from_regions_ml"]
    of_regions = burden[~burden["region"].isin(REST_LABELS) & (burden["source"] != TRUTH)]
    sizes = of_regions.assign(**of_regions[columns].abs())
    by_subject = sizes.groupby(["source", "subject", "repeat"], sort=False)[columns].sum()
    table = by_subject.groupby("source", sort=False).mean()
    both = table["from_lesions_ml"] + table["from_regions_ml"]
    return table.assign(share_from_lesions=table["from_lesions_ml"] / both.where(both > 0))


def predicted_sources(burden: pd.DataFrame) -> list[str]:
    """The sources of a burden table other than the truth, in the table's order."""
    return [source for source in burden["source"].unique() if source != TRUTH]
