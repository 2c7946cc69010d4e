"""Which model draws: a call, then the channel, the person, the server, the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bot.ordering.access import Refused
from bot.ordering.preferences import Choice, Where, choose
from bot.rules import ChannelModels, Explicit, Rules, Scope
from bot.settings import ROOT, Settings
from bot.store import Preferences, Store, open_store
from inference.catalog import Catalog
from inference.errors import InferenceError

WHERE = Where(user_id=5, channel_id=2, guild_id=1)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        yield store


def chosen(
    preferences: Preferences, catalog: Catalog, named: str | None = None, where: Where = WHERE
) -> tuple[str, Scope]:
    choice: Choice = choose(named, where, preferences, catalog)
    return choice.entry.name, choice.scope


async def test_the_nearest_choice_decides(store: Store, catalog: Catalog) -> None:
    preferences = store.preferences
    assert chosen(preferences, catalog) == ("quick", Scope.CATALOGUE)
    for scope, scope_id in ((Scope.SERVER, 1), (Scope.USER, 5), (Scope.CHANNEL, 2)):
        await preferences.choose_model(scope, scope_id, "guided", chosen_by=9)
        assert chosen(preferences, catalog) == ("guided", scope)
    assert chosen(preferences, catalog, "quick") == ("quick", Scope.CALL)
    elsewhere = Where(user_id=6, channel_id=3, guild_id=None)
    assert chosen(preferences, catalog, where=elsewhere) == ("quick", Scope.CATALOGUE)


async def test_a_choice_can_be_taken_back(store: Store, catalog: Catalog) -> None:
    await store.preferences.choose_model(Scope.USER, 5, "guided", chosen_by=5)
    for _time in range(2):
        await store.preferences.forget_model(Scope.USER, 5)
    assert chosen(store.preferences, catalog) == ("quick", Scope.CATALOGUE)


async def test_a_choice_that_has_become_impossible_is_passed_over(store: Store, catalog: Catalog) -> None:
    await store.preferences.choose_model(Scope.CHANNEL, 2, "gone from the catalogue", chosen_by=9)
    await store.preferences.choose_model(Scope.USER, 5, "guided", chosen_by=5)
    assert chosen(store.preferences, catalog) == ("guided", Scope.USER)
    await store.preferences.set_rules(1, Rules(hidden_models=frozenset({"guided"})))
    assert chosen(store.preferences, catalog) == ("quick", Scope.CATALOGUE)


async def test_a_hidden_model_cannot_be_called(store: Store, catalog: Catalog) -> None:
    await store.preferences.set_rules(1, Rules(hidden_models=frozenset({"quick"})))
    with pytest.raises(Refused, match="“Quick” is not available on this server"):
        chosen(store.preferences, catalog, "quick")
    assert chosen(store.preferences, catalog) == ("guided", Scope.CATALOGUE)
    with pytest.raises(InferenceError):
        chosen(store.preferences, catalog, "nope")


async def test_everything_is_still_there_after_a_restart(settings: Settings, catalog: Catalog) -> None:
    rules = Rules(
        hidden_models=frozenset({"quick"}),
        waiting_limit=2,
        largest_side=96,
        most_steps=4,
        most_pictures=1,
        channel_models=ChannelModels.EVERYONE,
        explicit=Explicit.BLOCK,
    )
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        await store.preferences.choose_model(Scope.USER, 5, "guided", chosen_by=5)
        await store.preferences.set_rules(1, rules)
        await store.preferences.lock_seed(5, 7)
        await store.seeds.save(5, "Fox", 11)
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        assert chosen(store.preferences, catalog) == ("guided", Scope.USER)
        assert store.preferences.rules(1) == rules
        assert store.preferences.locked_seed(5) == 7
        assert await store.seeds.get(5, "fox") == 11


async def test_a_person_is_forgotten_and_nobody_else(store: Store) -> None:
    for user in (5, 6):
        await store.preferences.choose_model(Scope.USER, user, "guided", chosen_by=user)
        await store.preferences.lock_seed(user, 7)
    await store.people.forget(5)
    assert store.preferences.model(Scope.USER, 5) is None
    assert store.preferences.locked_seed(5) is None
    assert store.preferences.model(Scope.USER, 6) == "guided"
    assert store.preferences.locked_seed(6) == 7
