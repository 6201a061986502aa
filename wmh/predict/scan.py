"""Prediction of one person's scan: lesions, probability, regions, burden, a picture and a page."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import torch

from wmh.atlas.tissue import border_contrast
from wmh.cohorts.plausible import say
from wmh.cores import cores_here
from wmh.files import all_or_nothing, write_table
from wmh.images import (
    Image,
    load_labels,
    raise_unless_writable,
    resample_to,
    save_image,
)
from wmh.learning.devices import choose_device
from wmh.learning.general import load_general
from wmh.learning.inference import predict
from wmh.predict.predictor import Predictor, ScanPrediction, lesions_labelled
from wmh.study import Study


@dataclass(frozen=True)
class Written:
    """The prediction for one scan, the name of the model, and the written files."""

    prediction: ScanPrediction
    predicted_by: str
    paths: list[Path]


def predict_scan(
    study: Study | None, out: Path, flair: Path | None = None, t1: Path | None = None
) -> Written:
    """Predict one person's lesions and regions and write them to ``out``.

    The study's models predict, or the general model if ``study`` is None. ``lesions.nii.gz``,
    ``probability.nii.gz`` and ``regions.nii.gz`` lie on the grid of the FLAIR, or of the T1 when it
    is alone. ``burden.csv`` holds lesion volumes (ml) per region; ``overview.png`` and
    ``report.html`` show all results. The originals are only read. Whatever looks wrong is reported
    on the terminal and on the page.
    """
    raise_unless_writable(out)
    given = {"FLAIR": flair, "T1": t1}
    given = {modality: path for modality, path in given.items() if path is not None}
    with ThreadPoolExecutor(1) as beside:  # the drawing modules take a second to import
        beside.submit(import_module, "wmh.predict.report")
        predictor = Predictor(study, cores_here())
        found = predictor.predict(given)
    from wmh.predict import report

    say(found.notices)
    if found.unlike:
        say(
            [f"the scan is unlike the training scans: {found.unlike[0]}; see {out / 'report.html'}"]
        )
    predicted_by = predictor.describe(found)
    name = next(iter(found.originals.values())).path.name.partition(".nii")[0]
    with all_or_nothing(out) as fresh, ThreadPoolExecutor(1) as beside:
        page = beside.submit(report.write_report, fresh / "report.html", name, found, predictor)
        written = [
            save_image(fresh / "lesions.nii.gz", found.lesions.data, found.like),
            # rounded to three decimals, so that the compressed file is small
            save_image(fresh / "probability.nii.gz", found.probability.round(3), found.like),
            save_image(fresh / "regions.nii.gz", found.regions.data, found.like),
            write_table(found.burden, fresh / "burden.csv"),
            report.write_picture(fresh / "overview.png", found, predicted_by),
            page.result(),
        ]
    return Written(found, predicted_by, [out / path.name for path in written])


def label_by_model(out: Path, images: Mapping[str, Image], lesions: Path | None) -> float | None:
    """Write the regions that the general model finds in a person's images (by modality).

    They lie on the grid of the FLAIR, or of the T1 when it is alone. Known lesions close to a
    region get it. Returns the T1's contrast at the border of the regions, which shows whether they
    follow the image; None without a T1.
    """
    mask = None if lesions is None else load_labels(lesions, range(3))
    model = load_general(choose_device("auto")).model_of("regions")
    torch.set_num_threads(cores_here())
    found = predict(model, images)
    labels = found.regions
    if mask is not None:
        known = resample_to(mask, found.like, order=0)
        labels = lesions_labelled(labels, replace(known, data=known.data == 1))
    save_image(out, labels, found.like)
    t1 = found.images.get("T1")
    return None if t1 is None else border_contrast(t1, replace(t1, data=labels))
