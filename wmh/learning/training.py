"""Training: draw, augment, forward, loss, step, checkpoint.

A batch holds slices of a few people, and each person goes through the network alone. Batch
normalisation thus sees one head on one scanner, in training as at inference.

Every step seeds its own generator from study, model and step. An interrupted training therefore
goes on exactly as if it had not been interrupted, with nothing but weights and step to restore.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from wmh.learning.batches import Batch, draw_batch
from wmh.learning.checkpoints import (
    State,
    facts_of,
    finish,
    identity_of,
    origin_of,
    restore,
    save_state,
)
from wmh.learning.devices import (
    MEMORY_OF,
    autocast,
    choose_device,
    is_out_of_memory,
    keep_freed_memory,
    when_out_of_memory,
)
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.losses import loss_of
from wmh.learning.networks.build import build_network, to_device
from wmh.learning.networks.encoder_decoders import STRUCTURES
from wmh.learning.networks.prior import WithRegionPrior
from wmh.learning.optimiser import build_optimiser, learning_rate
from wmh.learning.slices import Slices
from wmh.learning.start import start_from
from wmh.learning.validation import validation_scores
from wmh.settings import NetworkSettings
from wmh.study import Study


class TrainingError(RuntimeError):
    """A training that cannot go on. The message says why and what to change."""


@dataclass(frozen=True)
class Step:
    """Values of a step looked at later, so that no step waits for a GPU: two scalars, and ids."""

    loss: torch.Tensor
    gradient_norm: torch.Tensor
    subjects: tuple[str, ...]


class Run(State):
    """A training of one model of a study: what surrounds the loop that a notebook shows.

    It starts, or goes on where an interrupted one stopped; it keeps the best weights and the state
    to go on from; and it says in words what went wrong. :func:`train` is the whole loop.
    """

    def __init__(self, study: Study, model: str, learn: Slices, validate: Slices):
        """Raises :class:`TrainingError` when memory runs out for the slices."""
        self.study, self.model = study, model
        self.settings, self.training = study.models[model], study.training
        self.configuration = CONFIGURATIONS[self.settings.inputs]
        torch.set_num_threads(study.compute.threads)
        keep_freed_memory()
        self.device = choose_device(study.compute.device)
        with when_out_of_memory(partial(_slices_too_large, model, self.device)):
            self.learn, self.validate = (
                part.to(self.device, study.slices.storage) for part in (learn, validate)
            )
        super().__init__(*_start(study, model, self.learn, self.device))
        self.folder = study.model_folder(model)
        self._identity = identity_of(study, model, self.learn, self.validate)
        # of now, not the end
        self._about = facts_of(study, model) | origin_of(study, model, self.learn, self.validate)
        restore(self, self.folder / "resume.pt", self._identity, self.device)
        self._steps: list[Step] = []
        self._since = time.perf_counter()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MemoryError | RuntimeError) and is_out_of_memory(error):
            raise self._too_large() from error

    def steps(self) -> Iterator[torch.Generator]:
        """The steps still to take, with a progress bar: of each the generator of its own."""
        in_a_step = self.training.batch_size
        with tqdm(
            desc=f"training {self.model}",
            initial=self.step * in_a_step,
            total=self.settings.steps * in_a_step,
            unit=" slices" if self.training.network.dimensions == 2 else " patches",
            mininterval=1,
        ) as self._progress:
            while self.step < self.settings.steps:
                self.learning_rate = learning_rate(self.step, self.settings.steps, self.training)
                for group in self.optimiser.param_groups:
                    group["lr"] = self.learning_rate
                seed = self.study.seed_for("train", self.model, self.step)
                yield torch.Generator().manual_seed(seed)

    def precision(self) -> AbstractContextManager:
        """In which the network is to compute: mixed precision where the study wants it."""
        return autocast(self.device, self.training.precision, self.training.network.dimensions)

    def descend(self, loss: torch.Tensor, batch: Batch) -> None:
        """One step of the optimiser down the gradient of a loss. Nothing in it waits for a GPU."""
        loss.backward()
        gradient_norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._steps.append(Step(loss.detach(), gradient_norm.detach(), batch.subjects))
        self.step += 1
        self._progress.update(self.training.batch_size)

    @property
    def is_to_validate(self) -> bool:
        """True where validation is due at this step, and was not done yet."""
        due = self.step % self.training.validate_every == 0 or self.step == self.settings.steps
        return due and self.step > (self.history[-1]["step"] if self.history else 0)

    def keep_best(self, scores: dict[str, float]) -> None:
        """Add validation scores to the history, and keep the weights if they are the best so far.

        Raises :class:`TrainingError` where a loss since the last validation was not finite.
        """
        train_loss = self._mean_loss()
        row = {"step": self.step, "train_loss": train_loss, **scores}
        row["steady_dice"] = steady_dice(self.history, scores["validation_dice"])
        row |= {f"{k}_weight": math.exp(-s.item()) for k, s in self.log_variances.items()}
        row |= {
            "learning_rate": self.learning_rate,
            "seconds": time.perf_counter() - self._since,
        }
        self.history.append(row)
        if row["steady_dice"] > self.best_dice:
            self.best_dice = row["steady_dice"]
            self.best_weights = _copy(self.network)
        self._progress.set_postfix(
            loss=f"{train_loss:.3f}", validation_dice=f"{scores['validation_dice']:.3f}"
        )
        save_state(self, self.folder / "resume.pt", self._identity)
        self._steps, self._since = [], time.perf_counter()

    def finish(self) -> Path:
        """Write ``history.csv`` and ``checkpoint.pt``; return the checkpoint's path."""
        return finish(self, self._about, self.folder)

    def _mean_loss(self) -> float:
        """Mean loss of the steps since the last validation.

        Raises :class:`TrainingError` for the first whose loss or gradient is not finite: what
        comes after it says nothing any more.
        """
        losses, norms = (
            torch.stack([getattr(s, k) for s in self._steps]) for k in ("loss", "gradient_norm")
        )
        broken = ~(losses.isfinite() & norms.isfinite())
        if broken.any():
            first = int(broken.nonzero()[0])
            number = self.step - len(self._steps) + first + 1
            raise TrainingError(
                f"{self.model}: in step {number}, with slices of "
                f"{', '.join(self._steps[first].subjects)}, the loss is {losses[first]:.4g} and "
                f"its gradient {norms[first]:.4g}. Look at their images (wmh check), or lower "
                f"training.learning_rate{self._kept()}"
            )
        return float(losses.mean())

    def _too_large(self) -> TrainingError:
        """Return the error for memory that ran out: for a batch, or for a person to validate on."""
        memory, training = MEMORY_OF[self.device.type], self.training
        if self.step and self.is_to_validate:
            return TrainingError(
                f"{self.model}: {memory} ran out for all slices of a person to validate on, "
                f"after step {self.step}. {_larger_pixels(self.study)}{self._kept()}"
            )
        network = training.network
        multiple = training.people_a_batch if network.dimensions == 2 else 1
        half = training.batch_size // 2 // multiple * multiple
        if half:
            remedy = f"Lower training.batch_size from {training.batch_size} to {half}"
        elif network.dimensions == 3:
            remedy = _smaller_patch(network)
        else:
            remedy = _larger_pixels(self.study)
        return TrainingError(
            f"{self.model}: {memory} ran out in step {self.step + 1}. {remedy}{self._kept()}"
        )

    def _kept(self) -> str:
        """Say what is kept of a training that stopped, and who may go on from it."""
        if not self.history:
            return ""
        return (
            f". With the same settings it goes on from step {self.history[-1]['step']}, kept in "
            f"{self.folder / 'resume.pt'}"
        )


def train(
    study: Study,
    model: str,
    learn: Slices,
    validate: Slices,
    on_validation: Callable[[pd.DataFrame], None] | None = None,
) -> Path:
    """Train a model of the study and return its checkpoint's path.

    Writes ``checkpoint.pt`` (the weights with the best :func:`steady_dice`, and what they were
    trained with) and ``history.csv`` into the model's folder. While it runs, ``resume.pt`` holds
    the state to go on from, and ``on_validation`` gets the history after each validation. Raises
    :class:`TrainingError` when a loss is not finite or memory runs out.
    """
    with Run(study, model, learn, validate) as run:
        settings, configuration = run.settings, run.configuration
        for generator in run.steps():
            batch = draw_batch(run.learn, configuration, settings.task, study.training, generator)
            with run.precision():
                logits = batch.logits(run.network)
            loss = loss_of(logits, batch.labels, study.training.loss, run.log_variances)
            run.descend(loss, batch)
            if run.is_to_validate:
                scores = validation_scores(run.network, run.validate, configuration, study.training)
                run.keep_best(scores)
                if on_validation is not None:
                    on_validation(pd.DataFrame(run.history))
    return run.finish()


def steady_dice(history: list[dict[str, float]], validation_dice: float) -> float:
    """Validation Dice, smoothed: the mean of the latest and of what it was before.

    On a few validation subjects Dice jumps. The best of its raw values, often an early one at a
    high learning rate, would be luck (smoothed likewise in nnU-Net; Isensee et al. 2021).
    """
    return (history[-1]["steady_dice"] + validation_dice) / 2 if history else validation_dice


def _start(
    study: Study, model: str, learn: Slices, device: torch.device
) -> tuple[nn.Module, torch.optim.Optimizer, nn.ParameterDict]:
    """Network, optimiser and the logarithms of the task weights' variances, at their beginning."""
    settings, training = study.models[model], study.training
    torch.manual_seed(study.seed_for("weights", model))
    channels = CONFIGURATIONS[settings.inputs].channels
    network = build_network(training.network, channels, settings.task)
    if training.start_from is not None:
        start_from(network, study, model)
    elif isinstance(network, WithRegionPrior):
        network.fit(learn.regions, learn.depth_mm)
    network = to_device(network, device).train()
    log_variances = nn.ParameterDict()
    if training.loss.task_weights == "uncertainty":
        log_variances.update({s: torch.zeros(()) for s in STRUCTURES[settings.task]})
    log_variances = log_variances.to(device)
    optimiser = build_optimiser(network, log_variances, training)
    return network, optimiser, log_variances


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _slices_too_large(model: str, device: torch.device) -> TrainingError:
    return TrainingError(
        f"{model}: {MEMORY_OF[device.type]} ran out for the slices. Set slices.storage to auto"
    )


def _larger_pixels(study: Study) -> str:
    now = study.slices.voxel_size_mm
    return f"Raise slices.voxel_size_mm from {now or 'the native one'} to {1.5 * now if now else 2}"


def _smaller_patch(network: NetworkSettings) -> str:
    """Half the longest edge, as far as there is an edge of 32 voxels left; else half the width."""
    edges = list(network.patch_size)
    longest = edges.index(max(edges))
    edges[longest] = max(edges[longest] // 32, 1) * 16
    if max(edges) >= 32:
        return f"Lower training.network.patch_size from {list(network.patch_size)} to {edges}"
    return f"Lower training.network.width from {network.width} to {max(network.width // 2, 4)}"
