"""A worker process without a model: a real child that speaks the protocol and saves a pattern for every seed.

Prompts steer it: ``wait`` draws no further until the test creates the file ``go``, ``fail`` fails, ``find it
damaged`` too, ``kill me once`` dies the first time it is drawn, ``kill me`` every time; ``explicit`` and ``decent``
are what the safety check finds, and what follows `` | `` is not read. ``sketch`` waits like ``wait`` and shows previews
meanwhile; with ``explicit sketch`` and ``decent sketch`` those were checked.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from PIL import Image

from inference.contract import Batch, Phase, Picture, Preview, Progress, Row, Unread, Variation
from inference.errors import OutOfMemory, WeightsUnreadable
from inference.messages import (
    BatchDrawn,
    BatchFailed,
    BatchProgress,
    BatchStopped,
    Draw,
    JobSaved,
    Ready,
    Shutdown,
    Stop,
)
from inference.processes.handle import WorkerSpec

VERDICTS = {"explicit": True, "explicit | lewd": True, "decent": False, "explicit sketch": True, "decent sketch": False}
SKETCH = (200, 100, 50)
"""The colour of all previews."""


def main(connection: Connection, spec: WorkerSpec) -> None:
    """Entry point of the child process."""
    spec.pictures_dir.mkdir(parents=True, exist_ok=True)
    connection.send(Ready(device="cpu", precision="float32"))
    while True:
        match connection.recv():
            case Draw(batch=batch):
                _draw(connection, batch, spec.pictures_dir)
            case Stop():
                pass
            case Shutdown():
                return


def gone_for_good(connection: Connection, spec: WorkerSpec) -> None:
    """Once it was killed it never comes up again, and only waits for its end."""
    if (spec.pictures_dir / "died").exists():
        connection.recv()
    else:
        main(connection, spec)


def slow_to_end(connection: Connection, spec: WorkerSpec) -> None:
    """Told to end while it draws, it takes until the test creates the file ``go``."""
    try:
        main(connection, spec)
    except SystemExit:
        while not (spec.pictures_dir / "go").exists():
            time.sleep(0.02)


def pixels(seed: int, width: int, height: int, variation: Variation | None = None) -> bytes:
    """What is drawn for a seed and a variation of it, as RGB bytes."""
    if variation is not None:
        seed += (variation.seed + 1) * 2**32 + round(variation.strength * 100) * 2**64
    colours = [random.Random(seed).randbytes(3) for _ in range(1)] + [random.Random(seed + 1).randbytes(3)]
    return b"".join(colours[(x // 8 + y // 8) % 2] for y in range(height) for x in range(width))


def _draw(connection: Connection, batch: Batch, folder: Path) -> None:
    prompts = [row.prompt for row in batch.rows]
    if "fail" in prompts:
        failure = OutOfMemory(model=batch.model, width=batch.width, height=batch.height)
        connection.send(BatchFailed(failure=failure))
        return
    if "find it damaged" in prompts:
        failure = WeightsUnreadable(model=batch.model, path="unet", reason="the file is cut off")
        connection.send(BatchFailed(failure=failure))
        return
    _maybe_die(prompts, folder)
    unwanted: set[str] = set()
    waiting = any(prompt == "wait" or prompt.endswith("sketch") for prompt in prompts)
    for step in range(batch.steps):
        previews = _previews(batch) if step == 0 else ()
        progress = Progress(phase=Phase.DRAWING, step=step + 1, steps=batch.steps, previews=previews)
        connection.send(BatchProgress(progress=progress))
        while (waiting and not (folder / "go").exists()) or connection.poll():
            if not connection.poll(0.02):
                continue
            match connection.recv():
                case Shutdown():
                    raise SystemExit
                case Stop(job_id=job_id):
                    unwanted.add(job_id)
            if {row.job_id for row in batch.rows} <= unwanted:
                connection.send(BatchStopped())
                return
    connection.send(BatchDrawn(load_s=0.0, draw_s=0.1, resident=(batch.model,)))
    for job_id in dict.fromkeys(row.job_id for row in batch.rows if row.job_id not in unwanted):
        pictures = tuple(_save(row, batch, folder) for row in batch.rows if row.job_id == job_id)
        connection.send(JobSaved(job_id=job_id, pictures=pictures, seconds=0.1))


def _previews(batch: Batch) -> tuple[Preview, ...]:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), SKETCH).save(buffer, format="WEBP", lossless=True)
    return tuple(
        Preview(job_id=row.job_id, index=row.index, content=buffer.getvalue(), explicit=VERDICTS.get(row.prompt))
        for row in batch.rows
        if row.prompt.endswith("sketch")
    )


def _maybe_die(prompts: list[str], folder: Path) -> None:
    died = folder / "died"
    if "kill me" in prompts or ("kill me once" in prompts and not died.exists()):
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _save(row: Row, batch: Batch, folder: Path) -> Picture:
    raw = pixels(row.seed, batch.width, batch.height, row.variation)
    path = folder / f"{row.picture_id}.png"
    part = path.with_suffix(".part")  # as the real worker saves: a file under its name is whole
    Image.frombytes("RGB", (batch.width, batch.height), raw).save(part, "PNG")
    part.replace(path)
    return Picture(
        id=row.picture_id,
        index=row.index,
        seed=row.seed,
        width=batch.width,
        height=batch.height,
        bucket=batch.bucket,
        guided_bucket=batch.guided_bucket if row.guided else 0,
        pixels_sha256=hashlib.sha256(raw).hexdigest(),
        bytes=path.stat().st_size,
        explicit=VERDICTS.get(row.prompt),
        variation_seed=row.variation.seed if row.variation else None,
        unread=Unread(prompt=row.prompt.partition(" | ")[2], negative=row.negative.partition(" | ")[2]),
    )
