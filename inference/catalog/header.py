"""The header of a safetensors file: names, shapes and metadata, without torch and without trusting any number in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

LARGEST_HEADER = 32 * 2**20
"""Bytes. The largest real ones, of LoRAs with all their training captions in the metadata, have a few million."""
MOST_DIMENSIONS = 8
"""Of a tensor; real ones have five at most."""
LONGEST_SIDE = 2**63 - 1
"""Of a tensor; no library counts further."""

BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
BITS |= {"F8_E4M3": 8, "F8_E5M2": 8, "U16": 16, "U32": 32, "U64": 64}


class HeaderError(ValueError):
    """Not a safetensors file, or a damaged one; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The contents of a header: the shape of every tensor, free text by key, and the types of the tensors' numbers."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    precisions: frozenset[str] = frozenset()

    def parameter_count(self, prefix: str = "") -> int:
        """The number of parameters in tensors whose names start with ``prefix``."""
        return sum(prod(shape) for name, shape in self.shapes.items() if name.startswith(prefix))

    def has(self, prefix: str) -> bool:
        """Whether any tensor's name starts with ``prefix``."""
        return any(name.startswith(prefix) for name in self.shapes)


def read_header(path: Path) -> Header:
    """Read and check the header of ``path``.

    Raises:
        HeaderError: it is damaged, or not a safetensors file.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise HeaderError(
                f"not a safetensors file, or only the start of one: {size:,} bytes, with a header of {length:,}"
            )
        if length > LARGEST_HEADER:
            raise HeaderError(f"its header has {length:,} bytes; the limit is {LARGEST_HEADER:,}")
        text = file.read(length)
    table = _table(text)
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise HeaderError("the header's metadata is no table")
    shapes = {name: _shape(name, value, size - 8 - length) for name, value in table.items()}
    precisions = frozenset(str(value["dtype"]) for value in table.values())
    return Header(
        shapes=shapes, precisions=precisions, metadata={str(key): str(value) for key, value in metadata.items()}
    )


def _table(text: bytes) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HeaderError("the header is not JSON: the file is damaged, or not a safetensors file") from error
    if not isinstance(table, dict):
        raise HeaderError("the header is no table of tensors")
    return table


def _shape(name: str, value: Any, available: int) -> tuple[int, ...]:
    try:
        shape = tuple(int(side) for side in value["shape"][: MOST_DIMENSIONS + 1])
        possible = len(shape) <= MOST_DIMENSIONS and all(0 <= side <= LONGEST_SIDE for side in shape)
        begin, end = value["data_offsets"]
        whole = possible and end - begin == prod(shape) * BITS[value["dtype"]] // 8 and begin >= 0
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise HeaderError(f"the header does not describe {name[:100]}") from error
    if not whole:
        raise HeaderError(f"the header contradicts itself about {name[:100]}")
    if end > available:
        raise HeaderError(f"the file is cut off: {available:,} of at least {end:,} bytes of weights are there")
    return shape
