"""Draws the pictures of the README and of ``docs/cards``: ``python -m docs.screenshots`` with Chromium installed.

A bot is started as at home, without a token; a browser opens its page and does what a person would.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

HERE = Path(__file__).parent
CARDS = HERE / "cards"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 240_000.0
BUTTONS = "Same seed"


class Tab:
    """A person at the page."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._box = page.get_by_placeholder("Message #pictures")

    def command(self, name: str, *words: str) -> None:
        """Pick a command from the list and send it with the words of its first option."""
        self._box.click()
        self._page.keyboard.type(f"/{name}")
        self._page.locator("#command-entry-0").wait_for()
        self._page.keyboard.press("Enter")
        for word in words:
            self._page.keyboard.type(word)
        self._page.keyboard.press("Enter")
        self._page.wait_for_timeout(700)
        if not (words or self._box.is_visible()):  # the first Enter only led to the first option
            self._page.keyboard.press("Enter")
            self._page.wait_for_timeout(700)

    def card(self, saying: str) -> Locator:
        """The newest message with these words, once it is there."""
        card = self._page.locator(".channel-message").filter(has_text=re.compile(saying)).last
        card.wait_for(timeout=PATIENCE_MS)
        return card

    def press(self, label: str) -> None:
        """Press the newest button with this label."""
        self._page.get_by_role("button", name=label).last.click()
        self._page.wait_for_timeout(700)

    def shoot(self, name: str, what: Locator | Page, *, folder: Path = CARDS) -> None:
        """Keep a picture of something."""
        self._page.wait_for_timeout(800)
        with Image.open(io.BytesIO(what.screenshot())) as picture:
            picture.convert("RGB").save(folder / f"{name}.webp", quality=88, method=6)
        print(f"{name}.webp")  # noqa: T201


def main() -> int:
    """Take all of them."""
    CARDS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "DISCORD_TOKEN": "", "DATA_DIR": home, "PREVIEW_PORT": "0"}
        bot = subprocess.Popen(
            [sys.executable, "-m", "bot"], cwd=HERE.parent, env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            assert bot.stdout is not None
            _tour(bot.stdout.readline().split()[-1])
        finally:
            bot.terminate()
            bot.wait()
    return 0


def _tour(address: str) -> None:
    browser_path = next(path for path in map(shutil.which, BROWSERS) if path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 1150})
        page.goto(address)
        tab = Tab(page)
        _pictures(tab, page)
        _commands(tab, page)
        browser.close()


def _pictures(tab: Tab, page: Page) -> None:
    tab.command("imagine", "a red apple --seed 7 --count 2")
    tab.shoot("picture", tab.card("a red apple.*guidance"))
    tab.press(BUTTONS)
    tab.card("identical, pixel for pixel")
    tab.shoot("preview", page, folder=HERE)
    tab.shoot("same-seed", tab.card("identical, pixel for pixel"))
    tab.press("Edit")
    tab.shoot("edit", page.get_by_role("dialog"))
    page.keyboard.press("Escape")
    tab.command("compare", "a red apple --seed 7")
    tab.shoot("comparison", tab.card("1️⃣.*Continue with one"))  # pictures of one order have such a menu, too
    tab.command("imagine", "a fox --no snow --model emoji-lora --spoiler")
    tab.shoot("covered", tab.card("without snow.*guidance"))


def _commands(tab: Tab, page: Page) -> None:
    tab.command("model list")
    tab.card("Models")
    tab.command("model info", "emoji-flat")
    page.locator(".channel-message").last.locator("img.gallery-image").wait_for(timeout=PATIENCE_MS)
    tab.shoot("model-info", tab.card("Use this model"))
    for name, command, saying in (
        ("model-list", "model list", "Models"),
        ("model-which", "model which", "draws here"),
        ("seed", "seed next", "until"),
        ("history", "history", "Your pictures"),
        ("queue", "queue", "Queue"),
        ("settings", "settings show", "Settings of this server"),
        ("help", "help", "/imagine"),
        ("about", "about", "Pictures from words"),
        ("privacy", "privacy delete", "Delete everything"),
    ):
        tab.command(command)
        tab.shoot(name, tab.card(saying))
    tab.command("imagine", "a fox --stylize 100")  # last: the page keeps a refused command for another try
    tab.shoot("refused", tab.card("I do not know"))


if __name__ == "__main__":
    sys.exit(main())
