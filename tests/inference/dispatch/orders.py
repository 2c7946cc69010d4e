"""Orders in a queue, as the tests ask for them."""

from __future__ import annotations

import uuid

from inference.contract import ImageRequest
from inference.dispatch.queue import Entry, FairQueue


def order(
    owner: str,
    *,
    model: str = "m",
    count: int = 1,
    steps: int = 4,
    guidance: float = 8.0,
    bucket: int | None = None,
    guided_bucket: int | None = None,
) -> Entry:
    request = ImageRequest(
        prompt="a red apple", model=model, seed=1, count=count, steps=steps, guidance=guidance, width=64, height=64,
        bucket=bucket, guided_bucket=guided_bucket,
    )  # fmt: skip
    return Entry(job_id=str(uuid.uuid4()), owner=owner, request=request)


def filled(*entries: Entry, max_rows: int = 8, max_passed_over: int = 2) -> FairQueue:
    queue = FairQueue(max_rows=max_rows, max_passed_over=max_passed_over)
    for entry in entries:
        queue.add(entry)
    return queue
