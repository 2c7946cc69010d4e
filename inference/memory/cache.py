"""A cache that counts bytes, and weighs how often something was used, what it costs to have it again, and its size."""

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
    """Values by key, of at most ``budget`` bytes together. For one thread at a time.

    What leaves first is what is worth least, by GreedyDual-Size-Frequency (Cherkasova, 1998): worth = age + uses · cost
    / bytes, where the age is the worth of what left last, so that what was popular once does not stay for ever. What is
    held never leaves. ``on_leave`` hears of everything that does.
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
        """What is here, the one used last at the end."""
        return tuple(sorted(self._kept, key=lambda key: self._kept[key].used_at))

    @property
    def budget(self) -> int:
        """The bytes that may be taken."""
        return self._budget

    @property
    def bytes(self) -> int:
        """What all of it takes."""
        return sum(kept.bytes for kept in self._kept.values())

    def get(self, key: Key) -> Value | None:
        """The value, which counts as a use; None if it is not here."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._clock += 1
        kept.uses, kept.used_at = kept.uses + 1, self._clock
        kept.worth = self._age + kept.uses * kept.cost / max(1, kept.bytes)
        return kept.value

    def peek(self, key: Key) -> Value | None:
        """The value without using it; None if it is not here."""
        kept = self._kept.get(key)
        return None if kept is None else kept.value

    def put(self, key: Key, value: Value, *, bytes: int, cost: float) -> None:  # noqa: A002 (a unit, as everywhere)
        """Keep a value for which there is room (see ``make_room``). ``cost``: the seconds that having it again
        takes."""
        self._kept[key] = _Kept(value, bytes, cost)
        self.get(key)

    def make_room(self, bytes: int) -> bool:  # noqa: A002
        """Let the least worthy leave until so many more fit; False, with nothing changed, if they cannot.

        What is larger than the budget fits where nothing is held: refusing it would mean to load it at every use.
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
        """Nothing of these leaves during the block; keys that are not here are left out."""
        held = [self._kept[key] for key in keys if key in self._kept]
        for kept in held:
            kept.holders += 1
        try:
            yield
        finally:
            for kept in held:
                kept.holders -= 1

    def drop(self, key: Key) -> None:
        """Let go of one value."""
        self._on_leave(key, self._kept.pop(key).value)

    def clear(self) -> None:
        """Let go of everything that is not held."""
        for key in [key for key, kept in self._kept.items() if not kept.holders]:
            self.drop(key)
