"""From pictures to a classifier's input, on the device, according to its ``preprocessor_config.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers import AutoImageProcessor

from inference.loading.unsupported import UnsupportedError

KINDS = ("ViTImageProcessor", "CLIPImageProcessor", "DeiTImageProcessor", "SiglipImageProcessor")
"""Processors that do what is implemented below and nothing else."""

FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers and torch's names for filters."""

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Resize to ``size``, or the shorter side to ``shortest``; centre crop; rescale; normalise. None skips a step."""

    size: Size | None
    shortest: int | None
    filter: str
    crop: Size | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def open(cls, folder: Path) -> Preprocessing:
        """Read the folder's ``preprocessor_config.json``; transformers knows its defaults and older spellings.

        Raises:
            UnsupportedError: it asks for something else; also ``OSError`` or ``ValueError`` if it is damaged.
        """
        if not (folder / "preprocessor_config.json").is_file():
            raise UnsupportedError(f"there is no preprocessor_config.json in “{folder.name}”")
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config = processor.to_dict()
        kind = config.get("image_processor_type")
        if kind not in KINDS:
            raise UnsupportedError(f"pictures prepared by {kind} are not supported")
        return cls(
            size=_sides(config["size"]) if config["do_resize"] else None,
            shortest=config["size"].get("shortest_edge") if config["do_resize"] else None,
            filter=_filter(config),
            crop=_sides(config["crop_size"]) if config.get("do_center_crop") else None,
            scale=float(config["rescale_factor"]) if config["do_rescale"] else 1.0,
            mean=tuple(config["image_mean"]) if config["do_normalize"] else (0.0, 0.0, 0.0),
            std=tuple(config["image_std"]) if config["do_normalize"] else (1.0, 1.0, 1.0),
        )

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures (B, H, W, 3) in uint8 to (B, 3, h, w) in float32, on the same device."""
        prepared = self._cropped(self._resized(pictures.permute(0, 3, 1, 2).float()))
        mean, std = (prepared.new_tensor(values).reshape(1, -1, 1, 1) for values in (self.mean, self.std))
        return (prepared * self.scale - mean) / std

    def _resized(self, pictures: Tensor) -> Tensor:
        """As Pillow does it: horizontally and rounded, then vertically and rounded."""
        size = self._target(pictures.shape[-2], pictures.shape[-1])
        if size == tuple(pictures.shape[-2:]):
            return pictures
        where = pictures.device
        able = pictures.cpu() if where.type == "mps" else pictures  # torch has no antialiasing there
        for step in ((pictures.shape[-2], size[1]), size):
            able = functional.interpolate(able, size=step, mode=self.filter, antialias=True, align_corners=False)
            able = (able + 0.5).floor().clamp(0, 255)  # rounds half up, not half to even
        return able.to(where)

    def _target(self, height: int, width: int) -> Size:
        if self.size is not None:
            return self.size
        if self.shortest is None:
            return height, width
        shorter = min(height, width)
        return self.shortest * height // shorter, self.shortest * width // shorter

    def _cropped(self, pictures: Tensor) -> Tensor:
        if self.crop is None:
            return pictures
        (height, width), (crop_height, crop_width) = pictures.shape[-2:], self.crop
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        if top < 0 or left < 0:
            raise UnsupportedError(f"{width}×{height} is too small for a crop to {crop_width}×{crop_height}")
        return pictures[..., top : top + crop_height, left : left + crop_width]


def _sides(size: dict[str, Any]) -> Size | None:
    return (size["height"], size["width"]) if "height" in size else None


def _filter(config: dict[str, Any]) -> str:
    number = int(config["resample"])
    if config["do_resize"] and number not in FILTERS:
        raise UnsupportedError(f"resampling by filter {number} is not supported")
    return FILTERS.get(number, "bilinear")
