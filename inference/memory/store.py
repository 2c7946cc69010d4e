"""The models of one device: loaded through the tiers on demand or ahead of it, and kept as budgets allow.

The tiers are device memory, on devices that have their own; host memory, pinned for a GPU; a folder of flat buffers;
and the original files. A thread does the reading, so that the next model loads while a batch is drawn. Parts are
identified by their content: a text encoder shared by ten checkpoints is in memory once.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import nn

from inference.memory.disk import Disk
from inference.memory.model import LoadedModel, Manifest
from inference.memory.origins import Files, FromDisk, FromFiles, LayOut
from inference.memory.part import Label, Part
from inference.memory.shelves import Shelves

Key = TypeVar("Key", bound=Hashable)
LISTEN_S = 0.05
"""Seconds to wait for a load between two calls of ``on_wait``."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A model that was loaded, and the files it came from. Its weights may have been evicted since."""

    manifest: Manifest
    files: Files


@dataclass(slots=True)
class _Load:
    """A model that is being loaded. ``ahead``: nobody waits for it yet."""

    files: Files
    ahead: bool
    parts_read: int = 0
    future: Future[dict[str, Part]] = field(default_factory=Future)

    def has_reached_part(self) -> None:
        self.parts_read += 1


class ModelStore(Generic[Key]):
    """Models by key, used by one thread and loaded by another.

    ``open_files`` finds the files of a model; ``lay_out`` says how the weights of its networks are laid out on this
    device, where most parameters take ``bytes_per_parameter``.
    """

    def __init__(
        self,
        *,
        shelves: Shelves,
        disk: Disk | None,
        open_files: Callable[[Key], Files],
        lay_out: LayOut,
        bytes_per_parameter: int,
    ) -> None:
        self._shelves = shelves
        self._disk = disk
        self._open_files = open_files
        self._lay_out = lay_out
        self._bytes_per_parameter = bytes_per_parameter
        self._lock = threading.Lock()
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._loads: dict[Key, _Load] = {}
        self._turn = threading.Lock()
        self._readers: set[threading.Thread] = set()
        self._threads = torch.get_num_threads()

    @property
    def resident(self) -> tuple[Key, ...]:
        """Models that are completely in memory, most recently used last."""
        with self._lock:
            return tuple(key for key, known in self._known.items() if self._is_here(known.manifest))

    @contextlib.contextmanager
    def use(self, key: Key, on_wait: Callable[[int], None]) -> Iterator[LoadedModel]:
        """The model of ``key``; it stays in memory at least until the block ends. If its files have been replaced since
        it was loaded, it is loaded again.

        While it loads, ``on_wait`` is called now and then with the number of parts read; what it raises propagates, and
        the load goes on for the next use. What the load raises propagates as well.
        """
        while True:
            arriving: dict[str, Part] = {}
            if not self._found(key):
                arriving = self._wait(self._start(key, ahead=False), on_wait)
            known = self._known.get(key)
            if known is None:
                continue
            manifest = known.manifest
            with self._shelves.hold(manifest.parts.values()):
                if all(label.digest in arriving or self._shelves.has(label) for label in manifest.parts.values()):
                    self._used_last(key, known)
                    yield self._model(manifest, arriving)
                    self._shelves.lift(arriving.values())  # text encoders that were not needed
                    return

    def prefetch(self, key: Key) -> None:
        """Start loading a model; returns at once. Errors are raised when it is used."""
        with contextlib.suppress(Exception):
            if not self._found(key):
                self._start(key, ahead=True)

    def free(self, keep: Key) -> None:
        """Remove everything from the device that is not in use, except for one model."""
        self._shelves.free(self._labels(keep))

    def start_over(self, key: Key) -> None:
        """Remove everything while nothing is in use, except for what ``key`` has in host memory."""
        self._shelves.start_over(self._labels(key))

    def close(self) -> None:
        """Wait for pending reads and writes."""
        for reader in list(self._readers):
            reader.join()

    def _labels(self, key: Key) -> tuple[Label, ...]:
        known = self._known.get(key)
        return tuple(known.manifest.parts.values()) if known else ()

    def _found(self, key: Key) -> bool:
        with self._lock:
            known = self._known.get(key)
            return known is not None and self._is_here(known.manifest) and known.files.is_current

    def _used_last(self, key: Key, known: _Known) -> None:
        with self._lock:
            self._known[key] = known
            self._known.move_to_end(key)

    def _is_here(self, manifest: Manifest) -> bool:
        return all(map(self._shelves.has, manifest.parts.values()))

    def _model(self, manifest: Manifest, arriving: dict[str, Part]) -> LoadedModel:
        def live(part: str) -> nn.Module:
            label = manifest.parts[part]
            network = self._shelves.live(label, arriving)
            if part in ("unet", "vae"):  # the large ones
                arriving.pop(label.digest, None)
            return network

        def put_away(parts: Iterable[str], *, lose: bool = False) -> bool:
            return self._shelves.put_away([manifest.parts[part] for part in parts], arriving, lose=lose)

        return LoadedModel(manifest, live, put_away)

    def _start(self, key: Key, *, ahead: bool) -> _Load:
        with self._lock:
            load = self._loads.get(key)
            if load is None:
                load = _Load(self._open_files(key), ahead)
                self._in_a_thread(self._read, key, load)
                self._loads[key] = load
            load.ahead = load.ahead and ahead
            return load

    def _in_a_thread(self, work: Callable[..., None], *arguments: object) -> None:
        """Run ``work`` in a thread of its own; such threads take turns.

        A thread that has computed in parallel keeps its helper threads until it ends, and while there are more of them
        than cores, OpenMP puts all threads of the process to sleep between any two operations: drawing takes twice as
        long.
        """

        def run() -> None:
            try:
                self._shelves.enter_thread()
                with self._turn:
                    work(*arguments)
            finally:
                self._readers.discard(threading.current_thread())

        reader = threading.Thread(target=run, name="weights-reader")
        self._readers.add(reader)
        try:
            reader.start()
        except RuntimeError:  # the machine allows no more threads
            self._readers.discard(reader)
            raise

    def _wait(self, load: _Load, on_wait: Callable[[int], None]) -> dict[str, Part]:
        while True:
            on_wait(load.parts_read)
            try:
                return load.future.result(LISTEN_S)
            except NotYet:
                if load.future.done():  # since then, or its own error is a timeout
                    return load.future.result()

    # -- in the reading thread -----------------------------------------------------------------------------------------

    def _read(self, key: Key, load: _Load) -> None:
        try:
            arriving = self._bring(key, load)
        except BaseException as error:
            _let_go(error)
            self._forget(key)
            load.future.set_exception(error)
        else:
            self._forget(key)
            load.future.set_result(arriving)

    def _bring(self, key: Key, load: _Load) -> dict[str, Part]:
        """Returns the parts by digest if no shelf has room for them. Such a model is not prefetched, and not even read
        for that if its size is known beforehand."""
        torch.set_num_threads(1 if load.ahead else self._threads)
        started = time.perf_counter()
        if not load.files.is_current:  # replaced while other models were being read
            load.files = self._open_files(key)
        at_hand = load.files.key_at_hand if self._disk else None
        kept = self._disk.parts(at_hand) if self._disk and at_hand else None
        if not kept:
            room = self._shelves.make_room(load.files.parameter_count * self._bytes_per_parameter)
            if load.ahead and not room:
                return {}
        source = FromDisk(kept) if kept else FromFiles(load.files, self._lay_out, load.has_reached_part)
        if load.ahead and not self._shelves.make_room(sum(source.sizes.values())):
            return {}
        stay = self._shelves.make_room_for(source.sizes)
        parts = source.parts(pinned=stay if self._shelves.pinned else frozenset())
        labels = {name: part.label for name, part in parts.items()}
        self._shelves.keep([parts[name] for name in stay], seconds=time.perf_counter() - started)
        self._note(key, _Known(load.files.manifest(labels), load.files))
        if load.ahead:
            self._shelves.lift(parts.values())
        arriving = {part.label.digest: part for name, part in parts.items() if name not in stay}
        if self._disk and not kept:
            self._in_a_thread(self._write, load.files.key, labels, dict(arriving))
        return arriving

    def _forget(self, key: Key) -> None:
        with self._lock:
            del self._loads[key]

    def _note(self, key: Key, known: _Known) -> None:
        with self._lock:
            for gone in [other for other, known in self._known.items() if not self._is_here(known.manifest)]:
                del self._known[gone]
            self._known[key] = known

    def _write(self, key: str, labels: Mapping[str, Label], arriving: Mapping[str, Part]) -> None:
        """Keep a model on disk if all of it is still in memory, on a shelf or in ``arriving``."""
        torch.set_num_threads(1)
        parts = {name: arriving.get(label.digest) or self._shelves.peek(label) for name, label in labels.items()}
        here = {name: part for name, part in parts.items() if part}
        if self._disk and len(here) == len(labels):
            self._disk.keep(key, here)


def _let_go(error: BaseException) -> None:
    """Free what an error's frames hold, such as a whole model. The error stays in a cycle of references, and those are
    collected only now and then."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
