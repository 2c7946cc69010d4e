"""Entry points for worker processes, each named for its sin: real children that speak the protocol but draw nothing."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from multiprocessing.connection import Connection

from inference.contract import Batch, Phase, Picture, Preview, Progress
from inference.errors import DeviceUnknown, Unexpected, WeightsUnreadable
from inference.messages import (
    BatchDrawn,
    BatchFailed,
    BatchProgress,
    BatchStopped,
    Draw,
    JobSaved,
    Prefetch,
    Ready,
    Shutdown,
    StartFailed,
    Stop,
)
from inference.processes.handle import WorkerSpec, draw_for_parent


def innocent(connection: Connection, spec: WorkerSpec) -> None:
    """Does as told. Prompts steer it: ``kill me``, ``kill me once``, ``kill me once alone``, ``hang``, ``fail``,
    ``slow`` (until stopped), ``sketch`` (previews after the first step, which are the pictures' ids), ``keep`` (all
    models so far in memory), ``save slowly`` (too late to be stopped)."""
    connection.send(Ready(device="cpu", precision="float32"))
    while True:
        match connection.recv():
            case Draw(batch=batch):
                _draw(connection, batch, spec)
            case Stop():
                pass
            case Shutdown():
                return


def with_siblings(connection: Connection, spec: WorkerSpec) -> None:
    """Tells of two more devices of its kind if it chose its own, and keeps a diary of what it drew and prefetched."""
    others = ("gpu:1", "gpu:2") if spec.device == "auto" else ()
    connection.send(Ready(device="gpu:0" if others else spec.device, precision="float32", others=others))
    while True:
        match connection.recv():
            case Draw(batch=batch):
                _note(spec, "diary", batch.model)
                _draw(connection, batch, spec)
            case Prefetch(model=model):
                _note(spec, "prefetched", model)
            case Stop():
                pass
            case Shutdown():
                return


def dead_unless_first(connection: Connection, spec: WorkerSpec) -> None:
    """Works on ``a``, dies at every start elsewhere."""
    if spec.device != "a":
        os._exit(3)
    with_siblings(connection, spec)


def killed_for_good(connection: Connection, spec: WorkerSpec) -> None:
    """On the device on which somebody first asks ``kill me once``, it dies of that and of every start afterwards."""
    grave = spec.pictures_dir / "grave"
    if grave.exists() and grave.read_text() == spec.device:
        os._exit(3)
    connection.send(Ready(device=spec.device, precision="float32"))
    while True:
        match connection.recv():
            case Draw(batch=batch):
                _note(spec, "diary", batch.model)
                if any(row.prompt == "kill me once" for row in batch.rows) and not grave.exists():
                    grave.write_text(spec.device)
                _draw(connection, batch, spec)
            case Shutdown():
                return


def slow_to_rise(connection: Connection, spec: WorkerSpec) -> None:
    """Works on ``a``, where it takes its time to come back once it was killed; dies at every start elsewhere."""
    if (spec.pictures_dir / "killed").exists():
        time.sleep(3 if spec.device == "a" else 0)
    dead_unless_first(connection, spec)


def losing_its_device(connection: Connection, spec: WorkerSpec) -> None:
    """The real worker on a device that computes no more once a request has failed, while much is being read."""
    from inference.drawing.engine import Engine

    def lost(_: object) -> None:
        threading.Thread(target=time.sleep, args=(600,)).start()
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    Engine.require_device = lost  # type: ignore[method-assign]
    draw_for_parent(connection, spec)


def hoarding(connection: Connection, spec: WorkerSpec) -> None:
    """The real worker, which takes another 300 MB for every drawing, and rests soon."""
    import torch

    from inference.drawing.engine import Engine
    from inference.processes import worker

    draw = Engine.draw

    def with_much_memory(*arguments: object) -> object:
        torch.ones(300_000_000, dtype=torch.uint8)
        return draw(*arguments)  # type: ignore[arg-type]

    Engine.draw = with_much_memory  # type: ignore[method-assign, assignment]
    worker.REST_AFTER_S = 0.2
    draw_for_parent(connection, spec)


def slow_to_draw(connection: Connection, spec: WorkerSpec) -> None:
    """The real worker on a machine on which every step takes more than a second."""
    from diffusers import UNet2DConditionModel

    forward = UNet2DConditionModel.forward

    def slowly(*args: object, **options: object) -> object:
        time.sleep(1.3)
        return forward(*args, **options)

    UNet2DConditionModel.forward = slowly
    draw_for_parent(connection, spec)


def talkative(connection: Connection, spec: WorkerSpec) -> None:
    """The real worker, which has something to say at two levels when it starts."""
    from inference.drawing.engine import Engine

    def chat(_: object) -> tuple[()]:
        logging.getLogger("chat").info("nice to be here")
        logging.getLogger("chat").warning("but it is warm")
        return ()

    Engine.safety_faults = chat  # type: ignore[method-assign]
    draw_for_parent(connection, spec)


def dead_at_start(connection: Connection, spec: WorkerSpec) -> None:
    """Never says a word."""
    os._exit(3)


def refusing_at_start(connection: Connection, spec: WorkerSpec) -> None:
    """Says why it cannot work, and leaves."""
    connection.send(StartFailed(failure=Unexpected(reference="0123abcd")))


def misnamed(connection: Connection, spec: WorkerSpec) -> None:
    """Is told to drive a device that there is not."""
    connection.send(StartFailed(failure=DeviceUnknown(device="cuda:9", available=("cpu",))))


def gone_at_the_next_start(connection: Connection, spec: WorkerSpec) -> None:
    """Works once; from then on its device is gone."""
    once = spec.pictures_dir / "once"
    if once.exists():
        misnamed(connection, spec)
        return
    once.touch()
    innocent(connection, spec)


def silent_at_start(connection: Connection, spec: WorkerSpec) -> None:
    """Lives, and never says that it is ready."""
    time.sleep(600)


def silent_for_good(connection: Connection, spec: WorkerSpec) -> None:
    """Closes its pipe after the first batch that it is sent, and lives on."""
    connection.send(Ready(device="cpu", precision="float32"))
    connection.recv()
    connection.close()
    time.sleep(600)


def dead_until_the_third_start(connection: Connection, spec: WorkerSpec) -> None:
    """Dies twice before it works; counts in a file."""
    counter = spec.pictures_dir / "starts"
    starts = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(starts))
    if starts < 3:
        os._exit(3)
    innocent(connection, spec)


def _note(spec: WorkerSpec, name: str, model: str) -> None:
    with (spec.pictures_dir / f"{name} {spec.device}").open("a") as diary:
        diary.write(f"{model}\n")


_kept: dict[str, None] = {}
"""The models that this process has drawn with."""


def _draw(connection: Connection, batch: Batch, spec: WorkerSpec) -> None:
    connection.send(BatchProgress(progress=Progress(phase=Phase.LOADING)))
    prompts = [row.prompt for row in batch.rows]
    note = spec.pictures_dir / "killed"
    once = "kill me once" in prompts or prompts == ["kill me once alone"]
    if "kill me" in prompts or (once and not note.exists()):
        note.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in prompts:
        time.sleep(600)
    if "fail" in prompts:
        connection.send(BatchFailed(failure=Unexpected(reference="abc")))
        return
    if "find it damaged" in prompts:
        _note(spec, "damaged", batch.model)
        connection.send(BatchFailed(failure=WeightsUnreadable(model=batch.model, path="unet", reason="it is cut off")))
        return
    unwanted: set[str] = set()
    slow = "slow" in prompts
    for step in range(batch.steps):
        previews = _previews(batch) if step == 0 and "sketch" in prompts else ()
        progress = Progress(phase=Phase.DRAWING, step=step + 1, steps=batch.steps, previews=previews)
        connection.send(BatchProgress(progress=progress))
        while connection.poll(0.02 if not slow else 600):
            message = connection.recv()
            if isinstance(message, Shutdown):
                raise SystemExit
            if isinstance(message, Prefetch):
                _note(spec, "prefetched", message.model)
            if isinstance(message, Stop):
                unwanted.add(message.job_id)
                if {row.job_id for row in batch.rows} <= unwanted:
                    connection.send(BatchStopped())
                    return
                slow = False
    if "decode slowly" in prompts:
        for done in range(3):
            connection.send(BatchProgress(progress=Progress(phase=Phase.DECODING, step=done)))
            time.sleep(0.2)
    _kept[batch.model] = None
    resident = tuple(_kept) if "keep" in prompts else (batch.model,)
    connection.send(BatchDrawn(load_s=0.0, draw_s=0.1, resident=resident))
    if "save slowly" in prompts:
        time.sleep(1)
    for job_id in dict.fromkeys(row.job_id for row in batch.rows):
        if job_id not in unwanted:
            connection.send(JobSaved(job_id=job_id, pictures=_pictures(batch, job_id), seconds=0.1))


def _previews(batch: Batch) -> tuple[Preview, ...]:
    return tuple(
        Preview(job_id=row.job_id, index=row.index, content=row.picture_id.encode()) for row in reversed(batch.rows)
    )


def _pictures(batch: Batch, job_id: str) -> tuple[Picture, ...]:
    return tuple(
        Picture(
            id=row.picture_id,
            index=row.index,
            seed=row.seed,
            width=batch.width,
            height=batch.height,
            bucket=batch.bucket,
            guided_bucket=batch.guided_bucket if row.guided else 0,
            pixels_sha256="0" * 64,
            bytes=1,
        )
        for row in batch.rows
        if row.job_id == job_id
    )
