"""Holds what the bot sends against Discord's own OpenAPI description."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from jsonschema import Draft202012Validator

FILE = Path(__file__).with_name("openapi.min.json")
JSON = "application/json"


class Request(Protocol):
    """A REST call; of a multipart call ``json`` is the ``payload_json`` part."""

    method: str
    path: str
    json: Any


class DiscordSchema:
    """Discord's description of its REST interface."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._components = _with_numeric_ids(description["components"])
        templates = sorted(description["paths"], key=lambda template: template.count("{"))
        self._paths = [(_as_pattern(template), description["paths"][template]) for template in templates]

    def problems(self, request: Request) -> list[str]:
        """What Discord would not understand about the body of this call; a call without a body has no problems."""
        if request.json is None:
            return []
        schema = self._body_schema(request)
        call = f"{request.method} {request.path}"
        if schema is None:
            return [f"{call}: Discord describes no such call with a body"]
        validator = Draft202012Validator({**schema, "components": self._components})
        errors = [f"{error.json_path}: {error.message[:500]}" for error in validator.iter_errors(request.json)]
        return [f"{call}: {problem}" for problem in [*errors, *_files_not_named(request.json)]]

    def _body_schema(self, request: Request) -> dict[str, Any] | None:
        for pattern, operations in self._paths:
            if pattern.fullmatch(request.path):
                body = operations.get(request.method.lower(), {}).get("requestBody")
                return None if body is None else body["content"][JSON]["schema"]
        return None


def _files_not_named(body: Any) -> list[str]:
    """What its components show and its own attachments lack: files that a message has already do not count."""
    message = body.get("data") or body if isinstance(body, dict) else {}
    attached = {file.get("filename") for file in message.get("attachments") or []}
    shown = re.findall(r'"attachment://([^"]*)"', json.dumps(message, ensure_ascii=False))
    return [f"the referenced attachment {name} was not found" for name in shown if name not in attached]


@cache
def discord_schema() -> DiscordSchema:
    """The description."""
    return DiscordSchema(json.loads(FILE.read_text(encoding="utf-8")))


def problems(requests: Iterable[Request]) -> list[str]:
    """Every problem of these calls."""
    return [problem for request in requests for problem in discord_schema().problems(request)]


def _with_numeric_ids(components: dict[str, Any]) -> dict[str, Any]:
    """Discord's own documentation writes ids as numbers in places, as in ``"attachments": [{"id": 0}]``, and so does
    discord.py; the description knows them as strings only."""
    schemas = components["schemas"]
    either = {"anyOf": [schemas["SnowflakeType"], {"type": "integer", "minimum": 0}]}
    return {**components, "schemas": {**schemas, "SnowflakeType": either}}


def _as_pattern(template: str) -> re.Pattern[str]:
    return re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in _parts(template)))


def _parts(template: str) -> list[str]:
    return re.split(r"(\{[^}]+\})", template)
