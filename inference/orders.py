"""From orders to the batch that draws them, for the queue and for whoever draws without it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace

from inference.contract import Batch, ImageRequest, Row, picture_id
from inference.queue import bucket_for


def batch_of(orders: Mapping[str, ImageRequest]) -> Batch:
    """All pictures of ``orders`` (job id to request, which agree in model, adapters, steps and size) in one batch.

    It is padded to the bucket that the orders ask for, or to the next power of two.
    """
    request = next(iter(orders.values()))
    rows = tuple(row for job_id, order in orders.items() for row in _rows(job_id, order))
    return Batch(
        id=str(uuid.uuid4()),
        model=request.model,
        adapters=request.adapters,
        steps=request.steps,
        width=request.width,
        height=request.height,
        bucket=request.bucket or bucket_for(len(rows)),
        rows=rows,
    )


def _rows(job_id: str, request: ImageRequest) -> list[Row]:
    return [
        Row(
            job_id=job_id,
            picture_id=picture_id(job_id, index),
            index=index,
            prompt=request.prompt,
            negative=request.negative,
            seed=request.picture_seed(index),
            guidance=request.guidance,
        )
        for index in range(request.count)
    ]


def halves(batch: Batch) -> list[Batch]:
    """The rows in two batches of half the bucket; one where the rest was padding."""
    bucket = batch.bucket // 2
    parts = [rows for rows in (batch.rows[:bucket], batch.rows[bucket:]) if rows]
    return [replace(batch, id=f"{batch.id}/{number}", bucket=bucket, rows=rows) for number, rows in enumerate(parts)]
