"""Batches as the tests ask for them."""

from __future__ import annotations

from inference.batching import guided_bucket_for
from inference.contract import Adapter, Batch, Progress, Row, Variation

SIDE = 64


def row(
    index: int = 0,
    *,
    prompt: str = "a red apple",
    negative: str = "",
    seed: int = 7,
    guidance: float = 8.0,
    variation: Variation | None = None,
) -> Row:
    """One picture of a job that is the same for all rows."""
    return Row(
        job_id="00000000-0000-4000-8000-000000000000",
        picture_id=f"00000000-0000-4000-8000-{index:012}",
        index=index,
        prompt=prompt,
        negative=negative,
        seed=seed,
        guidance=guidance,
        variation=variation,
    )


def batch(
    *rows: Row,
    model: str = "tiny",
    adapters: tuple[Adapter, ...] = (),
    steps: int = 2,
    bucket: int | None = None,
    guided_bucket: int | None = None,
    width: int = SIDE,
    height: int = SIDE,
) -> Batch:
    """A batch of ``rows``, or of one row; without padding unless the buckets say so."""
    rows = rows or (row(),)
    return Batch(
        model=model,
        adapters=adapters,
        steps=steps,
        width=width,
        height=height,
        bucket=bucket or len(rows),
        guided_bucket=guided_bucket_for(rows) if guided_bucket is None else guided_bucket,
        rows=rows,
    )


def silent(progress: Progress) -> None:
    """Nobody listens."""
