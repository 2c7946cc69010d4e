"""Settings: read from a mapping, refused with key and value, and all of them shown in .env.example."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from bot import env_file
from bot.settings import PRECISIONS, ROOT, Settings, SettingsError, explain
from inference import devices
from inference.env_file import read_env


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environ({}) == Settings()


def test_an_empty_value_counts_as_not_set() -> None:
    assert Settings.from_environ({"DISCORD_TOKEN": " ", "MAX_BATCH": ""}) == Settings()


def test_values_are_parsed_by_their_kind() -> None:
    given = {"MAX_BATCH": "16", "CACHE_GIB": "1.5", "DATA_DIR": "/somewhere", "DISCORD_TOKEN": "hush"}
    settings = Settings.from_environ(given)
    assert (settings.max_batch, settings.budgets.device) == (16, 3 * 2**29)
    assert str(settings.database_path) == "/somewhere/bot.sqlite3"


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("MAX_BATCH", "many", "MAX_BATCH must be a whole number; 'many' is not."),
        ("MAX_BATCH", "2", "MAX_BATCH must be between 4 and 64, not 2."),
        ("MAX_BATCH", "6", "MAX_BATCH must be a power of two; 6 is not."),
        ("BATCH_WAIT_MS", "-1", "BATCH_WAIT_MS must be between 0 and 10000, not -1."),
        ("CACHE_GIB", "inf", "CACHE_GIB must be a number; 'inf' is not."),
        ("COOLDOWN_S", "nan", "COOLDOWN_S must be a number; 'nan' is not."),
        ("MAX_OVERTAKINGS", "1.5", "MAX_OVERTAKINGS must be a whole number; '1.5' is not."),
        ("CACHE_GIB", "0", "CACHE_GIB must be at least 0.1, not 0."),
        ("DOWNLOADS", "maybe", "DOWNLOADS must be on or off, not 'maybe'."),
        ("LOG_LEVEL", "loud", "LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not 'loud'."),
        ("SAFETY_CHECK", "yes", "SAFETY_CHECK must be required or off, not 'yes'."),
        (
            "PRECISION",
            "half",
            "PRECISION must be one of auto, float16, bfloat16, float32, fp16, bf16, fp32, not 'half'.",
        ),
        ("STEP_TIMEOUT_S", "nan", "STEP_TIMEOUT_S must be a number; 'nan' is not."),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(key: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        Settings.from_environ({key: value})


def test_the_preview_keeps_out_of_the_bots_database_and_pictures() -> None:
    preview, bot = (Settings.from_environ({"DATA_DIR": "/data", "DISCORD_TOKEN": token}) for token in ("", "hush"))
    assert (bot.database_path, bot.pictures_dir) == (Path("/data/bot.sqlite3"), Path("/data/pictures"))
    assert preview.database_path == Path("/data/preview/bot.sqlite3")
    assert preview.pictures_dir == Path("/data/preview/pictures")
    assert preview.budgets == bot.budgets


def test_the_first_folder_with_an_env_file_counts(tmp_path: Path) -> None:
    here, beside = tmp_path / "here", tmp_path / "beside"
    for folder in (here, beside):
        folder.mkdir()
    assert read_env((here, beside)) == {}
    (beside / ".env").write_text("DISCORD_TOKEN=beside\nCOMPILE=on\n")
    assert read_env((here, beside)) == {"DISCORD_TOKEN": "beside", "COMPILE": "on"}
    (here / ".env").write_text("DISCORD_TOKEN=here\n")
    assert read_env((here, beside)) == {"DISCORD_TOKEN": "here"}


def test_a_mark_at_the_beginning_of_the_env_file_is_none_of_its_first_key(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DISCORD_TOKEN=hush\n", encoding="utf-8-sig")
    assert read_env([tmp_path]) == {"DISCORD_TOKEN": "hush"}


def test_what_is_no_setting_is_named_with_what_may_be_meant() -> None:
    assert list(env_file.warnings(["DISCORD_TOEKN", "DEVICES", "CUDA_VISIBLE_DEVICES", "device"])) == [
        "DISCORD_TOEKN in .env is not a setting and has no effect. Did you mean DISCORD_TOKEN?",
        "CUDA_VISIBLE_DEVICES in .env is not a setting and has no effect.",
        "device in .env is not a setting and has no effect. Did you mean DEVICES?",
    ]


def test_the_precisions_are_those_that_a_device_takes() -> None:
    assert set(PRECISIONS) == {devices.AUTO, *devices.PRECISIONS}


def test_tokens_are_not_shown() -> None:
    assert "hush" not in repr(Settings.from_environ({"DISCORD_TOKEN": "hush", "HF_TOKEN": "hush"}))


def test_what_is_set_for_the_hub_is_handed_to_its_client() -> None:
    given = {"HF_TOKEN": "hush", "HF_HOME": "/models", "HTTPS_PROXY": "http://proxy:3128"}
    settings = Settings.from_environ({**given, "DOWNLOADS": "off"})
    assert settings.environ == given
    assert not settings.downloads


def test_the_example_file_lists_every_setting_with_its_default() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", example, flags=re.MULTILINE))
    assert set(listed) == {setting.name.upper() for setting in fields(Settings)}
    assert Settings.from_environ({k: str(ROOT / v) if "/" in v or v == "data" else v for k, v in listed.items()}) == (
        Settings()
    )


def test_the_help_explains_every_setting() -> None:
    assert all(setting.name.upper() in explain() for setting in fields(Settings))
