"""The work folder: where every stage finds its inputs and writes its outputs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from training.recipe import CPU, STYLES

DEFAULT = Path(__file__).parent / "work"
TRUNK = ("vae", "latents", "tokenizer", "text", "base")
"""What is made in turn, each from those before it."""
BRANCHES = ("ways", "native", "lora", *(f"style-{name}" for name in STYLES))
"""What is made from the last of those."""


@dataclass(frozen=True, slots=True)
class Work:
    """Paths under ``root``; folders hold what diffusers and transformers save."""

    root: Path

    def claim(self, recipe: str) -> None:
        """Note that ``recipe`` fills this folder; raises ``SystemExit`` if another recipe has begun to."""
        other = self.filled_by
        if other not in (None, recipe):
            raise SystemExit(
                f"{self.root} holds what the recipe “{other}” made, which “{recipe}” cannot continue. "
                f"Name another folder with --work, remove this one, or continue with --recipe {other}."
            )
        self.root.mkdir(parents=True, exist_ok=True)
        self.note.write_text(f"{recipe}\n", encoding="utf-8")

    def outdate(self, stage: str) -> None:
        """Remove what was made from the network of ``stage``, which is about to change: later stages would go on with
        it, or take it for finished."""
        if stage not in TRUNK:
            return
        for later in (*TRUNK[TRUNK.index(stage) + 1 :], *BRANCHES):
            self.checkpoint(later).unlink(missing_ok=True)
            (self.root / f"{later}.pt").unlink(missing_ok=True)
            shutil.rmtree(self.root / later, ignore_errors=True)

    @property
    def filled_by(self) -> str | None:
        """The recipe whose stages have written here. None: no recipe's, as the pictures are the same for all, and
        sheets are only looked at. A folder that does not say dates from when only the CPU recipe had been run."""
        left = set(self.root.iterdir()) if self.root.is_dir() else set()
        if left <= {self.note, self.pictures, _partial(self.pictures), self.sheets}:
            return None
        return self.note.read_text(encoding="utf-8").strip() if self.note.exists() else CPU.name

    @property
    def note(self) -> Path:
        """The name of the recipe that fills this folder."""
        return self.root / "recipe"

    @property
    def pictures(self) -> Path:
        """All pictures and their names, one compact file."""
        return self.root / "pictures.npz"

    @property
    def vae(self) -> Path:
        return self.root / "vae"

    @property
    def latents(self) -> Path:
        """Whitened latents of the training pictures with their captions' parts."""
        return self.root / "latents.pt"

    @property
    def tokenizer(self) -> Path:
        return self.root / "tokenizer"

    @property
    def text(self) -> Path:
        """The text encoder before it is trained further with the denoiser."""
        return self.root / "text"

    @property
    def base(self) -> Path:
        """``unet`` and ``text_encoder`` after the denoiser's training (moving averages)."""
        return self.root / "base"

    @property
    def ways(self) -> Path:
        """What the distillations learn from: the teacher's trajectories from noise to pictures."""
        return self.root / "ways.pt"

    @property
    def native(self) -> Path:
        return self.root / "native"

    @property
    def lora(self) -> Path:
        return self.root / "lora"

    def style(self, name: str) -> Path:
        return self.root / f"style-{name}"

    def checkpoint(self, stage: str) -> Path:
        return self.root / "checkpoints" / f"{stage}.pt"

    @property
    def sheets(self) -> Path:
        return self.root / "sheets"

    def sheet(self, name: str) -> Path:
        return self.sheets / f"{name}.png"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to, which then becomes ``path``: what is there was written whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    yield _partial(path)
    os.replace(_partial(path), path)  # noqa: PTH105 - atomic on every platform


def _partial(path: Path) -> Path:
    return path.with_suffix(".partial")
