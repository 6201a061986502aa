"""Training: draw, augment, forward, loss, step, checkpoint.

Every step seeds its own generator from study, model and step. An interrupted training therefore
goes on exactly as if it had not been interrupted, with nothing but weights and step to restore.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from wmh.learning.augment import apply, draw
from wmh.learning.checkpoints import Run, finish, identity_of, restore, save_state
from wmh.learning.inputs import CONFIGURATIONS, InputConfiguration, show
from wmh.learning.losses import loss_of
from wmh.learning.memory import keep_freed_memory
from wmh.learning.networks import STRUCTURES, build_network, normalise_by_batch, to_device
from wmh.learning.slices import Slices
from wmh.learning.volumes import draw_patches, logits_of_slices
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
    learn, validate = learn.to(device), validate.to(device)
    run = _start(study, model, device)
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
            logits = run.network(batch.images, batch.where)
        logits = {structure: scores.float() for structure, scores in logits.items()}
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


@dataclass
class Batch:
    """Augmented images (B, channels, ...), labels (B, ...) by structure, and where they lie.

    Slices come with their depth below the crown (B,), patches of volumes with a place (B, 3, 2).
    """

    images: torch.Tensor
    labels: dict[str, torch.Tensor]
    where: torch.Tensor


def first_batch(study: Study, model: str, learn: Slices) -> Batch:
    """The first batch a model is trained on, as :func:`draw_batch` gives it."""
    settings = study.models[model]
    generator = torch.Generator().manual_seed(study.seed_for("train", model, 0))
    configuration = CONFIGURATIONS[settings.inputs]
    return draw_batch(learn, configuration, settings.task, study.training, generator)


def draw_batch(
    slices: Slices,
    configuration: InputConfiguration,
    task: str,
    training: Training,
    generator: torch.Generator,
) -> Batch:
    """Draw and augment a batch.

    For lesion tasks a share of the batch is drawn among slices that hold lesion; the rest is drawn
    among all slices. A configuration with several views shows one of them, drawn for the batch, so
    that batch normalisation never mixes modalities.
    """
    structures = STRUCTURES[task]
    share = training.lesion_slices_share if "lesions" in structures else 0.0
    if training.network.dimensions == 2:
        chosen = draw_slices(slices, share, training.batch_size, generator)
        chosen = chosen.to(slices.images.device, non_blocking=True)
        images, labels = slices.images[chosen], slices.labels(structures, chosen)
        where = slices.depth_mm[chosen]
    else:
        patches = draw_patches(slices, share, training, generator)
        images, where = patches.of(slices.images), patches.where(slices)
        labels = {
            name: patches.of(stack[:, None])[:, 0]
            for name, stack in slices.labels(structures, slice(None)).items()
        }
    view = configuration.views[
        int(torch.randint(len(configuration.views), (), generator=generator))
    ]
    images = show(images.float(), view)
    drawn = draw(tuple(images.shape), training.augmentation, generator)
    return Batch(*apply(images, labels, drawn), where)


def draw_slices(
    slices: Slices, lesion_share: float, count: int, generator: torch.Generator
) -> torch.Tensor:
    """Draw numbers of slices (count,), a share of them among those that hold lesion."""
    chosen = torch.randint(len(slices), (count,), generator=generator)
    if lesion_share:
        with_lesion = slices.with_lesion
        wanted = round(lesion_share * count)
        picked = torch.randint(len(with_lesion), (wanted,), generator=generator)
        chosen[:wanted] = with_lesion[picked]
    return chosen


@torch.inference_mode()
def validation_scores(
    network: nn.Module, slices: Slices, configuration: InputConfiguration, training: Training
) -> dict[str, float]:
    """Loss and Dice on the validation subjects, every view averaged as at inference.

    Dice is pooled over each subject's slices and averaged over subjects (and over the 34 regions);
    a network that predicts both structures gets the mean of the two.
    """
    normalise_by_batch(network)  # a person's own slices, as at inference
    device = slices.images.device
    views = configuration.views_for(("FLAIR", "T1"))
    counts: dict[str, torch.Tensor] = {}
    losses = []
    for part in _validation_parts(slices, training):
        images = slices.images[part].float()
        with autocast(device, training.precision):
            answers = [
                logits_of_slices(
                    network, show(images, view), slices.depth_mm[part], training.network
                )
                for view in views
            ]
        logits = {k: sum(a[k].float() for a in answers) / len(answers) for k in answers[0]}
        labels = slices.labels(logits, part)
        losses.append(loss_of(logits, labels, training.loss) * len(images))
        for structure, scores in logits.items():
            table = _overlap_counts(scores.argmax(1), labels[structure], scores.shape[1])
            counts.setdefault(
                structure, torch.zeros(len(slices.ids), *table.shape[1:], device=device)
            ).index_add_(0, slices.subject[part].to(device), table)
    network.train()
    dice = {structure: _mean_dice(table, structure) for structure, table in counts.items()}
    scores = {f"validation_{k}_dice": v for k, v in dice.items()} if len(dice) > 1 else {}
    return {
        "validation_loss": float(torch.stack(losses).sum()) / len(slices),
        "validation_dice": float(np.mean(list(dice.values()))),
        **scores,
    }


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


def choose_device(wanted: str) -> torch.device:
    """The device a study asks for; ``auto`` is a GPU where there is one."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise TrainingError("compute.device is cuda, and no GPU is here; set it to auto or cpu")
    return torch.device(wanted)


def autocast(device: torch.device, precision: str) -> torch.autocast | nullcontext:
    """Mixed precision as the study says; ``auto`` takes bfloat16 where it is native."""
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else torch.cpu._is_avx512_bf16_supported()
    )
    if precision == "bfloat16" or (precision == "auto" and native):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def _start(study: Study, model: str, device: torch.device) -> Run:
    settings, training = study.models[model], study.training
    torch.manual_seed(study.seed_for("weights", model))
    channels = CONFIGURATIONS[settings.inputs].channels
    network = build_network(training.network, channels, settings.task)
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


def _overlap_counts(prediction: torch.Tensor, truth: torch.Tensor, classes: int) -> torch.Tensor:
    """Voxels in the overlap and in both masks together, for each slice and foreground class.

    Returns (B, classes - 1, 2). Pixels of lesion label 2 do not count.
    """
    if classes == 2:
        prediction = prediction.where(truth != 2, 0)
        truth = truth.where(truth != 2, 0)
    flat_truth, flat_prediction = truth.flatten(1).long(), prediction.flatten(1)
    size = torch.zeros(len(truth), classes, device=truth.device)
    ones = torch.ones_like(flat_truth, dtype=size.dtype)
    both = size.clone().scatter_add_(1, flat_truth, (flat_truth == flat_prediction) * ones)
    total = size.scatter_add_(1, flat_truth, ones).scatter_add_(1, flat_prediction, ones)
    return torch.stack([both, total], dim=2)[:, 1:]


def _validation_parts(slices: Slices, training: Training) -> list[slice]:
    """What is predicted at once: a batch of slices, or a subject's volume."""
    if training.network.dimensions == 3:
        return [slice(first, end) for first, end in slices.spans.tolist()]
    starts = range(0, len(slices), training.batch_size)
    return [slice(start, start + training.batch_size) for start in starts]


def _mean_dice(counts: torch.Tensor, structure: str) -> float:
    """Mean Dice over subjects and classes from (subjects, classes, 2); absent classes left out."""
    if structure == "regions":
        counts = counts[:, :34]  # the two rest labels do not count
    both, total = counts[..., 0], counts[..., 1]
    return float((2 * both / total)[total > 0].mean())


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _require_finite(loss: float, model: str, step: int, folder: Path) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"{model}: the loss is {loss} by step {step}. Lower training.learning_rate; "
            f"the last good state is kept in {folder / 'resume.pt'}"
        )
