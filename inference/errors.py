"""Everything that can go wrong, as data, and the one table that puts it into words for people.

A failure is a frozen dataclass: it crosses the process boundary unharmed (exceptions with custom constructors do not
unpickle) and is consumed with ``match``. ``InferenceError`` carries one up a call stack; ``describe`` words it.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from inference.hub_errors import HubFailure, describe_hub


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
class WeightOutOfRange:
    """A weight in the prompt's brackets outside ``low..high``."""

    value: str
    low: float
    high: float


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
    """A size that the model cannot draw; ``suggestion`` is the nearest one that it can."""

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
class CheckerMissing:
    """A model's pictures must be checked, and its checker is not on this machine.

    ``where`` it should be, None if the catalogue names no checker at all; ``pull``: the name to download it by.
    """

    model: str
    where: str | None
    pull: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckerUnusable:
    """A safety checker that is damaged, of an unknown kind, or a pickle."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterUnfit:
    """An adapter of another algorithm or for other models. ``what`` it is and ``needs`` are parts of a sentence."""

    adapter: str
    model: str
    what: str
    needs: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfMemory:
    """The device has too little memory, even for one picture at a time."""

    model: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NumbersTooLarge:
    """A model's values overflow its precision, so the result is no usable picture."""

    model: str
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAPicture:
    """No recipe in this file."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFull:
    """The queue accepts no more orders for now."""

    limit: int
    retry_after_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TooManyWaiting:
    """One person has as many orders waiting as are allowed per person."""

    limit: int
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDied:
    """The drawing process ended while it had the job in hand; if this is final, for the second time."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTimedOut:
    """The drawing process was silent for so long that it was killed."""

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
class CatalogUnreadable:
    """The catalogue's file was changed while the bot was running, and can no longer be read."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexpected:
    """A bug of ours. ``reference`` finds the traceback in the log."""

    reference: str


Failure: TypeAlias = (
    PromptEmpty
    | PromptTooLong
    | WeightOutOfRange
    | OutOfRange
    | NotANumber
    | SizeUnreadable
    | SizeNotPossible
    | UnknownModel
    | UnknownAdapter
    | WeightsMissing
    | WeightsUnreadable
    | CheckerMissing
    | CheckerUnusable
    | AdapterUnfit
    | OutOfMemory
    | NumbersTooLarge
    | NotAPicture
    | QueueFull
    | TooManyWaiting
    | WorkerDied
    | WorkerTimedOut
    | WorkerUnavailable
    | DeviceUnknown
    | PrecisionUnknown
    | DiskUnwritable
    | HubFailure
    | CatalogUnreadable
    | Unexpected
)

UNDRIVEABLE = (DeviceUnknown, PrecisionUnknown)
"""Failures that restarting the worker does not fix."""
OF_THE_MODEL = (
    UnknownModel,
    UnknownAdapter,
    WeightsMissing,
    WeightsUnreadable,
    AdapterUnfit,
    CheckerMissing,
    CheckerUnusable,
)
"""Failures that all orders with the same model and LoRAs would share."""

MOST_NAMES = 20
"""How many of the possible names are listed."""
TYPED_CHARACTERS = 50
"""How much of an invalid input is quoted."""


class InferenceError(Exception):
    """A failure on its way up a call stack."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return describe(self.failure)


def unexpected(error: BaseException, log: logging.Logger) -> Unexpected:
    """The failure to report for ``error``, which is logged under the reference that people are shown."""
    failure = Unexpected(reference=secrets.token_hex(4))
    log.error("unexpected failure %s", failure.reference, exc_info=error)
    return failure


class Say(Protocol):
    """Formats a sentence: ``message`` with ``values`` in place of the names in braces, perhaps translated."""

    def __call__(self, message: str, /, **values: Any) -> str: ...


def plain(message: str, /, **values: Any) -> str:
    """English, as written below."""
    return message.format(**values)


FIELDS = (
    "prompt",
    "negative prompt",
    "seed",
    "variation seed",
    "variation strength",
    "count",
    "number of steps",
    "guidance",
    "width",
    "height",
    "LoRA strength",
    "bucket",
    "guided bucket",
)
"""The possible values of ``field``, for translators."""


def describe(failure: Failure, say: Say = plain) -> str:
    """One or two sentences for someone who wants a picture: what is wrong and what to do."""
    match failure:
        case PromptEmpty():
            return say("The prompt is empty. Say what the picture should show, for example “a red apple”.")
        case PromptTooLong(field=field, length=length, limit=limit):
            return say(
                "The {field} has {length:,} characters; the limit is {limit:,}. Shorten it and try again.",
                field=say(field),
                length=length,
                limit=limit,
            )
        case WeightOutOfRange(value=value, low=low, high=high):
            return say(
                "Brackets in a prompt set a weight from {low} to {high}; {value} is not possible. "
                "To write a plain bracket, put a backslash before it.",
                value=value,
                low=f"{low:g}",
                high=f"{high:g}",
            )
        case OutOfRange(field=field, value=value, low=low, high=high):
            return say(
                "The {field} must be between {low} and {high}, not {value}.",
                field=say(field),
                value=value,
                low=f"{low:g}",
                high=f"{high:.10g}",
            )
        case NotANumber(field=field, value=value):
            return say("The {field} must be a number; “{value}” is not one.", field=say(field), value=_typed(value))
        case SizeUnreadable(text=text):
            return say(
                "“{text}” is not a size. Write width and height in pixels, for example 512x512.", text=_typed(text)
            )
        case SizeNotPossible(suggestion=(width, height)) as size:
            return say(
                "{size} is not possible with this model: both sides must be multiples of {multiple} between {smallest} "
                "and {largest}. Try {suggestion}.",
                size=f"{size.width}×{size.height}",
                multiple=size.multiple,
                smallest=size.smallest,
                largest=size.largest,
                suggestion=f"{width}×{height}",
            )
        case UnknownModel(name=name, known=known):
            return say("There is no model “{name}”.", name=_typed(name)) + _choice(known, say)
        case UnknownAdapter(name=name, known=known):
            return say("There is no LoRA “{name}” for this model.", name=_typed(name)) + _choice(known, say)
        case WeightsMissing(model=model, path=path):
            return say(
                "The weights of “{model}” are not on this machine ({path}). Choose another model or put them there.",
                model=model,
                path=path,
            )
        case WeightsUnreadable(model=model, path=path, reason=reason):
            return say(
                "The weights of “{model}” cannot be used: {path}: {reason}", model=model, path=path, reason=reason
            )
        case CheckerMissing(model=model, where=None):
            return say(
                "The pictures of “{model}” need a safety check, and the catalogue names no checker. Add a [safety] "
                "block to it, or turn the check off: SAFETY_CHECK=off (on the command line, --no-safety-check).",
                model=model,
            )
        case CheckerMissing(model=model, where=where, pull=None):
            return say(
                "The pictures of “{model}” need a safety check, and the checker is not on this machine ({where}). Put "
                "it there, or turn the check off: SAFETY_CHECK=off (on the command line, --no-safety-check).",
                model=model,
                where=where,
            )
        case CheckerMissing(model=model, where=where, pull=pull):
            return say(
                "The pictures of “{model}” need a safety check, and the checker is not on this machine ({where}). "
                "Get it with “python -m inference pull {pull}”, or turn the check off: SAFETY_CHECK=off (on the "
                "command line, --no-safety-check).",
                model=model,
                where=where,
                pull=pull,
            )
        case CheckerUnusable(path=path, reason=reason):
            return say(
                "The safety checker in {path} cannot be used: {reason}. Replace it, or turn the check off: "
                "SAFETY_CHECK=off (on the command line, --no-safety-check).",
                path=path,
                reason=reason,
            )
        case AdapterUnfit(adapter=adapter, model=model, what=what, needs=needs, detail=detail):
            return say(
                "“{adapter}” cannot be used with “{model}”: it is {what}, and this model needs {needs} ({detail}).",
                adapter=adapter,
                model=model,
                what=what,
                needs=needs,
                detail=detail,
            )
        case OutOfMemory(model=model, width=width, height=height):
            return say(
                "There is not enough memory to draw {size} with “{model}”. Try a smaller size.",
                size=f"{width}×{height}",
                model=model,
            )
        case NumbersTooLarge(model=model, precision=precision):
            if precision != "float16":
                return say(
                    "“{model}” computes numbers too large for {precision}, so there is no usable picture. If LoRAs "
                    "are in use, weaker ones may help; otherwise something is wrong with the model's file.",
                    model=model,
                    precision=precision,
                )
            return say(
                "“{model}” computes numbers too large for {precision}, so there is no usable picture. Whoever runs "
                "this bot can set PRECISION=bfloat16 or float32 (on the command line, --precision), or give the "
                "model another “vae”.",
                model=model,
                precision=precision,
            )
        case NotAPicture(path=path, reason=reason):
            return say("{path} carries no recipe: {reason}", path=path, reason=reason)
        case QueueFull(limit=limit, retry_after_s=seconds):
            if seconds is None:
                return say(
                    "The queue is full ({limit} orders are waiting). Please try again in a few minutes.", limit=limit
                )
            return say(
                "The queue is full ({limit} orders are waiting). Please try again in about {seconds} s.",
                limit=limit,
                seconds=max(1, round(seconds)),
            )
        case TooManyWaiting(limit=limit, retry_after_s=None):
            return say(
                "You have reached the limit of waiting orders per person ({limit}). Wait for one to finish, or cancel "
                "one.",
                limit=limit,
            )
        case TooManyWaiting(limit=limit) as many:
            return say(
                "You have reached the limit of waiting orders per person ({limit}). Try again in about {seconds} s, or "
                "cancel one.",
                limit=limit,
                seconds=max(1, round(many.retry_after_s or 0)),
            )
        case WorkerDied(reason=reason):
            return say("The drawing process ended unexpectedly ({reason}).", reason=reason)
        case WorkerTimedOut(seconds=seconds):
            return say("The drawing process did not respond for {seconds} s and was stopped.", seconds=f"{seconds:g}")
        case WorkerUnavailable(reason=reason):
            return say(
                "The drawing process cannot start ({reason}). The people who run this bot need to look into it.",
                reason=reason,
            )
        case DeviceUnknown(device=device, available=available):
            return say("There is no device “{device}” on this machine.", device=device) + _choice(available, say)
        case PrecisionUnknown(precision=precision, available=available):
            return say("There is no precision “{precision}”.", precision=precision) + _choice(available, say)
        case DiskUnwritable(path=path, reason=reason):
            return say("The picture could not be saved in {path}: {reason}", path=path, reason=reason)
        case CatalogUnreadable(reason=reason):
            return say("The catalogue cannot be read: {reason}", reason=reason)
        case Unexpected(reference=reference):
            return say(
                "Something went wrong on our side. The log has the details under {reference}.", reference=reference
            )
        case _:
            return describe_hub(failure, say)


def shortened(text: str, limit: int) -> str:
    """``text``, cut to at most ``limit`` characters, the last of them “…” if it was longer."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _typed(text: str) -> str:
    """Enough of what somebody typed to recognise it."""
    return shortened(text, TYPED_CHARACTERS)


def _choice(names: tuple[str, ...], say: Say) -> str:
    if not names:
        return " " + say("None is installed.")
    shown = ", ".join(names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        return " " + say("Choose from: {names} and {count} more.", names=shown, count=len(names) - MOST_NAMES)
    return " " + say("Choose from: {names}.", names=shown)
