"""Training: draw, augment, forward, loss, step, checkpoint.

A batch holds slices of a few people, and each person goes through the network alone. Batch
normalisation thus sees one head on one scanner, in training as at inference.

Every step seeds its own generator from study, model and step. An interrupted training therefore
goes on exactly as if it had not been interrupted, with nothing but weights and step to restore.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from wmh.learning.batches import draw_batch
from wmh.learning.checkpoints import Run, finish, identity_of, restore, save_state
from wmh.learning.devices import autocast, choose_device
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.losses import loss_of
from wmh.learning.memory import keep_freed_memory
from wmh.learning.networks import STRUCTURES, WithRegionPrior, build_network, to_device
from wmh.learning.slices import Slices
from wmh.learning.validation import validation_scores
from wmh.study import Study, Training

WARM_UP_SHARE = 0.1


class TrainingError(RuntimeError):
    """A training that cannot go on. The message says why and what to change."""


def train(study: Study, model: str, learn: Slices, validate: Slices) -> Path:
    """Train a model of the study and return its checkpoint's path.

    Writes ``checkpoint.pt`` (the weights with the best validation Dice, and what they were trained
    with) and ``history.csv`` into the model's folder. While it runs, ``resume.pt`` holds the state
    to go on from. Raises :class:`TrainingError` when the loss is not finite.
    """
    settings, training = study.models[model], study.training
    torch.set_num_threads(study.compute.threads)
    keep_freed_memory()
    device = choose_device(study.compute.device)
    configuration = CONFIGURATIONS[settings.inputs]
    learn, validate = (part.to(device, study.slices.storage) for part in (learn, validate))
    run = _start(study, model, learn, device)
    folder = study.model_folder(model)
    identity = identity_of(study, model, learn, validate)
    restore(run, folder / "resume.pt", identity, device)

    progress = tqdm(
        initial=run.step, total=settings.steps, desc=f"training {model}", unit="step", mininterval=1
    )
    since, losses = time.perf_counter(), []
    while run.step < settings.steps:
        for group in run.optimiser.param_groups:
            group["lr"] = learning_rate(run.step, settings.steps, training)
        generator = torch.Generator().manual_seed(study.seed_for("train", model, run.step))
        batch = draw_batch(learn, configuration, settings.task, training, generator)
        with autocast(device, training.precision):
            answers = [run.network(person.images, person.where) for person in batch.people]
        logits = {k: torch.cat([answer[k] for answer in answers]).float() for k in answers[0]}
        loss = loss_of(logits, batch.labels, training.loss, run.log_variances)
        loss.backward()
        nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
        run.optimiser.step()
        run.optimiser.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        run.step += 1
        progress.update()

        last = run.step == settings.steps
        if run.step % training.validate_every == 0 or last:
            train_loss = float(torch.stack(losses).mean())
            _require_finite(train_loss, model, run.step, folder)
            scores = validation_scores(run.network, validate, configuration, training)
            row = {"step": run.step, "train_loss": train_loss, **scores}
            row |= {f"{k}_weight": math.exp(-s.item()) for k, s in run.log_variances.items()}
            row |= {"learning_rate": group["lr"], "seconds": time.perf_counter() - since}
            run.history.append(row)
            if scores["validation_dice"] > run.best_dice:
                run.best_dice = scores["validation_dice"]
                run.best_weights = _copy(run.network)
            progress.set_postfix(
                loss=f"{train_loss:.3f}", validation_dice=f"{scores['validation_dice']:.3f}"
            )
            losses, since = [], time.perf_counter()
            save_state(run, folder / "resume.pt", identity)
    progress.close()
    return finish(run, study, model, folder)


def learning_rate(step: int, steps: int, training: Training) -> float:
    """Linear warm-up over a tenth of the steps, then half a cosine down to zero."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return training.learning_rate * (step + 1) / warm_up
    return (
        training.learning_rate
        * 0.5
        * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))
    )


def _start(study: Study, model: str, learn: Slices, device: torch.device) -> Run:
    settings, training = study.models[model], study.training
    torch.manual_seed(study.seed_for("weights", model))
    channels = CONFIGURATIONS[settings.inputs].channels
    network = build_network(training.network, channels, settings.task)
    if isinstance(network, WithRegionPrior):
        network.fit(learn.regions, learn.depth_mm)
    network = to_device(network, device).train()
    log_variances = nn.ParameterDict()
    if training.loss.task_weights == "uncertainty":
        log_variances.update({s: torch.zeros(()) for s in STRUCTURES[settings.task]})
    log_variances = log_variances.to(device)
    optimiser = torch.optim.AdamW(
        [
            {"params": network.parameters()},
            {"params": log_variances.parameters(), "weight_decay": 0.0},
        ],
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        fused=device.type == "cuda",
    )
    return Run(network, optimiser, log_variances)


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _require_finite(loss: float, model: str, step: int, folder: Path) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"{model}: the loss is {loss} by step {step}. Lower training.learning_rate; "
            f"the last good state is kept in {folder / 'resume.pt'}"
        )
