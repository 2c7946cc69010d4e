"""The local preview: the same bot on a simulated Discord server, shown as a page in the browser."""

from __future__ import annotations

from bot.preview.page import Page
from bot.preview.server import PreviewError, preview

__all__ = ["Page", "PreviewError", "preview"]
