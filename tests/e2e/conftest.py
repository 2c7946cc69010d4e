"""A bot as it is started at home, and a browser that opens its page."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from bot.settings import ROOT
from tests.checkpoints import TinyModels, tiny_models
from tests.e2e.visitor import Visitor

__all__ = ["tiny_models"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
STOP_S = 30.0


@pytest.fixture
def home(tmp_path: Path, tiny_models: TinyModels) -> dict[str, str]:
    """The environment of a bot without a token that keeps everything in a folder of its own."""
    (tmp_path / ".env").touch()  # instead of the program's
    return {
        **{key: value for key, value in os.environ.items() if key != "DISCORD_TOKEN"},
        "DISCORD_TOKEN": "",
        "CATALOG": str(tiny_models.catalog),
        "DATA_DIR": str(tmp_path / "data"),
        "DEVICES": "cpu",
        "PYTHONFAULTHANDLER": "1",
        "PREVIEW_PORT": "0",
        "PYTHONPATH": str(ROOT),
    }


@contextmanager
def started(home: dict[str, str], folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``python -m bot`` and where it says that its page is; killed at the end, if it lives."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
    with (folder / "bot.log").open("w+") as log:
        bot = subprocess.Popen(
            [sys.executable, "-m", "bot"], cwd=folder, env=home, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            yield bot, _printed_address(bot)
        finally:
            bot.kill()
            bot.wait()
            log.seek(0)
            print(log.read())  # shown with a failure only


@pytest.fixture(params=[signal.SIGINT])
def told_to_stop(request: pytest.FixtureRequest) -> signal.Signals:
    """How the bot is told to stop: as Ctrl-C does it, unless a test wants another signal."""
    told: signal.Signals = request.param
    return told


@pytest.fixture
def address(home: dict[str, str], tmp_path: Path, told_to_stop: signal.Signals) -> Iterator[str]:
    """The page of a running bot; at the end it must end without complaint."""
    with started(home, tmp_path) as (bot, address):
        yield address
        bot.send_signal(told_to_stop)
        try:
            assert bot.wait(STOP_S) == 0
        except subprocess.TimeoutExpired:
            bot.send_signal(signal.SIGABRT)  # so that the log says where it stands
            bot.wait()
            raise
    assert "Traceback" not in (tmp_path / "bot.log").read_text(encoding="utf-8")


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A browser without a window. Not kept for other tests: its driver occupies the thread's event loop."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser is installed; looked for {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab that forgets everything at the end."""
    with browser.new_context(viewport={"width": 1280, "height": 1100}) as context:
        context.set_default_timeout(60_000)
        yield context.new_page()


@pytest.fixture
def visitor(address: str, tab: Page) -> Visitor:
    """A person who has just opened the page."""
    tab.goto(address)
    return Visitor(tab)


def _printed_address(bot: subprocess.Popen[str]) -> str:
    assert bot.stdout is not None
    for line in bot.stdout:
        for word in line.split():
            if word.startswith("http://127.0.0.1:"):
                return word
    raise AssertionError(f"the bot ended with {bot.wait()} before it said where its page is")
