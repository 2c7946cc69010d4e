"""Everything that crosses a pipe between the bot and its children: ``ToWorker`` and ``FromWorker``, ``FromFetcher``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from inference.contract import Adapter, Batch, Picture, Progress
from inference.errors import Failure

# -- parent to worker --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Draw this batch; it is queued behind the one in progress."""

    batch: Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """This job is no longer wanted; a batch is abandoned at its next step once none of its jobs is wanted."""

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefetch:
    """The next batch will probably need this model: it can be loaded while drawing. There is no answer."""

    model: str
    adapters: tuple[Adapter, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """Finish what is being saved, then exit."""


ToWorker: TypeAlias = Draw | Stop | Prefetch | Shutdown


# -- worker to parent --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The worker can draw. ``device`` and ``precision`` are torch's names (``cuda:0``, ``bfloat16``).

    A worker that chose its device by itself also names the ``others`` of the same kind, for more workers.
    ``unchecked``: what is wrong with the safety checkers of models on this machine; those models fail, others can draw.
    """

    device: str
    precision: str
    others: tuple[str, ...] = ()
    unchecked: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProgress:
    """A batch made progress."""

    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDrawn:
    """The device is free; ``resident`` are the models it holds, ``load_s`` and ``draw_s`` the seconds it took."""

    load_s: float
    draw_s: float
    resident: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSaved:
    """All of one job's pictures in the batch are on disk."""

    job_id: str
    pictures: tuple[Picture, ...]
    seconds: float
    """From the batch's arrival in the worker to the last file of this job, loading included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStopped:
    """The batch was abandoned because nobody wants it any more; the device is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFailed:
    """The batch failed and the worker lives; the device is free."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed:
    """The batch was drawn, but one of this job's pictures is unusable or could not be saved."""

    job_id: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailed:
    """The worker cannot start at all (no such device, broken installation); it exits after this message."""

    failure: Failure


FromWorker: TypeAlias = (
    Ready | BatchProgress | BatchDrawn | JobSaved | BatchStopped | BatchFailed | JobFailed | StartFailed
)


# -- a downloading process to its parent -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadProgress:
    """How far the download of the model or LoRA ``name`` is."""

    name: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadEnded:
    """The download is complete, unless there is a ``failure``; the process exits after this message."""

    failure: Failure | None


FromFetcher: TypeAlias = DownloadProgress | DownloadEnded
