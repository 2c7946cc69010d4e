"""The check against Discord's description finds what Discord would refuse, and lets pass what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.discord_api.schema import DiscordSchema, discord_schema

BUTTON = {"type": 2, "style": 2, "label": "Reroll", "custom_id": "reroll:1"}
ORIGINAL = "/webhooks/1/token/messages/@original"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A REST call as SimCord records it."""

    method: str
    path: str
    json: Any


@pytest.fixture
def schema() -> DiscordSchema:
    return discord_schema()


def problems(schema: DiscordSchema, method: str, path: str, json: Any) -> list[str]:
    return schema.problems(Call(method=method, path=path, json=json))


def test_a_card_with_buttons_is_understood(schema: DiscordSchema) -> None:
    card = {"flags": 32768, "components": [{"type": 17, "components": [{"type": 1, "components": [BUTTON]}]}]}
    assert problems(schema, "PATCH", ORIGINAL, card) == []


def test_a_row_of_six_buttons_is_refused(schema: DiscordSchema) -> None:
    card = {"components": [{"type": 1, "components": [BUTTON] * 6}]}
    assert problems(schema, "POST", "/channels/1/messages", card)


def test_a_long_custom_id_is_refused(schema: DiscordSchema) -> None:
    card = {"components": [{"type": 1, "components": [{**BUTTON, "custom_id": "x" * 101}]}]}
    assert problems(schema, "PATCH", ORIGINAL, card)


def test_a_numeric_attachment_id_is_understood(schema: DiscordSchema) -> None:
    assert problems(schema, "PATCH", ORIGINAL, {"attachments": [{"id": 0, "filename": "a.png"}]}) == []


def test_an_unknown_call_is_refused(schema: DiscordSchema) -> None:
    assert problems(schema, "POST", "/channels/1/pictures", {"content": "x"})


def test_a_call_without_a_body_is_let_pass(schema: DiscordSchema) -> None:
    assert problems(schema, "DELETE", "/channels/1/messages/2", None) == []


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_picture_that_the_call_does_not_bring_is_refused(schema: DiscordSchema, wrapped: bool) -> None:
    gallery = {"type": 12, "items": [{"media": {"url": "attachment://a.png"}}]}
    method, path = ("POST", "/interactions/1/token/callback") if wrapped else ("PATCH", ORIGINAL)
    for attachments, refused in (([{"id": 0, "filename": "a.png"}], False), ([{"id": 0, "filename": "b.png"}], True)):
        card = {"flags": 32768, "components": [gallery], "attachments": attachments}
        assert bool(problems(schema, method, path, {"type": 4, "data": card} if wrapped else card)) == refused
