"""What somebody does who has just started the bot without a token: open the page, draw, draw again."""

from __future__ import annotations

import re
import signal

import pytest

from tests.e2e.visitor import Visitor

PROGRESS = re.compile("Loading|Drawing|Decoding|Saving|line", re.IGNORECASE)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("told_to_stop", [signal.SIGTERM], indirect=True)
def test_a_mistake_is_answered_and_the_next_order_goes_through(visitor: Visitor) -> None:
    visitor.order("an owl --seed abc")
    visitor.sees("The seed must be a number", card=0)
    visitor.order("an owl")
    assert visitor.picture(card=1).size == (64, 64)


@pytest.mark.timeout(600)
def test_a_newcomer_draws_a_picture_and_draws_it_again(visitor: Visitor) -> None:
    visitor.order("a red apple")
    visitor.sees(PROGRESS, card=0)
    first = visitor.picture(card=0)
    assert first.size == (64, 64)

    visitor.press("Same seed", card=0)
    assert visitor.picture(card=1).tobytes() == first.tobytes()

    visitor.press("Reroll", card=0)
    other = visitor.picture(card=2)
    assert other.size == first.size
    assert other.tobytes() != first.tobytes()

    visitor.edit("a green pear", card=0)
    visitor.sees("a green pear", card=3)
    assert visitor.picture(card=3).size == first.size
