"""Colours as people name them: recolouring pictures for training, and reading a drawn picture's colours back."""

from __future__ import annotations

import torch
from torch import Tensor

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (20, 20, 20),
    "red": (214, 48, 49),
    "orange": (240, 140, 40),
    "yellow": (250, 215, 70),
    "green": (70, 170, 80),
    "blue": (60, 110, 220),
    "purple": (140, 80, 190),
    "pink": (250, 160, 195),
    "gray": (140, 140, 145),
    "brown": (120, 80, 50),
    "teal": (50, 170, 170),
}
"""8-bit RGB of every background that captions name."""

HUES: dict[str, float] = {
    "red": 0, "orange": 28, "yellow": 52, "green": 125, "teal": 175, "blue": 220, "purple": 275, "pink": 330,
}  # fmt: skip
"""Hue in degrees of every colour that an emoji may be given."""


INK, PAPER = (26, 34, 92), (252, 244, 226)
"""8-bit RGB of a one-ink print's ink and paper."""
DARKEST = 0.12
"""The luminance up to which the ink is at its full strength."""


def to_hsv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in degrees, saturation and value in 0..1, each (B, H, W), of ``rgb`` (B, 3, H, W) in 0..1."""
    high, low = rgb.amax(1), rgb.amin(1)
    spread = (high - low).clamp_min(1e-6)
    r, g, b = rgb.unbind(1)
    sector = torch.where(
        high == r, ((g - b) / spread) % 6, torch.where(high == g, (b - r) / spread + 2, (r - g) / spread + 4)
    )
    return sector * 60, (high - low) / high.clamp_min(1e-6), high


def from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """The inverse of ``to_hsv``: (B, 3, H, W)."""

    def channel(offset: float) -> Tensor:
        k = (offset + hue / 60) % 6
        return value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)

    return torch.stack([channel(5.0), channel(3.0), channel(1.0)], 1)


def dominant_hue(rgb: Tensor, weight: Tensor) -> Tensor:
    """The circular mean hue in degrees, (B,), of ``rgb`` (B, 3, H, W) weighted with ``weight`` (B, H, W); dull pixels
    do not count."""
    hue, saturation, value = to_hsv(rgb)
    share = weight * saturation * value * (saturation > 0.2)
    angle = torch.deg2rad(hue)
    y, x = (share * angle.sin()).sum((1, 2)), (share * angle.cos()).sum((1, 2))
    return torch.rad2deg(torch.atan2(y, x)) % 360


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Degrees between hues, 0..180."""
    return ((a - b + 180) % 360 - 180).abs()


def recolour(rgb: Tensor, alpha: Tensor, name: str) -> Tensor:
    """Give a picture (3, H, W) the colour ``name``: its dominant hue moves there, dull parts are saturated, light and
    shade stay."""
    hue, saturation, value = to_hsv(rgb[None])
    centre = dominant_hue(rgb[None], alpha[None])
    spread = ((hue - centre + 180) % 360 - 180).clamp(-40, 40) * 0.35
    saturation = saturation * 0.5 + 0.55 * (1 - (1 - value) * 0.3)
    saturation = torch.where(value > 0.97, saturation * 0.55, saturation).clamp(0, 0.95)
    if name == "pink":
        saturation, value = saturation * 0.55, value * 0.6 + 0.4
    if name == "purple":
        saturation = saturation * 0.8
    return from_hsv((HUES[name] + spread) % 360, saturation, value.clamp(0.12, 1))[0].clamp(0, 1)


def rotate_hue(rgb: Tensor, degrees: Tensor) -> Tensor:
    """Rotate the hue of ``rgb`` (B, 3, H, W) in 0..1 by ``degrees`` (B,), in YIQ."""
    angle = torch.deg2rad(degrees)
    cos, sin = torch.cos(angle), torch.sin(angle)
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]], device=rgb.device)
    turn = torch.zeros(len(degrees), 3, 3, device=rgb.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cos, -sin, sin, cos
    return torch.einsum("bij,bjhw->bihw", torch.linalg.inv(to_yiq) @ turn @ to_yiq, rgb).clamp(0, 1)


def composite(rgb: Tensor, alpha: Tensor, background: str) -> Tensor:
    """Composite ``rgb`` (3, H, W) in 0..1 with ``alpha`` (H, W) onto the background of that name."""
    ground = torch.tensor(BACKGROUNDS[background]).float().view(3, 1, 1) / 255
    return rgb * alpha + ground * (1 - alpha)


def inked(picture: Tensor) -> Tensor:
    """``picture`` (3, H, W) in 0..1 as if printed with one ink: its luminance (ITU-R BT.601) between ink and paper."""
    weights = picture.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    tone = (((picture * weights).sum(0) - DARKEST) / (1 - DARKEST)).clamp(0, 1)
    ink, paper = (torch.tensor(colour).float().view(3, 1, 1) / 255 for colour in (INK, PAPER))
    return ink + (paper - ink) * tone


def border_colour(pictures: Tensor, width: int = 4) -> Tensor:
    """The median colour, (B, 3), of the outermost ``width`` pixels of ``pictures`` (B, 3, H, W)."""
    ring = torch.ones(pictures.shape[2:], dtype=torch.bool)
    ring[width:-width, width:-width] = False
    return pictures[:, :, ring].median(-1).values


def nearest_background(colours: Tensor) -> list[str]:
    """The name of the background nearest in RGB to each of ``colours`` (B, 3) in 0..1."""
    known = torch.tensor(list(BACKGROUNDS.values())).float() / 255
    return [list(BACKGROUNDS)[i] for i in torch.cdist(colours, known).argmin(1).tolist()]


def object_hue(pictures: Tensor) -> Tensor:
    """Dominant hue in degrees, (B,), of what differs from the border in ``pictures`` (B, 3, H, W) in 0..1."""
    distance = (pictures - border_colour(pictures)[:, :, None, None]).abs().amax(1)
    return dominant_hue(pictures, (distance > 0.15).float())
