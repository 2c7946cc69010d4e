"""Discord's own description of its API as a contract: does a REST body that the bot sends fit it?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

DESCRIPTION = Path(__file__).resolve().parents[2] / "shared" / "discord" / "openapi.min.json"
"""Lies beside the repository; a checkout without it skips the check."""


class Call(Protocol):
    """What SimCord logs of a REST call (``env.http_requests``)."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def json(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Sent:
    """A call that was never made, only to be looked at."""

    method: str
    path: str
    json: Any


def available() -> bool:
    """Whether this checkout has the description."""
    return DESCRIPTION.is_file()


def complaints(calls: Iterable[Call]) -> list[str]:
    """One line for each call whose body Discord would refuse; a body to an unknown path is a complaint too."""
    return [line for call in calls if call.json is not None and (line := complaint(call)) is not None]


def complaint(call: Call) -> str | None:
    """What is wrong with the body of ``call``, or None."""
    where = f"{call.method} {call.path}"
    template = _template_of(call.method, call.path)
    if template is None:
        return f"{where}: Discord takes no body here"
    error = best_match(_validator(call.method, template).iter_errors(call.json))
    return None if error is None else f"{where}: {error.json_path}: {error.message[:400]}"


@cache
def _description() -> dict[str, Any]:
    description: dict[str, Any] = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    return description


@cache
def _validator(method: str, template: str) -> Draft202012Validator:
    operation = _description()["paths"][template][method.lower()]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return Draft202012Validator({"allOf": [schema], "components": _description()["components"]})


def _template_of(method: str, path: str) -> str | None:
    """The path template with the most literal segments that fits and takes a JSON body."""
    segments = path.strip("/").split("/")
    fitting = [t for t in _templates(method) if _fits(t.strip("/").split("/"), segments)]
    return min(fitting, key=lambda template: template.count("{"), default=None)


@cache
def _templates(method: str) -> tuple[str, ...]:
    return tuple(
        template
        for template, operations in _description()["paths"].items()
        if "application/json" in operations.get(method.lower(), {}).get("requestBody", {}).get("content", {})
    )


def _fits(template: list[str], segments: list[str]) -> bool:
    return len(template) == len(segments) and all(
        wanted.startswith("{") or wanted == segment for wanted, segment in zip(template, segments, strict=True)
    )
