"""Fetches the emoji packages from npm and renders every picture at one size: all that training needs in one file."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from training.pictures import SIDE, Picture, save

NAMES = "emojibase-data@17.0.0"
SOLID = "@lobehub/fluent-emoji-3d@1.1.0"
DRAWN = {"flat": "@iconify-json/fluent-emoji-flat@1.2.6", "noto": "@iconify-json/noto@1.2.9"}
MARGIN = 8

GROUPS = (0, 3, 4, 5, 6, 7, 8)
LEFT_OUT = re.compile(
    r"\b(button|keycap|flag|sign|skin tone|clock\b|o’clock|thirty|arrow|prohibited|no |kiss|couple|family|square"
    r"|circle|moon face|man|woman|men|women|person|people)\b"
)
KEPT = re.compile(
    r"(stop sign|(alarm|timer|mantelpiece) clock|bow and arrow|heart with arrow|envelope with arrow"
    r"|mobile phone with arrow|kiss mark|flag in hole|(new|first quarter|last quarter|full) moon face"
    r"|(open|closed) mailbox with (raised|lowered) flag)"
)
"""Labels in which the words of ``LEFT_OUT`` mean something else."""
SYMBOLS = re.compile(
    r"heart|star|crown|recycl|trident|diamond|warning|radioactive|biohazard|yin|peace|infinity|music|check mark"
    r"|cross mark|question|exclamation"
)


class FetchError(Exception):
    """npm is missing or could not fetch a package; the message says why."""


@dataclass(frozen=True, slots=True)
class Icons:
    """An iconify set: SVG bodies by name, names by code points."""

    names: dict[str, str]
    icons: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Icons:
        chars = json.loads((folder / "chars.json").read_text(encoding="utf-8"))
        return cls(
            {code.lower(): name for code, name in chars.items()},
            json.loads((folder / "icons.json").read_text(encoding="utf-8")),
        )

    def draw(self, code: str) -> Image.Image | None:
        """The icon of a code point sequence, None if the set has none."""
        import resvg_py  # from the extra "train", needed only here

        name = self.names.get(code) or self.names.get(code.replace("-fe0f", ""))
        while name is not None and name not in self.icons["icons"]:
            name = self.icons.get("aliases", {}).get(name, {}).get("parent")
        if name is None:
            return None
        icon = self.icons["icons"][name]
        width, height = (icon.get(side, self.icons.get(side, 16)) for side in ("width", "height"))
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}" width="{SIDE}" height="{SIDE}">{icon["body"]}</svg>'
        )
        png = resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE)
        return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def build(path: Path) -> int:
    """Write every picture of the packages to ``path``; returns how many there are. Raises ``SystemExit`` if they cannot
    be fetched."""
    rows, pictures = [], []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for row, picture in _drawn(Path(scratch)):
                rows.append(row)
                pictures.append(np.asarray(picture))
        except FetchError as error:
            raise SystemExit(
                f"{error}\nOr run “python -m training data” on another machine, "
                f"and copy the file training/work/{path.name} from there to {path}."
            ) from error
    save(rows, np.stack(pictures), path)
    return len(rows)


def fitted(picture: Image.Image) -> Image.Image | None:
    """The picture's visible part, centred in a transparent square with a margin; None if nothing is visible."""
    picture = picture.convert("RGBA")
    box = picture.getchannel("A").point(lambda alpha: 255 if alpha > 8 else 0).getbbox()
    if box is None:
        return None
    picture = picture.crop(box)
    scale = (SIDE - 2 * MARGIN) / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = Image.new("RGBA", (SIDE, SIDE))
    resized = picture.resize((width, height), Image.Resampling.LANCZOS)
    square.paste(resized, ((SIDE - width) // 2, (SIDE - height) // 2))
    return square


def _drawn(scratch: Path) -> Iterator[tuple[Picture, Image.Image]]:
    emoji = json.loads((_unpacked(NAMES, scratch) / "en" / "data.json").read_text(encoding="utf-8"))
    solid = {path.stem: path for path in (_unpacked(SOLID, scratch) / "assets").glob("*.webp")}
    sets = {style: Icons.read(_unpacked(package, scratch)) for style, package in DRAWN.items()}
    for entry in tqdm([entry for entry in emoji if _wanted(entry)], desc="pictures"):
        code = entry["hexcode"].lower()
        bare = code.replace("-fe0f", "")
        path = solid.get(code) or solid.get(bare) or solid.get(code + "-fe0f")
        if path is None:
            continue
        found = {"3d": Image.open(path)} | {style: icons.draw(code) for style, icons in sets.items()}
        for style, picture in found.items():
            square = fitted(picture) if picture is not None else None
            if square is not None:
                yield _described(entry, style), square


def _wanted(entry: dict[str, Any]) -> bool:
    label, group = entry["label"].lower(), entry.get("group")
    if group not in GROUPS or (LEFT_OUT.search(label) and not KEPT.fullmatch(label)):
        return False
    return group != 8 or SYMBOLS.search(label) is not None


def _described(entry: dict[str, Any], style: str) -> Picture:
    return Picture(
        label=re.sub("[“”]", "", entry["label"].lower()),
        tags=tuple(entry.get("tags", [])[:6]),
        style=style,
        code=entry["hexcode"].lower(),
        group=entry["group"],
    )


def _unpacked(package: str, scratch: Path) -> Path:
    """The folder of an npm package, fetched by name with npm itself; raises ``FetchError`` if that fails."""
    target = scratch / re.sub(r"\W+", "-", package)
    target.mkdir()
    try:
        done = subprocess.run(["npm", "pack", package], cwd=target, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise FetchError("The emoji are downloaded with npm, which is not installed. Install Node.js.") from None
    except subprocess.CalledProcessError as error:
        raise FetchError(f"npm could not fetch {package}:\n{error.stderr.strip()}") from error
    with tarfile.open(target / done.stdout.strip().splitlines()[-1]) as archive:
        archive.extractall(target, filter="data")
    return target / "package"
