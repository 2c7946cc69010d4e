"""How a message's picture was drawn: from an order of ours, or from what anybody's picture says about itself."""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import aiohttp
import discord
from discord import ui

from bot.delivery.delivery import TROUBLE
from bot.ordering import flags
from bot.ordering.access import Refused
from bot.ordering.flags import Options, written
from bot.ordering.requests import options_from, options_of
from bot.store import Job, Jobs
from bot.ui.cards import facts_of, inert, variation_of
from bot.ui.components import Message, card_of, media_of
from bot.ui.quoting import quoted
from bot.words import _, steps_of
from inference.catalog import Catalog
from inference.contract import MAX_PROMPT_CHARACTERS, MAX_SEED, ImageRequest
from inference.errors import InferenceError
from inference.pictures.infotext import Infotext
from inference.pictures.recipe import Recipe, read_recipe
from inference.prompts import beginning
from inference.validation import SEEDS, VARIATION_STRENGTHS

log = logging.getLogger(__name__)

Found: TypeAlias = Recipe | Infotext

CDN = "https://cdn.discordapp.com/"
"""Where Discord keeps uploads, unchanged."""
MOST_PICTURES = 4
"""Maximum pictures of one message that are looked into."""
MOST_BYTES = 16 * 2**20
PROMPT_CHARACTERS = 1200
FACTS_CHARACTERS = 600
"""Discord takes 4000 characters in all, and a foreign picture may say anything at any length."""


class Recipes:
    """Finds out how the pictures of messages were drawn."""

    def __init__(self, *, jobs: Jobs, catalog: Catalog) -> None:
        self._jobs = jobs
        self._catalog = catalog
        self._reading = asyncio.Semaphore(1)
        """Pictures are read one at a time: the threads are for people who wait for theirs."""

    async def job(self, message: discord.Message) -> Job | None:
        """The order whose card a message is. A card posted again is known only by its buttons."""
        job_id = card_of(message)
        job = None if job_id is None else await self._jobs.get(job_id)
        return job or await self._jobs.of_message(message.id)

    async def read(self, message: discord.Message, *, within_s: float) -> Found:
        """The recipe in the first of the message's pictures that has one; raises ``Refused`` if none has."""
        try:
            async with asyncio.timeout(within_s):
                async for content in _pictures(message):
                    async with self._reading:
                        found = await asyncio.to_thread(_read, content)
                    if found is not None:
                        return found
        except TimeoutError:
            raise Refused(_("The picture takes too long to fetch. Try again in a moment.")) from None
        raise Refused(
            _(
                "No picture in this message says how it was drawn. Only an original PNG file does; "
                "Discord's previews, WebP, JPEG and screenshots lose this information."
            )
        )

    def options(self, found: Found) -> Options:
        """The options that have this drawn here; raises ``Refused`` for numbers of excessive length."""
        options = self._followed(found)
        if len(written(options)) > FACTS_CHARACTERS:
            raise Refused(_("The numbers in this picture's recipe cannot be used for drawing."))
        return options

    def _followed(self, found: Found) -> Options:
        """What can be followed here of a picture's recipe. A foreign prompt is plain words: nothing in it is a flag."""
        options = options_from(found, self._catalog)
        if not _can_vary(options):
            options = replace(options, vary=None, vary_seed=None)
        fitting = self._fitting(options.model)
        return replace(
            options,
            prompt=_literal(options.prompt, fitting),
            negative=options.negative and beginning(options.negative, MAX_PROMPT_CHARACTERS),
            seed=options.seed if options.seed is not None and options.seed <= MAX_SEED else None,
            adapters=tuple(adapter for adapter in options.adapters if adapter.name in fitting),
        )

    def sheet(self, found: ImageRequest | Found) -> ui.LayoutView:
        """Everything that is known about it, and what to type to order it."""
        lines = ["📜 **" + _("Recipe") + "**", quoted(found.prompt, PROMPT_CHARACTERS)]
        if found.negative:
            lines += [_("without"), quoted(found.negative, PROMPT_CHARACTERS)]
        facts = _facts_of_a_text(found) if isinstance(found, Infotext) else self._facts(found)
        lines.append("-# " + " · ".join(facts)[:FACTS_CHARACTERS])
        if isinstance(found, ImageRequest):
            if self._catalog.get(found.model) is not None:
                lines.append(_to_be_typed(options_of(found)))
        elif (followed := self._followed(found)).model is None:
            lines.append("-# ℹ️ " + _what_is_kept(found.seed, followed))
        else:
            lines.append(_to_be_typed(self.options(found)))
        view = ui.LayoutView(timeout=None)
        view.add_item(ui.Container(ui.TextDisplay("\n".join(lines))))
        return view

    def _facts(self, found: ImageRequest | Recipe) -> list[str]:
        request = found if isinstance(found, ImageRequest) else found.request()
        return facts_of(request, self._catalog.title_or_name(request.model))

    def _fitting(self, model: str | None) -> frozenset[str]:
        """The LoRAs that fit a model; none for a model that is yet to be chosen."""
        if model is None:
            return frozenset()
        return frozenset(adapter.name for adapter in self._catalog.adapters(self._catalog[model].family))


def _sides(message: discord.Message) -> list[Message]:
    """A message and what it forwards."""
    return [message, *message.message_snapshots]


async def _pictures(message: discord.Message) -> AsyncIterator[bytes]:
    """The pictures of a message that could be PNG, as far as Discord serves them."""
    sources: list[discord.Attachment | str] = []
    for side in _sides(message):
        sources += [file for file in side.attachments if _may_be_png(file)]
        sources += [address for address in media_of(side) if _is_a_png(address)]
        sources += [address for embed in side.embeds for address in _addresses(embed)]
    for source in sources[:MOST_PICTURES]:
        try:
            yield await (_fetched(source) if isinstance(source, str) else source.read())
        except TROUBLE as error:
            log.info("a picture cannot be fetched: %s", error)


def _may_be_png(file: discord.Attachment) -> bool:
    return file.size <= MOST_BYTES and (file.content_type or "image/png").startswith("image/png")


def _is_a_png(address: str) -> bool:
    return address.startswith(CDN) and urlsplit(address).path.endswith(".png")


def _addresses(embed: discord.Embed) -> Iterator[str]:
    """Only Discord's own URLs: anybody else's could lead into the local network."""
    for media in (embed.image, embed.thumbnail):
        address = media.url if media.url and media.url.startswith(CDN) else media.proxy_url
        if address:
            yield address


async def _fetched(address: str) -> bytes:
    """The content at ``address``; empty if it is too large. Discord states the size of attachments, but not of embedded
    pictures."""
    content = bytearray()
    async with (
        aiohttp.ClientSession(trust_env=True) as session,
        session.get(address, allow_redirects=False) as response,
    ):
        async for chunk in response.content.iter_chunked(2**16):
            content += chunk
            if len(content) > MOST_BYTES:
                return b""
    return bytes(content)


def _read(content: bytes) -> Found | None:
    """The recipe in a PNG, if it has one. Blocks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        path.write_bytes(content)
        try:
            return read_recipe(path)
        except InferenceError:
            return None


def _can_vary(options: Options) -> bool:
    """Whether the variation in a picture's recipe is possible here."""
    strength, seed = options.vary, options.vary_seed
    return strength is not None and strength in VARIATION_STRENGTHS and seed is not None and seed in SEEDS


def _literal(prompt: str, fitting: frozenset[str]) -> str:
    """A prompt without LoRAs that are not here, and with a space wherever a dash would make a flag: after a LoRA, too,
    because the LoRA itself is taken out later."""
    kept = flags.LORA.sub(lambda match: f" {match[0]} " if match[1].strip() in fitting else " ", prompt)
    return beginning(" ".join(re.sub(flags.DASH, r"\g<0> ", kept).split()), MAX_PROMPT_CHARACTERS)


def _what_is_kept(seed: int | None, followed: Options) -> str:
    """What is kept of a recipe whose model is not here, given its seed. Other programs allow larger seeds."""
    if seed is None:
        return _("This bot does not have the model. **Draw again** keeps the prompt and the shape.")
    if followed.seed is None:
        return _(
            "This bot does not have the model. **Draw again** keeps the prompt and the shape, but not the seed: the "
            "largest possible here is {most}.",
            most=MAX_SEED,
        )
    return _("This bot does not have the model. **Draw again** keeps the prompt, the seed and the shape.")


def _to_be_typed(options: Options) -> str:
    return "-# " + _("settings to add after a prompt: {settings}", settings=f"`{written(options)}`")


def _facts_of_a_text(info: Infotext) -> list[str]:
    facts = (
        (info.model, inert(info.model)),
        (info.seed, _("seed {seed}", seed=f"`{info.seed}`")),
        (info.variation, variation_of([info.variation]) if info.variation else ""),
        (info.steps, steps_of(info.steps or 0)),
        (info.guidance, _("guidance {guidance}", guidance=f"{info.guidance or 0:g}")),
        (info.width and info.height, f"{info.width}×{info.height}"),
        (info.sampler, inert(info.sampler)),
        (info.adapters, f"LoRA {inert(info.adapters)}"),
    )
    return [text for fact, text in facts if fact not in (None, "")]
