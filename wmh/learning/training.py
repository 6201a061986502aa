"""Training: draw, augment, forward, loss, step, checkpoint.

A batch holds slices of a few people, and each person goes through the network alone. Batch
normalisation thus sees one head on one scanner, in training as at inference.

Every step seeds its own generator from study, model and step. An interrupted training therefore
goes on exactly as if it had not been interrupted, with nothing but weights and step to restore.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from wmh.learning.batches import Batch, draw_batch
from wmh.learning.checkpoints import (
    Run,
    facts_of,
    finish,
    identity_of,
    origin_of,
    restore,
    save_state,
)
from wmh.learning.devices import autocast, choose_device
from wmh.learning.failures import MEMORY_OF, when_out_of_memory
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.losses import loss_of
from wmh.learning.memory import keep_freed_memory
from wmh.learning.networks import STRUCTURES, WithRegionPrior, build_network, to_device
from wmh.learning.optimiser import build_optimiser, learning_rate
from wmh.learning.slices import Slices
from wmh.learning.start import start_from
from wmh.learning.validation import validation_scores
from wmh.settings import NetworkSettings, Training
from wmh.study import Study


class TrainingError(RuntimeError):
    """A training that cannot go on. The message says why and what to change."""


@dataclass(frozen=True)
class Step:
    """What is looked at later of a step, so that no step waits for a GPU: two scalars, and ids."""

    loss: torch.Tensor
    gradient_norm: torch.Tensor
    subjects: tuple[str, ...]


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
    settings, training = study.models[model], study.training
    torch.set_num_threads(study.compute.threads)
    keep_freed_memory()
    device = choose_device(study.compute.device)
    configuration = CONFIGURATIONS[settings.inputs]
    with when_out_of_memory(partial(_slices_too_large, model, device)):
        learn, validate = (part.to(device, study.slices.storage) for part in (learn, validate))
    run = _start(study, model, learn, device)
    folder = study.model_folder(model)
    identity = identity_of(study, model, learn, validate)
    about = facts_of(study, model) | origin_of(study, model, learn, validate)  # of now, not the end
    restore(run, folder / "resume.pt", identity, device)

    in_a_step = training.batch_size
    progress = tqdm(
        desc=f"training {model}",
        initial=run.step * in_a_step,
        total=settings.steps * in_a_step,
        unit=" slices" if training.network.dimensions == 2 else " patches",
        mininterval=1,
    )
    since, steps = time.perf_counter(), []
    while run.step < settings.steps:
        for group in run.optimiser.param_groups:
            group["lr"] = learning_rate(run.step, settings.steps, training)
        generator = torch.Generator().manual_seed(study.seed_for("train", model, run.step))
        with when_out_of_memory(partial(_batch_too_large, study, model, run, device)):
            batch = draw_batch(learn, configuration, settings.task, training, generator)
            steps.append(_step(run, batch, training, device))
        run.step += 1
        progress.update(in_a_step)

        last = run.step == settings.steps
        if run.step % training.validate_every == 0 or last:
            train_loss = _mean_loss(steps, study, model, run)
            with when_out_of_memory(partial(_person_too_large, study, model, run, device)):
                scores = validation_scores(run.network, validate, configuration, training)
            row = {"step": run.step, "train_loss": train_loss, **scores}
            row["steady_dice"] = steady_dice(run.history, scores["validation_dice"])
            row |= {f"{k}_weight": math.exp(-s.item()) for k, s in run.log_variances.items()}
            row |= {"learning_rate": group["lr"], "seconds": time.perf_counter() - since}
            run.history.append(row)
            if row["steady_dice"] > run.best_dice:
                run.best_dice = row["steady_dice"]
                run.best_weights = _copy(run.network)
            progress.set_postfix(
                loss=f"{train_loss:.3f}", validation_dice=f"{scores['validation_dice']:.3f}"
            )
            save_state(run, folder / "resume.pt", identity)
            if on_validation is not None:
                on_validation(pd.DataFrame(run.history))
            steps, since = [], time.perf_counter()
    progress.close()
    return finish(run, about, folder)


def steady_dice(history: list[dict[str, float]], validation_dice: float) -> float:
    """Validation Dice, smoothed: the mean of the latest and of what it was before.

    On a few validation subjects Dice jumps. The best of its raw values, often an early one at a
    high learning rate, would be luck (smoothed likewise in nnU-Net; Isensee et al. 2021).
    """
    return (history[-1]["steady_dice"] + validation_dice) / 2 if history else validation_dice


def _step(run: Run, batch: Batch, training: Training, device: torch.device) -> Step:
    """One step of the optimiser. Nothing in it waits for a GPU."""
    with autocast(device, training.precision, training.network.dimensions):
        logits = batch.logits(run.network)
    loss = loss_of(logits, batch.labels, training.loss, run.log_variances)
    loss.backward()
    gradient_norm = nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
    run.optimiser.step()
    run.optimiser.zero_grad(set_to_none=True)
    return Step(loss.detach(), gradient_norm.detach(), batch.subjects)


def _start(study: Study, model: str, learn: Slices, device: torch.device) -> Run:
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
    return Run(network, optimiser, log_variances)


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _mean_loss(steps: list[Step], study: Study, model: str, run: Run) -> float:
    """Mean loss of the steps since the last validation.

    Raises :class:`TrainingError` for the first whose loss or gradient is not finite: what comes
    after it says nothing any more.
    """
    losses, norms = (torch.stack([getattr(s, k) for s in steps]) for k in ("loss", "gradient_norm"))
    broken = ~(losses.isfinite() & norms.isfinite())
    if broken.any():
        first = int(broken.nonzero()[0])
        number = run.step - len(steps) + first + 1
        raise TrainingError(
            f"{model}: in step {number}, with slices of {', '.join(steps[first].subjects)}, the "
            f"loss is {losses[first]:.4g} and its gradient {norms[first]:.4g}. Look at their "
            f"images (wmh check), or lower training.learning_rate{_kept(study, model, run)}"
        )
    return float(losses.mean())


def _slices_too_large(model: str, device: torch.device) -> TrainingError:
    return TrainingError(
        f"{model}: {MEMORY_OF[device.type]} ran out for the slices. Set slices.storage to auto"
    )


def _batch_too_large(study: Study, model: str, run: Run, device: torch.device) -> TrainingError:
    training, network = study.training, study.training.network
    multiple = training.people_a_batch if network.dimensions == 2 else 1
    half = training.batch_size // 2 // multiple * multiple
    if half:
        remedy = f"Lower training.batch_size from {training.batch_size} to {half}"
    elif network.dimensions == 3:
        remedy = _smaller_patch(network)
    else:
        remedy = _larger_pixels(study)
    return TrainingError(
        f"{model}: {MEMORY_OF[device.type]} ran out in step {run.step + 1}. {remedy}"
        f"{_kept(study, model, run)}"
    )


def _person_too_large(study: Study, model: str, run: Run, device: torch.device) -> TrainingError:
    return TrainingError(
        f"{model}: {MEMORY_OF[device.type]} ran out for all slices of a person to validate on, "
        f"after step {run.step}. {_larger_pixels(study)}{_kept(study, model, run)}"
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


def _kept(study: Study, model: str, run: Run) -> str:
    """What is kept of a training that stopped, and who may go on from it."""
    if not run.history:
        return ""
    return (
        f". With the same settings it goes on from step {run.history[-1]['step']}, kept in "
        f"{study.model_folder(model) / 'resume.pt'}"
    )
