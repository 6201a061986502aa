"""The simulated cohort: built from nilearn's MNI152 templates, laid out as the challenge's data."""

from wmh.phantom.burden import (
    MEASURES,
    Burden,
    draw_burdens,
    lesion_statistics,
    real_quantiles,
)
from wmh.phantom.simulate import SimulatedSubject, simulate_subject
from wmh.phantom.writing import read_statistics, simulate_cohort, simulation_of

__all__ = [
    "MEASURES",
    "Burden",
    "SimulatedSubject",
    "draw_burdens",
    "lesion_statistics",
    "read_statistics",
    "real_quantiles",
    "simulate_cohort",
    "simulate_subject",
    "simulation_of",
]
