"""Layer names in Stable Diffusion's original code, and diffusers' names for the same layers.

Single-file checkpoints separate the parts of a name with dots, LoRAs of kohya's trainer with underscores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Names:
    """``beginnings``: prefixes of original names, with diffusers'; ``inside``: parts of the rest to be renamed."""

    beginnings: tuple[Pair, ...]
    inside: tuple[Pair, ...] = ()

    def rename(self, name: str, separator: str = ".") -> str | None:
        """diffusers' name; None if the table does not know ``name``."""
        fitting = [pair for pair in self._separated(self.beginnings, separator) if _begins(name, pair[0], separator)]
        if not fitting:
            return None
        old, new = max(fitting, key=lambda pair: len(pair[0]))
        rest = name[len(old) :] + separator
        for before, after in self._separated(self.inside, separator):
            rest = rest.replace(f"{separator}{before}{separator}", f"{separator}{after}{separator}")
        return new + rest.removesuffix(separator)

    @staticmethod
    def _separated(pairs: tuple[Pair, ...], separator: str) -> list[Pair]:
        return [(old.replace(".", separator), new.replace(".", separator)) for old, new in pairs]


def _begins(name: str, beginning: str, separator: str) -> bool:
    return name == beginning or name.startswith(beginning + separator)


# -- the denoiser ------------------------------------------------------------------------------------------------------

UNET = (
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("time_embed.cond_proj", "time_embedding.cond_proj"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("middle_block.0", "mid_block.resnets.0"),
    ("middle_block.1", "mid_block.attentions.0"),
    ("middle_block.2", "mid_block.resnets.1"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
)
RESIDUAL_BLOCK = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)


def unet_names(levels: int, layers: int) -> Names:
    """Names in a UNet of ``levels`` resolutions with ``layers`` residual blocks each on the way down."""
    return Names((*UNET, *_down(levels, layers), *_up(levels, layers)), RESIDUAL_BLOCK)


def unet_names_of(originals: Iterable[str]) -> Names:
    """Names in the UNet with these original names, whose downsamplers tell its number of levels and layers."""
    blocks = {tuple(name.split(".")[1:4]) for name in originals if name.startswith("input_blocks.")}
    shrinking = sorted(int(block[0]) for block in blocks if block[2:] == ("op",))
    layers = shrinking[0] - 1 if shrinking else max((int(block[0]) for block in blocks), default=0)
    return unet_names(len(shrinking) + 1, layers)


def _down(levels: int, layers: int) -> Iterator[Pair]:
    for level in range(levels):
        first = 1 + level * (layers + 1)
        for layer in range(layers):
            yield f"input_blocks.{first + layer}.0", f"down_blocks.{level}.resnets.{layer}"
            yield f"input_blocks.{first + layer}.1", f"down_blocks.{level}.attentions.{layer}"
        yield f"input_blocks.{first + layers}.0.op", f"down_blocks.{level}.downsamplers.0.conv"


def _up(levels: int, layers: int) -> Iterator[Pair]:
    for level in range(levels):
        first = level * (layers + 1)
        for layer in range(layers + 1):
            yield f"output_blocks.{first + layer}.0", f"up_blocks.{level}.resnets.{layer}"
            yield f"output_blocks.{first + layer}.1", f"up_blocks.{level}.attentions.{layer}"
        for place in (1, 2):  # 2 if attention comes before it
            yield f"output_blocks.{first + layers}.{place}.conv", f"up_blocks.{level}.upsamplers.0.conv"


# -- the autoencoder ---------------------------------------------------------------------------------------------------


VAE_ATTENTION = (
    ("norm", "group_norm"),
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("proj_out", "to_out.0"),
    *((name, name) for name in ("to_q", "to_k", "to_v", "to_out.0")),
)
"""The last four are diffusers' own, which its conversion of 2023 left in the files it wrote."""

VAE_OF_2022 = Names(
    tuple((name, name) for name in ("encoder", "decoder", "quant_conv", "post_quant_conv")),
    (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")),
)
"""Names in diffusers' first files, where only those of the attention differ from today's."""


def vae_names_of(originals: Iterable[str]) -> Names:
    """Names in the autoencoder with these original names."""
    levels = len({name.split(".")[2] for name in originals if name.startswith("decoder.up.")})
    return Names((*_vae_ends(), *_vae_levels(levels)), (("nin_shortcut", "conv_shortcut"),))


def _vae_ends() -> Iterator[Pair]:
    yield from ((name, name) for name in ("quant_conv", "post_quant_conv"))
    for half in ("encoder", "decoder"):
        yield from ((f"{half}.{name}", f"{half}.{name}") for name in ("conv_in", "conv_out"))
        yield f"{half}.norm_out", f"{half}.conv_norm_out"
        yield f"{half}.mid.block_1", f"{half}.mid_block.resnets.0"
        yield f"{half}.mid.block_2", f"{half}.mid_block.resnets.1"
        for old, new in VAE_ATTENTION:
            yield f"{half}.mid.attn_1.{old}", f"{half}.mid_block.attentions.0.{new}"


def _vae_levels(levels: int) -> Iterator[Pair]:
    for level in range(levels):
        mirrored = levels - 1 - level
        yield f"encoder.down.{level}.block", f"encoder.down_blocks.{level}.resnets"
        yield f"encoder.down.{level}.downsample.conv", f"encoder.down_blocks.{level}.downsamplers.0.conv"
        yield f"decoder.up.{level}.block", f"decoder.up_blocks.{mirrored}.resnets"
        yield f"decoder.up.{level}.upsample.conv", f"decoder.up_blocks.{mirrored}.upsamplers.0.conv"


# -- OpenCLIP's text encoder -------------------------------------------------------------------------------------------

PROJECTION = "text_projection"
"""A matrix, the transpose of the linear layer's weight in files made from a diffusers folder."""
OPEN_CLIP = Names(
    (
        ("token_embedding", "embeddings.token_embedding"),
        ("positional_embedding", "embeddings.position_embedding.weight"),
        ("transformer.resblocks", "encoder.layers"),
        ("ln_final", "final_layer_norm"),
        (PROJECTION, "text_projection.weight"),
        ("text_projection.weight", "text_projection.weight"),
    ),
    (
        ("ln_1", "layer_norm1"),
        ("ln_2", "layer_norm2"),
        ("mlp.c_fc", "mlp.fc1"),
        ("mlp.c_proj", "mlp.fc2"),
        ("attn", "self_attn"),
    ),
)
"""Query, key and value are one ``in_proj`` there, which renaming alone cannot split."""
