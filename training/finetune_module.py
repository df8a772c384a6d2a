"""Training with Lightning: the schedule, the average of the weights, batches and checkpoints."""

import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from twonines.models.network import DefectNetwork
from twonines.training.allocator import freed_memory_kept
from twonines.training.finetune_augment import AugmentPlan
from twonines.training.finetune_data import Batch, Exercises, Gallery, collate
from twonines.training.finetune_losses import losses
from twonines.training.lesson import Report

WARM_UP = 0.05
"""Share of training in which the learning rate rises."""
LAST_RATE = 0.01
"""The learning rate at the end, as a share of the highest."""
BACKBONE_RATE = 0.2
"""Pretrained weights move slower than the heads."""
DECAY = 0.99
"""Of the average of the weights, a step."""
WEIGHT_DECAY = 0.02
CLIP_NORM = 5.0
WORTH = 0.9
"""Share of a step's time below which bfloat16 is taken; rounding for less is not worth it."""
Precision = Any
"""A name that Lightning knows: 32-true or bf16-mixed."""


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast: ``steps`` in all, at most ``seconds`` where there is a limit."""

    epochs: int
    steps: int
    lr: float
    seconds: float | None
    seed: int


class Trainee(pl.LightningModule):
    """The network, its moving average and how it learns."""

    def __init__(self, network: DefectNetwork, course: Course) -> None:
        """``network`` is changed by training."""
        super().__init__()
        # Convolutions on processors are faster so.
        self.network, self.course = network.to(memory_format=torch.channels_last), course
        # use_buffers: the average needs batch norm's statistics too.
        self.average = AveragedModel(network, avg_fn=_blend, use_buffers=True)
        self.average.requires_grad_(False).eval()
        self.spent = 0.0
        self._mark = 0.0

    @property
    def done(self) -> float:
        """Share of the course that is over, by steps or by the clock, in [0, 1]."""
        share = self.global_step / max(1, self.course.steps)
        if self.course.seconds is not None:
            share = max(share, self.spent / self.course.seconds)
        return min(1.0, share)

    def on_train_epoch_start(self) -> None:
        """Lightning has just set everything to training, the average too."""
        self.average.eval()
        self._mark = time.monotonic()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate, and seed dropout so that a run that goes on draws the same."""
        torch.manual_seed(self.course.seed * 1_000_000 + self.global_step)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["full"] * rate_at(self.done)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of all losses."""
        return _total(losses(self.network(batch.images, batch.references), batch))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Move the average, read the clock, and stop when the time is over."""
        self.average.update_parameters(self.network)
        now = time.monotonic()
        self.spent += now - self._mark
        self._mark = now
        # Each process has its own clock, and one that stops alone leaves the others waiting.
        if self.trainer.strategy.reduce_boolean_decision(self.done >= 1.0, all=False):
            self.trainer.should_stop = True

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The averaged network's loss."""
        found = losses(self.average(batch.images, batch.references), batch)
        self.log("loss", _total(found), batch_size=len(batch.images), on_epoch=True, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW (Loshchilov & Hutter 2019), without decay for biases and batch norm."""
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            key = (name.startswith("net."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
        settings = [
            {
                "params": parameters,
                "full": self.course.lr * (BACKBONE_RATE if pretrained else 1.0),
                "weight_decay": WEIGHT_DECAY if matrix else 0.0,
            }
            for (pretrained, matrix), parameters in groups.items()
        ]
        return torch.optim.AdamW(settings, lr=self.course.lr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the time that was spent."""
        checkpoint["spent"] = self.spent

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the time that was spent."""
        self.spent = float(checkpoint["spent"])


def rate_at(done: float) -> float:
    """Share of the highest learning rate: a linear rise, then half a cosine."""
    if done < WARM_UP:
        return max(done / WARM_UP, LAST_RATE)
    phase = (done - WARM_UP) / (1 - WARM_UP)
    return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * phase)) / 2


def _blend(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """Exponential moving average that follows faster at first."""
    decay = min(DECAY, (1.0 + float(count)) / (10.0 + float(count)))
    return average + (current - average) * (1.0 - decay)


def _total(found: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(found.values())).sum()


class Lessons(pl.LightningDataModule):
    """Batches for training, changed anew every epoch, and for the inner validation."""

    def __init__(
        self,
        gallery: Gallery,
        train: Sequence[int],
        validation: Sequence[int],
        plan: AugmentPlan,
        batch_size: int,
        seed: int,
        processes: int = 1,
    ) -> None:
        """``train`` and ``validation`` are indices into the gallery; ``processes`` share them."""
        super().__init__()
        self.gallery, self.members, self.held = gallery, list(train), list(validation)
        self.plan, self.size, self.seed, self.processes = plan, batch_size, seed, processes
        share = -(-len(self.members) // processes)
        self.steps = max(1, share // batch_size)
        """Of an epoch; what does not fill a step is left to another epoch, unless it is all."""
        self._drops = share >= batch_size

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """This epoch's batches; Lightning asks for them every epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        mixed = self.seed * 1000 + epoch
        # Shuffled here: a sampler's order would hang on how often the loader was started before.
        order = np.random.default_rng(mixed).permutation(self.members).tolist()
        return DataLoader(
            Exercises(self.gallery, order, self.plan, mixed),
            batch_size=self.size,
            drop_last=self._drops,
            collate_fn=collate,
            num_workers=_workers(),
        )

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        """The held-out pictures as they are."""
        if not self.held:
            return []
        return DataLoader(
            Exercises(self.gallery, self.held, None, self.seed),
            batch_size=self.size,
            collate_fn=collate,
            num_workers=_workers(),
        )


def _workers() -> int:
    """Workers pay where an accelerator computes; beside a training processor they take its time."""
    return min(8, max(0, (os.cpu_count() or 1) - 1)) if torch.cuda.is_available() else 0


class Progress(pl.Callback):
    """Tells how far training is."""

    def __init__(self, report: Report, total: int) -> None:
        """``total`` steps are reported, also where the clock ends training."""
        super().__init__()
        self.report, self.total = report, total

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """After every step."""
        self.report("training", round(module.done * self.total), self.total)


def fit(
    trainee: Trainee,
    lessons: Lessons,
    folder: Path,
    *,
    precision: Precision,
    patience: int,
    report: Report,
) -> None:
    """Train to the end of the course, or until validation stops improving.

    ``folder`` gets ``last.ckpt`` after every epoch; if one is there, training goes on from it.
    Afterwards ``trainee.average`` holds the best weights.
    """
    last = folder / "last.ckpt"
    several = lessons.processes > 1
    callbacks: list[pl.Callback] = [
        ModelCheckpoint(folder, filename="last", enable_version_counter=False)
    ]
    if lessons.held:
        # Apart from the newest: a run that goes on must not lose the epochs that were no better.
        best = ModelCheckpoint(
            folder, filename="best", monitor="loss", enable_version_counter=False
        )
        callbacks += [best, EarlyStopping("loss", patience=patience)]
    if not several:  # a display cannot go to other processes
        callbacks.append(Progress(report, trainee.course.steps))
    with _quiet():
        trainer = pl.Trainer(
            accelerator="auto",
            devices=lessons.processes,
            strategy="ddp_spawn" if several else "auto",
            sync_batchnorm=several and torch.cuda.is_available(),
            precision=precision,
            max_epochs=trainee.course.epochs,
            callbacks=callbacks,
            gradient_clip_val=CLIP_NORM,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with freed_memory_kept():
            trainer.fit(
                trainee, lessons, ckpt_path=last if last.exists() else None, weights_only=True
            )
    # By name: what callbacks know stays in the processes of the accelerators.
    kept = folder / "best.ckpt" if lessons.held else last
    state = torch.load(kept, map_location="cpu", weights_only=True)["state_dict"]
    trainee.load_state_dict(state)
    trainee.to("cpu").eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning tells users of its own internals; our report tells how far training is."""
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def choose_precision(network: DefectNetwork, batch: Batch, repeats: int = 3) -> Precision:
    """``bf16-mixed`` where a step is clearly faster with it, else ``32-true``.

    Processors differ: some have bfloat16 units that pay, some only instructions that do not.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    with freed_memory_kept():  # as in training
        plain, reduced = (_step_seconds(network, batch, on, repeats) for on in (False, True))
    return "bf16-mixed" if reduced < WORTH * plain else "32-true"


def _step_seconds(network: DefectNetwork, batch: Batch, reduced: bool, repeats: int) -> float:
    """The shortest of some steps of forward and backward; the network is left as it was."""
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            raw = network(batch.images, batch.references)
        torch.autograd.backward(_total(losses(raw, batch)))
        seconds.append(time.perf_counter() - start)
    network.zero_grad(set_to_none=True)
    network.load_state_dict(kept)
    return min(seconds)
