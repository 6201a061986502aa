"""Training: draw, augment, forward, loss, step, checkpoint.

A batch holds slices of a few people, and each person goes through the network separately. Batch
normalisation therefore sees one head on one scanner, in training and at inference. (A batch of
patches of volumes may hold several heads.)

Every step seeds its own generator from study, model and step number. An interrupted training
therefore continues exactly as if it had not been interrupted; only the state of network and
optimiser and the step number are restored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from wmh.dependencies import code_of
from wmh.files import complete, write_table
from wmh.learning.batches import Batch, draw_batch
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
from wmh.learning.models import facts_of, origin_of
from wmh.learning.networks.build import build_network, to_device
from wmh.learning.networks.encoder_decoders import STRUCTURES
from wmh.learning.networks.prior import WithRegionPrior
from wmh.learning.optimiser import build_optimiser, learning_rate
from wmh.learning.slices import Slices
from wmh.learning.start import start_from
from wmh.learning.validation import validation_scores
from wmh.settings import NetworkSettings
from wmh.study import Study

LEARNED = ("network", "optimiser", "log_variances")
REACHED = ("step", "best_dice", "best_weights", "history")
"""Attributes of a :class:`Run` that are saved for an interrupted training to continue from."""


class TrainingError(RuntimeError):
    """A training that cannot continue. The message says why, and what to change."""


class Run:
    """The training of one model of a study: everything around the loop that a notebook shows.

    It starts, or continues where an interrupted training stopped. It keeps the best weights and the
    state to continue from, and explains errors. :func:`train` is the whole loop.
    """

    def __init__(self, study: Study, model: str, learn: Slices, validate: Slices):
        """Raises :class:`TrainingError` when the slices do not fit into memory."""
        self.study, self.model = study, model
        self.settings, self.training = study.models[model], study.training
        self.configuration = CONFIGURATIONS[self.settings.inputs]
        torch.set_num_threads(study.compute.threads)
        keep_freed_memory()
        self.device = choose_device(study.compute.device)
        too_large = f"{model}: the slices do not fit into {MEMORY_OF[self.device.type]}"
        with when_out_of_memory(partial(TrainingError, f"{too_large}. Set slices.storage to auto")):
            self.learn, self.validate = (
                part.to(self.device, study.slices.storage) for part in (learn, validate)
            )
        self._begin()
        self.folder = study.model_folder(model)
        settings = (self.settings, self.training, study.compute)
        self._identity = {
            "model": model,
            "seed": f"{study.seed}, repeat {study.repeat}",
            "settings": "".join(part.model_dump_json() for part in settings),
            "data": "/".join(part.fingerprint() for part in (self.learn, self.validate)),
            "code": code_of("wmh.learning.training"),
            "torch": str(torch.__version__),
        }
        # read before the first step, because images and code may change during the training
        self._about = facts_of(study, model) | origin_of(study, model, self.learn, self.validate)
        self._go_on()
        # loss, gradient norm and subjects of each step; read later, so that no step waits for a GPU
        self._steps: list[tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]] = []
        self._stopped = False
        self._since = time.perf_counter()

    def _begin(self) -> None:
        """Make the network, the optimiser and the logarithms of the task variances."""
        torch.manual_seed(self.study.seed_for("weights", self.model))
        network = build_network(
            self.training.network, self.configuration.channels, self.settings.task
        )
        if self.training.start_from is not None:
            start_from(network, self.study, self.model)
        elif isinstance(network, WithRegionPrior):
            network.fit(self.learn.regions, self.learn.depth_mm)
        self.network = to_device(network, self.device).train()
        log_variances = nn.ParameterDict()
        if self.training.loss.task_weights == "uncertainty":
            log_variances.update({s: torch.zeros(()) for s in STRUCTURES[self.settings.task]})
        self.log_variances = log_variances.to(self.device)
        self.optimiser = build_optimiser(self.network, self.log_variances, self.training)
        self.step, self.best_dice = 0, -1.0
        self.best_weights: dict[str, torch.Tensor] = {}
        self.history: list[dict[str, float]] = []

    def _go_on(self) -> None:
        """Continue from ``resume.pt`` if it has the same settings, data and code."""
        path = self.folder / "resume.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        changed = [key for key, now in self._identity.items() if state["identity"].get(key) != now]
        if changed:
            print(
                f"{path}: not used, because it was made with other {', '.join(changed)}; the "
                "training starts from the beginning"
            )
            return
        for name in LEARNED:
            getattr(self, name).load_state_dict(state[name])
        for name in REACHED:
            setattr(self, name, state[name])
        print(f"Continuing from step {self.step}")

    def __enter__(self) -> Run:
        """Begin or go on. Who was stopped in the middle of a step goes back to what was kept."""
        if self._stopped:
            self._begin()
            self._go_on()
            self._steps, self._stopped = [], False
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self._stopped = kind is not None
        if isinstance(error, MemoryError | RuntimeError) and is_out_of_memory(error):
            raise self._too_large() from error

    def steps(self) -> Iterator[torch.Generator]:
        """Yield each remaining step's own random generator, with a progress bar."""
        in_a_step = self.training.batch_size
        if self.step == self.settings.steps:
            print(f"{self.model}: all {self.step} steps were taken; a new Run begins afresh")
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
        """The precision in which the network computes: mixed precision if the study says so."""
        return autocast(self.device, self.training.precision, self.training.network.dimensions)

    def descend(self, loss: torch.Tensor, batch: Batch) -> None:
        """Take one step of the optimiser along a loss's gradient, without waiting for a GPU."""
        loss.backward()
        gradient_norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._steps.append((loss.detach(), gradient_norm.detach(), batch.subjects))
        self.step += 1
        self._progress.update(self.training.batch_size)

    @property
    def is_to_validate(self) -> bool:
        """True if validation is due at this step and was not done yet."""
        due = self.step % self.training.validate_every == 0 or self.step == self.settings.steps
        return due and self.step > (self.history[-1]["step"] if self.history else 0)

    def keep_best(self, scores: dict[str, float]) -> None:
        """Add validation scores to the history, and keep the weights if they are the best so far.

        Raises :class:`TrainingError` if a loss since the last validation was not finite.
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
            weights = self.network.state_dict()
            self.best_weights = {name: value.detach().clone() for name, value in weights.items()}
        self._progress.set_postfix(
            loss=f"{train_loss:.3f}", validation_dice=f"{scores['validation_dice']:.3f}"
        )
        with complete(self.folder / "resume.pt") as part:
            learned = {name: getattr(self, name).state_dict() for name in LEARNED}
            reached = {name: getattr(self, name) for name in REACHED}
            torch.save({"identity": self._identity, **learned, **reached}, part)
        self._steps, self._since = [], time.perf_counter()

    def table(self) -> pd.DataFrame:
        """The history, a row for each validation; :class:`TrainingError` where there is none."""
        if not self.history:
            raise TrainingError(
                f"{self.model}: no weights are kept before the first validation. Run the training "
                "loop first"
            )
        return pd.DataFrame(self.history)

    def finish(self) -> Path:
        """Write ``history.csv`` and ``checkpoint.pt``; return the checkpoint's path.

        Raises :class:`TrainingError` before the first validation, when there are no weights yet.
        """
        table = self.table()
        write_table(table, self.folder / "history.csv")
        best = table.loc[table.steady_dice.idxmax()]
        content = {
            "weights": self.best_weights,
            **self._about,
            "step": int(best.step),
            "validation_dice": float(best.validation_dice),
        }
        with complete(path := self.folder / "checkpoint.pt") as part:
            torch.save(content, part)
        (self.folder / "resume.pt").unlink(missing_ok=True)
        return path

    def _mean_loss(self) -> float:
        """Mean loss of the steps since the last validation.

        Raises :class:`TrainingError` for the first step whose loss or gradient is not finite; all
        later steps are meaningless.
        """
        losses, norms, subjects = zip(*self._steps, strict=True)
        losses, norms = torch.stack(losses), torch.stack(norms)
        broken = ~(losses.isfinite() & norms.isfinite())
        if broken.any():
            first = int(broken.nonzero()[0])
            number = self.step - len(self._steps) + first + 1
            raise TrainingError(
                f"{self.model}: in step {number}, with slices of "
                f"{', '.join(subjects[first])}, the loss is {losses[first]:.4g} and "
                f"its gradient {norms[first]:.4g}. Check the images of these subjects (wmh check), "
                f"or lower training.learning_rate{self._kept()}"
            )
        return float(losses.mean())

    def _too_large(self) -> TrainingError:
        """The error for too little memory, for a batch or for a person to validate on."""
        training, network = self.training, self.training.network
        multiple = training.people_a_batch if network.dimensions == 2 else 1
        half = training.batch_size // 2 // multiple * multiple
        when, validating = f"in step {self.step + 1}", self.step and self.is_to_validate
        if validating:
            when = f"while all slices of a person were validated, after step {self.step}"
        if half and not validating:
            remedy = f"Lower training.batch_size from {training.batch_size} to {half}"
        elif network.dimensions == 3 and not validating:
            remedy = _smaller_patch(network)
        else:
            now = self.study.slices.voxel_size_mm
            larger = f"from {now or 'the native size'} to {1.5 * now if now else 2}"
            remedy = f"Raise slices.voxel_size_mm {larger}"
        memory = MEMORY_OF[self.device.type]
        return TrainingError(f"{self.model}: {memory} ran out {when}. {remedy}{self._kept()}")

    def _kept(self) -> str:
        """Say from which step the training will continue; empty before the first validation."""
        if not self.history:
            return ""
        return (
            f". With the same settings it continues from step {self.history[-1]['step']}, kept in "
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

    Writes ``checkpoint.pt`` (the weights with the best :func:`steady_dice`, with settings, data and
    code) and ``history.csv`` into the model's folder. During the training ``resume.pt`` holds the
    state to continue from, and ``on_validation`` is called with the history after each validation.
    Raises :class:`TrainingError` when a loss is not finite or memory runs out.
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
    """Smoothed validation Dice: the mean of the latest Dice and the previous smoothed value.

    It is 0 before the first validation. With few validation subjects Dice fluctuates, and the best
    raw value would be luck, often early at a high learning rate. nnU-Net smooths similarly (Isensee
    et al. 2021), but there a lucky first value counts in full.
    """
    before = history[-1]["steady_dice"] if history else 0.0
    return (before + validation_dice) / 2


def _smaller_patch(network: NetworkSettings) -> str:
    """Advice to halve the patch's longest edge; if no edge would keep 32 voxels, the width."""
    edges = list(network.patch_size)
    longest = edges.index(max(edges))
    edges[longest] = max(edges[longest] // 32, 1) * 16
    if max(edges) >= 32:
        return f"Lower training.network.patch_size from {list(network.patch_size)} to {edges}"
    return f"Lower training.network.width from {network.width} to {max(network.width // 2, 4)}"
