"""Everything that can go wrong, as data, and the one table that words it for people.

A failure is a frozen dataclass: it crosses the process boundary unharmed (exceptions with constructors of their own do
not unpickle) and is consumed with ``match``. ``InferenceError`` carries one up a call stack; ``describe`` words it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, assert_never


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEmpty:
    """Nothing to draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTooLong:
    """More characters than any text encoder would read."""

    field: str
    length: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfRange:
    """A number outside ``low..high``."""

    field: str
    value: str
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotANumber:
    """Text where a number belongs."""

    field: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeUnreadable:
    """Text where WIDTHxHEIGHT belongs."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeNotPossible:
    """A size that the model cannot draw; ``suggestion`` is the nearest that it can."""

    width: int
    height: int
    multiple: int
    smallest: int
    largest: int
    suggestion: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownModel:
    """Not in the catalogue."""

    name: str
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownAdapter:
    """A LoRA that the catalogue does not have, or not for this model's family."""

    name: str
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsMissing:
    """The catalogue names weights that are not on this machine."""

    model: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsUnreadable:
    """A file that is damaged, of another architecture, or of a kind that is never loaded (pickles)."""

    model: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfMemory:
    """The device's memory does not suffice, not even for one picture at a time."""

    model: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAPicture:
    """No recipe in this file."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFull:
    """The queue takes no more for now."""

    limit: int
    retry_after_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TooManyWaiting:
    """One person has as many orders waiting as one person may."""

    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDied:
    """The drawing process ended with the job in hand, for the second time if this is final."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTimedOut:
    """The drawing process did nothing for so long that it was ended."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerUnavailable:
    """The drawing process does not start."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUnknown:
    """A device that torch does not have here."""

    device: str
    available: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionUnknown:
    """An element type that the networks cannot be run in."""

    precision: str
    available: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUnwritable:
    """The pictures folder cannot be written (full, read-only)."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexpected:
    """A fault of ours. ``reference`` finds the traceback in the log."""

    reference: str


Failure: TypeAlias = (
    PromptEmpty
    | PromptTooLong
    | OutOfRange
    | NotANumber
    | SizeUnreadable
    | SizeNotPossible
    | UnknownModel
    | UnknownAdapter
    | WeightsMissing
    | WeightsUnreadable
    | OutOfMemory
    | NotAPicture
    | QueueFull
    | TooManyWaiting
    | WorkerDied
    | WorkerTimedOut
    | WorkerUnavailable
    | DeviceUnknown
    | PrecisionUnknown
    | DiskUnwritable
    | Unexpected
)


class InferenceError(Exception):
    """A failure on its way up a call stack."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return describe(self.failure)


def describe(failure: Failure) -> str:
    """One or two sentences for someone who wants a picture: what is wrong and what to do."""
    match failure:
        case PromptEmpty():
            return "The prompt is empty. Say what the picture should show, for example “a red apple”."
        case PromptTooLong(field=field, length=length, limit=limit):
            return f"The {field} has {length:,} characters; {limit:,} are the most. Shorten it and try again."
        case OutOfRange(field=field, value=value, low=low, high=high):
            return f"The {field} must lie between {low:g} and {high:.10g}; {value} does not."
        case NotANumber(field=field, value=value):
            return f"The {field} must be a number; “{value}” is none."
        case SizeUnreadable(text=text):
            return f"“{text}” is no size. Write width and height in pixels, for example 512x512."
        case SizeNotPossible(width=width, height=height, multiple=multiple, smallest=smallest, largest=largest) as size:
            return (
                f"{width}×{height} is not possible with this model: both sides must be multiples of {multiple} between "
                f"{smallest} and {largest}. Try {size.suggestion[0]}×{size.suggestion[1]}."
            )
        case UnknownModel(name=name, known=known):
            return f"There is no model “{name}”. {_choice(known)}"
        case UnknownAdapter(name=name, known=known):
            return f"There is no LoRA “{name}” for this model. {_choice(known)}"
        case WeightsMissing(model=model, path=path):
            return f"The weights of “{model}” are not on this machine ({path}). Choose another model or put them there."
        case WeightsUnreadable(model=model, path=path, reason=reason):
            return f"The weights of “{model}” cannot be used: {path}: {reason}"
        case OutOfMemory(model=model, width=width, height=height):
            return f"There is not enough memory to draw {width}×{height} with “{model}”. Try a smaller size."
        case NotAPicture(path=path, reason=reason):
            return f"{path} carries no recipe: {reason}"
        case QueueFull(limit=limit, retry_after_s=retry_after_s):
            when = "in a few minutes" if retry_after_s is None else f"in about {max(1, round(retry_after_s))} s"
            return f"The queue is full ({limit} orders wait). Please try again {when}."
        case TooManyWaiting(limit=limit):
            return f"You have {limit} orders waiting, which is the most. Wait for one to finish, or cancel one."
        case WorkerDied(reason=reason):
            return f"The drawing process ended unexpectedly ({reason})."
        case WorkerTimedOut(seconds=seconds):
            return f"The drawing process did not answer for {seconds:g} s and was ended."
        case WorkerUnavailable(reason=reason):
            return f"The drawing process does not start ({reason}). The people who run this bot have to look into it."
        case DeviceUnknown(device=device, available=available):
            return f"There is no device “{device}” on this machine. {_choice(available)}"
        case PrecisionUnknown(precision=precision, available=available):
            return f"There is no precision “{precision}”. {_choice(available)}"
        case DiskUnwritable(path=path, reason=reason):
            return f"The picture could not be saved in {path}: {reason}"
        case Unexpected(reference=reference):
            return f"Something went wrong on our side. The log has the details under {reference}."
        case _:
            assert_never(failure)


def _choice(names: tuple[str, ...]) -> str:
    return f"Choose from: {', '.join(names)}." if names else "None is installed."
