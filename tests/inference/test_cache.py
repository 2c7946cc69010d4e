"""The model cache: loads once, keeps within its budget, evicts by last use and never what is in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.cache import ModelCache


@dataclass(frozen=True)
class Model:
    name: str
    bytes: int = 10


class Shelf:
    """Loads models and counts how often."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, name: str, size: int = 10) -> Callable[[], Model]:
        def load() -> Model:
            self.loaded.append(name)
            return Model(name, size)

        return load


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_a_model_is_loaded_once(shelf: Shelf) -> None:
    cache: ModelCache[str, Model] = ModelCache(100)
    for _ in range(3):
        with cache.use("a", shelf.load("a")) as model:
            assert model.name == "a"
    assert shelf.loaded == ["a"]


def test_the_one_used_longest_ago_goes_first(shelf: Shelf) -> None:
    cache: ModelCache[str, Model] = ModelCache(20)
    for name in ("a", "b", "a", "c"):
        with cache.use(name, shelf.load(name)):
            pass
    assert cache.keys == ("a", "c")


def test_what_is_in_use_stays_even_beyond_the_budget(shelf: Shelf) -> None:
    cache: ModelCache[str, Model] = ModelCache(10)
    with cache.use("a", shelf.load("a")), cache.use("b", shelf.load("b")):
        assert set(cache.keys) == {"a", "b"}
    with cache.use("c", shelf.load("c")):
        assert cache.keys == ("c",)


def test_a_model_larger_than_the_budget_is_kept_while_it_is_the_only_one(shelf: Shelf) -> None:
    cache: ModelCache[str, Model] = ModelCache(5)
    for _ in range(2):
        with cache.use("a", shelf.load("a")):
            pass
    assert shelf.loaded == ["a"]


def test_a_failed_load_leaves_no_trace_and_evicts_nobody(shelf: Shelf) -> None:
    cache: ModelCache[str, Model] = ModelCache(10)
    with cache.use("a", shelf.load("a")):
        pass

    def fail() -> Model:
        raise OSError("damaged")

    with pytest.raises(OSError, match="damaged"), cache.use("b", fail):
        pass
    assert cache.keys == ("a",)


def test_clearing_spares_what_is_in_use(shelf: Shelf) -> None:
    cache: ModelCache[str, Model] = ModelCache(100)
    with cache.use("a", shelf.load("a")):
        pass
    with cache.use("b", shelf.load("b")):
        cache.clear()
    assert cache.keys == ("b",)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 12)), max_size=60))
def test_the_budget_holds_after_any_sequence_of_uses(uses: list[tuple[str, int]]) -> None:
    shelf, cache = Shelf(), ModelCache[str, Model](30)
    sizes: dict[str, int] = {}
    for name, size in uses:
        with cache.use(name, shelf.load(name, sizes.setdefault(name, size))):
            assert cache.bytes <= 30
            assert cache.keys[-1] == name
