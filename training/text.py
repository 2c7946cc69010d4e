"""The text encoder, pretrained to match captions to pictures before any denoiser sees it.

Without this the denoiser, trained from scratch, hardly uses the text: contrastive learning against the pictures'
principal components (InfoNCE, arXiv 2103.00020) and regression onto them first give every name a direction of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training import tokenizer as tokens
from training.captions import UNCONDITIONAL, Variant, caption
from training.latents import Latents
from training.loop import Draw, Group, Loop, half
from training.pictures import Picture, load
from training.recipe import Recipe, device
from training.work import Work

COMPONENTS = 128


class Captioner:
    """Token ids for variants, worded anew each time."""

    def __init__(self, work: Work, latents: Latents) -> None:
        rows = load(work.pictures).rows
        self.labels: tuple[Picture, ...] = tuple(rows[index] for index in latents.vocabulary)
        self.variants = latents.variants
        self.tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(work.tokenizer)
        self.reader = tokens.Reader(self.tokenizer)

    def ids(self, chosen: Tensor, seed: int, empty: float = UNCONDITIONAL) -> Tensor:
        """(B, tokens) for the variants with indices ``chosen`` (B,); a share of ``empty`` is left without words."""
        return self.ids_of((self.variants[i] for i in chosen.tolist()), seed, empty)

    def ids_of(self, shown: Iterable[Variant], seed: int, empty: float = UNCONDITIONAL) -> Tensor:
        """The same for any variants of the vocabulary's emoji."""
        rng = random.Random(seed)
        return self.reader.ids(
            "" if rng.random() < empty else caption(self.labels[variant.entry], variant, rng) for variant in shown
        )


class Aligner(nn.Module):
    """The heads of the two tasks; discarded afterwards."""

    def __init__(self, width: int, components: int) -> None:
        super().__init__()
        self.picture, self.words = nn.Linear(components, width), nn.Linear(width, width)
        self.regress = nn.Linear(width, components)
        self.scale = nn.Parameter(torch.tensor(2.5))

    def loss(self, pooled: Tensor, target: Tensor) -> Tensor:
        """Loss of the captions' ``pooled`` (B, width) against their pictures' ``target`` (B, components)."""
        a, b = F.normalize(self.words(pooled), dim=1), F.normalize(self.picture(target * 8), dim=1)
        logits = a @ b.T * self.scale.exp()
        right = torch.arange(len(a), device=a.device)
        contrast = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        return contrast + 3 * F.mse_loss(self.regress(pooled), target * 4)


def learn_words(recipe: Recipe, work: Work) -> None:
    """Train the tokenizer on the captions of the variants and all names and tags."""
    latents, pictures = Latents.read(work), load(work.pictures)
    rng = random.Random(recipe.seed)
    captions = [
        caption(pictures.rows[latents.vocabulary[variant.entry]], variant, rng)
        for variant in latents.variants
        for _ in range(2)
    ]
    names = [words for row in pictures.rows for words in (row.label, *row.tags)]
    tokens.learn([*captions, *names], work.tokenizer)


def build(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder of CLIP's shape."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.text_width,
            intermediate_size=4 * recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=tokens.LENGTH,
            projection_dim=recipe.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            hidden_act="gelu",
        )
    )


def train(recipe: Recipe, work: Work) -> None:
    """Train the text encoder; writes ``work.text``."""
    if not work.checkpoint("text").exists():  # an encoder in training goes on with the tokenizer it began with
        learn_words(recipe, work)
    torch.manual_seed(recipe.seed)
    where, latents = device(), Latents.read(work)
    captioner = Captioner(work, latents)
    targets = components(latents.z.float().flatten(1)).to(where)
    encoder = build(recipe, captioner.tokenizer).to(where)
    heads = Aligner(recipe.text_width, targets.shape[1]).to(where)
    learnt = Group(parameters=(*encoder.parameters(), *heads.parameters()))
    loop = Loop("text", recipe.text, [learnt], work, seed=recipe.seed)

    def loss_of(draw: Draw) -> Tensor:
        chosen = torch.randint(len(targets), (recipe.text.batch,), generator=draw.generator)
        with half(where):
            pooled = encoder(captioner.ids(chosen, draw.step, empty=0.0).to(where)).pooler_output
        return heads.loss(pooled.float(), targets[chosen.to(where)])

    loop.run(loss_of)
    encoder.save_pretrained(work.text)


def components(x: Tensor) -> Tensor:
    """Principal components of rows ``x`` (N, D), at most COMPONENTS, scaled to about unit length."""
    count = min(COMPONENTS, *x.shape)
    centred = x - x.mean(0)
    _, strength, axes = torch.svd_lowrank(centred, q=count, niter=2)
    found = centred @ axes
    found = found / found.std(0).clamp_min(1e-3) * (strength / strength[0]).sqrt()
    components: Tensor = found / found.norm(dim=1).mean()
    return components
