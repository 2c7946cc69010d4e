"""Combines orders into batches: which orders may share one, and to which buckets it is padded. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from inference.contract import Adapter, Batch, ImageRequest, Row, picture_id

TOKEN = re.compile(r"[a-z]{1,8}|\d|[^\sa-z\d]")
READ_AT_ONCE = 75
"""Tokens, not counting those that mark beginning and end."""


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Orders with equal keys may be drawn in one forward pass, guided or not.

    The buckets are the requested ones; ``guided_bucket`` is None if nothing is guided or none was requested.

    ``words`` holds prompt and negative prompt if the order may share a batch only with the same ones: either they seem
    longer than a text encoder reads at once, which would split the batch (the engine splits it where this guess is
    wrong), or a bucket is requested, and its batch must not be split.
    """

    model: str
    adapters: tuple[Adapter, ...]
    steps: int
    width: int
    height: int
    bucket: int | None
    guided_bucket: int | None
    words: tuple[str, str] | None

    @classmethod
    def of(cls, request: ImageRequest) -> BatchKey:
        words = request.prompt, request.negative if request.guidance > 1 else ""
        is_alone = request.bucket is not None or any(map(_seems_long, words))
        return cls(
            model=request.model,
            adapters=request.adapters,
            steps=request.steps,
            width=request.width,
            height=request.height,
            bucket=request.bucket,
            guided_bucket=(request.guided_bucket or None) if request.guidance > 1 else None,
            words=words if is_alone else None,
        )

    def room(self, max_rows: int) -> int:
        """The most pictures that a batch with this key may have. If a guided bucket is requested, all are guided."""
        return min(self.bucket or max_rows, self.guided_bucket or max_rows)


def bucket_for(rows: int) -> int:
    """The padded batch size for ``rows`` pictures: the next power of two; 0 for none."""
    return 1 << (rows - 1).bit_length() if rows else 0


def batch_of(orders: Mapping[str, ImageRequest]) -> Batch:
    """Combine all pictures of ``orders`` (job id to request, all with the same ``BatchKey``) in one batch.

    Its passes are padded to the buckets that the orders request, or to the next power of two.
    """
    key = BatchKey.of(next(iter(orders.values())))
    rows = tuple(row for job_id, order in orders.items() for row in _rows(job_id, order))
    return Batch(
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


def _seems_long(prompt: str) -> bool:
    """Whether a prompt has more tokens than CLIP reads at once, as far as this can be told without its tokenizer."""
    return len(TOKEN.findall(prompt.casefold())) > READ_AT_ONCE


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
    """Split a batch into two of half its bucket, rounded up; into one if the second half was only padding."""
    bucket = -(-batch.bucket // 2)
    places = range(len(batch.rows))
    parts = [part_of(batch, some) for some in (places[:bucket], places[bucket:]) if some]
    return [replace(part, bucket=bucket) for part in parts]


def part_of(batch: Batch, places: Sequence[int]) -> Batch:
    """A batch of only the rows at ``places``, with the smallest buckets that hold them."""
    rows = tuple(batch.rows[place] for place in places)
    return replace(
        batch,
        bucket=bucket_for(len(rows)),
        guided_bucket=guided_bucket_for(rows),
        rows=rows,
    )
