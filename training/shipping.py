"""Turns a work folder into the files that ship: half-precision safetensors in the layouts that others read."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from training.folding import fold
from training.kohya import save_kohya
from training.latents import Latents
from training.lowrank import truncated
from training.pictures import load
from training.work import Work

LORA = "pytorch_lora_weights.safetensors"
VOCABULARY = "vocabulary.json"
"""The names of the emoji that were learnt, in their order there."""
LARGEST = 48_000_000
"""Bytes that all files together may have."""
LCM_RANK, STYLE_RANK = 14, 4
"""Maximum ranks, so that they do."""
OWN = ("emoji/**/*", "emoji-lcm/**/*", "emoji-lcm-lora/**/*", "loras/emoji-*")
"""The model's files; beside them may be other people's LoRAs."""


def ship(work: Work, models: Path) -> int:
    """Write all forms that ``work`` holds under ``models``; returns the bytes of all of them together.

    Raises ``SystemExit``, and leaves ``models`` as it was, if some weights are not finite or the files too large.
    """
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        _forms(work, made)
        _check_finite(made)
        new = _sizes(made)
        total = sum((_sizes(models) | new).values())
        if total > LARGEST:
            raise SystemExit(f"The model would have {total / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}: not exported.")
        for name in new:
            (models / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made / name, models / name)  # not its mode: safetensors lets only the owner read
    return total


def _sizes(folder: Path) -> dict[Path, int]:
    """Bytes of each of the model's files under ``folder``."""
    files = [path for pattern in OWN for path in folder.glob(pattern) if path.is_file()]
    return {path.relative_to(folder): path.stat().st_size for path in files}


def _check_finite(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        broken = [name for name, weight in load_file(path).items() if not weight.isfinite().all()]
        if broken:
            where = path.relative_to(folder)
            raise SystemExit(f"{where} would hold weights that are not finite, such as {broken[0]}: not exported.")


def _forms(work: Work, models: Path) -> None:
    _base(work, models / "emoji")
    if work.native.exists():
        _native(work, models / "emoji-lcm")
    if work.lora.exists():
        _lora(work.lora / LORA, models / "emoji-lcm-lora" / LORA, LCM_RANK)
    if (flat := work.style("flat")).exists():
        _kohya_lora(flat / LORA, models / "loras" / "emoji-flat.safetensors")
    if (ink := work.style("ink")).exists():
        _lora(ink / LORA, models / "loras" / "emoji-ink.safetensors", STYLE_RANK)


def scheduler() -> DDIMScheduler:
    """The teacher's sampler; LCMScheduler.from_config keeps its schedule and prediction type."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def pipeline(work: Work) -> StableDiffusionPipeline:
    """The base model in float32 as plain diffusers sees it."""
    latents = Latents.read(work)
    return StableDiffusionPipeline(
        vae=fold(AutoencoderKL.from_pretrained(work.vae), latents.mean, latents.std),
        text_encoder=CLIPTextModel.from_pretrained(work.base / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(work.tokenizer),
        unet=UNet2DConditionModel.from_pretrained(work.base / "unet"),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _base(work: Work, folder: Path) -> None:
    pipeline(work).to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):  # transformers 5 writes only tokenizer.json
        shutil.copyfile(work.tokenizer / name, folder / "tokenizer" / name)
    for config in folder.rglob("config.json"):
        _tidy(config)
    rows = load(work.pictures).rows
    names = [rows[index].label for index in Latents.read(work).vocabulary]
    (folder / VOCABULARY).write_text(json.dumps(names, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _native(work: Work, folder: Path) -> None:
    UNet2DConditionModel.from_pretrained(work.native).half().save_pretrained(folder)
    _tidy(folder / "config.json")


def _tidy(config: Path) -> None:
    """Where the weights were on the machine that trained them concerns nobody. And transformers 5 computes in the dtype
    that the file names, diffusers in float32: unless both have the same, the pipeline cannot add up their tensors."""
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings.pop("_name_or_path", None)
    if "dtype" in settings:
        settings["dtype"] = "float32"
    config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _lora(source: Path, target: Path, rank: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(truncated(load_file(source), rank), target, metadata={"format": "pt"})


def _kohya_lora(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    lora = truncated(load_file(source), STYLE_RANK)
    rank = next(len(value) for key, value in lora.items() if key.endswith(("lora_A.weight", "lora.down.weight")))
    save_kohya(lora, target, rank=rank, alpha=rank, name=target.stem)
