"""The common form of every loaded model, whatever files it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from diffusers import AutoencoderTiny

from inference.memory.part import Label
from inference.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Manifest:
    """A model without its weights. ``tokenizers``: by the text encoder that reads their tokens, in order; one, or two
    for SDXL.

    ``parts``: its weights by name (``unet``, ``vae``, ``text_encoder``, ``text_encoder_2``).
    ``zero_empty_negative``: SDXL's rule that an empty negative prompt is all zeros. ``fingerprint``: SHA-256 (hex) over
    every file and strength that the weights are made from.
    """

    parts: Mapping[str, Label]
    tokenizers: Mapping[str, Any]
    schedule: Schedule
    zero_empty_negative: bool
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextStage:
    """A tokenizer with its text encoder (transformers' CLIP classes). Stages of equal ``digest`` encode equally."""

    tokenizer: Any
    digest: str
    _encoder: Callable[[], Any]

    @property
    def encoder(self) -> Any:
        return self._encoder()


class PutAway(Protocol):
    def __call__(self, parts: Iterable[str], *, lose: bool = False) -> bool:
        """Remove parts from the device until they are requested again; returns whether any were there. Without
        ``lose``, those stay that are nowhere else; with it, they must not be requested again."""


class LoadedModel:
    """Networks on their device with this model's weights in them, adapters merged, ready to draw.

    ``live`` returns a part's network with these weights in it. They are put there on request, so parts that are never
    requested cost nothing.
    """

    def __init__(self, manifest: Manifest, live: Callable[[str], Any], put_away: PutAway) -> None:
        self._manifest = manifest
        self._live = live
        self.put_away = put_away

    @property
    def bytes(self) -> int:
        """Size of the weights in bytes."""
        return sum(label.bytes for label in self._manifest.parts.values())

    @property
    def fingerprint(self) -> str:
        """See ``Manifest``."""
        return self._manifest.fingerprint

    @property
    def schedule(self) -> Schedule:
        return self._manifest.schedule

    @property
    def zero_empty_negative(self) -> bool:
        """See ``Manifest``."""
        return self._manifest.zero_empty_negative

    @property
    def text(self) -> tuple[TextStage, ...]:
        """One stage, or two for SDXL."""
        return tuple(self._stage(part, tokenizer) for part, tokenizer in self._manifest.tokenizers.items())

    @property
    def text_parts(self) -> tuple[str, ...]:
        """Names of the text encoders."""
        return tuple(self._manifest.tokenizers)

    @property
    def unet(self) -> Any:
        """The denoiser, of diffusers' class."""
        return self._live("unet")

    @property
    def vae(self) -> Any:
        """The autoencoder, of diffusers' class."""
        return self._live("vae")

    @property
    def has_tiny_vae(self) -> bool:
        """Whether its autoencoder is as small as one for previews."""
        return bool(self._manifest.parts["vae"].architecture.kind == AutoencoderTiny.__name__)

    @property
    def two_encoders(self) -> bool:
        """Whether it is like SDXL, whose conditions include a pooled embedding and the size."""
        return len(self._manifest.tokenizers) == 2

    @property
    def guidance_dim(self) -> int | None:
        """Size of the guidance embedding of a native LCM, None for any other model."""
        dim: int | None = self._settings("unet")["time_cond_proj_dim"]
        return dim

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that the denoiser takes."""
        return int(self._settings("unet")["in_channels"])

    @property
    def vae_factor(self) -> int:
        """Pixels per latent along each side."""
        return int(2 ** (len(self._settings("vae")["block_out_channels"]) - 1))

    def _settings(self, part: str) -> Mapping[str, Any]:
        return self._manifest.parts[part].architecture.settings

    def _stage(self, part: str, tokenizer: Any) -> TextStage:
        told = f"{self._manifest.parts[part].digest} {tokenizer.pad_token} {tokenizer.model_max_length}"
        return TextStage(tokenizer=tokenizer, digest=told, _encoder=lambda: self._live(part))
