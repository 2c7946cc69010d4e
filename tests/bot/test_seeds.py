"""``/seed``: one seed for everything, and a book of seeds that nobody else sees."""

from __future__ import annotations

from typing import Any

import pytest
from simcord.interactions import OptionError

from bot.features import seedbook
from bot.store import JobState
from inference.contract import MAX_SEED
from tests.bot.painter import pixels
from tests.bot.studio import Studio, said, text_of


async def seed_drawn(studio: Studio, **options: Any) -> int:
    """The seed of ann's next picture."""
    before = len(studio.cards())
    await studio.ann.slash(studio.channel, "imagine", prompt="a fox", **options)
    [picture] = await studio.pictures(index=before)
    job = (await studio.jobs())[-1]
    assert picture.tobytes() == pixels(job.request.seed, 64, 64)
    return job.request.seed


async def ask(studio: Studio, command: str, **options: Any) -> str:
    """What ann is answered, alone."""
    answer = await studio.ann.slash(studio.channel, f"seed {command}", **options)
    assert answer.ephemeral
    return said(answer)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_locked_seed_is_used_until_it_is_unlocked(studio: Studio, restarted: bool) -> None:
    assert "uses `77`" in await ask(studio, "lock", seed=77)
    if restarted:
        await studio.restart()
    assert [await seed_drawn(studio), await seed_drawn(studio)] == [77, 77]
    assert "🔒 seed locked" in text_of(studio.cards()[-1])
    assert "locked: `77`" in await ask(studio, "show")
    assert "random" in await ask(studio, "random")
    assert await seed_drawn(studio) != 77
    assert "locked" not in text_of(studio.cards()[-1])


async def test_a_seed_that_is_given_comes_before_the_lock(studio: Studio) -> None:
    await ask(studio, "lock", seed=77)
    assert await seed_drawn(studio, seed=5) == 5
    assert "locked" not in text_of(studio.cards()[-1])


async def test_minus_one_is_a_random_seed_in_spite_of_the_lock(studio: Studio) -> None:
    await ask(studio, "lock", seed=77)
    assert await seed_drawn(studio, seed=-1) not in (-1, 77)
    assert "locked" not in text_of(studio.cards()[-1])


async def test_the_lock_is_ones_own(studio: Studio) -> None:
    await ask(studio, "lock", seed=77)
    await studio.ben.slash(studio.channel, "imagine", prompt="a fox")
    await studio.pictures()
    assert (await studio.jobs())[-1].request.seed != 77


async def test_next_goes_on_from_the_lock_or_the_last_picture(studio: Studio) -> None:
    assert "no seed yet" in await ask(studio, "next")
    await seed_drawn(studio, seed=MAX_SEED)
    assert "uses `0`" in await ask(studio, "next")
    assert "uses `1`" in await ask(studio, "next")
    assert await seed_drawn(studio) == 1


async def test_next_goes_on_after_the_last_of_several_pictures(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="a fox", seed=10, count=4)
    await studio.settled(JobState.DONE)
    assert "pictures used seeds `10`, `11`, `12`, `13`" in await ask(studio, "show")
    assert "uses `14`" in await ask(studio, "next")
    assert "uses `15`" in await ask(studio, "next")


async def test_variations_have_one_seed_and_next_goes_on_after_that(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="a fox --vary 0.2", seed=10, count=4)
    await studio.settled(JobState.DONE)
    assert "pictures used seeds `10`." in await ask(studio, "show")
    assert "uses `11`" in await ask(studio, "next")


async def test_next_goes_on_after_the_pictures_that_were_drawn_with_the_lock(studio: Studio) -> None:
    await ask(studio, "lock", seed=MAX_SEED)
    await studio.ann.slash(studio.channel, "imagine", prompt="a fox", count=2)
    await studio.settled(JobState.DONE)
    assert "uses `1`" in await ask(studio, "next")


async def test_the_seed_of_any_picture_of_the_last_order_is_kept_and_locked(studio: Studio) -> None:
    assert "no seed yet" in await ask(studio, "save", name="owl", picture=1)
    await studio.ann.slash(studio.channel, "imagine", prompt="a fox", seed=10, count=3)
    await studio.settled(JobState.DONE)
    assert "`12` was saved" in await ask(studio, "save", name="owl", picture=3)
    assert "uses `11`" in await ask(studio, "lock", picture=2)
    assert "uses `10`" in await ask(studio, "lock")
    assert "no picture 4; it has 3" in await ask(studio, "save", name="owl", picture=4)
    assert "not both" in await ask(studio, "lock", seed=5, picture=1)


async def test_a_good_seed_is_kept_by_name(studio: Studio) -> None:
    assert "is empty" in await ask(studio, "list")
    await seed_drawn(studio, seed=123)
    assert "`123` was saved as “lucky fox”" in await ask(studio, "save", name=" lucky  fox ")
    await ask(studio, "save", name="owl", seed=9)
    text = await ask(studio, "list")
    assert text.index("lucky fox · `123`") < text.index("owl · `9`")
    assert "uses `123`" in await ask(studio, "use", name="LUCKY FOX")
    assert await seed_drawn(studio) == 123


async def test_a_name_is_given_anew_and_forgotten(studio: Studio) -> None:
    await ask(studio, "save", name="owl", seed=9)
    await ask(studio, "save", name="Owl", seed=10)
    assert "`9`" not in await ask(studio, "list")
    assert "was removed from your seed book" in await ask(studio, "forget", name="owl")
    for command in ("use", "forget"):
        assert "no “owl” in your seed book" in await ask(studio, command, name="owl")


async def test_names_are_offered_while_typing_to_their_owner_alone(studio: Studio) -> None:
    await ask(studio, "save", name="owl", seed=9)
    assert await studio.ann.autocomplete(studio.channel, "seed use", "name", "ow") == [
        {"name": "owl (9)", "value": "owl"}
    ]
    assert await studio.ben.autocomplete(studio.channel, "seed use", "name", "") == []
    assert await studio.ann.autocomplete(studio.channel, "imagine", "seed", "ow") == [{"name": "owl (9)", "value": 9}]


async def test_a_book_has_an_end(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seedbook, "MOST_SEEDS", 1)
    await ask(studio, "save", name="owl", seed=9)
    assert "is full (1 seeds)" in await ask(studio, "save", name="fox", seed=9)
    assert "was saved" in await ask(studio, "save", name="owl", seed=10)


async def test_a_long_book_still_fits_a_message(studio: Studio) -> None:
    for number in range(60):
        await studio.store.seeds.save(studio.ann.id, f"{number:02} {'x' * 45}", number)
    text = await ask(studio, "list")
    assert len(text) <= 2000
    assert text.endswith("…")


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, "seven"])
async def test_discord_itself_refuses_what_is_no_seed(studio: Studio, seed: Any) -> None:
    with pytest.raises(OptionError):
        await ask(studio, "lock", seed=seed)
