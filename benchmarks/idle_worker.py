"""A worker process that draws nothing, so only queue, pipe and events cost time. Does not import torch."""

from __future__ import annotations

from multiprocessing.connection import Connection

from inference.contract import Batch, Phase, Picture, Progress
from inference.messages import BatchDrawn, BatchProgress, Draw, JobSaved, Ready, Shutdown, Stop
from inference.processes.handle import WorkerSpec


def idle(connection: Connection, spec: WorkerSpec) -> None:
    """Sends for every batch all messages that a real worker sends, at once."""
    connection.send(Ready(device="cpu", precision="float32"))
    while True:
        match connection.recv():
            case Draw(batch=batch):
                _draw(connection, batch)
            case Stop():
                pass
            case Shutdown():
                return


def _draw(connection: Connection, batch: Batch) -> None:
    for step in range(batch.steps + 1):
        progress = Progress(phase=Phase.DRAWING, step=step, steps=batch.steps)
        connection.send(BatchProgress(progress=progress))
    connection.send(BatchProgress(progress=Progress(phase=Phase.DECODING)))
    connection.send(BatchDrawn(load_s=0.0, draw_s=0.0, resident=(batch.model,)))
    for row in batch.rows:
        picture = Picture(
            id=row.picture_id,
            index=row.index,
            seed=row.seed,
            width=batch.width,
            height=batch.height,
            bucket=batch.bucket,
            guided_bucket=0,
            pixels_sha256="0" * 64,
            bytes=1,
        )
        connection.send(JobSaved(job_id=row.job_id, pictures=(picture,), seconds=0.0))
