"""The paper's claims, each with its test and a verdict computed from the numbers.

A claim has one or more parts. A part is a quantity that is large and positive if the claim holds: a
mean paired difference, in the direction of the claim, or an intraclass correlation. It is compared
with the smallest value that matters. A part is

- ``supported`` if its whole interval lies above that value, and the paired test confirms it
  (Wilcoxon, after Holm's correction over all claims);
- ``not supported`` if its whole interval lies below that value;
- ``inconclusive`` otherwise: the interval contains the value, or the test does not confirm it. It
  is also inconclusive if subjects are so few (five, at the usual 0.05) that no test could ever be
  significant; an interval from so few subjects is too narrow;
- ``not judged`` if the study has no model for it.

A claim is supported if all parts are, not supported if any part is not supported, and not judged if
no part is judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wmh.analysis.agreement import icc_within_regions
from wmh.analysis.statistics import (
    CONCATENATED,
    FLAIR,
    INTERCHANGEABLE,
    LESIONS,
    REGIONS_MEAN,
    T1,
    Comparison,
    Configuration,
    compare,
    joint_and_alone,
)
from wmh.settings import Evaluation

SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"
NOT_JUDGED = "not judged"

SMALLEST_DICE_DIFFERENCE = 0.02
"""Smallest Dice difference that matters. Two further observers of the challenge's training scans
reach a Dice of 0.770 and 0.785 against the reference (n = 60; JeanBrrt/wmh-multisite), so that even
two experts differ by 0.015."""

SMALLEST_ICC = 0.75
"""Smallest ICC that matters: from this value agreement is called good (Koo and Li 2016)."""

NUMBERS = ["n", "mean_difference", "ci_low", "ci_high", "p_holm"]
"""Numbers of each part of a claim; for an agreement, ``mean_difference`` is the ICC."""


@dataclass(frozen=True)
class Claim:
    """A claim, worded after a sentence, or half of one, in the paper's abstract (arXiv 2506.22041).

    A part is a paired comparison, or the source of a regional burden that should agree with the
    truth.
    """

    id: str
    sentence: str
    parts: tuple[Comparison | str, ...]


def paper_claims(joint_inputs: str = "interchangeable") -> tuple[Claim, ...]:
    """The five claims; ``joint_inputs`` is the input configuration of the joint model."""

    def better(a: Configuration, b: Configuration, structure: str = LESIONS) -> Comparison:
        return Comparison("claims", structure, "dice", a, b)

    joint, lesions_alone, regions_alone = joint_and_alone(joint_inputs)
    return (
        Claim(
            "multimodal_is_better",
            "Multimodal input significantly improves the segmentation performance, outperforming "
            "unimodal models.",
            (better(CONCATENATED, FLAIR), better(CONCATENATED, T1)),
        ),
        Claim(
            "interchangeable_trades_accuracy",
            "The modality-interchangeable setting trades accuracy for robustness.",
            (better(CONCATENATED, INTERCHANGEABLE),),
        ),
        Claim(
            "interchangeable_is_robust",
            "The modality-interchangeable setting enables inference in cases with missing "
            "modalities.",
            tuple(
                better(
                    Configuration(INTERCHANGEABLE.model, alone.given),
                    Configuration(CONCATENATED.model, alone.given),
                )
                for alone in (FLAIR, T1)
            ),
        ),
        Claim(
            "joint_is_less_effective",
            "Joint lesion-region segmentation using multi-task learning was less effective than "
            "separate models.",
            (
                better(lesions_alone, joint),
                better(regions_alone, joint, REGIONS_MEAN),
            ),
        ),
        Claim(
            "joint_burden_agrees",
            "Joint modeling has potential for integrated predictions: region-wise lesion burden.",
            ("joint",),
        ),
    )


def judge(
    metrics: pd.DataFrame,
    burden: pd.DataFrame,
    settings: Evaluation,
    seed: int,
    claims: Sequence[Claim],
) -> pd.DataFrame:
    """The claims table: one row per part of a claim.

    ``metrics`` and ``burden`` are the tidy tables; ``seed`` is for the bootstrap. Verdicts rest on
    the average over the study's repeats (see :mod:`wmh.analysis.statistics`). ``repeat_sd`` is the
    standard deviation of the effect over repeats, ``repeat_low`` and ``repeat_high`` are its
    smallest and largest value, and ``repeats_agreeing`` counts the repeats that alone give the same
    verdict. ``verdict`` belongs to the row, ``claim_verdict`` to the whole claim. A part that was
    not measured has ``n`` 0 and no numbers.
    """
    table = _judge_once(metrics, burden, settings, seed, claims)
    single = [
        _judge_once(one, burden[burden["repeat"] == repeat], settings, seed, claims)
        for repeat, one in metrics.groupby("repeat")
    ]
    effects = pd.concat([one["mean_difference"] for one in single], axis=1)
    same = pd.concat([one["verdict"] == table["verdict"] for one in single], axis=1)
    return table.assign(
        repeats=len(single),
        repeat_sd=effects.std(axis=1),
        repeat_low=effects.min(axis=1),
        repeat_high=effects.max(axis=1),
        repeats_agreeing=same.sum(axis=1),
    )


def verdict(low: float, high: float, smallest: float, p: float, alpha: float) -> str:
    """The verdict on one quantity; ``p`` is NaN if the interval alone is the test."""
    if math.isnan(low) or math.isnan(high):
        return INCONCLUSIVE
    if high < smallest:
        return NOT_SUPPORTED
    if low > smallest and (math.isnan(p) or p < alpha):
        return SUPPORTED
    return INCONCLUSIVE


def overall(verdicts: Sequence[str]) -> str:
    """The verdict on a claim of several parts."""
    different = set(verdicts)
    if NOT_SUPPORTED in different:
        return NOT_SUPPORTED
    return different.pop() if len(different) == 1 else INCONCLUSIVE


def _judge_once(
    metrics: pd.DataFrame,
    burden: pd.DataFrame,
    settings: Evaluation,
    seed: int,
    claims: Sequence[Claim],
) -> pd.DataFrame:
    parts = [(claim, part) for claim in claims for part in claim.parts]
    comparisons = [part for _, part in parts if isinstance(part, Comparison)]
    compared = compare(metrics, comparisons, settings, seed)[NUMBERS].itertuples(index=False)
    rows = []
    for claim, part in parts:
        if isinstance(part, Comparison):
            numbers, smallest = next(compared), SMALLEST_DICE_DIFFERENCE
            measure = "lesion Dice" if part.structure == LESIONS else "mean region Dice"
            words = f"{measure}: {part.a} minus {part.b}"
        else:
            n, icc, smallest = 0, None, SMALLEST_ICC
            if part in set(burden["source"]):
                n, icc = icc_within_regions(burden, part, settings.alpha)
            numbers = (n, *(icc if n > 2 else (np.nan,) * 3), np.nan)
            words = f"regional burden (ml): ICC(A,1) of {part} with truth"
        n, _, low, high, p = numbers
        said = verdict(low, high, smallest, p, settings.alpha)
        if 2.0 ** (1 - n) >= settings.alpha:  # the smallest p of n pairs
            said = INCONCLUSIVE if n else NOT_JUDGED
        rows.append((claim.id, claim.sentence, words, *numbers, smallest, said))
    columns = ["claim", "sentence", "comparison", *NUMBERS, "smallest_difference", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    table["claim_verdict"] = table.groupby("claim")["verdict"].transform(overall)
    return table
