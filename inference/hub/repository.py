"""One repository of the Hugging Face hub: what it contains, and downloads of its files into the hub's own cache.

The cache is laid out as huggingface_hub documents it (blobs named by their hash, snapshots of links to them, refs), and
its client makes the requests. But its ``hf_hub_download`` is not used: when interrupted, it discards what it has of a
file, and it checks only sizes. Here downloads are resumed, and a file's hash is checked before it gets its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, constants, get_session, hf_hub_url
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import (  # type: ignore[attr-defined] # its __init__ has no __all__
    WeakFileLock,
    build_hf_headers,
    hf_raise_for_status,
)

from inference.catalog.parts import TEXTS
from inference.catalog.sources import Source
from inference.errors import InferenceError
from inference.hub import client
from inference.hub_errors import DownloadDamaged, DownloadInterrupted
from inference.whole_files import replace_file

OnBytes = Callable[[int], None]
"""Called with the number of bytes of a file that are here."""
HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
"""The hashes that name commits and contents; they become names of files here, so nothing else is accepted."""
LIST_TIMEOUT_S = 30.0
CHUNK_BYTES = 2**18
PARTIAL_CONTENT = 206


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file of a repository; ``digest`` names its contents: SHA-256 of large files, git's own hash of small ones."""

    path: PurePosixPath
    size: int
    digest: str


class Repository:
    """One commit of a repository of the hub, and its place in the cache. ``name`` is the model's, for failures.

    If the disk is full, methods that write raise ``OSError``: only the caller knows how much is missing in total.
    """

    def __init__(self, source: Source, *, name: str) -> None:
        """List the repository's files; raises ``InferenceError``."""
        assert source.hub is not None
        self.name = name
        self.hub = source.hub
        self.revision = source.revision or constants.DEFAULT_REVISION
        self.folder = client.cache_folder() / repo_folder_name(repo_id=self.hub, repo_type="model")
        with self._asking(f"{self.hub} ({self.revision})"):
            info = client.patiently(
                lambda: HfApi().model_info(
                    self.hub, revision=self.revision, files_metadata=True, timeout=LIST_TIMEOUT_S
                )
            )
        self.commit = str(info.sha)
        named = map(_remote_file, info.siblings or []) if HASH.fullmatch(self.commit) else ()
        self.files = {file.path: file for file in named if HASH.fullmatch(file.digest)}

    def bytes_here(self, file: RemoteFile) -> int:
        """How many bytes of ``file`` are here already."""
        blob = self._blob(file)
        part = _partial(blob)
        with self._asking(str(blob)):
            if blob.exists():
                return file.size
            return min(part.stat().st_size, file.size) if part.exists() else 0

    def fetch(self, file: RemoteFile, on_bytes: OnBytes) -> Path:
        """Download the contents of ``file``, resuming an earlier attempt; raises ``InferenceError``."""
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
        """Name the downloaded contents in the snapshot, where ``Source.locate`` looks."""
        pointer, blob = self.folder / "snapshots" / self.commit / file.path, self._blob(file)
        draft = pointer.with_name(f".{pointer.name}.{os.getpid()}")
        with self._asking(str(pointer)):
            pointer.parent.mkdir(parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            try:
                draft.symlink_to(os.path.relpath(blob, pointer.parent))
            except OSError:  # Windows, without the right to create links
                shutil.copyfile(blob, draft)
            draft.replace(pointer)

    def of_others(self) -> list[RemoteFile]:
        """Files in the previous snapshot of the branch or tag that need a name in this one as well: other models use
        them, and will look for them here.

        Texts are this commit's, so changed ones have to be downloaded. Changed weights are left out, and so are files
        that are missing from a folder that this commit describes: a model that needs them then counts as not here,
        instead of being put together from two commits.
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
        """Record which commit the branch or tag points to."""
        if self.revision == self.commit:
            return
        with self._asking(str(self._ref)):
            self._ref.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._ref, self.commit.encode("ascii"))

    @property
    def _ref(self) -> Path:
        return self.folder / "refs" / self.revision

    def _snapshot_before(self) -> Path | None:
        """The snapshot of the commit that the branch or tag pointed to before, if that is another one."""
        with contextlib.suppress(OSError, ValueError):
            commit = self._ref.read_text(encoding="ascii")
            if HASH.fullmatch(commit) and self.commit not in (commit, self.revision):
                return self.folder / "snapshots" / commit
        return None

    def _blob(self, file: RemoteFile) -> Path:
        return self.folder / "blobs" / file.digest

    def _download(self, file: RemoteFile, part: Path, on_bytes: OnBytes) -> None:
        """Append the missing bytes to ``part``; a broken connection is resumed as long as anything arrives."""
        part.touch()
        in_vain = 0
        while (here := part.stat().st_size) < file.size:
            passing: Exception | None = None
            try:
                self._receive(file, part, here, on_bytes)
            except Exception as error:
                if not client.will_pass(error) or in_vain == client.ATTEMPTS_IN_VAIN:
                    raise
                passing = error
            if part.stat().st_size > here:
                in_vain = 0
            elif in_vain == client.ATTEMPTS_IN_VAIN:
                raise InferenceError(DownloadInterrupted(name=self.name, reason=f"{file.path} ended too soon"))
            else:
                client.pause(in_vain, passing)
                in_vain += 1

    def _receive(self, file: RemoteFile, part: Path, here: int, on_bytes: OnBytes) -> None:
        """One request, from byte ``here`` on; if the server sends the whole file instead, ``part`` starts over."""
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

    def _asking(self, what: str) -> AbstractContextManager[None]:
        return client.failing(name=self.name, hub=self.hub, what=what)


def _remote_file(sibling: Any) -> RemoteFile:
    digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    return RemoteFile(path=PurePosixPath(sibling.rfilename), size=int(sibling.size or 0), digest=str(digest))


def _partial(blob: Path) -> Path:
    """The file that a download appends to; huggingface_hub's name for it when it still resumed downloads itself."""
    return blob.with_name(f"{blob.name}.incomplete")


def _digest(path: Path, file: RemoteFile) -> str:
    """The hash of ``path``, of the same kind as ``file.digest``: that of LFS, or git's of a blob."""
    large = len(file.digest) == 64
    found = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as contents:
        while chunk := contents.read(2**20):
            found.update(chunk)
    return found.hexdigest()
