"""``/queue`` and ``/cancel``: people see who is drawn for, and take orders back."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import discord
import pytest

from bot.settings import Settings
from bot.store import Job, JobState
from inference.catalog import Catalog
from tests.bot.studio import Studio, open_studio, said


async def a_queue(studio: Studio) -> None:
    """Ann's order is being drawn, ben's and another of ann's wait."""
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    await studio.card(saying="Drawing", index=0)
    await studio.ben.slash(studio.channel, "imagine", prompt="an owl")
    await studio.ann.slash(studio.channel, "imagine", prompt="a fox")


async def states(studio: Studio) -> list[JobState]:
    return [job.state for job in await studio.jobs()]


async def test_everybody_sees_who_is_drawn_for_and_who_waits(studio: Studio) -> None:
    await a_queue(studio)
    shown = await studio.ben.slash(studio.channel, "queue")
    assert shown.ephemeral
    lines = said(shown).splitlines()
    assert lines[1].startswith("🎨 Drawing")
    assert f"<@{studio.ann.id}>" in lines[1]
    assert lines[2].startswith("⏳ Next in line")
    assert f"<@{studio.ben.id}>" in lines[2]
    assert "Number 2 in line" in lines[3]
    assert "in memory: nothing yet" in said(shown)
    studio.let_go()
    await studio.all_delivered()
    after = said(await studio.ben.slash(studio.channel, "queue"))
    assert "Nobody is waiting." in after
    assert "in memory: Quick" in after
    assert "last hour · pictures: 3 · people: 2" in after


async def test_of_orders_from_elsewhere_only_their_number_is_told(studio: Studio) -> None:
    await a_queue(studio)
    elsewhere = studio.env.create_guild("Elsewhere")
    channel = elsewhere.create_text_channel("there")
    stranger = elsewhere.add_member(studio.env.create_user("stranger"))
    shown = said(await stranger.slash(channel, "queue"))
    assert "3 from elsewhere" in shown
    assert "<@" not in shown


async def test_who_cannot_read_a_channel_learns_of_its_orders_only_how_many_there_are(studio: Studio) -> None:
    secret = studio.guild.create_text_channel(
        "secret",
        overwrites={
            studio.guild.default_role: discord.PermissionOverwrite(view_channel=False),
            studio.ann: discord.PermissionOverwrite(view_channel=True),
        },
    )
    await studio.ann.slash(secret, "imagine", prompt="wait")
    await studio.ann.slash(studio.channel, "imagine", prompt="a fox")
    shown = said(await studio.ben.slash(studio.channel, "queue"))
    assert shown.count(f"<@{studio.ann.id}>") == 1
    assert "1 from elsewhere" in shown
    assert said(await studio.ann.slash(studio.channel, "queue")).count(f"<@{studio.ann.id}>") == 2


async def test_a_long_queue_of_models_with_long_titles_fits_on_a_card(settings: Settings) -> None:
    settings.catalog.parent.mkdir(parents=True, exist_ok=True)
    (settings.catalog.parent / "x").mkdir()
    (settings.catalog.parent / "x" / "model_index.json").write_text("{}")
    block = (
        '[models.{name}]\ntitle = "{title}"\nfamily = "emoji"\nkind = "native"\nharmless = true\n'
        'size = [64, 64]\nsides = [32, 128]\nweights = {{ path = "x" }}\n'
    )
    names = [f"m{number}" for number in range(30)]
    models = "".join(block.format(name=name, title=f"{name}{'*' * 95}") for name in names)
    settings.catalog.write_text(f'default = "m0"\n{models}')
    catalog = Catalog.load(settings.catalog)
    async with open_studio(replace(settings, queue_limit_per_user=99), catalog) as studio:
        await studio.ann.slash(studio.channel, "imagine", prompt="wait")
        await studio.card(saying="Drawing")
        for _number in range(3):
            await studio.ann.slash(studio.channel, "compare", prompt="a fox", steps="1,2,3,4,5,6,7,8")
        [station] = studio.dispatcher._stations
        station.resident = frozenset(names)
        shown = said(await studio.ann.slash(studio.channel, "queue"))
        assert len(shown) <= 4000
        orders = shown.count(f"<@{studio.ann.id}>")
        assert orders > 10
        assert f"and {25 - orders} more" in shown
        assert "and 20 more" in shown


async def test_the_newest_order_is_taken_back_where_none_is_named(studio: Studio) -> None:
    await a_queue(studio)
    answer = await studio.ann.slash(studio.channel, "cancel")
    assert answer.ephemeral
    assert "Cancelled: 1\n- a fox" in said(answer)
    await studio.card(saying="Cancelled.", index=2)


async def test_all_of_ones_own_orders_are_taken_back_running_ones_too(studio: Studio) -> None:
    await a_queue(studio)
    offered = await studio.ann.autocomplete(studio.channel, "cancel", "order", "")
    assert [choice["name"] for choice in offered] == ["All my orders", "🎨 · wait", "2 · a fox"]
    worded = await studio.ann.autocomplete(studio.channel, "cancel", "order", "FOX 2")
    assert [choice["name"] for choice in worded] == ["2 · a fox"]
    answer = await studio.ann.slash(studio.channel, "cancel", order=offered[0]["value"])
    assert "Cancelled: 2" in said(answer)
    await studio.pictures(index=1)
    assert sorted(await states(studio)) == [JobState.CANCELLED, JobState.CANCELLED, JobState.DONE]


async def test_what_is_said_of_many_cancelled_orders_fits_into_an_answer(settings: Settings, catalog: Catalog) -> None:
    async with open_studio(replace(settings, queue_limit_per_user=99), catalog) as studio:
        await studio.ann.slash(studio.channel, "imagine", prompt="wait")
        await studio.card(saying="Drawing")
        for _number in range(3):
            await studio.ann.slash(studio.channel, "compare", prompt="*" * 100, steps="1,2,3,4,5,6,7,8")
        answer = said(await studio.ann.slash(studio.channel, "cancel", order="all"))
        assert "Cancelled: 25" in answer
        assert "and 15 more" in answer


async def test_who_moderates_one_channel_learns_nothing_of_another(studio: Studio) -> None:
    await a_queue(studio)
    bens = (await studio.jobs())[1].id
    async with studio.store._database.transaction() as connection:
        await connection.execute("UPDATE jobs SET channel_id = channel_id + 1 WHERE id = ?", (bens,))
    assert bens not in [c["value"] for c in await studio.mod.autocomplete(studio.channel, "cancel", "order", "")]
    assert "nothing to cancel" in said(await studio.mod.slash(studio.channel, "cancel", order=bens))


async def test_who_manages_a_server_takes_back_no_order_of_a_channel_that_they_cannot_see(studio: Studio) -> None:
    overwrites = {
        studio.guild.default_role: discord.PermissionOverwrite(view_channel=False),
        studio.ann: discord.PermissionOverwrite(view_channel=True),
    }
    secret = studio.guild.create_text_channel("secret", overwrites=overwrites)
    may = discord.Permissions(manage_guild=True, manage_messages=True)
    boss = studio.guild.add_member(
        studio.env.create_user("boss"), roles=[studio.guild.create_role("Boss", permissions=may)]
    )
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    await studio.ann.slash(secret, "imagine", prompt="a fox")
    offered = await boss.autocomplete(studio.channel, "cancel", "order", "")
    assert [choice["name"].endswith("· wait") for choice in offered] == [True]
    foxes = (await studio.jobs())[1].id
    assert "nothing to cancel" in said(await boss.slash(studio.channel, "cancel", order=foxes))


async def test_another_ones_order_is_for_moderators(studio: Studio) -> None:
    await a_queue(studio)
    bens = (await studio.jobs())[1].id
    assert bens not in [c["value"] for c in await studio.ann.autocomplete(studio.channel, "cancel", "order", "")]
    refused = await studio.ann.slash(studio.channel, "cancel", order=bens)
    assert "nothing to cancel" in said(refused)
    await studio.mod.slash(studio.channel, "cancel", order=bens)
    await studio.card(saying="Cancelled.", index=1)


async def test_nothing_to_cancel_says_so(studio: Studio) -> None:
    for options in ({}, {"order": "all"}, {"order": "what?"}):
        assert "nothing to cancel" in said(await studio.ann.slash(studio.channel, "cancel", **options))


async def refused(studio: Studio, person: Any, words: str) -> None:
    """An order is refused to the person alone."""
    answer = await person.slash(studio.channel, "imagine", prompt="a fox")
    assert answer.ephemeral
    assert words in said(answer)


async def test_a_server_has_its_share_of_the_queue(settings: Settings, catalog: Catalog) -> None:
    async with open_studio(replace(settings, queue_limit_per_server=1), catalog) as studio:
        await studio.ann.slash(studio.channel, "imagine", prompt="wait")
        await studio.card(saying="Drawing", index=0)
        await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
        await refused(studio, studio.ben, "This server has reached its limit of waiting orders (1). Try again in")


async def test_after_an_order_there_is_a_pause_where_it_is_set(settings: Settings, catalog: Catalog) -> None:
    async with open_studio(replace(settings, cooldown_s=599), catalog) as studio:
        await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
        await studio.pictures()
        await refused(studio, studio.ann, "Please wait 5")  # of the 599 some have passed
        answer = await studio.ann.click(studio.cards()[0], label="Reroll")
        assert "Please wait" in said(answer)
        await studio.ben.slash(studio.channel, "imagine", prompt="an owl")
        await studio.pictures(index=1)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"cooldown_s": 99.0}, "Please wait"),
        ({"queue_limit_per_server": 1}, "This server has reached its limit of waiting orders"),
    ],
)
async def test_presses_that_overtake_each_other_are_within_the_limits(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], words: str
) -> None:
    """All are let in by the first look at the limits; while this one's row is written, another gets into the queue."""
    async with open_studio(replace(settings, **limits), catalog) as studio:
        await studio.ann.slash(studio.channel, "imagine", prompt="wait")
        await studio.card(saying="Drawing")
        add = studio.store.jobs.add

        async def add_beside_another(job: Job) -> None:
            await add(job)
            group, owner = job.place.community, str(job.user_id)
            studio.dispatcher.submit(job_id=str(uuid.uuid4()), owner=owner, group=group, request=job.request)
            studio.bot.generator._limits.ordered(job.user_id)

        monkeypatch.setattr(studio.store.jobs, "add", add_beside_another)
        answer = await studio.ben.slash(studio.channel, "imagine", prompt="a fox")
        assert words in said(answer)
        assert len(await studio.jobs()) == 1
        assert len(studio.dispatcher) == 1
