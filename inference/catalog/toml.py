"""Parses the catalogue's TOML into its entries: what each table may contain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inference.catalog.dropped import Folders
from inference.catalog.entries import (
    GUIDANCE,
    LONGEST_NAME,
    STEPS,
    AdapterEntry,
    Checked,
    Family,
    Kind,
    Limits,
    ModelEntry,
    Prediction,
    SafetyEntry,
)
from inference.catalog.sources import NETWORK_CONFIG, PIPELINE_INDEX, Source
from inference.catalog.table import Table
from inference.contract import MAX_STEPS, Adapter

LORA_FILE = "pytorch_lora_weights.safetensors"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)

EXPLICIT_LABELS = ("nsfw",)
EXPLICIT_FROM = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The contents of a catalogue's file; ``default`` is the name of a model."""

    default: str
    models: tuple[ModelEntry, ...]
    adapters: tuple[AdapterEntry, ...]
    folders: Folders
    safety: SafetyEntry | None
    previews: Mapping[Family, Source]


def read_document(document: dict[str, Any], folder: Path) -> Document:
    """Parse the entries; paths are relative to ``folder``. Raises ``CatalogError``."""
    top = Table("the top of the file", document)
    read = Document(
        default=top.text("default"),
        models=tuple(_model(name, table, folder) for name, table in top.tables("models")),
        adapters=tuple(_adapter(name, table, folder) for name, table in top.tables("adapters", {})),
        folders=_folders(top.inner("scan", {}), folder),
        safety=_safety(top, folder) if "safety" in top else None,
        previews=_previews(top.inner("previews", {}), folder),
    )
    top.finish()
    return read


def _folders(table: Table, folder: Path) -> Folders:
    checkpoints, loras = table.text("checkpoints", ""), table.text("loras", "")
    lcm_loras = _by_family(table.inner("lcm_loras", {}), folder, LORA_FILE)
    table.finish()
    return Folders(
        checkpoints=folder / checkpoints if checkpoints else None,
        loras=folder / loras if loras else None,
        lcm_loras=lcm_loras,
    )


def _previews(table: Table, folder: Path) -> Mapping[Family, Source]:
    table.where = "[previews]"
    found = _by_family(table, folder, NETWORK_CONFIG)
    for family, source in found.items():
        if source.is_one_file:
            raise table.error(family, f"must be a folder with its {NETWORK_CONFIG}")
    return found


def _by_family(table: Table, folder: Path, marker: str) -> dict[Family, Source]:
    return {table.as_choice(key, Family): _source(table, key, folder, marker) for key in table.keys}


def _safety(top: Table, folder: Path) -> SafetyEntry:
    table = top.inner("safety")
    table.where = "[safety]"
    entry = SafetyEntry(
        weights=_source(table, "weights", folder, NETWORK_CONFIG),
        labels=table.texts("labels") if "labels" in table else EXPLICIT_LABELS,
        threshold=table.number("threshold", EXPLICIT_FROM),
    )
    table.finish()
    if not entry.labels:
        raise table.error("labels", "name at least one of the classifier's labels")
    if not 0 < entry.threshold <= 1:
        raise table.error("threshold", "must be above 0 and at most 1")
    return entry


def _checked_name(name: str, table: Table) -> str:
    if not 1 <= len(name) <= LONGEST_NAME:
        raise table.error("name", f"must have 1 to {LONGEST_NAME} characters, and has {len(name)}")
    if ":" in name:
        raise table.error("name", "must not contain “:”, which ends it in a prompt's LoRAs and in buttons")
    return name


def _title(name: str, table: Table) -> str:
    title = table.text("title", name)
    if not title.strip():
        raise table.error("title", "must not be blank")
    return title


def _adapter(name: str, table: Table, folder: Path) -> AdapterEntry:
    entry = AdapterEntry(
        name=_checked_name(name, table),
        title=_title(name, table),
        family=table.choice("family", Family),
        weights=_source(table, "weights", folder, LORA_FILE),
        licence=table.text("licence", "unknown"),
        description=table.text("description", ""),
        triggers=table.texts("triggers"),
    )
    table.finish()
    return entry


def _model(name: str, table: Table, folder: Path) -> ModelEntry:
    kind = table.choice("kind", Kind)
    width, height = table.sides("size")
    smallest, largest = table.sides("sides")
    entry = ModelEntry(
        name=_checked_name(name, table),
        title=_title(name, table),
        family=table.choice("family", Family),
        kind=kind,
        weights=replace(
            _source(table, "weights", folder, PIPELINE_INDEX),
            without=tuple(part for part in ("unet", "vae") if part in table),
        ),
        unet=_source(table, "unet", folder, NETWORK_CONFIG) if "unet" in table else None,
        vae=_source(table, "vae", folder, NETWORK_CONFIG) if "vae" in table else None,
        prediction=table.choice("prediction", Prediction) if "prediction" in table else None,
        lcm_lora=_source(table, "lcm_lora", folder, LORA_FILE) if "lcm_lora" in table else None,
        styles=_styles(table),
        steps=_limits(table, "steps", STEPS),
        guidance=_limits(table, "guidance", GUIDANCE[kind]),
        width=width,
        height=height,
        smallest_side=smallest,
        largest_side=largest,
        licence=table.text("licence", "unknown"),
        description=table.text("description", ""),
        examples=table.texts("examples"),
        harmless=table.flag("harmless"),
        checked=table.choice("safety", Checked, Checked.CATALOGUE),
    )
    table.finish()
    _check(entry, table)
    return entry


def _check(entry: ModelEntry, table: Table) -> None:
    if (entry.lcm_lora is None) is (entry.kind is Kind.LORA):
        raise table.error("lcm_lora", f"is needed for kind “{Kind.LORA}”, and allowed only there")
    if entry.checked is Checked.OWN and entry.harmless:
        raise table.error("safety", "a harmless model has none")
    if entry.checked is Checked.OWN and entry.weights.is_one_file:
        raise table.error("safety", "only a diffusers folder has a safety checker of its own")
    if entry.prediction is not None and not any(part.is_one_file for part in (entry.weights, entry.unet) if part):
        raise table.error("prediction", "a diffusers folder says that itself")
    if not 1 <= entry.steps.low <= entry.steps.high <= MAX_STEPS:
        raise table.error("steps", f"must lie within 1 to {MAX_STEPS}")
    for side in (entry.width, entry.height):
        if not entry.smallest_side <= side <= entry.largest_side:
            raise table.error("size", "must lie within “sides”")


def _source(table: Table, key: str, folder: Path, marker: str) -> Source:
    where = table.inner(key)
    path, hub = where.text("path", ""), where.text("hub", "")
    if bool(path) is bool(hub):
        raise where.error("path", "give exactly one of “path” and “hub”")
    if hub and not HUB_ID.fullmatch(hub):
        raise where.error("hub", f"“{hub}” is not of the form owner/name")
    file = where.text("file", marker)
    source = Source(
        path=folder / path if path else None,
        hub=hub or None,
        revision=where.text("revision", "") or None,
        variant=where.text("variant", "") or None,
        marker=file,
    )
    where.finish()
    return source


def _styles(table: Table) -> tuple[Adapter, ...]:
    inner = table.inner("styles", {})
    return tuple(Adapter(name=name, strength=inner.number(name)) for name in inner.keys)


def _limits(table: Table, key: str, usual: Limits) -> Limits:
    inner = table.inner(key, {})
    limits = Limits(
        default=inner.number("default", usual.default),
        low=inner.number("low", usual.low),
        high=inner.number("high", usual.high),
    )
    inner.finish()
    if limits.default not in limits:
        raise table.error(key, f"the default {limits.default:g} is not within {limits.low:g} to {limits.high:g}")
    return limits
