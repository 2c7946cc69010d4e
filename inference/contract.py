"""What may be asked of the drawing side and what it answers: frozen messages, nothing that needs torch or Discord.

Two vocabularies stand here, from the outside in:

* ``ImageRequest`` is what a person ordered. ``JobEvent`` is what that person hears about it, ending in exactly one of
  ``Finished``, ``Failed`` or ``Cancelled``.
* ``Batch`` is what the worker draws in one go: rows of one or several requests that share a model, adapters, steps and
  size. ``Progress`` travels back meanwhile (``inference.messages``).
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
    """How the noise of a picture differs from that of its seed: mixed with that of another ``seed``, 0 to 2**32 - 1,
    with a ``strength`` from 0 (not at all) to 1 (nothing but the other seed's picture)."""

    seed: int
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """An order of ``count`` pictures; picture *i* is drawn from seed ``(seed + i) mod 2**32``.

    With a ``variation`` all of them are drawn from ``seed``, and it is the variation's seed that counts on.

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
        """The seeds of its pictures, each of them once."""
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
    """The UUID of picture ``index`` of a job, the same on every attempt: a second try replaces, it never adds."""
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
        """Whether it takes a second pass, for its negative prompt, with a model that is guided so."""
        return self.guidance > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows that share one forward pass, padded to ``bucket`` rows (``len(rows) <= bucket``).

    The guided ones share a second pass, padded to ``guided_bucket`` rows, 0 if there are none; a native LCM needs no
    such pass, whatever the number.
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
    """What picture ``index`` of a job looks like between two steps: a small WebP (``content``), which nobody keeps.

    ``explicit`` is what the safety check said of it, None where nobody checked.
    """

    job_id: str
    index: int
    content: bytes
    explicit: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a batch stands: ``step`` of ``steps`` are done in ``Phase.DRAWING``; in ``Phase.LOADING``, ``step`` parts
    of the model have been read, of a number that is not known yet (0); in ``Phase.DECODING``, ``step`` pictures have
    been decoded.

    ``previews``: from a worker those that were made after this step, if any; to whoever ordered, the latest of theirs.
    """

    phase: Phase
    step: int = 0
    steps: int = 0
    previews: tuple[Preview, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """The ends of a prompt and a negative prompt, beyond the tokens that a model reads; "" where it reads all."""

    prompt: str = ""
    negative: str = ""


ALL_READ = Unread()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture on disk: ``<pictures folder>/<id>.png`` with its recipe inside.

    ``bucket`` and ``guided_bucket`` are the sizes of the passes that it took part in (see ``Batch``), 0 for no second
    one. ``pixels_sha256`` is the hash of the RGB bytes alone, so two files with equal hashes show the same picture.
    ``explicit`` is what the safety check said, None where nobody checked. ``variation_seed``: None without a variation.
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
    """Not in the queue yet: ``model`` (its title, or a LoRA's) is on its way from the hub.

    ``total_bytes`` is None until its turn has come and the hub has answered.
    """

    model: str
    done_bytes: int
    total_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """In the queue; ``position`` 1 is next. ``eta_s`` is None while nothing of the kind has been timed yet."""

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
    """Taken back before it was finished."""


Outcome: TypeAlias = Finished | Failed | Cancelled
Standing: TypeAlias = Downloading | Waiting | Running | Retrying
"""Where an order stands that has not ended."""
JobEvent: TypeAlias = Standing | Outcome
