"""The noise schedule of a checkpoint, and the coefficients of a few steps along it. Pure numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

SIGMA_DATA = 0.5
"""Standard deviation of the data in the boundary conditions (arXiv 2310.04378; as in diffusers' LCMScheduler)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The noise schedule that a checkpoint was trained with.

    ``alphas`` holds the cumulative product for each training timestep; ``clip`` bounds the predicted sample, None
    leaves it alone; ``timestep_scaling`` sharpens the boundary condition.
    """

    alphas: tuple[float, ...]
    prediction: str
    original_steps: int = 50
    timestep_scaling: float = 10.0
    clip: float | None = None

    def timesteps(self, steps: int) -> tuple[int, ...]:
        """The ``steps`` training timesteps to visit, descending: evenly spaced by index over the distillation's own
        (arXiv 2310.04378, section 4.3; index rounding as diffusers' LCMScheduler).

        Raises:
            ValueError: more steps than the distillation had, or none.
        """
        if not 1 <= steps <= self.original_steps:
            raise ValueError(f"{steps} steps out of 1 to {self.original_steps}")
        stride = len(self.alphas) // self.original_steps
        visited = [stride * i - 1 for i in range(self.original_steps, 0, -1)]
        return tuple(visited[i * self.original_steps // steps] for i in range(steps))

    def coefficients(self, steps: int) -> tuple[StepCoefficients, ...]:
        """The coefficients of each of ``steps`` steps."""
        timesteps = self.timesteps(steps)
        return tuple(
            self._coefficients(timestep, following)
            for timestep, following in zip(timesteps, (*timesteps[1:], None), strict=True)
        )

    def _coefficients(self, timestep: int, following: int | None) -> StepCoefficients:
        alpha, scaled = self.alphas[timestep], timestep * self.timestep_scaling
        signal, noise = sqrt(alpha), sqrt(1.0 - alpha)
        from_sample, from_output = _x0_weights(self.prediction, signal, noise)
        variance = scaled**2 + SIGMA_DATA**2
        ahead = 1.0 if following is None else self.alphas[following]
        return StepCoefficients(
            x0_from_sample=from_sample,
            x0_from_output=from_output,
            c_skip=SIGMA_DATA**2 / variance,
            c_out=scaled / sqrt(variance),
            signal_ahead=sqrt(ahead),
            noise_ahead=sqrt(1.0 - ahead),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCoefficients:
    """One step of multistep consistency sampling (arXiv 2310.04378, equation 9 and algorithm 3).

    x0 = x0_from_sample · x + x0_from_output · output; f = c_out · x0 + c_skip · x; the next x is
    signal_ahead · f + noise_ahead · z with z ~ N(0, I), after the last step f itself.
    """

    x0_from_sample: float
    x0_from_output: float
    c_skip: float
    c_out: float
    signal_ahead: float
    noise_ahead: float


def _x0_weights(prediction: str, signal: float, noise: float) -> tuple[float, float]:
    """How the clean sample follows from the noisy one and the network's output."""
    match prediction:
        case "epsilon":
            return 1.0 / signal, -noise / signal
        case "v_prediction":
            return signal, -noise
        case "sample":
            return 0.0, 1.0
        case _:
            raise ValueError(f"unknown prediction type “{prediction}”")
