"""How long things take here: measured seconds per model, for the estimates shown to people. Pure.

The time of a batch is modelled as proportional to its work, ``bucket × (steps + 1) × width × height``. Each model has a
factor, learnt as an exponentially weighted mean, and another one for guided pictures, which may take a second pass; a
factor not known yet is taken to equal the other. The first batch of a model also shows how long it takes to load.
"""

from __future__ import annotations

from inference.contract import Batch

_WEIGHT_OF_NEWEST = 0.3
_LOOKING_IT_UP_S = 0.01


class Pace:
    """Measured speed of each model on one machine."""

    def __init__(self) -> None:
        self._seconds_per_work: dict[tuple[str, bool], float] = {}
        self._load_s: dict[str, float] = {}

    def record(self, batch: Batch, *, load_s: float, draw_s: float) -> None:
        """Learn from a drawn batch; a ``load_s`` close to 0 means that the model was in memory."""
        key = (batch.model, batch.guided_bucket > 0)
        newest = draw_s / work(batch.bucket, batch.steps, batch.width, batch.height)
        known = self._seconds_per_work.get(key, newest)
        self._seconds_per_work[key] = known + _WEIGHT_OF_NEWEST * (newest - known)
        if load_s > _LOOKING_IT_UP_S:
            self._load_s[batch.model] = load_s

    def draw_s(self, *, model: str, guided: bool, bucket: int, steps: int, width: int, height: int) -> float | None:
        """Expected seconds for a batch; None for a model not timed yet. ``guided``: some of its rows are."""
        factors = self._seconds_per_work
        factor = factors.get((model, guided), factors.get((model, not guided)))
        return None if factor is None else factor * work(bucket, steps, width, height)

    def load_s(self, model: str) -> float:
        """Expected seconds to bring a model into memory; 0 while unknown."""
        return self._load_s.get(model, 0.0)


def work(bucket: int, steps: int, width: int, height: int) -> float:
    """Work of a batch in megapixel-steps; decoding counts as one more step."""
    return bucket * (steps + 1) * width * height / 1e6
