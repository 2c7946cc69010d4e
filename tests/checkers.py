"""Tiny safety checkers in the files that real ones come in, with weights that truly tell bright pictures from dark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, ViTConfig, ViTForImageClassification

SIDE = 32
"""Pixels that the tiny networks look at."""

VIT = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": SIDE, "width": SIDE},
}
"""As the usual classifier has it, only smaller."""

CLIP = {
    "feature_extractor_type": "CLIPFeatureExtractor",
    "crop_size": SIDE,
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": SIDE,
}
"""As the first checkpoints of Stable Diffusion have it."""


def save_classifier(
    folder: Path, *, bias: float = 0.0, labels: tuple[str, ...] = ("normal", "nsfw"), **config: Any
) -> Path:
    """A ViT to which bright pictures are ``nsfw``, from mid-grey on; with a high ``bias`` all are, with a low one none.

    One channel carries the mean of the pixels: the patches put it there, attention averages it over all of them, and
    the classifier weighs it against another that stays 0.
    """
    vit = ViTForImageClassification(
        ViTConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            image_size=SIDE,
            patch_size=8,
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            **config,
        )
    )
    with torch.no_grad():
        for weights in vit.parameters():
            weights.zero_()
        for name, weights in vit.named_parameters():
            if "layernorm" in name and name.endswith("weight"):
                weights.fill_(1.0)
        patches = vit.vit.embeddings.patch_embeddings.projection.weight
        patches[0], patches[1] = 1 / patches[0].numel(), -1 / patches[0].numel()
        for name, weights in vit.named_parameters():
            if name.endswith(("value.weight", "v_proj.weight", "attention.output.dense.weight", "o_proj.weight")):
                weights.copy_(torch.eye(8))
        vit.classifier.weight[1, 0] = 2.0
        vit.classifier.bias[1] = bias
    vit.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(VIT), encoding="utf-8")
    return folder


def save_own_checker(pipeline: Path, *, strict: float = 0.0, seed: int = 0) -> Path:
    """``safety_checker`` and ``feature_extractor`` in a pipeline's folder, with random weights.

    A higher ``strict`` lowers every concept's threshold; at 2 every picture is explicit, at -2 none.
    """
    torch.manual_seed(seed)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**tower, "image_size": SIDE, "patch_size": 8}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, text_config=tower, projection_dim=16))
    with torch.no_grad():
        for concepts in (checker.concept_embeds, checker.special_care_embeds):
            concepts.copy_(torch.randn(concepts.shape))
        checker.concept_embeds_weights.fill_(0.5 - strict)
        checker.special_care_embeds_weights.fill_(0.3)
    folder = pipeline / "safety_checker"
    checker.save_pretrained(folder)
    extractor = pipeline / "feature_extractor"
    extractor.mkdir(parents=True, exist_ok=True)
    (extractor / "preprocessor_config.json").write_text(json.dumps(CLIP), encoding="utf-8")
    return folder
