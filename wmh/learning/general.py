"""The general model, which comes with the package; ``benchmarks/pack_general.py`` packed it.

``wmh/weights/general.pt.gz`` holds checkpoints of one or several networks with weights in half
precision, and the further facts in :class:`General`.
"""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from wmh.files import sha256_of
from wmh.learning.models import CheckpointError, Model, model_of
from wmh.settings import Evaluation

WEIGHTS = Path(__file__).parents[1] / "weights" / "general.pt.gz"


@dataclass(frozen=True)
class General:
    """The general model, with the facts that reports show.

    ``trained_on`` (data sets) and ``scores`` (of models trained in the same way, on people they had
    not seen) are rows of tables to print. ``training_scans`` is the table of
    :func:`wmh.predict.training_distribution.training_scans`, with which a scan is compared.
    """

    models: list[Model]
    evaluation: Evaluation
    trained_on: list[dict[str, object]]
    scores: list[dict[str, object]]
    training_scans: pd.DataFrame
    sha256: str

    def model_of(self, task: str) -> Model:
        """The model for ``lesions`` or for ``regions``; a multitask model serves both."""
        return next(model for model in self.models if model.task in (task, "multitask"))


def load_general(device: torch.device | str = "cpu") -> General:
    """Read the general model. Raises :class:`CheckpointError` when its file cannot be used."""
    content = read_general(device)
    return General(
        models=[model_of(model, WEIGHTS, device) for model in content["models"]],
        evaluation=Evaluation(**content["evaluation"]),
        trained_on=content["trained_on"],
        scores=content["scores"],
        training_scans=pd.DataFrame(content["training_scans"]),
        sha256=sha256_of(WEIGHTS),
    )


def read_general(device: torch.device | str = "cpu") -> dict:
    """Read the content of the general model's file."""
    if not WEIGHTS.is_file():
        raise CheckpointError(
            f"{WEIGHTS}: the general model is missing. Install wmh again, or name a study whose "
            "models to use (--study NAME)"
        )
    try:
        whole = io.BytesIO(gzip.decompress(WEIGHTS.read_bytes()))
        return torch.load(whole, map_location=device, weights_only=True)
    except (OSError, EOFError, RuntimeError, zlib.error) as error:
        raise CheckpointError(f"{WEIGHTS}: damaged ({error}). Install wmh again") from error
