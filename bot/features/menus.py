"""What can be done with any message, under Apps: show its picture's recipe, draw it again, edit it, delete it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands

from bot.delivery.delivery import NOBODY
from bot.ordering.access import Refused
from bot.ordering.orders import place_of
from bot.ordering.requests import options_again
from bot.store import Job
from bot.ui.components import card_of
from bot.ui.deleting import withdraw
from bot.ui.modals import remix_modal
from bot.ui.replies import think
from bot.words import N_, _

if TYPE_CHECKING:
    from bot.client import PictureBot

QUICK_S = 2.0
"""Time to fetch a picture before the first response, for which Discord waits three seconds."""
PATIENT_S = 20.0


async def show_recipe(interaction: discord.Interaction[PictureBot], message: discord.Message) -> None:
    """Show how a message's picture was drawn, only to the person who asked."""
    recipes = interaction.client.recipes
    await think(interaction, ephemeral=True)
    job = await _readable(interaction, message)
    found = await recipes.read(message, within_s=PATIENT_S) if job is None else job.request
    await interaction.edit_original_response(view=recipes.sheet(found), allowed_mentions=NOBODY)


async def draw_again(interaction: discord.Interaction[PictureBot], message: discord.Message) -> None:
    """Order a message's picture again: one of ours to the pixel, anybody else's as far as its recipe says how."""
    bot = interaction.client
    job = await _readable(interaction, message)
    if job is not None:
        await bot.generator.same_seed(interaction, job.id)
        return
    found = await bot.recipes.read(message, within_s=QUICK_S)
    await bot.generator.remix(interaction, bot.recipes.options(found), parent_id=None)


async def remix(interaction: discord.Interaction[PictureBot], message: discord.Message) -> None:
    """Open the form filled in with a message's recipe. A modal has to be the first response."""
    bot = interaction.client
    job = await _readable(interaction, message)
    if job is not None:
        modal = remix_modal(options_again(job), parent_id=job.id)
    else:
        modal = remix_modal(bot.recipes.options(await bot.recipes.read(message, within_s=QUICK_S)), parent_id=None)
    await interaction.response.send_modal(modal)


async def delete(interaction: discord.Interaction[PictureBot], message: discord.Message) -> None:
    """Remove a card and, where its own button would, the orders behind it."""
    await think(interaction, ephemeral=True)
    if not place_of(interaction).member:
        raise Refused(_("Here I am only a guest and cannot remove messages. Press **Delete** on the card itself."))
    stays = await withdraw(interaction, message, await _orders(interaction, message))
    try:
        await message.delete()
    except discord.NotFound:
        pass
    except discord.HTTPException as error:
        if stays is None:
            raise Refused(_("The pictures are deleted, but Discord does not let me remove the message.")) from error
        raise Refused(_("Discord does not let me remove the message.")) from error
    await interaction.edit_original_response(content="🗑️ " + (stays or _("Deleted.")), allowed_mentions=NOBODY)


async def _job(interaction: discord.Interaction[PictureBot], message: discord.Message) -> Job | None:
    """The order behind a card of ours."""
    return await interaction.client.recipes.job(message) if _is_ours(interaction, message) else None


async def _readable(interaction: discord.Interaction[PictureBot], message: discord.Message) -> Job | None:
    """The same; raises ``Refused`` if the card does not show its prompt to this person."""
    bot, job = interaction.client, await _job(interaction, message)
    if job is not None:
        alone = job.comparison_id is None or card_of(message) == job.id
        await bot.endings.require_readable(
            interaction, [job] if alone else await bot.store.jobs.of_comparison(job.comparison_id or "")
        )
    return job


async def _orders(interaction: discord.Interaction[PictureBot], message: discord.Message) -> list[Job]:
    """All orders behind a card of ours, none if it has outlived them; raises ``Refused`` if it is no card."""
    found = card_of(message)
    job = await _job(interaction, message)
    if not _is_ours(interaction, message) or (job is None and found is None):
        raise Refused(_("That is not one of my cards. **Delete** only works on cards of my pictures."))
    if job is not None and (found == job.id or job.comparison_id is None):
        return [job]
    comparison_id = found if job is None else job.comparison_id
    return await interaction.client.store.jobs.of_comparison(comparison_id or "")


def _is_ours(interaction: discord.Interaction[PictureBot], message: discord.Message) -> bool:
    """Whether the bot posted the message: another bot may have buttons with the same custom ids."""
    bot = interaction.client
    return bot.user is not None and message.author.id == bot.user.id


MENUS: tuple[app_commands.ContextMenu, ...] = (
    app_commands.ContextMenu(name=N_("Show recipe"), callback=show_recipe),
    app_commands.ContextMenu(name=N_("Draw again"), callback=draw_again),
    app_commands.ContextMenu(name=N_("Remix this"), callback=remix),
    app_commands.ContextMenu(name=N_("Delete"), callback=delete),
)
