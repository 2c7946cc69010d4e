"""What the bot says, in the language of the person it speaks to: gettext catalogues, and a context's locale.

English is the language of the sources. ``bot/locale/<locale>.po`` holds the others; a sentence without a translation
stays English.
"""

from __future__ import annotations

import gettext
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from inference.errors import Failure, describe

LOCALES = Path(__file__).parent / "locale"
ENGLISH = "en-US"
FOLDERS = re.compile(r"""(?<![\w.:/\\])([A-Za-z]:)?[/\\]([^\s/\\:'"“”()]+[/\\])+(?=[^\s/\\])""")
"""The folders of an absolute path anywhere in a reason that comes from elsewhere."""

_locale: ContextVar[str] = ContextVar("locale", default=ENGLISH)


def _(message: str, /, **values: Any) -> str:
    """``message`` in the language of the current context, with ``values`` in place of the names in braces."""
    return translated(message, _locale.get()).format(**values)


def steps_of(count: int) -> str:
    """A number of steps in words."""
    return _("1 step") if count == 1 else _("{steps} steps", steps=count)


def told(failure: Failure) -> str:
    """A failure worded for people: paths on this machine are only for its owner and the log."""
    texts = {name: value for name, value in asdict(failure).items() if isinstance(value, str)}
    for path in filter(_is_absolute, (texts.get(name, "") for name in ("path", "where"))):
        last = f"…/{PureWindowsPath(path).name}"  # splits at both kinds of slash
        for form in (path, repr(path)[1:-1]):
            texts = {name: value.replace(form, last) for name, value in texts.items()}
    shorter: Any = texts
    return FOLDERS.sub("…/", describe(replace(failure, **shorter), _))


def _is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def N_(message: str) -> str:  # noqa: N802 (gettext's own name for it)
    """Mark a sentence that is translated where it is used."""
    return message


def translated(message: str, locale: str) -> str:
    """``message`` in ``locale``, one of Discord's names for locales (``en-US``, ``zh-CN``)."""
    return _catalogue(locale).gettext(message)


def speak(locale: str) -> None:
    """Make this task speak ``locale`` from here on."""
    _locale.set(locale)


@contextmanager
def speaking(locale: str) -> Iterator[None]:
    """Speak ``locale`` for the length of the block."""
    token = _locale.set(locale)
    try:
        yield
    finally:
        _locale.reset(token)


@cache
def _catalogue(locale: str) -> gettext.NullTranslations:
    path = LOCALES / f"{locale}.po"
    if not path.exists():
        return gettext.NullTranslations()
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    compiled = io.BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
