"""Lesions and regions of one person's scan, by the general model or by a study's models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path
from threading import Lock

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from wmh.analysis.burden import regional_burden
from wmh.analysis.metrics import connected_lesions
from wmh.atlas.grids import bounding_box
from wmh.atlas.regions import REST_LABELS
from wmh.cohorts.plausible import notices
from wmh.files import sha256_of
from wmh.images import Image, ImageError, load_image
from wmh.learning.devices import choose_device, keep_freed_memory
from wmh.learning.general import load_general
from wmh.learning.inference import predict_prepared, prepare
from wmh.learning.models import Model, choose_model, load_model_of
from wmh.predict.training_distribution import Quantity, compare_scan, training_scans
from wmh.study import Study

NEAR_MM = 5.0
"""A lesion voxel within this distance of a region belongs to the region."""

MOST_OUTSIDE = 0.1
"""Largest share of the lesion volume outside the regions that causes no warning."""


@dataclass(frozen=True)
class ScanPrediction:
    """Lesions and regions of one person, on the grid of the FLAIR, or of the T1 when it is alone.

    ``originals`` are the images as given, by modality, ``images`` the same on one grid.
    """

    originals: dict[str, Image]
    images: dict[str, Image]
    like: Image
    probability: np.ndarray
    lesions: Image
    regions: Image
    lesion_model: Model
    region_model: Model
    threshold: float
    mirrored: bool
    """True if the lesion probability is averaged with that of the mirrored images."""
    of_images: tuple[str, ...] = ()
    """What looks wrong with the images: :func:`wmh.cohorts.plausible.notices`."""
    quantities: tuple[Quantity, ...] = ()
    """The images compared with the training scans; empty if these are not known."""

    @property
    def regions_mirrored(self) -> bool:
        """True if the regions are averaged like the lesions, because one model predicts both."""
        return self.mirrored and self.region_model is self.lesion_model

    @cached_property
    def burden(self) -> pd.DataFrame:
        """Lesion burden of the 36 labels: :func:`wmh.analysis.burden.regional_burden`."""
        return regional_burden(self.lesions.data, self.regions.data, self.lesions.voxel_ml)

    @cached_property
    def lesion_ml(self) -> float:
        """Volume of all lesions in ml, inside and outside of regions."""
        return float(np.count_nonzero(self.lesions.data) * self.lesions.voxel_ml)

    @property
    def outside_ml(self) -> float:
        """Lesion volume in ml outside the 34 regions."""
        inside = self.burden[~self.burden["region"].isin(REST_LABELS)]
        return max(0.0, self.lesion_ml - float(inside["lesion_ml"].sum()))

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences on what looks wrong with the images, or with the prediction itself."""
        said = [*self.of_images]
        if "FLAIR" not in self.originals:
            said.append(
                "a T1 alone hardly shows these lesions: treat what was found with caution, and "
                "give the FLAIR, too, if there is one"
            )
        if self.outside_ml > MOST_OUTSIDE * self.lesion_ml:
            said.append(
                f"{self.outside_ml:.1f} of {self.lesion_ml:.1f} ml of lesion lie outside the 34 "
                "white-matter regions, where true lesions are rare; look at these slices"
            )
        return tuple(said)

    @property
    def unlike(self) -> list[str]:
        """Sentences that say in what way the images differ from the training scans."""
        return [quantity.unlike for quantity in self.quantities if quantity.unlike]

    @cached_property
    def lesion_count(self) -> int:
        """Number of connected lesions."""
        return int(connected_lesions(self.lesions.data > 0)[1])


def lesions_labelled(regions: np.ndarray, lesions: Image) -> np.ndarray:
    """Region labels (x, y, z) in which lesion voxels near a region get the nearest label.

    A lesion does not look like white matter, least of all on a T1, so that a network may leave it
    without a region.
    """
    if not regions.any():
        return regions
    box = bounding_box(lesions.data > 0, np.ceil(NEAR_MM / lesions.voxel_size).astype(int))
    labelled = regions.copy()
    part = labelled[box]
    distance, nearest = ndimage.distance_transform_edt(
        part == 0, sampling=lesions.voxel_size, return_indices=True
    )
    filled = (lesions.data[box] > 0) & (distance <= NEAR_MM)
    part[filled] = part[tuple(axis[filled] for axis in nearest)]
    return labelled


class Predictor:
    """The models that predict: a study's, or the general model if ``study`` is None.

    Each is read once. Of a study's models, those trained on exactly the given images are used
    first.
    """

    def __init__(self, study: Study | None, threads: int):
        keep_freed_memory()  # a tenth of a prediction's time
        self.study, self.threads = study, threads
        self._device = choose_device("auto" if study is None else study.compute.device)
        self.general = load_general(self._device) if study is None else None
        self.evaluation = (study or self.general).evaluation
        self.simulated = study is not None and study.cohort.simulated_alone
        self._lock = Lock()
        self._read: dict[str, Model] = {}

    @cached_property
    def training(self) -> pd.DataFrame | None:
        """Table of :func:`wmh.predict.training_distribution.training_scans`; None if not known."""
        return self.general.training_scans if self.general else training_scans(self.study)

    def models(self, given: Collection[str]) -> tuple[Model, Model]:
        """The models for lesions and for regions from the given modalities; may be the same."""
        if self.general:
            return self.general.model_of("lesions"), self.general.model_of("regions")
        lesions, regions = self._names(given)
        with self._lock:
            for name in {lesions, regions} - self._read.keys():
                self._read[name] = load_model_of(self.study, name, self._device)
        return self._read[lesions], self._read[regions]

    def _names(self, given: Collection[str]) -> list[str]:
        return [choose_model(self.study, task, given) for task in ("lesions", "regions")]

    def describe(self, prediction: ScanPrediction) -> str:
        """Name the model that predicted the lesions, and the images it was given."""
        model = prediction.lesion_model
        who = "general model" if self.general else f"model {model.name} of study {model.study}"
        return f"{who}, given {' and '.join(prediction.originals)}"

    def predict(self, given: Mapping[str, Path]) -> ScanPrediction:
        """Predict from the files of a FLAIR, a T1 or both, by modality.

        Raises :class:`wmh.images.ImageError` for an image that cannot be used, and
        :class:`wmh.learning.models.CheckpointError` when no model predicts from these modalities.
        """
        if not given:
            raise ImageError(None, "no image given", "Give --flair, --t1 or both")
        torch.set_num_threads(self.threads)  # here, because each Python thread has its own setting
        images = {modality: load_image(path) for modality, path in given.items()}
        with ThreadPoolExecutor(1) as beside:
            doubts = beside.submit(notices, images)
            quantities = beside.submit(lambda: compare_scan(images, self.training))
            try:
                prediction = self._predict(images)
            except ImageError:
                doubts.result()  # its error, such as "do not overlap", is the cause: raise it first
                raise
        return replace(
            prediction, of_images=tuple(doubts.result()), quantities=tuple(quantities.result())
        )

    def _predict(self, images: dict[str, Image]) -> ScanPrediction:
        """Predict lesions and regions, without the checks of the images."""
        lesion_model, region_model = self.models(images)
        prepared = cache(partial(prepare, images))  # both models mostly need the same voxel size
        found = predict_prepared(
            lesion_model, prepared(lesion_model.voxel_size_mm), self.evaluation
        )
        if not np.isfinite(found.probability).all():
            raise ImageError(
                found.like.path,
                f"model {lesion_model.name!r} predicts probabilities that are NaN or infinite",
                "Look at the images; if they are all right, train the model again",
            )
        regions = found.regions
        if region_model is not lesion_model:  # mirroring takes twice as long for 0.008 more Dice
            unmirrored = self.evaluation.model_copy(update={"mirroring": False})
            person = prepared(region_model.voxel_size_mm)
            regions = predict_prepared(region_model, person, unmirrored).regions
        lesions = Image(found.lesions(self.evaluation.threshold), found.like.affine)
        return ScanPrediction(
            originals=images,
            images=found.images,
            like=found.like,
            probability=found.probability.astype(np.float32),
            lesions=lesions,
            regions=Image(lesions_labelled(regions, lesions), found.like.affine),
            lesion_model=lesion_model,
            region_model=region_model,
            threshold=self.evaluation.threshold,
            mirrored=self.evaluation.mirroring,
        )

    def fingerprint(self, given: Mapping[str, Path]) -> str:
        """A hash of everything that a prediction depends on: images, weights, settings, version."""
        names = [] if self.general else self._names(given)
        weights = [_sha256(self.study.model_folder(name) / "checkpoint.pt") for name in names]
        parts = {
            "images": {modality: _sha256(path) for modality, path in sorted(given.items())},
            "weights": weights or [self.general.sha256],
            "settings": self.evaluation.model_dump(exclude={"bootstrap_samples", "alpha"}),
            "version": version("wmh"),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    """SHA-256 of a file's content, or ``unreadable`` if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return "unreadable"
