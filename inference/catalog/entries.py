"""What the catalogue knows about a model or a LoRA, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inference.catalog.sources import Source
from inference.contract import Adapter


class Family(StrEnum):
    """Networks of one architecture: what fits one member (a LoRA, an LCM-LoRA) fits all of them."""

    EMOJI = "emoji"
    SD15 = "sd15"
    SD21 = "sd21"
    SDXL = "sdxl"
    SSD1B = "ssd1b"
    VEGA = "vega"


class Kind(StrEnum):
    """How a model came to draw in a few steps, which decides what its guidance means."""

    NATIVE = "native"
    """Distilled as a whole: guidance is embedded, costs nothing, and a negative prompt has no effect."""
    LORA = "lora"
    """Any checkpoint with an LCM-LoRA merged in."""
    MERGED = "merged"
    """A checkpoint that was published with an LCM-LoRA, or another distillation, already merged in."""


class Prediction(StrEnum):
    """What a denoiser was trained to predict from a noisy latent, by diffusers' names."""

    EPSILON = "epsilon"
    VELOCITY = "v_prediction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A number's range, both ends included, and its default."""

    default: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high  # False for NaN


GUIDANCE = {
    Kind.NATIVE: Limits(default=8.0, low=3.0, high=13.0),
    Kind.LORA: Limits(default=1.0, low=1.0, high=2.0),
    Kind.MERGED: Limits(default=1.0, low=1.0, high=2.0),
}
"""Native: the range that the published models were distilled over (arXiv 2310.04378; diffusers' documentation of
LatentConsistencyModelPipeline gives 3 to 13). LoRA: guidance is distilled in, 1 leaves it off (arXiv 2311.05556)."""


LONGEST_NAME, LONGEST_TITLE = 40, 100
"""Characters: names are used in the ids of buttons and as the values of options, titles as the options' labels."""

STEPS = Limits(default=4, low=1, high=8)
"""Unless an entry says otherwise."""


class Checked(StrEnum):
    """Who checks whether a model's pictures are explicit."""

    CATALOGUE = "catalogue"
    """The classifier that the catalogue names for all models."""
    OWN = "own"
    """The safety checker in the model's own diffusers folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyEntry:
    """An image classifier; a picture is explicit if its ``labels`` together reach ``threshold`` (0 to 1)."""

    weights: Source
    labels: tuple[str, ...]
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model that can be requested by ``name``.

    ``weights`` is a whole diffusers pipeline or a single file; ``unet``, if given, replaces its denoiser (as
    ``latent-consistency/lcm-sdxl`` is published), and ``vae`` its autoencoder (by a tiny one, or one that works in
    fp16); ``lcm_lora`` and ``styles`` are merged into it. ``prediction`` is for a single file, of the model or its
    denoiser, which may not declare it itself. ``width`` and ``height`` are its best size, in pixels; sides from
    ``smallest_side`` to ``largest_side`` are accepted.
    """

    name: str
    title: str
    family: Family
    kind: Kind
    weights: Source
    unet: Source | None = None
    vae: Source | None = None
    prediction: Prediction | None = None
    lcm_lora: Source | None = None
    styles: tuple[Adapter, ...] = ()
    steps: Limits
    guidance: Limits
    width: int
    height: int
    smallest_side: int
    largest_side: int
    licence: str
    description: str
    examples: tuple[str, ...] = ()
    harmless: bool = False
    """Cannot draw anything explicit, so its pictures need no check."""
    checked: Checked = Checked.CATALOGUE
    """Who checks its pictures, unless it is harmless."""

    def negative_acts(self, guidance: float) -> bool:
        """Whether a negative prompt has an effect at this guidance (never with a native LCM)."""
        return self.kind is not Kind.NATIVE and guidance > 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterEntry:
    """A style LoRA for the models of one family; ``triggers`` are its trigger words."""

    name: str
    title: str
    family: Family
    weights: Source
    licence: str
    description: str
    triggers: tuple[str, ...] = ()
