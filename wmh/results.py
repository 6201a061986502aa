"""Names of a study's results: tables ``results/STUDY/NAME.csv``, and figures.

The Snakefile, the package, the pages and the tests take the names from here.
"""

from __future__ import annotations

TABLES = {
    "01_data_preparation": ("cohort",),
    "02_atlas_registration": ("regions", "region_volumes"),
    "05_evaluation": ("metrics", "burden"),
    "06_statistics": ("means", "comparisons", "claims", "volumes"),
    "07_localization": (
        "agreement",
        "agreement_summary",
        "error_parts",
        "cohort_burden",
        "groups",
        "group_choices",
    ),
}
"""The tables that each notebook always writes; some studies have further ones."""

FIGURES = (
    "01_pipeline",
    "02_qualitative",
    "03_measures",
    "04_missing",
    "05_scanners",
    "06_regions",
    "07_burden",
    "08_frequency",
    "09_curves",
    "10_claims",
)
"""The figures of notebook 8. Each is a picture, a page to print and a caption.

Each is drawn by the module of ``wmh.figures`` with the same name without the number.
"""
