"""From orders to the batch that draws them, for the queue and for whoever draws without it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from inference.contract import Batch, ImageRequest, Row, picture_id
from inference.queue import BatchKey, bucket_for


def batch_of(orders: Mapping[str, ImageRequest]) -> Batch:
    """All pictures of ``orders`` (job id to request, of one ``BatchKey``) in one batch.

    Its passes are padded to the buckets that the orders ask for, or to the next power of two.
    """
    key = BatchKey.of(next(iter(orders.values())))
    rows = tuple(row for job_id, order in orders.items() for row in _rows(job_id, order))
    return Batch(
        id=str(uuid.uuid4()),
        model=key.model,
        adapters=key.adapters,
        steps=key.steps,
        width=key.width,
        height=key.height,
        bucket=key.bucket or bucket_for(len(rows)),
        guided_bucket=key.guided_bucket or guided_bucket_for(rows),
        rows=rows,
    )


def guided_bucket_for(rows: Sequence[Row]) -> int:
    """The padded size of the second pass that ``rows`` need; 0 if none of them is guided."""
    return bucket_for(sum(row.guided for row in rows))


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
    return [
        replace(batch, id=f"{batch.id}/{number}", bucket=bucket, guided_bucket=guided_bucket_for(rows), rows=rows)
        for number, rows in enumerate(parts)
    ]
