"""``/imagine`` as a person lives it: what is ordered is drawn, what cannot be drawn is refused to them alone."""

from __future__ import annotations

import re

from bot.store import JobState
from tests.bot.painter import pixels
from tests.bot.studio import Studio, labels_of, text_of


async def test_a_prompt_becomes_a_picture_with_everything_that_makes_it(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="a red apple", seed=7, count=2)
    pictures = await studio.pictures(count=2)
    assert [picture.size for picture in pictures] == [(64, 64), (64, 64)]
    assert [picture.tobytes() for picture in pictures] == [pixels(7, 64, 64), pixels(8, 64, 64)]
    card = studio.cards()[-1]
    assert labels_of(card) == ["Reroll", "Same seed", "Edit", "Delete"]
    for word in ("a red apple", "Quick", "`7`", "`8`", "4 steps", "guidance 8", "64×64"):
        assert word in text_of(card)


async def test_a_seed_is_chosen_where_none_is_given(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="a red apple")
    [picture] = await studio.pictures()
    seed = re.search(r"seed `(\d+)`", text_of(studio.cards()[-1]))
    assert seed is not None
    assert picture.tobytes() == pixels(int(seed[1]), 64, 64)
    [job] = await studio.jobs()
    assert job.state is JobState.DONE
