"""One repository of the Hugging Face hub: what it holds, and its files brought into the hub's own cache.

The cache is laid out as huggingface_hub documents it (blobs named by their hash, snapshots of links to them, refs), and
its client makes the requests. Files are not left to its ``hf_hub_download``: that throws away what has arrived of a
file when it is interrupted, and checks sizes only. Here a file is gone on with, and its hash is checked before it gets
its name.
"""

from __future__ import annotations

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
)

from inference.catalog.sources import Source
from inference.errors import Failure, InferenceError
from inference.hub_errors import DownloadDamaged, DownloadInterrupted, HubRefused, HubUnreachable, NotOnHub

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
PARTIAL_CONTENT = 206
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the operating system says where there is no room left, for all or for whoever this runs as."""
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
        if blob.exists():
            return file.size
        part = _partial(blob)
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

    def note_revision(self) -> None:
        """Remember which commit the branch or tag was."""
        if self.revision == self.commit:
            return
        ref = self.folder / "refs" / self.revision
        with self._asking(str(ref)):
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(self.commit)

    def _blob(self, file: RemoteFile) -> Path:
        return self.folder / "blobs" / file.digest

    def _download(self, file: RemoteFile, part: Path, on_bytes: OnBytes) -> None:
        """Append to ``part`` what is missing of it; a broken connection is taken up again while something arrives."""
        part.touch()
        in_vain = 0
        while (here := part.stat().st_size) < file.size:
            try:
                self._receive(file, part, here, on_bytes)
            except Exception as error:
                if not _will_pass(error) or in_vain == ATTEMPTS_IN_VAIN:
                    raise
            if part.stat().st_size > here:
                in_vain = 0
            elif in_vain == ATTEMPTS_IN_VAIN:
                raise InferenceError(DownloadInterrupted(name=self.name, reason=f"{file.path} ended too soon"))
            else:
                time.sleep(PAUSE_S * 2**in_vain)
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
            case HfHubHTTPError() if isinstance(error, GatedRepoError) or error.response.status_code in (401, 403):
                return HubRefused(name=self.name, page=page, with_token=get_token() is not None)
            case RepositoryNotFoundError():
                return NotOnHub(name=self.name, what=self.hub, host=host)
            case HfHubHTTPError():
                return HubUnreachable(name=self.name, host=host, reason=f"HTTP {error.response.status_code}")
            case OfflineModeIsEnabled():
                return HubUnreachable(name=self.name, host=host, reason="HF_HUB_OFFLINE")
            case _:
                return _of_the_network(error, self.name, host)


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
        time.sleep(PAUSE_S * 2**in_vain)
        in_vain += 1


def _is_of_the_network(error: Exception) -> bool:
    """Whether a connection did not come about, or broke. Told by name: the client changes its HTTP library at times."""
    return bool({kind.__name__ for kind in type(error).__mro__} & {"TransportError", "ConnectionError"})


def _will_pass(error: Exception) -> bool:
    """Whether the same request may succeed in a moment: a broken connection, or a server with too much to do."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    if isinstance(error, OfflineModeIsEnabled):  # a ConnectionError, though nobody was asked
        return False
    return _is_of_the_network(error)


def _of_the_network(error: Exception, name: str, host: str) -> Failure | None:
    reason = str(error).partition("\n")[0][:200] or type(error).__name__
    if type(error).__name__ in NOBODY_ANSWERED:
        return HubUnreachable(name=name, host=host, reason=reason)
    if isinstance(error, OSError) and error.errno in FULL:
        return None
    if _is_of_the_network(error) or isinstance(error, OSError):
        return DownloadInterrupted(name=name, reason=reason)
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
