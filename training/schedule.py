"""The noise schedule that everything here trains with: Stable Diffusion's betas, v-prediction (arXiv 2202.00512)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.recipe import TIMESTEPS


@dataclass(frozen=True, slots=True)
class Schedule:
    """``alphas``: cumulative products ᾱ_t of 1 - β_t for each training timestep, shape (1000,)."""

    alphas: Tensor

    @classmethod
    def scaled_linear(cls, device: torch.device) -> Schedule:
        """β from 0.00085 to 0.012, linear in its square root."""
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS) ** 2
        return cls(torch.cumprod(1 - betas, 0).to(device))

    def weights(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signal √ᾱ_t and noise √(1 - ᾱ_t), each (B, 1, 1, 1), for timesteps ``t`` (B,)."""
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        return alpha.sqrt(), (1 - alpha).sqrt()

    def noised(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = √ᾱ_t x0 + √(1 - ᾱ_t) ε."""
        signal, noisy = self.weights(t)
        return signal * x0 + noisy * noise

    def velocity(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """v = √ᾱ_t ε - √(1 - ᾱ_t) x0."""
        signal, noisy = self.weights(t)
        return signal * noise - noisy * x0

    def split(self, x: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The clean sample x0 and the noise ε that ``v`` implies at ``x``."""
        signal, noisy = self.weights(t)
        return signal * x - noisy * v, signal * v + noisy * x

    def ddim(self, x: Tensor, v: Tensor, t: Tensor, ahead: Tensor) -> Tensor:
        """One DDIM step (arXiv 2010.02502, equation 12 without noise) from ``t`` to ``ahead``."""
        x0, noise = self.split(x, v, t)
        return self.noised(x0, noise, ahead)
