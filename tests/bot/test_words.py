"""The bot speaks the language of whoever it speaks to, and says nothing untranslated."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any, TypeGuard

import pytest
import simcord.interactions
from babel.messages.pofile import read_po
from discord import app_commands

from bot import translations, words
from bot.words import LOCALES, _, speaking
from inference.errors import FIELDS, DiskUnwritable, InferenceError, UnknownModel, WeightsUnreadable, describe
from tests.bot.studio import Studio, labels_of, said, text_of, until

ROOT = Path(__file__).parents[2]
CHINESE = re.compile(r"[\u4e00-\u9fff]")
COMMAND_NAME = re.compile(r"^[-_'\w]{1,32}$")
OPTIONS = {
    parameter.display_name for command in translations.commands() for parameter in getattr(command, "parameters", [])
}
GROUPS = {command.name for command in translations.commands() if isinstance(command, app_commands.Group)}
WANTED = translations.sentences() | set(translations.command_words(translations.commands()))


def catalogue(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        return {str(message.id): str(message.string) for message in read_po(file) if message.id}


def places(message: str) -> list[tuple[str, str]]:
    """The places that values are put in, with how they are written."""
    return sorted((name, spec or "") for _text, name, spec, _conversion in Formatter().parse(message) if name)


@pytest.mark.parametrize("path", sorted(LOCALES.glob("*.po")), ids=lambda path: path.stem)
def test_every_sentence_is_translated_and_none_is_left_over(path: Path) -> None:
    found = catalogue(path)
    assert sorted(WANTED - {message for message, string in found.items() if string}) == []
    assert sorted(set(found) - WANTED) == []


@pytest.mark.parametrize("path", sorted(LOCALES.glob("*.po")), ids=lambda path: path.stem)
def test_a_translation_has_the_same_places_and_the_commands_as_discord_shows_them(path: Path) -> None:
    found = catalogue(path)
    for message, string in found.items():
        assert places(string) == places(message), message
        wanted = sorted(shown(code, found) for code in re.findall(r"`[^`]*`", message))
        assert sorted(re.findall(r"`[^`]*`", string)) == wanted, message


def shown(code: str, found: dict[str, str]) -> str:
    """What is to be typed, with the names of commands and options as Discord shows them to who speaks this language."""
    if not code.startswith("`/"):
        return f"`{found[code.strip('`')]}`" if code.strip("`") in OPTIONS else code
    command, *words = code.strip("`/").split(" ")
    if words and command in GROUPS:
        words[0] = found[words[0]]
    typed = (re.sub("^([a-z]+):", lambda option: f"{found[option[1]]}:", word) for word in words)
    return f"`/{' '.join([found[command], *typed])}`"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/home/alice/bot/models/fox.safetensors", "…/fox.safetensors"),
        (r"C:\Users\alice\models\fox.safetensors", "…/fox.safetensors"),
        ("/home/Alice Smith/models (old)/fox.safetensors", "…/fox.safetensors"),
        (r"\\nas\share\Alice Smith\fox.safetensors", "…/fox.safetensors"),
        ("models/fox.safetensors", "models/fox.safetensors"),
        ("someone/fox", "someone/fox"),
    ],
)
def test_where_files_lie_on_the_machine_is_told_to_nobody(path: str, said: str) -> None:
    failure = WeightsUnreadable(model="fox", path=path, reason=f"see {path}, or https://huggingface.co/a/b/c")
    wanted = f"The weights of “fox” cannot be used: {said}: see {said}, or https://huggingface.co/a/b/c"
    assert words.told(failure) == wanted
    unwritable = DiskUnwritable(path=path, reason=f"No space left: {path!r}")
    assert words.told(unwritable) == f"The picture could not be saved in {said}: No space left: '{said}'"


def test_what_the_sources_say_is_found() -> None:
    assert {
        "Next in line",
        "The prompt is empty. Say what the picture should show, for example “a red apple”.",
    } <= WANTED
    assert {"imagine", "Draw a picture from a prompt", "Remix this", "this channel"} <= WANTED


def test_every_field_that_an_error_may_name_can_be_translated() -> None:
    """Written as ``field=``, or given to a function that takes it first."""
    named: set[str] = set()
    for path in (*ROOT.glob("bot/**/*.py"), *ROOT.glob("inference/**/*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        takers = {function.name for function in ast.walk(tree) if takes_a_field(function)}
        given = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id in takers]
        given += [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "field"]
        named |= {ast.unparse(value) for value in given if isinstance(value, ast.Constant | ast.JoinedStr)}
    assert named - set(map(repr, FIELDS)) == set()
    assert set(map(repr, ("seed", "guided bucket", "LoRA strength"))) <= named


def takes_a_field(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    if not isinstance(node, ast.FunctionDef) or not node.args.args:
        return False
    first = node.args.args[0].arg
    passed = (keyword for call in ast.walk(node) if isinstance(call, ast.Call) for keyword in call.keywords)
    return first == "field" or any(keyword.arg == "field" and ast.unparse(keyword.value) == first for keyword in passed)


def test_a_locale_without_a_catalogue_is_english() -> None:
    with speaking("fr"):
        assert _("{steps} steps", steps=4) == "4 steps"
    with speaking("zh-CN"):
        assert _("{steps} steps", steps=4) == "4 步"
    assert _("{steps} steps", steps=4) == "4 steps"


def test_failures_are_worded_in_the_present_language() -> None:
    failure = UnknownModel(name="x", known=("a", "b"))
    with speaking("zh-CN"):
        assert describe(failure, _) == "没有名为“x”的模型。 可选：a, b。"
    assert str(InferenceError(failure)) == "There is no model “x”. Choose from: a, b."


def test_of_many_names_to_choose_from_some_are_named() -> None:
    failure = UnknownModel(name="x", known=tuple(f"m{number}" for number in range(80)))
    assert describe(failure).endswith("m18, m19 and 60 more.")


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discord says that everybody's client is Chinese."""
    payload = simcord.interactions.base_payload

    def changed(*args: Any, **kwargs: Any) -> Any:
        record, body = payload(*args, **kwargs)
        return record, {**body, "locale": "zh-CN"}

    monkeypatch.setattr(simcord.interactions, "base_payload", changed)


@pytest.mark.usefixtures("chinese")
async def test_cards_answers_buttons_and_forms_speak_chinese(studio: Studio) -> None:
    await studio.ann.slash(studio.channel, "imagine", prompt="an owl", negative="rain", seed=5)
    await studio.pictures()
    card = studio.cards()[-1]
    assert labels_of(card) == ["重新生成", "相同种子", "编辑", "删除"]
    for word in ("不含 rain", "种子 `5`", "4 步", "这类模型不理会反向提示词"):
        assert word in text_of(card)
    await studio.ann.click(card, label="相同种子")
    await studio.card(saying="每个像素都完全一致", index=1)
    form = await studio.ann.click(card, label="编辑")
    assert form.modal is not None
    assert form.modal["title"] == "修改订单"
    for command, options in (
        ("imagine", {"prompt": "x --nope"}),
        ("seed use", {"name": "x"}),
        ("model use", {"name": "x"}),
    ):
        assert CHINESE.search(said(await studio.ann.slash(studio.channel, command, **options)))
    for command in ("model list", "seed show", "history", "queue", "help", "about", "model which"):
        assert CHINESE.search(said(await studio.ann.slash(studio.channel, command)))


@pytest.mark.usefixtures("chinese")
async def test_an_example_that_follows_later_speaks_chinese(studio: Studio) -> None:
    shown = (await studio.ann.slash(studio.channel, "model info", name="quick")).response
    assert shown is not None

    def sheet() -> Any:
        return next(message for message in studio.channel.history(viewer=studio.ann) if message.id == shown.id)

    await until(lambda: bool(sheet().attachments), studio.env.transcript)
    assert labels_of(sheet()) == ["用它为我绘图"]
    assert "反向提示词" in text_of(sheet())


async def test_discord_is_told_the_chinese_names_of_the_commands(studio: Studio) -> None:
    put = next(call for call in studio.env.http_requests if call.method == "PUT" and call.path.endswith("/commands"))
    names: dict[str, Any] = {command["name"]: command for command in put.json}  # type: ignore[union-attr]
    assert names["imagine"]["name_localizations"] == {"zh-CN": "绘图"}
    assert names["imagine"]["description_localizations"] == {"zh-CN": "根据提示词绘制图片"}
    assert names["Remix this"]["name_localizations"] == {"zh-CN": "以此改编"}
    for command in names.values():
        if command.get("type", 1) == 1:
            check_names(command)


@pytest.fixture
def editions() -> Iterator[None]:
    """Catalogues that change while the tests run."""
    words._catalogue.cache_clear()
    yield
    words._catalogue.cache_clear()


@pytest.mark.usefixtures("editions")
async def test_discord_is_told_when_only_the_words_have_changed(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    new = (LOCALES / "zh-CN.po").read_text(encoding="utf-8").replace('msgstr "绘图"', 'msgstr "画图"')
    (tmp_path / "zh-CN.po").write_text(new, encoding="utf-8")
    monkeypatch.setattr(words, "LOCALES", tmp_path)
    words._catalogue.cache_clear()
    await studio.restart()
    told = [call for call in studio.env.http_requests if call.method == "PUT" and call.path.endswith("/commands")]
    names = [{command["name"]: command["name_localizations"] for command in call.json} for call in told]  # type: ignore[union-attr]
    assert [named["imagine"] for named in names] == [{"zh-CN": "绘图"}, {"zh-CN": "画图"}]


def check_names(part: dict[str, Any]) -> None:
    """Translated names keep Discord's rules, and are told apart from each other."""
    localized = part.get("name_localizations", {}).get("zh-CN")
    assert localized is None or (COMMAND_NAME.match(localized) and localized == localized.lower())
    siblings = [option.get("name_localizations", {}).get("zh-CN", option["name"]) for option in part.get("options", [])]
    assert len(siblings) == len(set(siblings)), siblings
    for option in part.get("options", []):
        check_names(option)
