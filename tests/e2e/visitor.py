"""A person at the preview page: types, clicks, looks at cards and pictures."""

from __future__ import annotations

import base64
import io
import re

from PIL import Image
from playwright.sync_api import Locator, Page, expect

PATIENCE_MS = 240_000.0
"""How long a person waits for a card; the first one waits for the worker process to start."""
SENT_MS = 2_000.0
"""How long a form stays open once it is sent."""
SENDINGS = 60
READ_IMAGE = """async image => {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""));
}"""


class Visitor:
    """What a person does and sees, in the order of the cards in the channel (0 is the oldest)."""

    def __init__(self, tab: Page) -> None:
        self.tab = tab

    def order(self, prompt: str) -> None:
        """Pick ``/imagine`` from the list of commands and send a prompt with it."""
        self.tab.get_by_placeholder("Message #pictures").click()
        self.tab.keyboard.type("/ima")
        self.tab.get_by_role("option", name=re.compile("imagine")).click()
        box = self.tab.get_by_role("textbox", name="prompt")
        box.press_sequentially(prompt)
        for _ in range(SENDINGS):  # the page drops what is sent while it is busy, and keeps the form open
            box.press("Enter")
            try:
                expect(box).to_be_hidden(timeout=SENT_MS)
            except AssertionError:
                continue
            return

    def card(self, index: int) -> Locator:
        return self.tab.locator(".channel-message").nth(index)

    def press(self, label: str, *, card: int) -> None:
        """Press a button of a card."""
        self.card(card).locator(".component-row").get_by_role("button", name=label).click()

    def edit(self, prompt: str, *, card: int) -> None:
        """Press Edit and send another prompt."""
        self.press("Edit", card=card)
        dialog = self.tab.get_by_role("dialog")
        dialog.get_by_role("textbox").first.fill(prompt)
        dialog.get_by_role("button", name="Submit").click()

    def sees(self, text: str | re.Pattern[str], *, card: int) -> None:
        """Wait until a card says something."""
        expect(self.card(card)).to_contain_text(text, timeout=PATIENCE_MS)

    def picture(self, *, card: int) -> Image.Image:
        """The picture of a card, to the last pixel, once it is there."""
        image = self.card(card).locator("img.gallery-image")
        expect(image).to_have_count(1, timeout=PATIENCE_MS)
        expect(image).to_have_attribute("src", re.compile("^blob:"))
        return Image.open(io.BytesIO(base64.b64decode(image.evaluate(READ_IMAGE)))).convert("RGB")
