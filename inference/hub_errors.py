"""What can go wrong when a model is downloaded from the hub, as data and in words. Part of ``inference.errors``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from inference.amounts import readable

if TYPE_CHECKING:
    from inference.errors import Say


@dataclass(frozen=True, slots=True, kw_only=True)
class HubUnreachable:
    """The hub's address does not answer, or only with errors of its own."""

    name: str
    host: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubBusy:
    """The hub's rate limit is exceeded; it may be asked again in ``seconds``, None if it does not say when."""

    name: str
    host: str
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefused:
    """The hub rejects the token, and then refuses every request, even those that need none."""

    name: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRefused:
    """The hub wants to know who asks (``with_token``: a token was sent). ``page`` is where a licence is accepted."""

    name: str
    page: str
    with_token: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NotOnHub:
    """No such repository, revision or file; ``what`` names it as the hub would."""

    name: str
    what: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSafetensors:
    """The hub has no weights in the format that is read here. ``there`` are the names of the files it has."""

    name: str
    where: str
    variant: str | None
    there: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadDamaged:
    """A downloaded file does not match the hub's description, and was removed."""

    name: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadInterrupted:
    """The connection or the process ended half-way; what has been downloaded is kept."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoom:
    """The disk has too little room for the download and what must stay free (``spare_bytes``)."""

    name: str
    path: str
    needed_bytes: int
    free_bytes: int
    spare_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUnwritable:
    """The folder for downloads belongs to another user, or is read-only."""

    name: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadsOff:
    """The model would have to be downloaded first, which is switched off."""

    name: str


HubFailure: TypeAlias = (
    HubUnreachable
    | HubBusy
    | TokenRefused
    | HubRefused
    | NotOnHub
    | NoSafetensors
    | DownloadDamaged
    | DownloadInterrupted
    | NoRoom
    | CacheUnwritable
    | DownloadsOff
)


def describe_hub(failure: HubFailure, say: Say) -> str:
    """What is wrong and what to do, for someone who wants a picture, or the model itself."""
    match failure:
        case HubUnreachable(name=name, host=host, reason=reason):
            return say(
                "“{name}” could not be downloaded: {host} cannot be reached ({reason}). Try again once there is a "
                "connection. Or run `python -m inference pull {name}` on a machine that has one, and copy the hub's "
                "cache here.",
                name=name,
                host=host,
                reason=reason,
            )
        case HubBusy(name=name, host=host, seconds=None):
            return say(
                "“{name}” could not be downloaded: {host} is limiting the rate of requests. Try again in a few "
                "minutes; the download will resume where it stopped.",
                name=name,
                host=host,
            )
        case HubBusy(name=name, host=host) as busy:
            return say(
                "“{name}” could not be downloaded: {host} is limiting the rate of requests. Try again in {seconds} s; "
                "the download will resume where it stopped.",
                name=name,
                host=host,
                seconds=max(1, round(busy.seconds or 0)),
            )
        case TokenRefused(name=name, host=host):
            return say(
                "“{name}” could not be downloaded: {host} rejected the token from `HF_TOKEN` or `hf auth login`; it "
                "may have expired. Set a new one or, if the model is public, remove it.",
                name=name,
                host=host,
            )
        case HubRefused(name=name, page=page, with_token=False):
            return say(
                "“{name}” could not be downloaded: {page} is private, gated or does not exist. Accept the licence on "
                "that page if it asks you to, and set `HF_TOKEN` to a token of your account.",
                name=name,
                page=page,
            )
        case HubRefused(name=name, page=page):
            return say(
                "“{name}” could not be downloaded: the account of `HF_TOKEN` has no access to {page}. Accept the "
                "licence on that page, or use the token of an account that has access.",
                name=name,
                page=page,
            )
        case NotOnHub(name=name, what=what, host=host):
            return say(
                "“{name}” could not be downloaded: {host} has no {what}. Check the model's entry in the catalogue.",
                name=name,
                what=what,
                host=host,
            )
        case NoSafetensors(name=name, where=where, variant=variant, there=there):
            return say(
                "“{name}” could not be downloaded: {where} has no {kind} weights, the only kind read here. It has: "
                "{there}. Choose another model, or another variant or revision in the catalogue.",
                name=name,
                where=where,
                kind=f"{variant}.safetensors" if variant else ".safetensors",
                there=", ".join(there) or "–",
            )
        case DownloadDamaged(name=name, file=file):
            return say(
                "“{name}” could not be downloaded: {file} arrived damaged and was removed. Try again; the other files "
                "are kept.",
                name=name,
                file=file,
            )
        case DownloadInterrupted(name=name, reason=reason):
            return say(
                "The download of “{name}” was interrupted ({reason}). Try again; it resumes where it stopped.",
                name=name,
                reason=reason,
            )
        case NoRoom(name=name, path=path, needed_bytes=needed, free_bytes=free, spare_bytes=spare):
            return say(
                "“{name}” could not be downloaded: it needs another {needed} in {path}. Only {free} is free there, and "
                "{spare} must stay free. Make room, or set `HF_HOME` to a folder on a larger disk.",
                name=name,
                path=path,
                needed=readable(needed),
                free=readable(free),
                spare=readable(spare),
            )
        case CacheUnwritable(name=name, path=path, reason=reason):
            return say(
                "“{name}” could not be downloaded: {path} cannot be written to ({reason}). Give this program "
                "permission to write there, or set `HF_HOME` to another folder.",
                name=name,
                path=path,
                reason=reason,
            )
        case DownloadsOff(name=name):
            return say(
                "“{name}” is not on this machine, and the bot does not download models. The people who run it can "
                "fetch it with `python -m inference pull {name}`.",
                name=name,
            )
