"""What ``/seed`` does: lock a seed for all of one's orders, and save good ones by name."""

from __future__ import annotations

import discord
from discord import app_commands

from bot.delivery.delivery import NOBODY
from bot.ordering.access import Refused
from bot.store import Jobs, Preferences, Seeds
from bot.ui.cards import inert
from bot.ui.replies import think
from bot.ui.suggestions import choices
from bot.words import _
from inference.contract import MAX_SEED, ImageRequest

MOST_SEEDS = 100
"""Maximum seeds that one person may keep."""
NAME_CHARACTERS = 50


class SeedBook:
    """Answers the subcommands of ``/seed``, to the person alone."""

    def __init__(self, *, seeds: Seeds, preferences: Preferences, jobs: Jobs) -> None:
        self._seeds = seeds
        self._preferences = preferences
        self._jobs = jobs

    async def show(self, interaction: discord.Interaction) -> None:
        """Show what the next order will use."""
        await think(interaction, ephemeral=True)
        locked = self._preferences.locked_seed(interaction.user.id)
        last = await self._last(interaction.user.id)
        lines = [
            _("🎲 Your seeds are random.") if locked is None else _("🔒 Your seed is locked: `{seed}`.", seed=locked),
            *([] if last is None else [_seeds_of(last)]),
        ]
        await _answer(interaction, "\n".join(lines))

    async def lock(self, interaction: discord.Interaction, seed: int | None, picture: int | None) -> None:
        """Use this seed, or that of a picture of the last order, for every order until it is unlocked."""
        await think(interaction, ephemeral=True)
        if seed is None and picture is None:
            picture = 1
        await self._lock(interaction, await self._meant(interaction.user.id, seed, picture))

    async def random(self, interaction: discord.Interaction) -> None:
        """Return to random seeds."""
        await think(interaction, ephemeral=True)
        await self._preferences.unlock_seed(interaction.user.id)
        await _answer(interaction, _("🎲 Your seeds are random."))

    async def next(self, interaction: discord.Interaction) -> None:
        """Lock the seed after the last picture's, or after the locked one if nothing was drawn with that yet."""
        await think(interaction, ephemeral=True)
        user = interaction.user.id
        current, last = await self._current(user), await self._last(user)
        drawn = len(last.seeds) if last is not None and last.seed == current else 1
        await self._lock(interaction, (current + drawn) % (MAX_SEED + 1))

    async def save(self, interaction: discord.Interaction, name: str, seed: int | None, picture: int | None) -> None:
        """Save the given seed, or that of a picture of the last order; if neither is given, the locked seed, else that
        of the last order's first picture."""
        await think(interaction, ephemeral=True)
        user, name = interaction.user.id, " ".join(name.split())
        if not name:
            raise Refused(_("The name is empty. Give the seed a name."))
        kept = await self._seeds.all(user)
        if len(kept) >= MOST_SEEDS and await self._seeds.get(user, name) is None:
            raise Refused(_("Your seed book is full ({most} seeds). `/seed forget` makes room.", most=MOST_SEEDS))
        value = await self._meant(user, seed, picture)
        await self._seeds.save(user, name, value)
        await _answer(interaction, _("📒 `{seed}` was saved as “{name}”.", seed=value, name=inert(name)))

    async def use(self, interaction: discord.Interaction, name: str) -> None:
        """Lock a seed of the book."""
        await think(interaction, ephemeral=True)
        seed = await self._seeds.get(interaction.user.id, " ".join(name.split()))
        if seed is None:
            raise _unknown(name)
        await self._lock(interaction, seed)

    async def show_list(self, interaction: discord.Interaction) -> None:
        """Show the whole book."""
        await think(interaction, ephemeral=True)
        kept = await self._seeds.all(interaction.user.id)
        if not kept:
            raise Refused(_("Your seed book is empty. `/seed save` saves your current seed."))
        lines = [f"- {inert(name, NAME_CHARACTERS)} · `{seed}`" for name, seed in kept.items()]
        text = "\n".join(["📒 **" + _("Your seeds") + "**", *lines])
        await _answer(interaction, text if len(text) <= 2000 else text[:1990].rpartition("\n")[0] + "\n…")

    async def forget(self, interaction: discord.Interaction, name: str) -> None:
        """Remove a seed from the book."""
        await think(interaction, ephemeral=True)
        if not await self._seeds.forget(interaction.user.id, " ".join(name.split())):
            raise _unknown(name)
        await _answer(interaction, _("“{name}” was removed from your seed book.", name=inert(name)))

    async def suggest(self, user_id: int, typed: str) -> list[app_commands.Choice[str]]:
        """The names in the book that match what was typed."""
        kept = await self._seeds.all(user_id)
        return choices([(f"{name} ({seed})", name) for name, seed in kept.items()], typed)

    async def suggest_seeds(self, user_id: int, typed: str) -> list[app_commands.Choice[int]]:
        """The same, for the seeds themselves."""
        kept = await self._seeds.all(user_id)
        return choices([(f"{name} ({seed})", seed) for name, seed in kept.items()], typed)

    async def _lock(self, interaction: discord.Interaction, seed: int) -> None:
        await self._preferences.lock_seed(interaction.user.id, seed)
        said = _("🔒 Everything you `/imagine` now uses `{seed}`, until you use `/seed random`.", seed=seed)
        await _answer(interaction, said)

    async def _meant(self, user_id: int, seed: int | None, picture: int | None) -> int:
        """The given seed, or that of a picture of the last order; if neither is given, the current one."""
        if picture is None:
            return await self._current(user_id) if seed is None else seed
        if seed is not None:
            raise Refused(_("Give a seed or the number of a picture, not both."))
        last = await self._last(user_id)
        if last is None:
            raise _nothing_yet()
        if picture > last.count:
            raise Refused(
                _("Your last order has no picture {number}; it has {count}.", number=picture, count=last.count)
            )
        return last.picture_seed(picture - 1)

    async def _current(self, user_id: int) -> int:
        """The locked seed, else that of the last order's first picture."""
        locked = self._preferences.locked_seed(user_id)
        if locked is not None:
            return locked
        last = await self._last(user_id)
        if last is None:
            raise _nothing_yet()
        return last.seed

    async def _last(self, user_id: int) -> ImageRequest | None:
        """A person's most recently drawn order."""
        newest = await self._jobs.history(user_id, limit=1)
        return newest[0].request if newest else None


def _seeds_of(last: ImageRequest) -> str:
    seeds = ", ".join(f"`{seed}`" for seed in last.seeds)
    if last.count == 1:
        return _("Your last picture used seed {seed}.", seed=seeds)
    return _("Your last pictures used seeds {seeds}.", seeds=seeds)


def _nothing_yet() -> Refused:
    return Refused(_("You have no seed yet: draw a picture first, or give the seed."))


def _unknown(name: str) -> Refused:
    return Refused(_("There is no “{name}” in your seed book. `/seed list` shows what is.", name=inert(name)))


async def _answer(interaction: discord.Interaction, text: str) -> None:
    await interaction.edit_original_response(content=text, allowed_mentions=NOBODY)
