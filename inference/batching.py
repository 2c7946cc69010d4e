"""From orders to the batch that draws them: which may share one, padded to which buckets. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from inference.contract import Adapter, Batch, ImageRequest, Row, picture_id


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Orders with equal keys may be drawn in one forward pass, guided or not.

    The buckets are those asked for; ``guided_bucket`` is None where nothing is guided, or nobody asked.
    """

    model: str
    adapters: tuple[Adapter, ...]
    steps: int
    width: int
    height: int
    bucket: int | None
    guided_bucket: int | None

    @classmethod
    def of(cls, request: ImageRequest) -> BatchKey:
        return cls(
            model=request.model,
            adapters=request.adapters,
            steps=request.steps,
            width=request.width,
            height=request.height,
            bucket=request.bucket,
            guided_bucket=(request.guided_bucket or None) if request.guidance > 1 else None,
        )

    def room(self, max_rows: int) -> int:
        """How many pictures a batch of this key may have. Where a guided bucket is asked for, all are guided."""
        return min(self.bucket or max_rows, self.guided_bucket or max_rows)


def bucket_for(rows: int) -> int:
    """The padded batch size for ``rows`` pictures: the next power of two; 0 for none."""
    return 1 << (rows - 1).bit_length() if rows else 0


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
            variation=request.picture_variation(index),
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
