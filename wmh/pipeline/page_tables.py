"""Tables of a study's page, all cells as text: those that notebooks print, and a few longer ones.

The index of each names its rows, under the heading that is the index's name.
"""

from __future__ import annotations

import pandas as pd

from wmh.analysis.statistics import REGIONS_MEAN
from wmh.cohorts.cohort import scanners_table
from wmh.figures.printed import (
    evidence_table,
    means_table,
    p_text,
    printed,
    signed,
    with_interval,
)
from wmh.figures.style import MEASURES, SOURCES, configuration_name, in_order, scanner_name


def subjects_table(cohort: pd.DataFrame) -> pd.DataFrame:
    """Subjects and their lesion volume by split and scanner."""
    table = scanners_table(cohort).reset_index().drop(columns="grid")
    table["scanner"] = [scanner_name(name).replace("\n", ", ") for name in table["scanner"]]
    volumes = table.columns[table.columns.str.startswith("lesion_ml")]
    table[volumes] = table[volumes].map(printed, metric="ml")
    headings = ("Split", "Scanner", "Subjects", "Median lesion volume, ml", "Smallest", "Largest")
    return table.set_axis(headings, axis="columns").set_index("Scanner")


def claims_at_a_glance(claims: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Every claim: the sentence, its verdict, and the parts that this rests on."""
    return [
        (rows["sentence"].iloc[0], rows["claim_verdict"].iloc[0], evidence_table(rows))
        for _, rows in claims.groupby("claim", sort=False)
    ]


def claims_table(claims: pd.DataFrame) -> pd.DataFrame:
    """Every part of every claim, a line each."""
    glance = enumerate(claims_at_a_glance(claims), start=1)
    parts = pd.concat([parts.assign(claim=number) for number, (_, _, parts) in glance])
    return parts.rename_axis("comparison").fillna("–")


def measures_table(means: pd.DataFrame) -> pd.DataFrame:
    """Mean measures of each configuration with their intervals over the test subjects."""
    return means_table(means).replace("", "–").rename_axis("configuration")


def comparisons_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Every planned comparison: paired difference, effect size and corrected p."""
    rows = {}
    for row in comparisons.itertuples():
        first = configuration_name(row.model_a, row.inputs_a)
        second = configuration_name(row.model_b, row.inputs_b)
        known = MEASURES.get(row.metric)
        measure = known.label if known else row.metric.replace("_", " ")
        rows[row.Index] = {
            "comparison": f"{first} minus {second}",
            "measure": f"Region {measure}" if row.structure == REGIONS_MEAN else measure,
            "family": row.family,
            "n": row.n,
            "mean difference [interval]": with_interval(
                row.mean_difference, row.ci_low, row.ci_high, row.metric, difference=True
            ),
            "rank-biserial effect": signed(row.rank_biserial),
            "corrected p": p_text(row.p_holm),
        }
    return pd.DataFrame.from_dict(rows, orient="index").set_index("comparison")


def burden_table(burden: pd.DataFrame, agreement: pd.DataFrame | None) -> pd.DataFrame:
    """Mean lesion volume by region, true and as each source finds it, with its agreement."""
    measured = ["lesion_ml", "percent_of_region", "share_of_lesions"]
    means = burden.groupby(["source", "region", "region_name"])[measured].mean()
    truth = means.loc["truth"]
    table = pd.DataFrame(
        {
            "truth, ml": truth["lesion_ml"].map(printed),
            "truth, % of region": truth["percent_of_region"].map(printed, metric="percent"),
            "truth, % of all lesion": (100 * truth["share_of_lesions"]).map(
                printed, metric="percent"
            ),
        }
    )
    regions = table.index.get_level_values("region").astype(str)
    for source in in_order(burden["source"], SOURCES):
        if source == "truth":
            continue
        name = SOURCES[source].name
        table[f"{name}, ml"] = means.loc[source, "lesion_ml"].map(printed)
        if agreement is not None:
            own = agreement[agreement["source"] == source]
            icc = own.groupby("region")["icc"].mean().reindex(regions)
            table[f"{name}, ICC(A,1)"] = icc.map(printed).to_numpy()
    return table.fillna("–").droplevel("region").rename_axis("region")
