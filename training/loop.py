"""The optimisation loop of every stage: deterministic batches, cosine decay, EMA, atomic checkpoints."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from training.recipe import Stage

EVERY, PAUSE_S = 500, 30.0
"""Minimum steps and seconds between checkpoints and sample sheets: 500 steps take a GPU less time than a sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parameters that train at ``share`` of the stage's learning rate."""

    parameters: tuple[nn.Parameter, ...]
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a step may draw from: its number, and a generator that depends only on seed and step, so that a resumed run
    sees the same batches."""

    step: int
    generator: torch.Generator


class Loop:
    """Trains ``groups`` for a stage and keeps their moving average.

    On CUDA a few kernels update all parameters at once: launching some for each takes longer than running them. If
    there is a ``checkpoint``, perhaps another device's, training resumes from it.
    """

    def __init__(self, name: str, stage: Stage, groups: Iterable[Group], checkpoint: Path, *, seed: int) -> None:
        self.name, self.stage, self.checkpoint, self.seed = name, stage, checkpoint, seed
        self.groups = tuple(groups)
        self.parameters = [parameter for group in self.groups for parameter in group.parameters]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.optimizer = torch.optim.AdamW(
            [{"params": list(group.parameters), "share": group.share} for group in self.groups],
            lr=stage.rate,
            betas=(0.9, 0.99),
            weight_decay=0.01 if stage.steps > 2000 else 0.0,
            fused=True if self.parameters[0].is_cuda else None,
        )
        self.step, self.seconds = 0, 0.0
        if checkpoint.exists():
            self._resume()

    def run(self, loss_of: Callable[[Draw], Tensor], on_pause: Callable[[], None] = lambda: None) -> None:
        """Train to the stage's end; the parameters then hold their moving average. ``on_pause`` is called for sample
        sheets, with the average in place: every ``EVERY`` steps, at least ``PAUSE_S`` seconds apart, and at the end."""
        with kernels(self.parameters[0].device):
            self._train(loss_of, on_pause)
        self._save()
        self._swap()
        on_pause()

    def _train(self, loss_of: Callable[[Draw], Tensor], on_pause: Callable[[], None]) -> None:
        bar = tqdm(total=self.stage.steps, initial=self.step, desc=self.name)
        before, paused = self.seconds - time.monotonic(), self.seconds
        while self.progress < 1:
            loss = self._update(loss_of)
            self.seconds = before + time.monotonic()
            bar.update()
            if self.step % 20 == 0:
                bar.set_postfix(loss=f"{float(loss):.4f}")
            if self.step % EVERY == 0 and self.seconds - paused >= PAUSE_S and self.progress < 1:
                self._save()
                self._with_average(on_pause)
                paused = before + time.monotonic()
        bar.close()

    def _update(self, loss_of: Callable[[Draw], Tensor]) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate() * group["share"]
        seed = (self.seed * 1_000_003 + self.step) % 2**63
        torch.manual_seed(seed)
        loss = loss_of(Draw(step=self.step, generator=torch.Generator().manual_seed(seed)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        keep = min(self.stage.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list[Tensor](self.parameters), 1 - keep)
        self.step += 1
        return loss.detach()

    @property
    def progress(self) -> float:
        """How much of the stage is done; 1 at its end."""
        return self.stage.progress(self.step, self.seconds)

    def rate(self) -> float:
        """Learning rate of the next step: linear warm-up, then half a cosine."""
        stage = self.stage
        warm = min(1.0, (self.step + 1) / max(1, stage.warmup))
        return stage.rate * (warm * 0.5 * (1 + math.cos(math.pi * self.progress)) + 0.01)

    def _with_average(self, act: Callable[[], None]) -> None:
        self._swap()
        act()
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self.parameters, self.average, strict=True):
            held = parameter.clone()
            parameter.copy_(average)
            average.copy_(held)

    def _save(self) -> None:
        save(
            {
                "step": self.step,
                "seconds": self.seconds,
                "parameters": [parameter.detach().cpu() for parameter in self.parameters],
                "average": [average.cpu() for average in self.average],
                "optimizer": self.optimizer.state_dict(),
            },
            self.checkpoint,
        )

    @torch.no_grad()
    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        for saved, group in zip(state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True):
            saved["fused"] = group["fused"]  # else the saving device's, which also decides where step counts are
        self.optimizer.load_state_dict(state["optimizer"])
        for mine, kept in ((self.parameters, state["parameters"]), (self.average, state["average"])):
            for tensor, value in zip(mine, kept, strict=True):
                tensor.copy_(value)


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)  # noqa: PTH105 - atomic on every platform


def half(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where that is safe; master weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def kernels(device: torch.device) -> Iterator[None]:
    """Choose the fastest kernels for training. On a CPU plain attention, which for 64 positions trains a fifth faster
    than the blockwise one. On CUDA the fastest convolutions, benchmarked once for each of a stage's few shapes."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        with sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext():
            yield
    finally:
        torch.backends.cudnn.benchmark = before
