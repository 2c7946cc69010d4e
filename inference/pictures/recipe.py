"""The recipe of a picture: everything needed to draw it again, and how it is written to and read from a PNG.

A PNG contains it twice: as JSON of our own, which is lossless, and as the ``parameters`` text of AUTOMATIC1111's web
UI, which other programs read.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from inference.contract import Adapter, ImageRequest, Variation
from inference.errors import InferenceError, NotAPicture
from inference.pictures import infotext
from inference.pictures.infotext import Infotext
from inference.prompts import literally

SCHEMA = 4
LATER = {
    1: frozenset({"guided_bucket", "variation"}),
    2: frozenset({"variation"}),
    3: frozenset[str](),
    SCHEMA: frozenset[str](),
}
"""Fields that recipes of each schema do not have yet."""
OUR_KEY = "lcm-recipe"
A1111_KEY = "parameters"
LIBRARIES = ("torch", "diffusers", "transformers")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 1000
MOST_PIXELS = 2**26
"""Maximum pixels of a picture that is read."""
MAX_TEXT = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One picture's recipe.

    ``variation`` has the picture's own variation seed. ``weights``: the fingerprint of the loaded model (SHA-256, hex).
    ``bucket`` and ``guided_bucket``: the sizes that its passes were padded to (0: there was no second one).
    ``precision`` and ``device``: torch's names (``bfloat16``, ``cpu``). ``threads``: how many computed (on a CPU, this
    affects the last bits; 0 elsewhere). ``versions``: pairs of library and version. On the same machine, the same
    recipe gives the same bits.
    """

    schema: int = SCHEMA
    prompt: str
    negative: str
    model: str
    weights: str
    adapters: tuple[Adapter, ...]
    seed: int
    variation: Variation | None = None
    steps: int
    guidance: float
    width: int
    height: int
    bucket: int
    guided_bucket: int
    precision: str
    device: str
    threads: int
    versions: tuple[tuple[str, str], ...] = ()

    def request(self) -> ImageRequest:
        """The order that draws this picture again."""
        return ImageRequest(
            prompt=self.prompt,
            negative=self.negative,
            model=self.model,
            adapters=self.adapters,
            seed=self.seed,
            count=1,
            steps=self.steps,
            guidance=self.guidance,
            width=self.width,
            height=self.height,
            bucket=self.bucket,
            guided_bucket=self.guided_bucket,
            variation=self.variation,
        )

    def to_json(self) -> str:
        """One line of JSON, readable by ``from_json``."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Parse ``text``; raises ``ValueError`` if it is not a recipe, or one of a newer schema."""
        try:
            found = json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(found, dict) or found.get("schema") not in list(LATER):  # a list accepts unhashable values
            raise ValueError("not a recipe of a schema known here")
        if strays := set(found) ^ (set(_READERS) - LATER[found["schema"]]):
            raise ValueError(f"unexpected or missing: {', '.join(sorted(strays))[:200]}")
        return cls(**_of_this_schema({name: _field(name, value) for name, value in found.items()}))


def library_versions() -> tuple[tuple[str, str], ...]:
    """Versions of the libraries that compute the pixels."""
    return tuple((name, _version(name)) for name in LIBRARIES)


def png_texts(recipe: Recipe) -> PngInfo:
    """The text chunks that carry ``recipe``."""
    texts = PngInfo()
    texts.add_text(A1111_KEY, infotext.write(_infotext(recipe)))  # becomes iTXt where Latin-1 does not suffice
    texts.add_itxt(OUR_KEY, recipe.to_json())
    return texts


def read_recipe(path: Path) -> Recipe | Infotext:
    """The recipe in the PNG at ``path``: ours, or else what AUTOMATIC1111's text says. Decodes no pixels.

    Raises:
        InferenceError: with NotAPicture: there is no such file, no PNG, no recipe in it, or an invalid one.
    """
    with _open(path) as picture:
        texts = {key: picture.info.get(key) for key in (OUR_KEY, A1111_KEY)}
    try:
        return _read_texts(texts[OUR_KEY], texts[A1111_KEY])
    except ValueError as error:
        raise InferenceError(NotAPicture(path=str(path), reason=str(error)[:300])) from error


def read_pixels(path: Path) -> bytes:
    """The RGB bytes of the PNG at ``path``, row by row; raises ``InferenceError(NotAPicture)``, also for huge ones."""
    with _open(path) as picture:
        return picture.convert("RGB").tobytes()


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """The PNG at ``path``; any error with it, including those in the block, becomes NotAPicture.

    Pillow limits the size of decompressed texts.
    """
    try:
        _count_chunks(path)
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError("more pixels than are read")
            yield picture
    except Exception as error:  # Pillow raises exceptions of many kinds for damaged files
        raise InferenceError(NotAPicture(path=str(path), reason=_reason(error))) from error


def _count_chunks(path: Path) -> None:
    """Raise ``ValueError`` for more chunks before the pixels than any program writes: even an empty one takes time."""
    with path.open("rb") as file:
        file.seek(len(PNG_SIGNATURE))
        for _ in range(MOST_CHUNKS):
            header = file.read(8)
            if len(header) < 8 or header[4:] == b"IDAT":
                return
            file.seek(int.from_bytes(header[:4]) + 4, os.SEEK_CUR)
    raise ValueError("there are too many parts in it")


def _read_texts(ours: object, a1111: object) -> Recipe | Infotext:
    for text, read in ((ours, Recipe.from_json), (a1111, infotext.read)):
        if isinstance(text, str):
            if len(text) > MAX_TEXT:
                raise ValueError("its description is too long")
            return read(text)
    raise ValueError("nothing in it says how it was drawn")


def _infotext(recipe: Recipe) -> Infotext:
    return Infotext(
        prompt=recipe.prompt,
        negative=recipe.negative,
        steps=recipe.steps,
        sampler="LCM",
        guidance=recipe.guidance,
        seed=recipe.seed,
        width=recipe.width,
        height=recipe.height,
        model=recipe.model,
        variation=recipe.variation,
        adapters=", ".join(f"{adapter.name}: {adapter.strength:g}" for adapter in recipe.adapters),
        version=f"lcm-discord-bot {_version('lcm-discord-bot')}",
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    value.encode()  # rejects a lone surrogate, which JSON can encode
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:  # True and False are ints, too
        raise ValueError("no whole number")
    return value


def _real(value: Any) -> float:
    try:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an int too large for a float
        pass
    raise ValueError("no number")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("no list")
    return value


def _adapter(value: Any) -> Adapter:
    if not isinstance(value, dict) or set(value) != {"name", "strength"}:
        raise ValueError("no adapter")
    return Adapter(name=_text(value["name"]), strength=_real(value["strength"]))


def _variation(value: Any) -> Variation | None:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"seed", "strength"}:
        raise ValueError("no variation")
    return Variation(seed=_whole(value["seed"]), strength=_real(value["strength"]))


def _pair(value: Any) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("no pair")
    return _text(value[0]), _text(value[1])


_READERS: dict[str, Callable[[Any], Any]] = {
    "schema": _whole,
    "prompt": _text,
    "negative": _text,
    "model": _text,
    "weights": _text,
    "adapters": lambda value: tuple(_adapter(item) for item in _list(value)),
    "seed": _whole,
    "variation": _variation,
    "steps": _whole,
    "guidance": _real,
    "width": _whole,
    "height": _whole,
    "bucket": _whole,
    "guided_bucket": _whole,
    "precision": _text,
    "device": _text,
    "threads": _whole,
    "versions": lambda value: tuple(_pair(item) for item in _list(value)),
}
"""How to read each field of a recipe; each raises ``ValueError`` for an invalid value."""


def _field(name: str, value: Any) -> Any:
    try:
        return _READERS[name](value)
    except ValueError as error:
        raise ValueError(f"{name} holds {error}") from error


def _of_this_schema(fields: dict[str, Any]) -> dict[str, Any]:
    """In schema 1, the second pass was as large as the first; up to schema 3, brackets had no meaning."""
    if fields["schema"] == 1:
        fields = {**fields, "guided_bucket": fields["bucket"] if fields["guidance"] > 1 else 0}
    if fields["schema"] <= 3:
        fields = {**fields, "prompt": literally(fields["prompt"]), "negative": literally(fields["negative"])}
    return {**fields, "schema": SCHEMA}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "0"


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is not a PNG file, or a damaged one"
