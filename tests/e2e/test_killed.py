"""A bot that is killed outright: what was ordered is drawn after the next start, and shown once."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.e2e.conftest import started
from tests.e2e.visitor import Visitor

ACCEPTED = re.compile("line|Loading|Drawing", re.IGNORECASE)


@pytest.mark.timeout(600)
def test_an_order_outlives_a_killed_bot(home: dict[str, str], tmp_path: Path, tab: Page) -> None:
    with started(home, tmp_path) as (bot, address):
        tab.goto(address)
        visitor = Visitor(tab)
        visitor.order("a red apple")
        visitor.sees(ACCEPTED, card=0)
        bot.kill()
    assert states(tmp_path) in ([("queued", None)], [("running", None)])

    with started(home, tmp_path) as (_, address):
        tab.goto(address)
        visitor = Visitor(tab)
        assert visitor.picture(card=0).size == (64, 64)
        visitor.press("Same seed", card=0)
        assert visitor.picture(card=1).tobytes() == visitor.picture(card=0).tobytes()
        assert tab.locator(".channel-message").count() == 2
    (state, shown), *_ = states(tmp_path)
    assert state == "done"
    assert shown is not None


def states(folder: Path) -> list[tuple[str, float | None]]:
    """State and time of showing of every job, oldest first."""
    with sqlite3.connect(folder / "data" / "preview" / "bot.sqlite3") as connection:
        return connection.execute("SELECT state, delivered_at FROM jobs ORDER BY created_at").fetchall()
