"""The cache: within its budget, the least worthy leaves first, what is held never."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inference.memory.cache import ByteCache


def filled(budget: int, *names: str, size: int = 10, cost: float = 1.0) -> ByteCache[str, str]:
    cache: ByteCache[str, str] = ByteCache(budget)
    for name in names:
        assert cache.make_room(size)
        cache.put(name, name.upper(), bytes=size, cost=cost)
    return cache


def test_what_is_kept_is_found() -> None:
    cache = filled(100, "a", "b")
    assert (cache.get("a"), cache.peek("b"), cache.get("c")) == ("A", "B", None)
    assert (cache.bytes, len(cache), cache.keys) == (20, 2, ("b", "a"))


def test_of_equals_the_one_used_longest_ago_leaves() -> None:
    cache = filled(20, "a", "b")
    assert cache.make_room(10)
    assert cache.keys == ("b",)


def test_what_is_used_more_often_stays() -> None:
    cache = filled(20, "a", "b")
    cache.get("a")
    cache.make_room(10)
    assert cache.keys == ("a",)


def test_what_costs_more_to_have_again_stays() -> None:
    cache = filled(20, "a", cost=5.0)
    cache.put("b", "B", bytes=10, cost=1.0)
    cache.make_room(10)
    assert cache.keys == ("a",)


def test_of_equal_cost_the_larger_leaves() -> None:
    cache = filled(40, "small")
    cache.put("large", "LARGE", bytes=30, cost=1.0)
    cache.get("large")
    cache.make_room(10)
    assert cache.keys == ("small",)


def test_what_was_popular_once_does_not_stay_for_ever() -> None:
    cache = filled(20, "old")
    for _ in range(20):
        cache.get("old")
    for number in range(100):
        assert cache.make_room(10)
        cache.put(f"new {number}", "", bytes=10, cost=1.0)
        cache.get(f"new {number}")
    assert "old" not in cache


def test_what_is_held_never_leaves_and_room_that_it_takes_is_refused() -> None:
    cache = filled(20, "a", "b")
    with cache.hold("a", "absent"):
        assert not cache.make_room(11)
        assert cache.keys == ("a", "b"), "nothing has changed"
        assert cache.make_room(10)
        cache.clear()
        assert cache.keys == ("a",)
    cache.clear()
    assert cache.keys == ()


def test_what_is_larger_than_the_budget_is_kept_by_itself() -> None:
    cache = filled(20, "a", "b")
    assert cache.make_room(30)
    cache.put("huge", "HUGE", bytes=30, cost=1.0)
    assert cache.keys == ("huge",)
    assert cache.make_room(10)
    assert cache.keys == ()


def test_whoever_leaves_is_told() -> None:
    left: list[tuple[str, int]] = []
    cache: ByteCache[str, int] = ByteCache(10, lambda key, value: left.append((key, value)))
    cache.put("a", 1, bytes=10, cost=1.0)
    cache.make_room(5)
    assert left == [("a", 1)]


class Cache(RuleBasedStateMachine):
    """Random use, beside a plain account of what must be true."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[str, int] = {}
        self.cache: ByteCache[str, str] = ByteCache(100, lambda key, _: self.sizes.pop(key))

    @rule(name=st.sampled_from("abcdefgh"), size=st.integers(1, 100), cost=st.floats(0.01, 100))
    def bring(self, name: str, size: int, cost: float) -> None:
        if self.cache.get(name) is None:
            assert self.cache.make_room(size)
            self.cache.put(name, name.upper(), bytes=size, cost=cost)
            self.sizes[name] = size

    @precondition(lambda self: self.sizes)
    @rule(data=st.data(), size=st.integers(1, 100))
    def bring_beside_one_in_use(self, data: st.DataObject, size: int) -> None:
        used = data.draw(st.sampled_from(sorted(self.sizes)))
        before = dict(self.sizes)
        with self.cache.hold(used):
            fits = self.cache.make_room(size)
            assert fits == (before[used] + size <= 100)
            assert used in self.cache
            assert fits or self.sizes == before

    @invariant()
    def the_budget_holds_and_nothing_is_lost(self) -> None:
        assert self.cache.bytes == sum(self.sizes.values()) <= 100
        assert set(self.cache.keys) == set(self.sizes)
        assert all(self.cache.peek(name) == name.upper() for name in self.sizes)


TestRandomUse = Cache.TestCase


@given(st.lists(st.sampled_from("abcde"), max_size=50))
def test_with_room_for_all_nothing_leaves(names: list[str]) -> None:
    cache: ByteCache[str, str] = ByteCache(50)
    for name in names:
        if cache.get(name) is None:
            cache.make_room(10)
            cache.put(name, name, bytes=10, cost=1.0)
    assert set(cache.keys) == set(names)
