"""What a study's models say about one person's scan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from threading import Lock

import numpy as np
import pandas as pd
import torch

from wmh.analysis.burden import regional_burden
from wmh.analysis.metrics import connected_lesions
from wmh.cohorts.plausible import notices
from wmh.images import Image, ImageError, load_image
from wmh.learning.devices import choose_device
from wmh.learning.inference import predict
from wmh.learning.inputs import MODALITIES
from wmh.learning.models import Model, choose_model, load_model_of
from wmh.study import Study


@dataclass(frozen=True)
class Answer:
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
    """Whether each prediction is the mean with that from the mirrored images."""
    notices: tuple[str, ...] = ()
    """What looks wrong with the images: :func:`wmh.cohorts.plausible.notices`."""

    @cached_property
    def burden(self) -> pd.DataFrame:
        """Lesion burden of the 36 labels: :func:`wmh.analysis.burden.regional_burden`."""
        return regional_burden(self.lesions.data, self.regions.data, self.lesions.voxel_ml)

    @cached_property
    def lesion_ml(self) -> float:
        """All lesion volume in ml, also that outside every region."""
        return float(np.count_nonzero(self.lesions.data) * self.lesions.voxel_ml)

    @cached_property
    def lesion_count(self) -> int:
        """Number of connected lesions."""
        return int(connected_lesions(self.lesions.data > 0)[1])


class Answerer:
    """A study's models, each read once, and what they answer."""

    def __init__(self, study: Study):
        self.study = study
        self._device = choose_device(study.compute.device)
        self._models: dict[str, Model] = {}
        self._digests: dict[str, str] = {}
        self._lock = Lock()

    def answer(self, given: Mapping[str, Path]) -> Answer:
        """Answer from images by modality, FLAIR and T1 or one of the two.

        Raises :class:`wmh.images.ImageError` for an image that cannot be used and
        :class:`wmh.learning.models.CheckpointError` when no model answers from these.
        """
        if not given:
            raise ImageError(None, "no image given", "Give --flair, --t1 or both")
        torch.set_num_threads(self.study.compute.threads)  # a setting of each thread
        images = {modality: load_image(path) for modality, path in given.items()}
        doubts = tuple(notices(images))
        lesion_model, region_model = (self._model(name) for name in self._choose(given))
        settings = self.study.evaluation
        found = predict(lesion_model, images, settings)
        if not np.isfinite(found.probability).all():
            raise ImageError(
                found.like.path,
                f"model {lesion_model.name!r} answers with what is no number",
                "Look at the images; if they are as they should be, train the model again",
            )
        return Answer(
            originals=images,
            images=found.images,
            like=found.like,
            probability=found.probability.astype(np.float32),
            lesions=Image(found.lesions(self._threshold), found.like.affine),
            regions=Image(predict(region_model, images, settings).regions, found.like.affine),
            lesion_model=lesion_model,
            region_model=region_model,
            threshold=self._threshold,
            mirrored=settings.mirroring,
            notices=doubts,
        )

    def fingerprint(self, given: Mapping[str, Path]) -> str:
        """A hash of all that an answer depends on: images, checkpoints, settings, version."""
        parts = {
            "images": {modality: _sha256(path) for modality, path in sorted(given.items())},
            "checkpoints": {name: self._digest(name) for name in self._choose(given)},
            "settings": self.study.evaluation.model_dump(exclude={"bootstrap_samples", "alpha"}),
            "threshold": self._threshold,
            "version": version("wmh"),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _choose(self, given: Collection[str]) -> tuple[str, str]:
        """Names of the models that answer for lesions and for regions."""
        named = self.study.own_scans.models.get("+".join(m for m in MODALITIES if m in given))
        return (
            named or choose_model(self.study, "lesions", given),
            choose_model(self.study, "regions", given),
        )

    @property
    def _threshold(self) -> float:
        return self.study.own_scans.threshold or self.study.evaluation.threshold

    def _checkpoint(self, name: str) -> Path:
        return self.study.model_folder(name) / "checkpoint.pt"

    def _model(self, name: str) -> Model:
        with self._lock:
            if name not in self._models:
                self._models[name] = load_model_of(self.study, name, self._device)
            return self._models[name]

    def _digest(self, name: str) -> str:
        with self._lock:
            if name not in self._digests:
                self._digests[name] = _sha256(self._checkpoint(name))
            return self._digests[name]


def _sha256(path: Path) -> str:
    """Of a file's content; of a file that cannot be read, a word that says so."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"
