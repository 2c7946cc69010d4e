"""The hub's client: where it keeps files, how requests are retried, and what its errors mean.

Its HTTP library changes at times, so that library's errors are recognised by their names.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined] # its __init__ has no __all__

from inference.errors import Failure, InferenceError
from inference.hub_errors import (
    CacheUnwritable,
    DownloadInterrupted,
    HubBusy,
    HubRefused,
    HubUnreachable,
    NotOnHub,
    TokenRefused,
)

ATTEMPTS_IN_VAIN = 4
"""How often a broken connection is resumed without another byte arriving."""
ATTEMPTS_UNANSWERED = 2
"""How often a host that does not answer at all is asked again: without a network, people are told within seconds."""
PAUSE_S = 1.0
"""The backoff before the first retry; it doubles each time."""
LONGEST_PAUSE_S = 60.0
"""If the hub asks for a longer one, people are told instead."""
PAUSE_ASKED = re.compile("[0-9]{1,6}")
"""A ``Retry-After`` in seconds; it may also be a date, which no hub sends."""
UNAUTHORIZED, FORBIDDEN, TIMEOUT, TOO_MANY_REQUESTS = 401, 403, 408, 429
FULL = (errno.ENOSPC, errno.EDQUOT)
"""The operating system's errors for a full disk, or a full quota of this user."""
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Its errors for a missing right to write."""
NOBODY_ANSWERED = {"ConnectError", "ConnectTimeout", "ProxyError"}

Answer = TypeVar("Answer")


def cache_folder() -> Path:
    """Where the hub's files are kept; it need not exist yet."""
    return Path(constants.HF_HUB_CACHE)


def host() -> str:
    """The hub's host name."""
    return urlsplit(constants.ENDPOINT).netloc


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What ``ask`` returns, retried for as long as its failure may be temporary."""
    in_vain = 0
    while True:
        try:
            return ask()
        except Exception as error:
            most = ATTEMPTS_UNANSWERED if type(error).__name__ in NOBODY_ANSWERED else ATTEMPTS_IN_VAIN
            if not will_pass(error) or in_vain >= most:
                raise
            pause(in_vain, error)
        in_vain += 1


def pause(in_vain: int, error: Exception | None = None) -> None:
    """Back off after so many attempts ``in_vain``, at least for as long as the hub asks for in ``error``."""
    time.sleep(max(PAUSE_S * 2**in_vain, _pause_asked_s(error)))


def will_pass(error: Exception) -> bool:
    """Whether the same request may succeed in a moment: a broken connection, or an overloaded server."""
    if isinstance(error, HfHubHTTPError):
        status, soon = error.response.status_code, _pause_asked_s(error) <= LONGEST_PAUSE_S
        return soon and (status in (TIMEOUT, TOO_MANY_REQUESTS) or status >= 500)
    if isinstance(error, OfflineModeIsEnabled):  # a ConnectionError, though nothing was sent
        return False
    return _is_of_the_network(error)


@contextmanager
def failing(*, name: str, hub: str, what: str) -> Iterator[None]:
    """Turns whatever the client raises into a failure of the model ``name``.

    ``hub`` is the repository that is asked for ``what``, as the hub writes both. A full disk stays an ``OSError``.
    """
    try:
        yield
    except InferenceError:
        raise
    except Exception as error:
        failure = _hubs_answer(error, name=name, hub=hub, what=what) or _of_another(error, name)
        if failure is None:
            raise
        raise InferenceError(failure) from error


def _hubs_answer(error: Exception, *, name: str, hub: str, what: str) -> Failure | None:
    """The failure for an answer of the hub, as its client reports it; None for any other error."""
    match error:
        case RevisionNotFoundError() | EntryNotFoundError():
            return NotOnHub(name=name, what=what, host=host())
        case HfHubHTTPError() if isinstance(error, GatedRepoError) or error.response.status_code == FORBIDDEN:
            return HubRefused(name=name, page=_page(hub), with_token=get_token() is not None)
        case HfHubHTTPError() if error.response.status_code == UNAUTHORIZED:
            if get_token() is not None:
                return TokenRefused(name=name, host=host())
            return HubRefused(name=name, page=_page(hub), with_token=False)
        case RepositoryNotFoundError():
            return NotOnHub(name=name, what=hub, host=host())
        case HfHubHTTPError() if error.response.status_code == TOO_MANY_REQUESTS:
            return HubBusy(name=name, host=host(), seconds=_pause_asked_s(error) or None)
        case HfHubHTTPError():
            return HubUnreachable(name=name, host=host(), reason=f"HTTP {error.response.status_code}")
        case OfflineModeIsEnabled():
            return HubUnreachable(name=name, host=host(), reason="HF_HUB_OFFLINE")
        case _:
            return None


def _of_another(error: Exception, name: str) -> Failure | None:
    """The failure for an error of the network, of the disk, or of something else that answers at the hub's address;
    None if the disk is full, or the fault is ours."""
    kind, line = type(error).__name__, str(error).partition("\n")[0][:200]
    if kind in NOBODY_ANSWERED:
        return HubUnreachable(name=name, host=host(), reason=line or kind)
    if isinstance(error, OSError) and error.errno in FULL:
        return None
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return CacheUnwritable(name=name, path=str(cache_folder()), reason=error.strerror or kind)
    if _is_of_the_network(error) or isinstance(error, OSError):
        return DownloadInterrupted(name=name, reason=line or kind)
    if isinstance(error, ValueError) or _is_of_http(error):  # something other than the hub answers at its address
        return HubUnreachable(name=name, host=host(), reason=f"{kind}: {line}" if line else kind)
    return None


def _page(hub: str) -> str:
    return f"{constants.ENDPOINT}/{hub}"


def _is_of_the_network(error: Exception) -> bool:
    """Whether a connection could not be made, or broke."""
    return bool({kind.__name__ for kind in type(error).__mro__} & {"TransportError", "ConnectionError"})


def _is_of_http(error: Exception) -> bool:
    """Whether an answer could not be followed or read."""
    return bool({kind.__name__ for kind in type(error).__mro__} & {"RequestError", "RequestException"})


def _pause_asked_s(error: Exception | None) -> float:
    """How long the hub asks to wait before the next request; 0 if it does not say."""
    if not isinstance(error, HfHubHTTPError):
        return 0.0
    headers = error.response.headers
    if said := PAUSE_ASKED.fullmatch(headers.get("Retry-After", "")):
        return float(said[0])
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit and not limit.remaining else 0.0
