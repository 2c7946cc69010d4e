"""Where the weights of a model come from: its original files, or flat buffers that were kept of it on disk."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Protocol, TypeAlias

from inference.memory.layout import Architecture
from inference.memory.model import Manifest
from inference.memory.network import ReadNetwork
from inference.memory.part import Label, Part, flatten

LayOut: TypeAlias = Callable[[Mapping[str, ReadNetwork]], dict[str, Architecture]]
"""Says how the weights of a model's networks are laid out on a device."""


class Files(Protocol):
    """The files that a model is read from; they raise errors of their own."""

    @property
    def key(self) -> str:
        """Changes with everything that the weights are made from."""

    @property
    def key_at_hand(self) -> str | None:
        """``key``; None if computing it takes as long as reading the files."""

    @property
    def parameter_count(self) -> int:
        """Approximate number of parameters, without reading them; 0 if unknown."""

    @property
    def is_current(self) -> bool:
        """Whether none of them was replaced since they were found; True if some are gone. Reads no contents."""

    def networks(self, on_part: Callable[[], None]) -> dict[str, ReadNetwork]:
        """The networks by part, with what adapters add to them; ``on_part`` is called before each is read."""

    def check_unchanged(self) -> None:
        """Raise an error if a file was replaced since they were found."""

    def manifest(self, parts: Mapping[str, Label]) -> Manifest:
        """The model without its weights."""


class FromFiles:
    """A model from its original files."""

    def __init__(self, files: Files, lay_out: LayOut, on_part: Callable[[], None]) -> None:
        self._files = files
        self._networks = files.networks(on_part)
        self._architectures = lay_out(self._networks)
        self.sizes = {name: architecture.bytes for name, architecture in self._architectures.items()}

    def parts(self, *, pinned: Container[str]) -> dict[str, Part]:
        """Flatten the networks; each is freed as soon as its weights are copied."""
        parts = {
            name: flatten(self._networks.pop(name), architecture, pinned=name in pinned)
            for name, architecture in self._architectures.items()
        }
        self._files.check_unchanged()
        return parts


class FromDisk:
    """A model that was kept on disk."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts
        self.sizes = {name: part.bytes for name, part in parts.items()}

    def parts(self, *, pinned: Container[str]) -> dict[str, Part]:
        """Copies in memory of their own: mapped files may be truncated meanwhile, and are not aligned."""
        return {name: part.settled(pinned=name in pinned) for name, part in self._parts.items()}
