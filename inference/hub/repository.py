"""One repository of the Hugging Face hub: what it holds, and its files brought into the hub's own cache.

The cache is laid out as huggingface_hub documents it (blobs named by their hash, snapshots of links to them, refs), and
its client makes the requests. Files are not left to its ``hf_hub_download``: that throws away what has arrived of a
file when it is interrupted, and checks sizes only. Here a file is gone on with, and its hash is checked before it gets
its name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_session, get_token, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import (  # type: ignore[attr-defined] # its __init__ has no __all__
    WeakFileLock,
    build_hf_headers,
    hf_raise_for_status,
    parse_ratelimit_headers,
)

from inference.catalog.parts import TEXTS
from inference.catalog.sources import Source
from inference.errors import Failure, InferenceError
from inference.hub_errors import (
    CacheUnwritable,
    DownloadDamaged,
    DownloadInterrupted,
    HubBusy,
    HubRefused,
    HubUnreachable,
    NotOnHub,
    TokenRefused,
)
from inference.whole_files import replace_file

OnBytes = Callable[[int], None]
"""Hears how many bytes of a file are here."""
HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
"""What commits and contents are called; they become names of files here, so nothing else is believed."""
LIST_TIMEOUT_S = 30.0
ATTEMPTS_IN_VAIN = 4
"""How often a broken connection is taken up again without another byte arriving."""
ATTEMPTS_UNANSWERED = 2
"""How often a host is asked again that does not answer at all: without a network, people hear of it in seconds."""
PAUSE_S = 1.0
"""Before the first attempt of these; each waits twice as long as the one before."""
CHUNK_BYTES = 2**18
LONGEST_PAUSE_S = 60.0
"""If the hub asks for a longer one, people are told instead."""
PAUSE_ASKED = re.compile("[0-9]{1,6}")
"""A ``Retry-After`` in seconds; it may also be a date, which no hub sends."""
PARTIAL_CONTENT, UNAUTHORIZED, FORBIDDEN, TOO_MANY_REQUESTS = 206, 401, 403, 429
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the operating system says where there is no room left, for all or for whoever this runs as."""
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What it says where this may not write."""
NOBODY_ANSWERED = {"ConnectError", "ConnectTimeout", "ProxyError"}


Answer = TypeVar("Answer")


def cache_folder() -> Path:
    """Where the hub's files are kept; it need not be there yet."""
    return Path(constants.HF_HUB_CACHE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file of a repository; ``digest`` names its contents: SHA-256 of large files, git's own hash of small ones."""

    path: PurePosixPath
    size: int
    digest: str


class Repository:
    """One commit of a repository of the hub, and its place in the cache. ``name`` is the model's, for failures.

    Where the disk is full, what writes raises ``OSError``: how much is missing in all, only the caller knows.
    """

    def __init__(self, source: Source, *, name: str) -> None:
        """Ask the hub what there is; raises ``InferenceError``."""
        assert source.hub is not None
        self.name = name
        self.hub = source.hub
        self.revision = source.revision or constants.DEFAULT_REVISION
        self.folder = cache_folder() / repo_folder_name(repo_id=self.hub, repo_type="model")
        with self._asking(f"{self.hub} ({self.revision})"):
            info = _patiently(
                lambda: HfApi().model_info(
                    self.hub, revision=self.revision, files_metadata=True, timeout=LIST_TIMEOUT_S
                )
            )
        self.commit = str(info.sha)
        named = map(_remote_file, info.siblings or []) if HASH.fullmatch(self.commit) else ()
        self.files = {file.path: file for file in named if HASH.fullmatch(file.digest)}

    @property
    def host(self) -> str:
        """Who was asked."""
        return urlsplit(constants.ENDPOINT).netloc

    def bytes_here(self, file: RemoteFile) -> int:
        """How much of ``file`` need not be fetched any more."""
        blob = self._blob(file)
        part = _partial(blob)
        with self._asking(str(blob)):
            if blob.exists():
                return file.size
            return min(part.stat().st_size, file.size) if part.exists() else 0

    def fetch(self, file: RemoteFile, on_bytes: OnBytes) -> Path:
        """Bring the contents of ``file`` here, from where an earlier attempt stopped; raises ``InferenceError``."""
        blob = self._blob(file)
        lock = self.folder.parent / ".locks" / self.folder.name / f"{file.digest}.lock"
        with self._asking(f"{self.hub}/{file.path}"):
            lock.parent.mkdir(parents=True, exist_ok=True)
            blob.parent.mkdir(parents=True, exist_ok=True)
            with WeakFileLock(lock):
                if not blob.exists():
                    self._download(file, _partial(blob), on_bytes)
                    self._check(file, _partial(blob))
                    _partial(blob).replace(blob)
        on_bytes(file.size)
        return blob

    def place(self, file: RemoteFile) -> None:
        """Give fetched contents their name in the snapshot, where ``Source.locate`` looks."""
        pointer, blob = self.folder / "snapshots" / self.commit / file.path, self._blob(file)
        draft = pointer.with_name(f".{pointer.name}.{os.getpid()}")
        with self._asking(str(pointer)):
            pointer.parent.mkdir(parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            try:
                draft.symlink_to(os.path.relpath(blob, pointer.parent))
            except OSError:  # Windows, without the right to make links
                shutil.copyfile(blob, draft)
            draft.replace(pointer)

    def kept(self) -> list[RemoteFile]:
        """What has a name in the snapshot of the commit that the branch or tag was before, and needs one in this: other
        models are drawn with that, and will be looked for here.

        Texts are this commit's, so what has changed of them is to be fetched. Weights that have changed are left out,
        and what has gone from a folder that this commit describes: a model of theirs is then not here, instead of being
        put together from two commits.
        """
        before = self._snapshot_before()
        if before is None:
            return []
        found = []
        described = {path.parent for path in self.files if path.suffix in TEXTS and path.parent.name}
        with self._asking(str(before)):
            for old in sorted(before.rglob("[!.]*")):
                path = PurePosixPath(old.relative_to(before).as_posix())
                gone = RemoteFile(path=path, size=0, digest=old.resolve().name)
                file = self.files.get(path, gone)
                if file is gone and path.parent in described:
                    continue
                if old.is_file() and (self._blob(file).exists() or (file is not gone and path.suffix in TEXTS)):
                    found.append(file)
        return found

    def note_revision(self) -> None:
        """Remember which commit the branch or tag was."""
        if self.revision == self.commit:
            return
        with self._asking(str(self._ref)):
            self._ref.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._ref, self.commit.encode("ascii"))

    @property
    def _ref(self) -> Path:
        return self.folder / "refs" / self.revision

    def _snapshot_before(self) -> Path | None:
        """The folder of the commit that the branch or tag was, if that is another one."""
        with contextlib.suppress(OSError, ValueError):
            commit = self._ref.read_text(encoding="ascii")
            if HASH.fullmatch(commit) and self.commit not in (commit, self.revision):
                return self.folder / "snapshots" / commit
        return None

    def _blob(self, file: RemoteFile) -> Path:
        return self.folder / "blobs" / file.digest

    def _download(self, file: RemoteFile, part: Path, on_bytes: OnBytes) -> None:
        """Append to ``part`` what is missing of it; a broken connection is taken up again while something arrives."""
        part.touch()
        in_vain = 0
        while (here := part.stat().st_size) < file.size:
            asked_s = 0.0
            try:
                self._receive(file, part, here, on_bytes)
            except Exception as error:
                if not _will_pass(error) or in_vain == ATTEMPTS_IN_VAIN:
                    raise
                asked_s = _pause_asked_s(error)
            if part.stat().st_size > here:
                in_vain = 0
            elif in_vain == ATTEMPTS_IN_VAIN:
                raise InferenceError(DownloadInterrupted(name=self.name, reason=f"{file.path} ended too soon"))
            else:
                time.sleep(max(PAUSE_S * 2**in_vain, asked_s))
                in_vain += 1

    def _receive(self, file: RemoteFile, part: Path, here: int, on_bytes: OnBytes) -> None:
        """One request, from byte ``here`` on; a server that sends everything instead is heard from the beginning."""
        url = hf_hub_url(self.hub, str(file.path), revision=self.commit)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if here:
            headers["Range"] = f"bytes={here}-"
        timeout_s = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with (
            get_session().stream("GET", url, headers=headers, timeout=timeout_s) as response,
            part.open("ab") as target,
        ):
            hf_raise_for_status(response)
            if here and response.status_code != PARTIAL_CONTENT:
                target.truncate(here := 0)
            for chunk in response.iter_bytes(CHUNK_BYTES):
                here += target.write(chunk)
                on_bytes(here)

    def _check(self, file: RemoteFile, part: Path) -> None:
        if part.stat().st_size != file.size or _digest(part, file) != file.digest:
            part.unlink()
            raise InferenceError(DownloadDamaged(name=self.name, file=f"{self.hub}/{file.path}"))

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turns whatever the client raises into a failure."""
        try:
            yield
        except InferenceError:
            raise
        except Exception as error:
            failure = self._as_failure(error, what)
            if failure is None:
                raise
            raise InferenceError(failure) from error

    def _as_failure(self, error: Exception, what: str) -> Failure | None:
        host = self.host
        page = f"{constants.ENDPOINT}/{self.hub}"
        match error:
            case RevisionNotFoundError() | EntryNotFoundError():
                return NotOnHub(name=self.name, what=what, host=host)
            case HfHubHTTPError() if isinstance(error, GatedRepoError) or error.response.status_code == FORBIDDEN:
                return HubRefused(name=self.name, page=page, with_token=get_token() is not None)
            case HfHubHTTPError() if error.response.status_code == UNAUTHORIZED:
                if get_token() is not None:
                    return TokenRefused(name=self.name, host=host)
                return HubRefused(name=self.name, page=page, with_token=False)
            case RepositoryNotFoundError():
                return NotOnHub(name=self.name, what=self.hub, host=host)
            case HfHubHTTPError() if error.response.status_code == TOO_MANY_REQUESTS:
                return HubBusy(name=self.name, host=host, seconds=_pause_asked_s(error) or None)
            case HfHubHTTPError():
                return HubUnreachable(name=self.name, host=host, reason=f"HTTP {error.response.status_code}")
            case OfflineModeIsEnabled():
                return HubUnreachable(name=self.name, host=host, reason="HF_HUB_OFFLINE")
            case _:
                return _of_another(error, self.name, host)


def _patiently(ask: Callable[[], Answer]) -> Answer:
    """What ``ask`` returns, asked again for as long as its failure may pass."""
    in_vain = 0
    while True:
        try:
            return ask()
        except Exception as error:
            most = ATTEMPTS_UNANSWERED if type(error).__name__ in NOBODY_ANSWERED else ATTEMPTS_IN_VAIN
            if not _will_pass(error) or in_vain >= most:
                raise
            asked_s = _pause_asked_s(error)
        time.sleep(max(PAUSE_S * 2**in_vain, asked_s))
        in_vain += 1


def _is_of_the_network(error: Exception) -> bool:
    """Whether a connection did not come about, or broke. Told by name: the client changes its HTTP library at times."""
    return bool({kind.__name__ for kind in type(error).__mro__} & {"TransportError", "ConnectionError"})


def _is_of_http(error: Exception) -> bool:
    """Whether an answer could not be followed or read."""
    return bool({kind.__name__ for kind in type(error).__mro__} & {"RequestError", "RequestException"})


def _will_pass(error: Exception) -> bool:
    """Whether the same request may succeed in a moment: a broken connection, or a server with too much to do."""
    if isinstance(error, HfHubHTTPError):
        soon = _pause_asked_s(error) <= LONGEST_PAUSE_S
        return soon and (error.response.status_code in (408, TOO_MANY_REQUESTS) or error.response.status_code >= 500)
    if isinstance(error, OfflineModeIsEnabled):  # a ConnectionError, though nobody was asked
        return False
    return _is_of_the_network(error)


def _pause_asked_s(error: Exception) -> float:
    """For how long the hub asks not to be asked again; 0 where it says nothing of that."""
    if not isinstance(error, HfHubHTTPError):
        return 0.0
    headers = error.response.headers
    if said := PAUSE_ASKED.fullmatch(headers.get("Retry-After", "")):
        return float(said[0])
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit and not limit.remaining else 0.0


def _of_another(error: Exception, name: str, host: str) -> Failure | None:
    """What is neither the hub's answer nor foreseen by its client; None where the disk is full, or the
    fault is ours."""
    kind, line = type(error).__name__, str(error).partition("\n")[0][:200]
    if kind in NOBODY_ANSWERED:
        return HubUnreachable(name=name, host=host, reason=line or kind)
    if isinstance(error, OSError) and error.errno in FULL:
        return None
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return CacheUnwritable(name=name, path=str(cache_folder()), reason=error.strerror or kind)
    if _is_of_the_network(error) or isinstance(error, OSError):
        return DownloadInterrupted(name=name, reason=line or kind)
    if isinstance(error, ValueError) or _is_of_http(error):  # something else than the hub answers at its address
        return HubUnreachable(name=name, host=host, reason=f"{kind}: {line}" if line else kind)
    return None


def _remote_file(sibling: Any) -> RemoteFile:
    digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    return RemoteFile(path=PurePosixPath(sibling.rfilename), size=int(sibling.size or 0), digest=str(digest))


def _partial(blob: Path) -> Path:
    """Where a file grows; the name that huggingface_hub used while it resumed downloads itself."""
    return blob.with_name(f"{blob.name}.incomplete")


def _digest(path: Path, file: RemoteFile) -> str:
    """The hash of the kind that ``file.digest`` is: as of LFS, or as git names a blob."""
    large = len(file.digest) == 64
    found = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as contents:
        while chunk := contents.read(2**20):
            found.update(chunk)
    return found.hexdigest()
