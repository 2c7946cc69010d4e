"""Requests to the drawing side and its answers: frozen messages that need neither torch nor Discord.

Two vocabularies, from the outside in:

* ``ImageRequest`` is what a person ordered. ``JobEvent`` is what that person hears about it, ending in exactly one of
  ``Finished``, ``Failed`` or ``Cancelled``.
* ``Batch`` is what the worker draws in one go: rows of one or several requests that share a model, adapters, steps and
  size. Meanwhile, ``Progress`` travels back (``inference.messages``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID, uuid5

from inference.errors import Failure

MAX_SEED = 2**32 - 1
MAX_COUNT = 4
MAX_STEPS = 50
"""LCM distils along 50 points of the training schedule (``original_inference_steps``); there are no more to visit."""
MAX_PROMPT_CHARACTERS = 1_000
SIZE_MULTIPLE = 8
"""Pixels per latent cell along each side: every VAE of the Stable Diffusion family shrinks by 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A style LoRA of the catalogue, by name, with its strength (1.0 is as trained; -2 to 2 are accepted)."""

    name: str
    strength: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """How a picture's noise departs from that of its seed: it is mixed with the noise of another ``seed``,
    0 to 2**32 - 1, by a ``strength`` from 0 (not at all) to 1 (exactly the other seed's picture)."""

    seed: int
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """An order of ``count`` pictures; picture *i* is drawn from seed ``(seed + i) mod 2**32``.

    With a ``variation``, all of them are drawn from ``seed``, and the variation's seed is incremented instead.

    ``guidance`` follows the model's family: an embedded scale for a native LCM (3 to 13), classifier-free guidance for
    a model with an LCM-LoRA (1 switches it off, at most 2 is sensible). ``bucket`` and ``guided_bucket`` ask for the
    padded batch sizes of an earlier drawing (see ``Batch``), which makes the pixels come out bit-identical on the same
    machine; with ``None`` the queue chooses.
    """

    prompt: str
    model: str
    seed: int
    count: int
    steps: int
    guidance: float
    width: int
    height: int
    negative: str = ""
    adapters: tuple[Adapter, ...] = ()
    bucket: int | None = None
    guided_bucket: int | None = None
    variation: Variation | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The distinct seeds of its pictures."""
        return tuple(dict.fromkeys(self.picture_seed(index) for index in range(self.count)))

    def picture_seed(self, index: int) -> int:
        """The seed of picture ``index`` (0-based) of this order."""
        return self.seed if self.variation else _counted(self.seed, index)

    def picture_variation(self, index: int) -> Variation | None:
        """The variation of picture ``index`` (0-based) of this order."""
        return self.variation and replace(self.variation, seed=_counted(self.variation.seed, index))


def _counted(seed: int, index: int) -> int:
    return (seed + index) % (MAX_SEED + 1)


def picture_id(job_id: str, index: int) -> str:
    """The UUID of picture ``index`` of a job, the same on every attempt: a retry replaces pictures, and adds none."""
    return str(uuid5(UUID(job_id), str(index)))


# -- what is drawn in one go -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One picture of a batch."""

    job_id: str
    picture_id: str
    index: int
    prompt: str
    negative: str
    seed: int
    guidance: float
    variation: Variation | None = None

    @property
    def guided(self) -> bool:
        """Whether it takes a second pass, for its negative prompt, if the model uses classifier-free guidance."""
        return self.guidance > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows that share one forward pass, padded to ``bucket`` rows (``len(rows) <= bucket``).

    Guided rows share a second pass, padded to ``guided_bucket`` rows (0 if there are none); a native LCM makes no such
    pass, whatever ``guided_bucket`` says.
    """

    model: str
    adapters: tuple[Adapter, ...]
    steps: int
    width: int
    height: int
    bucket: int
    guided_bucket: int
    rows: tuple[Row, ...]


class Phase(StrEnum):
    """What a worker is doing with a batch."""

    LOADING = "loading"
    DRAWING = "drawing"
    DECODING = "decoding"
    SAVING = "saving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A preview of picture ``index`` of a job, between two steps: a small WebP (``content``) that is stored nowhere.

    ``explicit`` is the safety check's verdict, None if there was no check.
    """

    job_id: str
    index: int
    content: bytes
    explicit: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a batch is. In ``Phase.DRAWING``, ``step`` of ``steps`` are done; in ``Phase.LOADING``, ``step`` parts
    of the model have been read, out of a number not known yet (``steps`` is 0); in ``Phase.DECODING``, ``step``
    pictures have been decoded.

    ``previews``: from a worker, those made after this step, if any; to the person who ordered, the latest of theirs.
    """

    phase: Phase
    step: int = 0
    steps: int = 0
    previews: tuple[Preview, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """The ends of a prompt and a negative prompt that the model did not read; "" if it read everything."""

    prompt: str = ""
    negative: str = ""


ALL_READ = Unread()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture on disk: ``<pictures folder>/<id>.png`` with its recipe inside.

    ``bucket`` and ``guided_bucket`` are the sizes of the passes it was drawn in (see ``Batch``), 0 for no second one.
    ``pixels_sha256`` is the hash of the RGB bytes alone, so two files with equal hashes show the same picture.
    ``explicit`` is the safety check's verdict, None if there was no check. ``variation_seed``: None if not varied.
    """

    id: str
    index: int
    seed: int
    width: int
    height: int
    bucket: int
    guided_bucket: int
    pixels_sha256: str
    bytes: int
    explicit: bool | None = None
    unread: Unread = ALL_READ
    variation_seed: int | None = None


# -- what the person who ordered hears ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloading:
    """Not in the queue yet: ``model`` (its title, or a LoRA's) is being downloaded from the hub.

    ``total_bytes`` is None until the download has started and the hub has answered.
    """

    model: str
    done_bytes: int
    total_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """In the queue; ``position`` 1 is next. ``eta_s`` is None while nothing comparable has been timed."""

    position: int
    eta_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Being drawn."""

    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """The worker died with this job in hand; the job runs once more, alone."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """All pictures are on disk."""

    pictures: tuple[Picture, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """There will be no picture."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """Withdrawn before it was finished."""


Outcome: TypeAlias = Finished | Failed | Cancelled
Standing: TypeAlias = Downloading | Waiting | Running | Retrying
"""The state of an order that has not ended."""
JobEvent: TypeAlias = Standing | Outcome
