"""Predict the test subjects with every model and everything it may be given, and measure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from wmh.analysis.metrics import lesion_metrics, region_dice
from wmh.cohorts.cohort import Subject, load_lesions, load_pair, of_split, read_cohort
from wmh.images import load_labels, save_image
from wmh.learning.inference import Model, Prediction, load_model, predict
from wmh.learning.inputs import GIVEN, MODALITIES
from wmh.learning.training import choose_device
from wmh.study import Study

Row = dict[str, object]


def predict_and_measure(study: Study) -> pd.DataFrame:
    """Predict all test subjects, save the predictions, and return the tidy table of measures.

    Columns: subject, scanner, model, inputs_given, structure, metric, value. A model is tried on
    all that it accepts: FLAIR, T1 or both; the concatenated model with zeros for what is missing.
    """
    device = choose_device(study.compute.device)
    models = [load_model(study.model_folder(m) / "checkpoint.pt", device) for m in study.models]
    subjects = of_split(read_cohort(study.results / "cohort.csv"), "test")
    torch.set_num_threads(study.compute.threads)
    workers = os.cpu_count() if device.type == "cpu" else 1
    with ThreadPoolExecutor(workers) as pool:
        work = pool.map(partial(_test_subject, study, models), subjects)
        rows = [
            row for part in tqdm(work, "testing", len(subjects), unit="subject") for row in part
        ]
    return pd.DataFrame(rows)


def prediction_folder(study: Study, model: str, given: str) -> Path:
    """Folder of a model's predictions from what it was given (FLAIR, T1 or FLAIR+T1)."""
    return study.results / "predictions" / model / given


def _test_subject(study: Study, models: list[Model], subject: Subject) -> list[Row]:
    torch.set_num_threads(study.compute.threads)  # a setting of each thread
    images = dict(zip(MODALITIES, load_pair(subject), strict=True))
    rows = []
    for model in models:
        for name, given in GIVEN.items():
            if model.configuration.accepts(given):
                answer = predict(model, {m: images[m] for m in given})
                _save(study, subject, model, name, answer)
                about = {"subject": subject.id, "scanner": subject.scanner}
                about |= {"model": model.name, "inputs_given": name}
                rows += [about | row for row in _measure(study, subject, answer)]
    return rows


def _save(study: Study, subject: Subject, model: Model, given: str, answer: Prediction) -> None:
    folder = prediction_folder(study, model.name, given)
    if answer.probability is not None:
        lesions = answer.lesions(study.evaluation.threshold)
        save_image(folder / f"{subject.id}_lesions.nii.gz", lesions, answer.like)
        probability = answer.probability.round(3)  # three decimals, so that it packs small
        save_image(folder / f"{subject.id}_probability.nii.gz", probability, answer.like)
    if answer.regions is not None:
        save_image(folder / f"{subject.id}_regions.nii.gz", answer.regions, answer.like)


def _measure(study: Study, subject: Subject, answer: Prediction) -> Iterator[Row]:
    if answer.probability is not None:
        truth = load_lesions(subject)
        lesions = answer.lesions(study.evaluation.threshold)
        for metric, value in lesion_metrics(truth.data, lesions, truth.affine).items():
            yield {"structure": "lesions", "metric": metric, "value": value}
    if answer.regions is not None:
        truth = load_labels(study.results / "regions" / f"{subject.id}.nii.gz", range(37))
        dice = pd.Series(region_dice(truth.data, answer.regions))
        for label, value in dice.items():
            yield {"structure": f"region_{label:02d}", "metric": "dice", "value": value}
        yield {"structure": "regions_mean", "metric": "dice", "value": dice.loc[:34].mean()}
