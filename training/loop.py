"""The optimisation loop of every stage: deterministic batches, cosine decay, EMA, atomic checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from training.recipe import Stage
from training.work import Work, whole

EVERY, PAUSE_S = 500, 30.0
"""Minimum steps and seconds between checkpoints and sample sheets: 500 steps take a GPU less time than a sheet."""
LOOK = 20
"""Steps between looks at the loss, for which a GPU has to be waited for."""


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
    ``work`` has a checkpoint of it, perhaps another device's, training resumes from that.
    """

    def __init__(self, name: str, stage: Stage, groups: Iterable[Group], work: Work, *, seed: int) -> None:
        self.name, self.stage, self.work, self.seed = name, stage, work, seed
        self.checkpoint = work.checkpoint(name)
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
        if self.checkpoint.exists():
            self._resume()

    def run(self, loss_of: Callable[[Draw], Tensor], on_pause: Callable[[], None] = lambda: None) -> None:
        """Train to the stage's end; the parameters then hold their moving average. ``on_pause`` is called for sample
        sheets, with the average in place: every ``EVERY`` steps, at least ``PAUSE_S`` seconds apart, and at the end.

        Raises ``SystemExit`` if training diverges, before anything of that is saved.
        """
        if self.progress < 1:
            self.work.outdate(self.name)
        with kernels(self.parameters[0].device):
            self._train(loss_of, on_pause)
        print(f"{self.name}: {self.steps} in {timedelta(seconds=round(self.seconds))}", flush=True)
        self._save()
        self._swap()
        on_pause()

    def _train(self, loss_of: Callable[[Draw], Tensor], on_pause: Callable[[], None]) -> None:
        before, paused = self.seconds - time.monotonic(), self.seconds
        with bar(self.name, self.progress) as shown:
            while self.progress < 1:
                loss, norm = self._update(loss_of)
                self.seconds = before + time.monotonic()
                shown.update(self.progress - shown.n)
                if self.step % LOOK == 0 or self.progress == 1:
                    self._check(float(loss), float(norm))
                    shown.set_postfix_str(f"{self.steps}, loss {float(loss):.4f}")
                if self.step % EVERY == 0 and self.seconds - paused >= PAUSE_S and self.progress < 1:
                    self._save()
                    self._with_average(on_pause)
                    paused = before + time.monotonic()

    @property
    def steps(self) -> str:
        return f"{self.step:,} of {self.stage.steps:,} steps"

    def _check(self, loss: float, norm: float) -> None:
        """Raise ``SystemExit`` if training has diverged. It is enough to look now and then: no later loss is finite."""
        if not math.isfinite(loss + norm):
            raise SystemExit(
                f"{self.name}: training diverged. At step {self.step:,} the loss is {loss}, the norm of its gradient "
                f"{norm}. Nothing was saved of this; {self.checkpoint}, if it is there, is from before. "
                "Give the stage a lower rate in training/recipe.py, and start it again."
            )

    def _update(self, loss_of: Callable[[Draw], Tensor]) -> tuple[Tensor, Tensor]:
        """Take a step; returns its loss and the norm of the gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate() * group["share"]
        seed = (self.seed * 1_000_003 + self.step) % 2**63
        torch.manual_seed(seed)
        loss = loss_of(Draw(step=self.step, generator=torch.Generator().manual_seed(seed)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        keep = min(self.stage.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list[Tensor](self.parameters), 1 - keep)
        self.step += 1
        return loss.detach(), norm

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
    with whole(path) as partial:
        torch.save(content, partial)


def bar(name: str, done: float = 0.0) -> tqdm:
    """Shows which share of something is done: where time may end it, its steps do not tell when."""
    return tqdm(total=1, initial=done, desc=name, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}")


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
