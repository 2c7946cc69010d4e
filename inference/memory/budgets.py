"""How much memory loaded models may take, on the device, on the host and on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Bytes; None lets the worker choose by what the machine has.

    ``device``: memory of the device that draws. ``host``: pinned host memory beside a GPU. ``disk``: size of the
    ``folder`` where models are kept in the form they were loaded in; without a folder, none are.
    """

    device: int | None = None
    host: int | None = None
    disk: int | None = None
    folder: Path | None = None
