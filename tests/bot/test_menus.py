"""What is done with messages under Apps: on our cards, on anybody's pictures, and on what is neither."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import discord
import pytest
from aiohttp import web
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from simcord.results import to_discord_message

from bot.features import recipes
from bot.ordering.access import Refused
from bot.store import JobState, Origin
from inference.contract import MAX_SEED, Adapter, Variation
from inference.pictures.recipe import Recipe, png_texts
from tests.bot.painter import pixels
from tests.bot.studio import Studio, images_of, labels_of, menu_of, said, text_of

PARAMETERS = (
    "a green pear, <lora:shiny:0.8> --v 5\nNegative prompt: worms\n"
    "Steps: 30, Sampler: Euler a, CFG scale: 7, Seed: 11, Size: 512x256, Model hash: abc, Model: dreams"
)


async def drawn(studio: Studio, *, prompt: str = "a red apple", seed: int = 7, count: int = 1) -> discord.Message:
    """A card of ann's with its pictures."""
    await studio.ann.slash(studio.channel, "imagine", prompt=prompt, seed=seed, count=count)
    await studio.pictures(count=count)
    await studio.all_delivered()
    return studio.cards()[-1]


async def posted_again(studio: Studio) -> discord.Message:
    """A card that no row knows as such."""
    await drawn(studio)
    shown = await studio.ann.slash(studio.channel, "history")
    await studio.ann.select(shown.response, values=["post_again"], custom_id=menu_of(shown.response, "history_act"))
    await studio.pictures(index=1)
    return studio.cards()[1]


def png(parameters: str | None = None, recipe: Recipe | None = None) -> bytes:
    """A picture of some other program, or of another copy of this bot."""
    texts = PngInfo() if recipe is None else png_texts(recipe)
    if parameters is not None:
        texts.add_text("parameters", parameters)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, format="PNG", pnginfo=texts)
    return file.getvalue()


def webp() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, format="WEBP")
    return file.getvalue()


def a_recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "prompt": "a blue plum", "negative": "stones", "model": "quick", "weights": "0" * 64, "adapters": (),
        "seed": 21, "steps": 3, "guidance": 8.0, "width": 64, "height": 32, "bucket": 1, "guided_bucket": 1,
        "precision": "float32", "device": "cpu", "threads": 1,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


async def posted(studio: Studio, content: bytes, *, name: str = "picture.png") -> discord.Message:
    """A picture in a message of ben's."""
    message: discord.Message = await studio.ben.send(studio.channel, "look", attachments=[(name, content)])
    return message


async def chose(studio: Studio, who: Any, name: str, message: Any) -> Any:
    return await who.context_menu(studio.channel, name, message)


def test_the_menus_are_there_wherever_the_bot_is(studio: Studio) -> None:
    told = [call.json for call in studio.env.http_requests if call.method == "PUT" and call.path.endswith("/commands")]
    found = {command["name"]: command for command in told[0] if command["type"] == 3}
    assert list(found) == ["Show recipe", "Draw again", "Remix this", "Delete"]
    assert all(command["contexts"] == [0, 1, 2] for command in found.values())
    assert all(command["integration_types"] == [0, 1] for command in found.values())


# -- Show recipe -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_card_shows_its_recipe_to_one_person_alone(studio: Studio, restarted: bool) -> None:
    await studio.ann.slash(
        studio.channel, "imagine", prompt="an owl --no rain --lora ink:0.5", model="guided", seed=7, count=2, steps=4
    )
    await studio.pictures(count=2)
    if restarted:
        await studio.restart()
    result = await chose(studio, studio.ben, "Show recipe", studio.cards()[0])
    assert result.ephemeral
    for words in (
        "an owl",
        "rain",
        "With guidance",
        "`7`, `8`",
        "4 steps",
        "guidance",
        "64×64",
        "LoRA ink 0.5",
    ):
        assert words in said(result)
    assert "--model guided --ar 64x64 --count 2" in said(result)
    assert len(studio.cards()) == 1


async def test_a_card_posted_again_is_known_by_its_buttons(studio: Studio) -> None:
    result = await chose(studio, studio.ben, "Show recipe", await posted_again(studio))
    assert "a red apple" in said(result)
    assert "`7`" in said(result)


async def test_a_waiting_order_has_a_recipe_as_well(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="wait", seed=3)
    card = await studio.card(saying="Drawing")
    assert "`3`" in said(await chose(studio, studio.ben, "Show recipe", card))
    studio.let_go()
    await studio.pictures()


async def test_the_longest_order_fits_into_the_answer(studio: Studio) -> None:
    many = tuple(Adapter(name="*" * 100) for _ in range(50))
    recipe = a_recipe(prompt="*" * 5000, negative="_`" * 5000, model="@everyone" * 100, adapters=many, width=10**900)
    result = await chose(studio, studio.ann, "Show recipe", await posted(studio, png(recipe=recipe)))
    assert 3000 < len(text_of(result.response)) <= 4000


@pytest.mark.parametrize("name", ["Draw again", "Remix this"])
async def test_absurd_numbers_are_refused(studio: Studio, name: str) -> None:
    message = await posted(studio, png(recipe=a_recipe(width=10**900)))
    assert "cannot be used for drawing" in said(await chose(studio, studio.ann, name, message))
    assert studio.env.errors


async def test_a_picture_of_another_program_is_read(studio: Studio) -> None:
    result = await chose(studio, studio.ann, "Show recipe", await posted(studio, png(PARAMETERS)))
    assert result.ephemeral
    for words in ("a green pear", "worms", "dreams", "`11`", "30 steps", "guidance 7", "512×256", "Euler a"):
        assert words in said(result)
    assert "This bot does not have the model" in said(result)


@pytest.mark.parametrize("seed", [MAX_SEED, MAX_SEED + 1, 156680208700286, 2**64 - 1])
async def test_a_seed_that_is_too_large_is_shown_and_not_promised(studio: Studio, seed: int) -> None:
    text = PARAMETERS.replace("Seed: 11", f"Seed: {seed}")
    result = await chose(studio, studio.ann, "Show recipe", await posted(studio, png(text)))
    assert f"`{seed}`" in said(result)
    assert ("keeps the prompt, the seed and the shape" in said(result)) is (seed <= MAX_SEED)
    assert ("keeps the prompt and the shape" in said(result)) is (seed > MAX_SEED)


async def test_of_a_picture_without_a_seed_nothing_is_said_of_seeds(studio: Studio) -> None:
    message = await posted(studio, png(PARAMETERS.replace("Seed: 11, ", "")))
    result = await chose(studio, studio.ann, "Show recipe", message)
    assert said(result).endswith("keeps the prompt and the shape.")


async def test_a_model_that_another_program_calls_by_its_file_is_here(studio: Studio) -> None:
    text = PARAMETERS.replace("Model: dreams", "Model: Guided").replace("512x256", "96x64")
    result = await chose(studio, studio.ann, "Show recipe", await posted(studio, png(text)))
    assert "--model guided --ar 96x64" in said(result)
    assert "not here" not in said(result)


async def test_a_picture_of_another_copy_of_this_bot_is_read(studio: Studio) -> None:
    result = await chose(studio, studio.ann, "Show recipe", await posted(studio, png(recipe=a_recipe())))
    for words in ("a blue plum", "stones", "Quick", "`21`", "3 steps", "64×32", "--model quick --ar 64x32"):
        assert words in said(result)


async def test_what_was_forwarded_is_read(studio: Studio) -> None:
    message = await studio.ben.forward(await posted(studio, png(PARAMETERS)), studio.channel)
    assert "a green pear" in said(await chose(studio, studio.ann, "Show recipe", message))


async def test_the_first_picture_that_says_something_counts(studio: Studio) -> None:
    files = [("notes.txt", b"words"), ("empty.png", b""), ("plain.png", png()), ("told.png", png(PARAMETERS))]
    message = await studio.ben.send(studio.channel, "look", attachments=files)
    assert "a green pear" in said(await chose(studio, studio.ann, "Show recipe", message))


@pytest.mark.parametrize("name", ["Show recipe", "Draw again", "Remix this"])
@pytest.mark.parametrize(
    ("file", "content"),
    [
        (None, b""),
        ("plain.png", png()),
        ("preview.webp", webp()),
        ("broken.png", png(PARAMETERS)[:50]),
        ("words.png", b"not a picture"),
        ("bomb.png", png("x" * 100_000)),
    ],
)
async def test_what_says_nothing_is_told_to_say_nothing(
    studio: Studio, name: str, file: str | None, content: bytes
) -> None:
    attachments = [] if file is None else [(file, content)]
    message = await studio.ben.send(studio.channel, "hello", attachments=attachments)
    result = await chose(studio, studio.ann, name, message)
    assert result.ephemeral
    assert "says how it was drawn" in said(result)
    assert "WebP" in said(result)
    assert result.modal is None
    assert await studio.jobs() == []
    assert studio.env.errors


async def test_a_picture_that_is_too_large_is_not_fetched(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "MOST_BYTES", 100)
    result = await chose(studio, studio.ann, "Show recipe", await posted(studio, png(PARAMETERS)))
    assert "says how it was drawn" in said(result)
    assert studio.env.errors


async def test_a_picture_that_does_not_come_is_not_waited_for(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_file: discord.Attachment) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(discord.Attachment, "read", never)
    message = await posted(studio, png(PARAMETERS))
    with pytest.raises(Refused, match="too long to fetch"):
        await studio.bot.recipes.read(message, within_s=0.05)


@pytest.mark.parametrize(("limit", "words"), [(2**20, "a green pear"), (100, "says how it was drawn")])
async def test_an_embedded_picture_is_fetched_from_discord_alone(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, limit: int, words: str
) -> None:
    """By its proxy, however the picture's own address reads, and not beyond a limit."""
    monkeypatch.setattr(recipes, "MOST_BYTES", limit)

    async with a_picture_at("/proxy.png") as proxy:
        embed = {"type": "image", "image": {"url": "http://169.254.169.254/x.png", "proxy_url": proxy}}
        stored = studio.env.backend.create_message(studio.channel.id, studio.ben.id, "look", embeds=[embed])
        message = to_discord_message(studio.env, stored)
        assert words in said(await chose(studio, studio.ann, "Show recipe", message))
    assert bool(studio.env.errors) is (limit == 100)


@pytest.mark.parametrize("kind", ["gallery", "thumbnail"])
async def test_a_picture_of_a_card_of_components_is_read(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Such cards have no attachments, and those of others no order that is known here."""
    async with a_picture_at("/1/2/picture.png") as address:
        monkeypatch.setattr(recipes, "CDN", address.removesuffix("1/2/picture.png"))
        text, other = {"type": 10, "content": "look"}, {"media": {"url": "http://169.254.169.254/x.png"}}
        media = {"media": {"url": f"{address}?ex=1&is=2"}}
        shown = {
            "gallery": {"type": 12, "items": [other, media]},
            "thumbnail": {"type": 9, "components": [text], "accessory": {"type": 11, **media}},
        }
        card = [{"type": 17, "components": [text, shown[kind]]}]
        stored = studio.env.backend.create_message(studio.channel.id, studio.ben.id, components=card, flags=1 << 15)
        message = to_discord_message(studio.env, stored)
        assert message.attachments == []
        assert "a green pear" in said(await chose(studio, studio.ann, "Show recipe", message))


@asynccontextmanager
async def a_picture_at(path: str) -> AsyncIterator[str]:
    """The address of a picture with another program's parameters, on a server of its own."""

    async def picture(_request: web.Request) -> web.Response:
        return web.Response(body=png(PARAMETERS))

    application = web.Application()
    application.router.add_get(path, picture)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
    finally:
        await runner.cleanup()


# -- Draw again --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_card_is_drawn_again_to_the_pixel(studio: Studio, restarted: bool) -> None:
    card = await drawn(studio, count=2)
    if restarted:
        await studio.restart()
    await chose(studio, studio.ben, "Draw again", card)
    again = await studio.pictures(index=1, count=2)
    assert [picture.tobytes() for picture in again] == [picture.tobytes() for picture in await images_of(card)]
    assert "identical, pixel for pixel" in text_of(studio.cards()[1])
    parent, job = await studio.jobs()
    assert (job.origin, job.parent_id, job.user_id) == (Origin.SAME_SEED, parent.id, studio.ben.id)


@pytest.mark.parametrize("dash", ["--", "---", "—", "——", "－－"])
async def test_a_picture_of_another_program_is_drawn_as_far_as_that_goes(studio: Studio, dash: str) -> None:
    text = PARAMETERS.replace("--", dash)
    await chose(studio, studio.ann, "Draw again", await posted(studio, png(text)))
    [picture] = await studio.pictures()
    assert picture.tobytes() == pixels(11, 88, 48)
    [job] = await studio.jobs()
    assert (job.request.prompt, job.request.negative) == (f"a green pear, {dash} v 5", "worms")
    assert (job.request.model, job.request.seed, job.origin) == ("quick", 11, Origin.REMIX)


async def test_a_picture_of_another_program_is_drawn_by_its_model_in_as_few_steps_as_that_takes(studio: Studio) -> None:
    text = PARAMETERS.replace("Model: dreams", "Model: Guided").replace("512x256", "96x64")
    message = await posted(studio, png(text))
    shown = await chose(studio, studio.ann, "Show recipe", message)
    assert "`--model guided --ar 96x64 --seed 11`" in said(shown)
    await chose(studio, studio.ann, "Draw again", message)
    [picture] = await studio.pictures()
    assert picture.tobytes() == pixels(11, 96, 64)
    [job] = await studio.jobs()
    assert (job.request.model, job.request.steps, job.request.guidance) == ("guided", 4, 1.0)


async def test_a_dash_after_a_lora_of_another_programs_prompt_is_no_flag(studio: Studio) -> None:
    text = PARAMETERS.replace("Model: dreams", "Model: Guided").replace("a green pear", "a pear <lora:ink:1>--no hands")
    await chose(studio, studio.ann, "Draw again", await posted(studio, png(text)))
    await studio.pictures()
    [job] = await studio.jobs()
    assert job.request.adapters == (Adapter(name="ink"),)
    assert (" ".join(job.request.prompt.split())[:17], job.request.negative) == ("a pear -- no hand", "worms")


async def test_a_picture_of_another_copy_of_this_bot_is_drawn_by_its_whole_recipe(studio: Studio) -> None:
    recipe = a_recipe(model="guided", guidance=1.5, adapters=(Adapter(name="ink"), Adapter(name="gone", strength=0.5)))
    await chose(studio, studio.ann, "Draw again", await posted(studio, png(recipe=recipe)))
    [picture] = await studio.pictures()
    assert picture.tobytes() == pixels(21, 64, 32)
    [job] = await studio.jobs()
    assert (job.request.model, job.request.steps, job.request.guidance) == ("guided", 3, 1.5)
    assert job.request.adapters == (Adapter(name="ink"),)


@pytest.mark.parametrize("whose", ["ours", "another program's"])
async def test_the_variation_that_a_picture_tells_of_is_shown_and_drawn(studio: Studio, whose: str) -> None:
    variation, text = Variation(seed=77, strength=0.2), "Variation seed: 77, Variation seed strength: 0.2, RNG"
    foreign = png(PARAMETERS.replace("Model: dreams", "Model: Guided") + f", {text}: CPU")
    content = png(recipe=a_recipe(variation=variation)) if whose == "ours" else foreign
    message = await posted(studio, content)
    shown = said(await chose(studio, studio.ann, "Show recipe", message))
    assert "variation `77`, strength 0.2" in shown
    assert "--vary 0.2 --vary-seed 77" in shown
    await chose(studio, studio.ann, "Draw again", message)
    await studio.pictures()
    [job] = await studio.jobs()
    assert job.request.variation == variation


@pytest.mark.parametrize("numbers", [(77, 2), (MAX_SEED + 1, 0.2)])
async def test_a_variation_that_does_not_exist_here_is_left_out(studio: Studio, numbers: tuple[int, float]) -> None:
    text = f"{PARAMETERS}, Variation seed: {numbers[0]}, Variation seed strength: {numbers[1]}"
    await chose(studio, studio.ann, "Draw again", await posted(studio, png(text)))
    await studio.settled(JobState.DONE)
    [job] = await studio.jobs()
    assert (job.request.seed, job.request.variation) == (11, None)


async def test_what_cannot_be_drawn_is_refused_with_a_reason(studio: Studio) -> None:
    message = await posted(studio, png(recipe=a_recipe(steps=40)))
    result = await chose(studio, studio.ann, "Draw again", message)
    assert result.ephemeral
    assert "must be between 1 and 8" in said(result)
    assert await studio.jobs() == []
    assert studio.env.errors


async def test_numbers_that_do_not_exist_here_are_left_out(studio: Studio) -> None:
    text = PARAMETERS.replace("Seed: 11", f"Seed: {MAX_SEED + 1}").replace("a green pear", "pear " * 400)
    await chose(studio, studio.ann, "Draw again", await posted(studio, png(text)))
    await studio.settled(JobState.DONE)
    [job] = await studio.jobs()
    assert len(job.request.prompt) <= 1000


# -- Remix this --------------------------------------------------------------------------------------------------------


def fields_of(shown: Any) -> dict[str, str]:
    fields = [label["component"] for label in shown.modal["components"]]
    return {field["custom_id"]: field.get("value") or "" for field in fields}


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_card_opens_the_form_with_its_recipe(studio: Studio, restarted: bool) -> None:
    card = await posted_again(studio)
    if restarted:
        await studio.restart()
    shown = await chose(studio, studio.ben, "Remix this", card)
    fields = fields_of(shown)
    assert fields["prompt"] == "a red apple"
    assert "--seed 7" in fields["flags"]
    await studio.ben.submit_modal(shown, {**fields, "prompt": "a red pear"})
    [picture] = await studio.pictures(index=2)
    assert picture.tobytes() == pixels(7, 64, 64)
    parent, job = await studio.jobs()
    assert (job.parent_id, job.origin, job.user_id) == (parent.id, Origin.EDIT, studio.ben.id)


async def test_a_foreign_picture_opens_the_form_with_what_it_says(studio: Studio) -> None:
    text = PARAMETERS.replace("a green pear", "pear " * 400)
    shown = await chose(studio, studio.ann, "Remix this", await posted(studio, png(text)))
    fields = fields_of(shown)
    assert fields == {"prompt": ("pear " * 200).strip(), "negative": "worms", "flags": "--ar 512:256 --seed 11"}
    await studio.ann.submit_modal(shown, fields)
    [picture] = await studio.pictures()
    assert picture.tobytes() == pixels(11, 88, 48)


# -- Delete ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True])
async def test_the_author_deletes(studio: Studio, restarted: bool) -> None:
    card = await drawn(studio)
    if restarted:
        await studio.restart()
    result = await chose(studio, studio.ann, "Delete", card)
    assert result.ephemeral
    assert "Deleted." in said(result)
    assert studio.cards() == []
    assert await studio.jobs() == []
    assert list(studio.settings.pictures_dir.glob("*.png")) == []


async def compared(studio: Studio, prompt: str = "a fox") -> discord.Message:
    """The card of a comparison of ann's."""
    await studio.ann.slash(studio.channel, "compare", prompt=prompt, models="quick, guided")
    if prompt != "wait":
        await studio.pictures(count=2)
    return studio.cards()[-1]


@pytest.mark.parametrize("prompt", ["a fox", "wait"])
async def test_a_comparison_is_deleted_whole(studio: Studio, prompt: str) -> None:
    await chose(studio, studio.ann, "Delete", await compared(studio, prompt))
    assert studio.cards() == []
    assert await studio.jobs() == []
    assert len(studio.dispatcher) == 0


async def test_a_stranger_deletes_nothing(studio: Studio) -> None:
    result = await chose(studio, studio.ben, "Delete", await drawn(studio))
    assert "or a moderator" in said(result)
    assert len(studio.cards()) == len(await studio.jobs()) == 1
    assert studio.env.errors


async def test_what_is_no_card_is_left_alone(studio: Studio) -> None:
    channel: Any = studio.bot.get_channel(studio.channel.id)
    notice = await channel.send("Good morning")
    for message in (notice, await posted(studio, png(PARAMETERS))):
        result = await chose(studio, studio.mod, "Delete", message)
        assert result.ephemeral
        assert "not one of my cards" in said(result)
    assert len(studio.cards()) == 2
    assert studio.env.errors


async def test_somebody_elses_buttons_are_not_taken_for_ours(studio: Studio) -> None:
    await drawn(studio)
    [job] = await studio.jobs()
    row = {"type": 1, "components": [{"type": 2, "style": 2, "label": "x", "custom_id": f"delete:{job.id}"}]}
    stored = studio.env.backend.create_message(studio.channel.id, studio.ben.id, "look", components=[row])
    message = to_discord_message(studio.env, stored)
    assert "not one of my cards" in said(await chose(studio, studio.ann, "Delete", message))
    assert len(await studio.jobs()) == 1
    assert studio.env.errors


@pytest.mark.parametrize(("who", "gone"), [("ann", True), ("mod", True), ("ben", False)])
async def test_a_card_that_outlived_its_order_can_be_taken_away(studio: Studio, who: str, gone: bool) -> None:
    card = await drawn(studio)
    await studio.store.people.forget(studio.ann.id)
    await chose(studio, getattr(studio, who), "Delete", card)
    assert (studio.cards() == []) is gone
    assert bool(studio.env.errors) is not gone


async def test_a_comparison_that_outlived_its_orders_can_be_taken_away(studio: Studio) -> None:
    card = await compared(studio)
    await studio.store.people.forget(studio.ann.id)
    await chose(studio, studio.ann, "Delete", card)
    assert studio.cards() == []


@pytest.mark.parametrize(("who", "kept"), [("ann", 0), ("mod", 1)])
async def test_a_message_that_discord_keeps_is_told(studio: Studio, who: str, kept: int) -> None:
    card = await drawn(studio)
    studio.env.inject_error("DELETE", "/channels/*/messages/*", status=403, code=50001, message="Missing Access")
    result = await chose(studio, getattr(studio, who), "Delete", card)
    assert "does not let me remove the message" in said(result)
    assert ("The pictures are deleted" in said(result)) is (kept == 0)
    assert len(await studio.jobs()) == kept
    assert studio.env.errors


async def test_a_menu_on_an_open_order_cancels_it(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="wait")
    card = await studio.card(saying="Drawing")
    assert labels_of(card) == ["Cancel"]
    await chose(studio, studio.ann, "Delete", card)
    assert studio.cards() == []
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl")
    await studio.pictures()
    assert len(await studio.jobs()) == 1


async def test_a_guest_says_what_works_instead(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    card = await drawn(studio)
    monkeypatch.setattr(studio.bot, "get_guild", lambda _guild_id: None)
    result = await chose(studio, studio.ann, "Delete", card)
    assert "only a guest" in said(result)
    assert len(studio.cards()) == len(await studio.jobs()) == 1
    assert studio.env.errors
