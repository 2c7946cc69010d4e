"""The commands: draw, list models, draw again. Each takes data and reports the outcome in words."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from inference.batching import batch_of
from inference.catalog import Catalog
from inference.catalog.entries import Limits, ModelEntry
from inference.contract import Batch, ImageRequest, Phase, Progress
from inference.devices import AUTO, available_devices
from inference.drawing.drawn import Drawn
from inference.drawing.engine import Engine
from inference.errors import InferenceError, NotAPicture
from inference.pictures.recipe import Recipe, read_pixels, read_recipe
from inference.pictures.saving import PictureWriter
from inference.validation import check

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What to draw with: names as ``inference.devices`` takes them."""

    device: str = AUTO
    precision: str = AUTO
    threads: int | None = None


def draw(
    catalog: Catalog, request: ImageRequest, hardware: Hardware, folder: Path, say: Say, *, safety_check: bool = True
) -> None:
    """Draw ``request`` into ``folder``; report what was drawn, with what, how long it took, and what is explicit."""
    entry = check(request, catalog)
    with PictureWriter(folder) as writer:
        engine = _engine(catalog, hardware, safety_check=safety_check)
        say(_headline(entry, request, engine))
        if request.negative and not entry.negative_acts(request.guidance):
            say(_why_negative_is_idle(entry))
        batch = batch_of({str(uuid.uuid4()): request})
        drawn = _draw(engine, batch)
        saved = [
            writer.write(row, pixels, recipe)
            for row, pixels, recipe in zip(batch.rows, drawn.pixels, drawn.recipes, strict=True)
        ]
        for future, verdict in zip(saved, drawn.verdicts, strict=True):
            picture = future.result()
            note = "  (counts as explicit)" if verdict and verdict.explicit else ""
            varied = "" if picture.variation_seed is None else f"  variation {picture.variation_seed:<10}"
            say(f"  seed {picture.seed:<10}{varied}  {writer.path(picture.id)}{note}")
    for end in filter(None, (drawn.unread[0].prompt, drawn.unread[0].negative)):
        say(f"The text is too long for the model, which did not read “{end}”")
    pictures = "1 picture" if request.count == 1 else f"{request.count} pictures"
    say(f"{pictures} in {drawn.draw_s:.2f} s, after {drawn.load_s:.2f} s of loading")


def list_models(catalog: Catalog, say: Say) -> None:
    """Report for every model whether it is on this machine, what it draws, and where missing weights belong."""
    for entry in catalog:
        missing = catalog.missing(entry.name)
        default = ", default" if entry is catalog.default else ""
        say(f"{'✗' if missing else '✓'} {entry.name}  ({entry.title}; {entry.family}, {entry.kind}{default})")
        say(f"    {entry.description}".rstrip())
        steps, guidance = _range(entry.steps), _range(entry.guidance)
        say(f"    {entry.width}×{entry.height}, steps {steps}, guidance {guidance}, {entry.licence}")
        for source in missing:
            say(f"    not here: {source.whereabouts(entry.name)}")
        names = ", ".join(adapter.name for adapter in catalog.adapters(entry.family))
        if names:
            say(f"    LoRAs: {names}")
    for file in catalog.unusable:
        say(f"✗ {file.path}: {file.reason}")


def redraw(catalog: Catalog, path: Path, hardware: Hardware, say: Say) -> bool:
    """Draw the picture at ``path`` again from its own recipe; True if every pixel is identical.

    Device and precision are the recipe's unless ``hardware`` says otherwise; the threads are the recipe's, if possible.

    Raises:
        InferenceError: with NotAPicture, or with what drawing raises.
    """
    recipe = read_recipe(path)
    if not isinstance(recipe, Recipe):
        raise InferenceError(
            NotAPicture(path=str(path), reason="only settings of another program, which differ in detail")
        )
    before = read_pixels(path)
    request = recipe.request()
    entry = check(request, catalog)
    engine = _engine(catalog, _as_drawn(recipe, hardware), safety_check=False)  # its pictures are not kept
    say(_headline(entry, request, engine))
    drawn = _draw(engine, batch_of({str(uuid.uuid4()): request}))
    for difference in differences(recipe, drawn.recipes[0]):
        say(difference)
    after = drawn.pixels.tobytes()
    identical = before == after
    say("The pixels are identical." if identical else _how_different(before, after))
    return identical


def differences(then: Recipe, now: Recipe) -> list[str]:
    """Sentences on what has changed since the picture was drawn and may affect its pixels."""
    found = []
    if then.weights != now.weights:
        found.append(
            f"The weights of “{then.model}” have changed since: {then.weights[:10]} then, {now.weights[:10]} now."
        )
    if (then.device, then.precision) != (now.device, now.precision):
        found.append(f"It was drawn in {then.precision} on {then.device}; this is {now.precision} on {now.device}.")
    if then.threads != now.threads:
        found.append(f"It was drawn by {then.threads} threads; these are {now.threads}.")
    current = dict(now.versions)
    for library, version in then.versions:
        if current.get(library) != version:
            found.append(f"It was drawn with {library} {version}; this is {current.get(library, 'missing')}.")
    return found


def _engine(catalog: Catalog, hardware: Hardware, *, safety_check: bool) -> Engine:
    return Engine(
        catalog=catalog,
        device=hardware.device,
        precision=hardware.precision,
        threads=hardware.threads,
        safety_check=safety_check,
    )


def _as_drawn(recipe: Recipe, wish: Hardware) -> Hardware:
    """The recipe's hardware, as far as it is available here and ``wish`` names no other."""
    has_device = any(device.startswith(recipe.device) for device in available_devices())
    device = recipe.device if wish.device == AUTO and has_device else wish.device
    precision = recipe.precision if wish.precision == AUTO else wish.precision
    possible = 1 <= recipe.threads <= (os.cpu_count() or 1)
    return Hardware(device=device, precision=precision, threads=recipe.threads if possible else None)


def _draw(engine: Engine, batch: Batch) -> Drawn:
    """Draw ``batch``; raises ``InferenceError`` for faults of single pictures, too."""
    with _bar(batch.steps) as on_progress:
        drawn = engine.draw(batch, on_progress)
    for fault in drawn.faults:
        if fault is not None:
            raise InferenceError(fault)
    return drawn


@contextmanager
def _bar(steps: int) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on stderr that follows the engine; it leaves nothing behind."""
    with tqdm(total=steps, leave=False, bar_format="{desc}: {bar} {n_fmt}/{total_fmt}") as bar:

        def follow(progress: Progress) -> None:
            bar.set_description_str(progress.phase)
            if progress.phase is Phase.DRAWING:
                bar.update(progress.step - bar.n)

        yield follow


def _headline(entry: ModelEntry, request: ImageRequest, engine: Engine) -> str:
    loras = "".join(f", LoRA {adapter.name} at {adapter.strength:g}" for adapter in request.adapters)
    return (
        f"{entry.title} ({entry.name}){loras}: {request.steps} steps, guidance {request.guidance:g}, "
        f"{request.width}×{request.height}, on {engine.device_name} in {engine.precision_name}"
    )


def _why_negative_is_idle(entry: ModelEntry) -> str:
    if entry.negative_acts(entry.guidance.high):
        return "The negative prompt has no effect at guidance 1; raise the guidance above 1 to use it."
    return "The negative prompt has no effect: this model is a native LCM, its guidance is built in."


def _range(limits: Limits) -> str:
    return f"{limits.default:g} ({limits.low:g} to {limits.high:g})"


def _how_different(before: bytes, after: bytes) -> str:
    if len(before) != len(after):
        return "The pixels differ: the sizes are not the same."
    levels = np.abs(np.frombuffer(before, np.uint8).astype(int) - np.frombuffer(after, np.uint8))
    psnr = 10 * math.log10(255**2 / float(np.square(levels).mean()))
    share, most = (levels > 0).mean(), levels.max()
    return f"The pixels differ: in {share:.1%} of the values, by at most {most} of 255 ({psnr:.1f} dB)."
