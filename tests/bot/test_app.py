"""Starting and ending: a Discord that is away is waited for, and what has to be mended is said in a sentence."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import discord
import pytest
from aiohttp import web
from yarl import URL

from bot import app, client
from bot.settings import ROOT, Settings
from bot.store import open_store
from inference.catalog import Catalog

USER = {"id": "1", "username": "bot", "discriminator": "0", "avatar": None, "bot": True}
APPLICATION = {
    "id": "1",
    "name": "bot",
    "icon": None,
    "description": "",
    "bot_public": False,
    "bot_require_code_grant": False,
    "owner": USER,
    "verify_key": "",
    "flags": 0,
}


def answer(content: Any) -> web.Response:
    """As Discord answers: its library looks for exactly this type."""
    return web.Response(body=json.dumps(content).encode(), content_type="application/json")


class FakeDiscord:
    """A server that speaks as much of Discord's HTTP and gateway as a start takes. ``failures`` breaks off so many
    tellings of the commands, ``absences`` as many comings to the gateway, and whoever comes there with the token after
    that is refused."""

    def __init__(self) -> None:
        routes = web.Application()
        routes.router.add_get("/users/@me", self._me)
        routes.router.add_get("/oauth2/applications/@me", self._application)
        routes.router.add_put("/applications/1/commands", self._commands)
        routes.router.add_get("/", self._gateway)
        self._runner = web.AppRunner(routes)
        self.failures = 0
        self.absences = 0
        self.told = 0
        self.address = ""

    async def open(self, port: int = 0) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _me(self, request: web.Request) -> web.Response:
        return answer(USER)

    async def _application(self, request: web.Request) -> web.Response:
        return answer(APPLICATION)

    async def _commands(self, request: web.Request) -> web.Response:
        if self.failures:
            self.failures -= 1
            assert request.transport is not None
            request.transport.close()
        else:
            self.told += 1
        return answer([])

    async def _gateway(self, request: web.Request) -> web.WebSocketResponse:
        if self.absences:
            self.absences -= 1
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"op": 10, "d": {"heartbeat_interval": 45_000}, "s": None, "t": None})
        await socket.receive()
        await socket.close(code=4004, message=b"Authentication failed.")
        return socket


@pytest.fixture
async def fake_discord(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeDiscord]:
    """Where the bot finds Discord."""
    server = FakeDiscord()
    await server.open()
    monkeypatch.setattr(app, "proxy_to", lambda host: None)
    monkeypatch.setattr(discord.http.Route, "BASE", f"http://{server.address}")
    monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", URL(f"http://{server.address}/"))
    yield server
    await server.close()


async def test_a_start_waits_for_a_discord_that_is_away(
    settings: Settings,
    catalog: Catalog,
    fake_discord: FakeDiscord,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(client, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(discord.http.Route, "BASE", "http://127.0.0.1:1")
    fake_discord.failures = 2  # aiohttp tries a second time by itself
    tries: list[logging.LogRecord] = []

    def mended(record: logging.LogRecord) -> bool:
        """The line is back after the first complaint."""
        tries.append(record)
        discord.http.Route.BASE = f"http://{fake_discord.address}"
        return True

    monkeypatch.setattr(client.log, "filters", [mended])
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        bot = app.make_bot(settings, store, catalog, app.make_dispatcher(settings, catalog))
        async with bot:
            await bot.log_in("token")
    assert fake_discord.told == 1
    assert len(tries) == 2  # nobody there; broken off while the commands were told
    assert all("Discord cannot be reached" in record.getMessage() for record in tries)
    assert "Unclosed" not in caplog.text


async def test_the_proxy_of_the_environment_is_asked(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with open_store(settings.database_path, migrations=ROOT / "migrations") as store:
        dispatcher = app.make_dispatcher(settings, catalog)
        assert app.make_bot(settings, store, catalog, dispatcher).http.proxy == "http://127.0.0.1:3128"
        monkeypatch.setenv("NO_PROXY", "discord.com")
        assert app.make_bot(settings, store, catalog, dispatcher).http.proxy is None


def test_what_the_bot_writes_is_nobody_elses_to_read(tmp_path: Path) -> None:
    home = {**os.environ, "DATA_DIR": str(tmp_path / "data"), "CATALOG": str(ROOT / "no" / "models.toml")}
    (tmp_path / ".env").touch()  # instead of the program's
    command = [sys.executable, "-m", "bot"]
    subprocess.run(command, cwd=tmp_path, env={**home, "PYTHONPATH": str(ROOT), "DISCORD_TOKEN": ""}, check=False)
    made = [tmp_path / "data", tmp_path / "data" / "preview" / "bot.sqlite3"]
    assert [path.stat().st_mode & 0o077 for path in made] == [0, 0]


@pytest.mark.parametrize(
    ("line", "environment", "said"),
    [
        ("MAX_BATCH=many", {}, "MAX_BATCH must be a whole number; 'many' is not."),
        ("MAX_BATCH=many", {"MAX_BATCH": "6"}, "MAX_BATCH must be a power of two; 6 is not."),
    ],
)
def test_a_wrong_setting_ends_the_bot_with_a_sentence_and_the_environment_comes_first(
    tmp_path: Path, line: str, environment: dict[str, str], said: str
) -> None:
    (tmp_path / ".env").write_text(f"{line}\n")
    home = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "bot"]
    done = subprocess.run(command, cwd=tmp_path, env=home, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"The bot cannot start. {said}")


async def test_a_token_that_is_no_longer_good_ends_the_bot_with_a_sentence(
    settings: Settings, fake_discord: FakeDiscord
) -> None:
    settings = replace(settings, catalog=ROOT / "models" / "models.toml", safety_check="off")
    with pytest.raises(app.StartError, match="does not accept DISCORD_TOKEN"):
        await app.run(settings)


async def test_a_start_waits_for_a_gateway_that_is_away(
    settings: Settings, fake_discord: FakeDiscord, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client, "FIRST_RETRY_S", 0.01)
    fake_discord.absences = 2
    settings = replace(settings, catalog=ROOT / "models" / "models.toml", safety_check="off")
    with pytest.raises(app.StartError, match="does not accept DISCORD_TOKEN"):  # which only the gateway says here
        await app.run(settings)
    assert fake_discord.absences == 0
    assert caplog.text.count("Discord cannot be reached (503") == 2


async def test_a_device_that_there_is_not_ends_the_bot_with_a_sentence(settings: Settings) -> None:
    settings = replace(settings, catalog=ROOT / "models" / "models.toml", safety_check="off", devices="cuda:99")
    with pytest.raises(app.StartError, match="There is no device “cuda:99” on this machine"):
        await app.run(replace(settings, discord_token=None, preview_port=0))
