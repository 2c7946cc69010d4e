"""A cache bounded in bytes that weighs how often an entry is used, what it costs to load it again, and its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(slots=True)
class _Kept(Generic[Value]):
    value: Value
    bytes: int
    cost: float
    uses: int = 0
    worth: float = 0.0
    used_at: int = 0
    holders: int = 0


class ByteCache(Generic[Key, Value]):
    """Values by key, at most ``budget`` bytes in total. For one thread at a time.

    Evicts what is worth least, by GreedyDual-Size-Frequency (Cherkasova, 1998): worth = age + uses · cost / bytes, with
    the worth of the last evicted entry as age, so that what was popular once does not stay for ever. Held entries are
    never evicted. ``on_leave`` is called for every entry that leaves.
    """

    def __init__(self, budget: int, on_leave: Callable[[Key, Value], None] = lambda key, value: None) -> None:
        self._budget = budget
        self._on_leave = on_leave
        self._kept: dict[Key, _Kept[Value]] = {}
        self._age = 0.0
        self._clock = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys, most recently used last."""
        return tuple(sorted(self._kept, key=lambda key: self._kept[key].used_at))

    @property
    def budget(self) -> int:
        """The maximum size in bytes."""
        return self._budget

    @property
    def bytes(self) -> int:
        """The current size in bytes."""
        return sum(kept.bytes for kept in self._kept.values())

    def get(self, key: Key) -> Value | None:
        """The value, None if absent; counts as a use."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._clock += 1
        kept.uses, kept.used_at = kept.uses + 1, self._clock
        kept.worth = self._age + kept.uses * kept.cost / max(1, kept.bytes)
        return kept.value

    def peek(self, key: Key) -> Value | None:
        """The value, None if absent; does not count as a use."""
        kept = self._kept.get(key)
        return None if kept is None else kept.value

    def put(self, key: Key, value: Value, *, bytes: int, cost: float) -> None:  # noqa: A002 (a unit, as everywhere)
        """Keep a value for which there is room (see ``make_room``). ``cost``: seconds to load it again."""
        self._kept[key] = _Kept(value, bytes, cost)
        self.get(key)

    def make_room(self, bytes: int) -> bool:  # noqa: A002
        """Evict the entries of least worth until ``bytes`` more fit; False, with nothing changed, if they cannot.

        A value larger than the budget fits if nothing is held: refusing it would mean loading it at every use.
        """
        held = sum(kept.bytes for kept in self._kept.values() if kept.holders)
        if held and held + bytes > self._budget:
            return False
        idle = [key for key, kept in self._kept.items() if not kept.holders]
        for key in sorted(idle, key=lambda key: (self._kept[key].worth, self._kept[key].used_at)):
            if self.bytes + bytes <= self._budget:
                break
            self._age = max(self._age, self._kept[key].worth)
            self.drop(key)
        return True

    @contextmanager
    def hold(self, *keys: Key) -> Iterator[None]:
        """Keep these entries during the block; absent keys are ignored."""
        held = [self._kept[key] for key in keys if key in self._kept]
        for kept in held:
            kept.holders += 1
        try:
            yield
        finally:
            for kept in held:
                kept.holders -= 1

    def drop(self, key: Key) -> None:
        """Remove one value, held or not; nobody keeps it alive by having held it."""
        kept = self._kept.pop(key)
        value = kept.value
        del kept.value
        self._on_leave(key, value)

    def clear(self) -> None:
        """Remove everything that is not held."""
        for key in [key for key, kept in self._kept.items() if not kept.holders]:
            self.drop(key)
