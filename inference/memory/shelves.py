"""Which weights are in memory, on the device, on the host and in the live networks; and which are evicted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import nn

from inference.devices import is_out_of_memory
from inference.memory.cache import ByteCache
from inference.memory.layout import Architecture
from inference.memory.page_locked import take_exact_sizes
from inference.memory.part import Copy, Label, Part
from inference.memory.slot import Slot

BUS_BYTES_PER_S = 20e9
"""Rough bandwidth from pinned memory to a GPU; only used to weigh copies on the GPU against copying them again."""


class Shelves:
    """Parts and live networks of one device, within budgets of bytes. Two threads may use it.

    A device that computes in host memory has one shelf, of ``device_bytes``. A GPU has its own, which also holds its
    live networks, and behind it one of ``host_bytes`` in pinned memory. On a GPU, a part that is the only one of its
    architecture exists once, in its live network; parts that take turns are also kept beside it, because a copy within
    the device is many times faster than one over the bus. ``apart``: whether the device has memory of its own; None:
    depends on the device.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        device_bytes: int,
        host_bytes: int,
        compiler: str | None = None,
        apart: bool | None = None,
    ) -> None:
        self._device = device
        self._compiler = compiler
        self.enter_thread()
        self.apart = device.type != "cpu" if apart is None else apart
        self._lock = threading.RLock()
        self._slots: dict[str, Slot] = {}
        self._on_device: ByteCache[str, Slot | Part | Copy] = ByteCache(device_bytes, self._left)
        self._on_host: ByteCache[str, Part] = ByteCache(host_bytes if self.apart else 0)
        self._used: ExitStack | None = None
        self._side: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            take_exact_sizes()

    def enter_thread(self) -> None:
        """To be called first in every thread: CUDA's current device, which pinned memory belongs to, is per thread."""
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)

    @property
    def pinned(self) -> bool:
        """Whether parts are loaded into pinned memory."""
        return self._side is not None

    @property
    def bytes(self) -> int:
        """Total size of what all shelves hold."""
        with self._lock:
            return self._on_device.bytes + self._on_host.bytes

    def has(self, label: Label) -> bool:
        """Whether these weights are anywhere in memory."""
        with self._lock:
            slot = self._slots.get(label.architecture.digest)
            inside = slot is not None and slot.holds == label.digest
            return inside or label.digest in self._on_device or label.digest in self._on_host

    def make_room(self, needed: int) -> bool:
        """Make room for ``needed`` bytes before they are read from disk; whether they can be kept where they arrive."""
        with self._lock:
            if self.apart and needed > self._on_host.budget:
                return False
            return (self._on_host if self.apart else self._on_device).make_room(needed)

    def make_room_for(self, sizes: Mapping[str, int]) -> frozenset[str]:
        """Make room for a model's parts, given by name with their bytes; returns which can be kept where they arrive.

        If a model is too large to be kept beside its device, its smallest parts are, as far as nothing has to leave for
        them: text encoders and autoencoders, which the device can then do without for a while (see ``put_away``).
        """
        with self._lock:
            if self.make_room(sum(sizes.values())):
                return frozenset(sizes)
            stay, free = set(), self._on_host.budget - self._on_host.bytes
            for name in sorted(sizes, key=lambda name: sizes[name]):
                if sizes[name] <= free:
                    stay.add(name)
                    free -= sizes[name]
            return frozenset(stay)

    def keep(self, parts: Iterable[Part], *, seconds: float) -> None:
        """Keep parts that have been read and for which there is room. ``seconds``: how long reading them all took."""
        parts = list(parts)
        total = sum(part.bytes for part in parts)
        with self._lock:
            shelf: ByteCache[str, Part] = self._on_host if self.apart else self._on_device  # type: ignore[assignment]
            for part in parts:
                if part.label.digest not in shelf:
                    shelf.put(part.label.digest, part, bytes=part.bytes, cost=seconds * part.bytes / max(1, total))

    def peek(self, label: Label) -> Part | None:
        """The part if it is in host memory; does not count as a use."""
        with self._lock:
            part = (self._on_host if self.apart else self._on_device).peek(label.digest)
            return part if isinstance(part, Part) else None

    @contextmanager
    def hold(self, labels: Iterable[Label]) -> Iterator[None]:
        """Use these weights: during the block, neither they nor the live networks that they are in are evicted."""
        with self._lock:
            self._used = used = ExitStack()
            for label in labels:
                live = _slot_key(label.architecture)
                for shelf, key in (
                    (self._on_device, label.digest),
                    (self._on_device, live),
                    (self._on_host, label.digest),
                ):
                    shelf.get(key)
                    used.enter_context(shelf.hold(key))
        try:
            yield
        finally:
            with self._lock:
                self._used = None
                used.close()

    def live(self, label: Label, arriving: Mapping[str, Part]) -> nn.Module:
        """The network of this architecture with these weights in it, which the caller must hold. ``arriving``: parts
        that no shelf had room for.

        Raises:
            LookupError: the weights are nowhere in memory.
        """
        with self._lock:
            slot = self._slot(label.architecture)
            if slot.holds != label.digest:
                taking_turns = slot.holds is not None
                slot.put(self._nearest(label, arriving, taking_turns=taking_turns))
                is_lifted = isinstance(self._on_device.peek(label.digest), Copy)
                if is_lifted and not taking_turns and label.digest in self._on_host:  # else it is the last copy
                    self._on_device.drop(label.digest)
            return slot.network

    def lift(self, parts: Iterable[Part]) -> None:
        """Copy parts to the device if it has its own memory, as far as there is room and they are not there yet."""
        for part in parts:
            if self.apart:
                self._lift(part)

    def free(self, keep: Iterable[Label] = ()) -> None:
        """Remove everything from the device that is not held, except for ``keep``, of which no second copy stays."""
        with self._lock:
            keep = tuple(keep)
            for label in keep:
                if self.apart and self._in_slot(label) and label.digest in self._on_device:
                    self._on_device.drop(label.digest)
            kept = [key for label in keep for key in (label.digest, _slot_key(label.architecture))]
            with self._on_device.hold(*kept):
                self._on_device.clear()

    def start_over(self, keep: Iterable[Label]) -> None:
        """Remove everything that is not held, except for what is in host memory of ``keep``."""
        with self._lock:
            kept = [label.digest for label in keep]
            with self._on_host.hold(*kept):
                self._on_host.clear()
            with self._on_device.hold(*([] if self.apart else kept)):
                self._on_device.clear()

    def put_away(self, labels: Iterable[Label], arriving: Mapping[str, Part], *, lose: bool) -> bool:
        """Remove weights from the device, live networks and all, though they are held; returns whether there were any.

        They come back when they are asked for, from host memory or ``arriving`` (see ``live``). Those that are in
        neither stay, unless ``lose``. Compiled networks always stay: compiling them again takes minutes.
        """
        with self._lock:
            before = len(self._on_device)
            for label in labels:
                slot = self._slots.get(label.architecture.digest)
                may_go = lose or label.digest in self._on_host or label.digest in arriving
                if self.apart and may_go and not (slot and slot.is_compiled):
                    for key in (label.digest, _slot_key(label.architecture)):
                        if key in self._on_device:
                            self._on_device.drop(key)
            return len(self._on_device) < before

    def _slot(self, architecture: Architecture) -> Slot:
        slot = self._slots.get(architecture.digest)
        if slot is None:
            slot = self._slots[architecture.digest] = self._build(architecture)
        return slot

    def _build(self, architecture: Architecture) -> Slot:
        """A live network. If the budget has no room for it beside what is in use, everything else is evicted."""
        if not self.apart:
            return Slot(architecture, self._device, self._compiler)
        if not self._on_device.make_room(architecture.bytes):
            self._on_device.clear()
        key, started = _slot_key(architecture), time.perf_counter()
        slot = Slot(architecture, self._device, self._compiler, pointed=False)
        self._on_device.put(key, slot, bytes=slot.bytes, cost=time.perf_counter() - started)
        if self._used:
            self._used.enter_context(self._on_device.hold(key))
        return slot

    def _in_slot(self, label: Label) -> bool:
        slot = self._slots.get(label.architecture.digest)
        return slot is not None and slot.holds == label.digest

    def _nearest(self, label: Label, arriving: Mapping[str, Part], *, taking_turns: bool) -> Part | Copy:
        near = self._on_device.peek(label.digest)
        if isinstance(near, Part | Copy):
            return near
        part = self._on_host.peek(label.digest) or arriving[label.digest]
        lifted = self._lift(part) if self.apart and taking_turns else None
        return lifted or part

    def _lift(self, part: Part) -> Copy | None:
        """A copy on the device; None if there is one already, or no room, or no memory."""
        with self._lock:
            known = part.label.digest in self._on_device or self._in_slot(part.label)
            fits = part.bytes <= self._on_device.budget
            if known or not fits or not self._on_device.make_room(part.bytes):
                return None
            try:
                lifted = self._copied(part)
            except RuntimeError as error:
                if not is_out_of_memory(error):  # the budget promised more than there is
                    raise
                return None
            self._on_device.put(part.label.digest, lifted, bytes=part.bytes, cost=part.bytes / BUS_BYTES_PER_S)
            return lifted

    def _copied(self, part: Part) -> Copy:
        """A GPU copies in a side stream while it draws, into memory of that stream; only whoever reads the copy waits
        for it (see ``Copy.pieces``)."""
        if self._side is None:
            return part.copied_to(self._device)
        with torch.cuda.stream(self._side):
            return replace(part.copied_to(self._device), arrives=self._side.record_event())

    def _left(self, key: str, value: Slot | Part | Copy) -> None:
        if isinstance(value, Slot):
            del self._slots[value.architecture.digest]
            value.leave()
            return
        slot = self._slots.get(value.label.architecture.digest)
        if slot is not None:
            slot.let_go(value.label.digest)


def _slot_key(architecture: Architecture) -> str:
    """Cache key of a live network on the device."""
    return f"slot {architecture.digest}"
