"""``/about`` and ``/help``: made from what there is."""

from __future__ import annotations

from bot.features.about import help_text
from bot.words import speaking
from tests.bot.studio import Studio, said


async def test_the_help_names_every_command(studio: Studio) -> None:
    answer = await studio.ann.slash(studio.channel, "help")
    assert answer.ephemeral
    for command in ("/imagine", "/model use", "/seed lock", "/history", "/cancel", "/settings show", "/about"):
        assert f"`{command}`" in said(answer)
    assert len(said(answer)) <= 2000
    assert "--seed 5" in said(answer)


def test_the_help_names_commands_as_discord_shows_them(studio: Studio) -> None:
    with speaking("zh-CN"):
        told = help_text(studio.bot.tree)
    assert all(command in told for command in ("`/绘图`", "`/种子 锁定`", "`/设置 查看`"))


async def test_about_says_what_the_bot_is(studio: Studio) -> None:
    answer = await studio.ann.slash(studio.channel, "about")
    assert answer.ephemeral
    assert "Latent Consistency Models" in said(answer)
    assert "3 models" in said(answer)


async def test_the_bot_asks_for_no_privileged_intents_and_works_wherever_it_is_installed(studio: Studio) -> None:
    intents = studio.bot.intents
    assert [intents.members, intents.presences, intents.message_content] == [False, False, False]
    for command in studio.bot.tree.get_commands():
        described = command.to_dict(studio.bot.tree)
        assert described["integration_types"] == [0, 1]
        assert described["contexts"] == ([0] if command.name == "settings" else [0, 1, 2])
