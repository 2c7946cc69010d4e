"""Model choices, servers' rules and seed locks: few and small, so all of them are in memory and written through.

An order needs them before it is acknowledged, when nothing may be awaited.
"""

from __future__ import annotations

import json
import time
from typing import Any

from bot.rules import ChannelModels, Explicit, Rules, Scope
from bot.store.database import Database


class Preferences:
    """What has been chosen. Call ``load`` first."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._models: dict[tuple[Scope, int], str] = {}
        self._rules: dict[int, Rules] = {}
        self._locks: dict[int, int] = {}

    async def load(self) -> None:
        for row in await self._database.fetch_all("SELECT scope, scope_id, model FROM choices"):
            self._models[Scope(row["scope"]), row["scope_id"]] = row["model"]
        for row in await self._database.fetch_all("SELECT * FROM rules"):
            self._rules[row["guild_id"]] = _rules_from(row)
        for row in await self._database.fetch_all("SELECT user_id, seed FROM seed_locks"):
            self._locks[row["user_id"]] = row["seed"]

    def model(self, scope: Scope, scope_id: int | None) -> str | None:
        """The model chosen for a channel, a person or a server."""
        return None if scope_id is None else self._models.get((scope, scope_id))

    async def choose_model(self, scope: Scope, scope_id: int, model: str, *, chosen_by: int) -> None:
        await self._database.write(
            "INSERT OR REPLACE INTO choices (scope, scope_id, model, chosen_by, chosen_at) VALUES (?, ?, ?, ?, ?)",
            (scope.value, scope_id, model, chosen_by, time.time()),
        )
        self._models[scope, scope_id] = model

    async def forget_model(self, scope: Scope, scope_id: int) -> None:
        """Remove a choice, if there is one."""
        await self._database.erase("DELETE FROM choices WHERE scope = ? AND scope_id = ?", (scope.value, scope_id))
        self._models.pop((scope, scope_id), None)

    def rules(self, guild_id: int | None) -> Rules:
        """A server's rules; outside of servers there are none."""
        return Rules() if guild_id is None else self._rules.get(guild_id, Rules())

    async def set_rules(self, guild_id: int, rules: Rules) -> None:
        row = {"guild_id": guild_id, **_rules_to_row(rules)}
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        await self._database.write(f"INSERT OR REPLACE INTO rules ({columns}) VALUES ({marks})", tuple(row.values()))
        self._rules[guild_id] = rules

    def locked_seed(self, user_id: int) -> int | None:
        """The seed that all of a person's orders use until they unlock it."""
        return self._locks.get(user_id)

    async def lock_seed(self, user_id: int, seed: int) -> None:
        await self._database.write("INSERT OR REPLACE INTO seed_locks (user_id, seed) VALUES (?, ?)", (user_id, seed))
        self._locks[user_id] = seed

    async def unlock_seed(self, user_id: int) -> None:
        """Return to random seeds."""
        await self._database.erase("DELETE FROM seed_locks WHERE user_id = ?", (user_id,))
        self._locks.pop(user_id, None)

    def forget_person(self, user_id: int) -> None:
        """Drop what a person chose for themselves, after it was removed from the database."""
        self._models.pop((Scope.USER, user_id), None)
        self._locks.pop(user_id, None)


def _rules_to_row(rules: Rules) -> dict[str, Any]:
    return {
        "hidden_models": json.dumps(sorted(rules.hidden_models)),
        "waiting_limit": rules.waiting_limit,
        "largest_side": rules.largest_side,
        "most_steps": rules.most_steps,
        "most_pictures": rules.most_pictures,
        "channel_models": rules.channel_models.value,
        "explicit": rules.explicit.value,
    }


def _rules_from(row: Any) -> Rules:
    return Rules(
        hidden_models=frozenset(json.loads(row["hidden_models"])),
        waiting_limit=row["waiting_limit"],
        largest_side=row["largest_side"],
        most_steps=row["most_steps"],
        most_pictures=row["most_pictures"],
        channel_models=ChannelModels(row["channel_models"]),
        explicit=Explicit(row["explicit"]),
    )
