"""Safety checkers: image classifiers of transformers, and the checker that Stable Diffusion came with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForImageClassification

from inference.catalog.entries import SafetyEntry
from inference.loading.damage import check_finite
from inference.loading.folder import load_network
from inference.loading.preprocessing import Preprocessing
from inference.loading.unsupported import UnsupportedError

SPECIAL_CARE = np.float32(0.01)
"""How much every concept's threshold drops for pictures that need special care, as in diffusers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a picture is explicit, and the score that this follows from."""

    explicit: bool
    score: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checker(ABC):
    """A network that judges pictures, with its preprocessing."""

    network: Any
    prepare: Preprocessing

    @property
    def bytes(self) -> int:
        """Size of the weights in bytes."""
        tensors = (*self.network.parameters(), *self.network.buffers())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @torch.inference_mode()
    def judge(self, pictures: Tensor) -> tuple[Verdict, ...]:
        """A verdict for each of ``pictures``, (B, H, W, 3) in uint8; the network comes to their device."""
        torch.nn.Module.to(self.network, device=pictures.device)
        return self._judge(self.prepare(pictures).to(self.network.dtype))

    @abstractmethod
    def _judge(self, prepared: Tensor) -> tuple[Verdict, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classifier(Checker):
    """Scores a picture by the probabilities of its network's outputs ``explicit``."""

    explicit: list[int]
    threshold: float

    def _judge(self, prepared: Tensor) -> tuple[Verdict, ...]:
        scores = self._probabilities(self.network(prepared).logits.float()).cpu().tolist()
        return tuple(Verdict(explicit=not score < self.threshold, score=score) for score in scores)  # NaN is explicit

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Follows transformers' interpretation of the logits: independent probabilities, or one distribution."""
        if self.network.config.problem_type == "multi_label_classification" or logits.shape[1] == 1:
            return logits.sigmoid()[:, self.explicit].amax(1)
        return logits.softmax(1)[:, self.explicit].sum(1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnChecker(Checker):
    """diffusers' checker: a picture is explicit if it resembles a concept more than that concept's threshold allows.

    The score is the largest margin over a threshold; up to 0, none is exceeded.
    """

    def _judge(self, prepared: Tensor) -> tuple[Verdict, ...]:
        network = self.network
        embeddings = network.visual_projection(network.vision_model(prepared)[1])
        special = _beyond(embeddings, network.special_care_embeds, network.special_care_embeds_weights)
        care = (special.round(3) > 0).any(axis=1, keepdims=True)
        concepts = _beyond(embeddings, network.concept_embeds, network.concept_embeds_weights) + care * SPECIAL_CARE
        scores = concepts.round(3).max(axis=1).tolist()
        return tuple(Verdict(explicit=not score <= 0, score=score) for score in scores)  # NaN is explicit


def load_classifier(entry: SafetyEntry, folder: Path) -> Classifier:
    """The classifier in ``folder``, in float32 on the CPU.

    Raises:
        UnsupportedError: there are only pickles, weights are missing or not finite, or it lacks the entry's labels;
            also ``OSError``, ``ValueError`` and whatever else damaged files cause.
    """
    # Explicit, because the default is to ask on the terminal whether to run code that the folder contains.
    network: Any = load_network(
        AutoModelForImageClassification,
        folder,
        entry.weights.variant,
        precision=torch.float32,
        trust_remote_code=False,
    )
    check_finite("classifier", network)
    known = {str(label).casefold(): int(index) for index, label in network.config.id2label.items()}
    unknown = [label for label in entry.labels if label.casefold() not in known]
    if unknown:
        raise UnsupportedError(f"its labels are {', '.join(known)}; “{unknown[0]}” is not one of them")
    return Classifier(
        network=network,
        prepare=Preprocessing.open(folder),
        explicit=[known[label.casefold()] for label in entry.labels],
        threshold=entry.threshold,
    )


def load_own(folder: Path, variant: str | None) -> OwnChecker:
    """The pipeline's own checker in ``folder``, in float32 on the CPU; raises what ``load_classifier`` does."""
    network = load_network(StableDiffusionSafetyChecker, folder, variant, precision=torch.float32)
    check_finite("safety checker", network)
    return OwnChecker(network=network, prepare=Preprocessing.open(folder.parent / "feature_extractor"))


def _beyond(embeddings: Tensor, concepts: Tensor, thresholds: Tensor) -> NDArray[np.float32]:
    """How far each picture exceeds each concept's threshold, in float32 on the host, where diffusers computes it."""
    similarity: NDArray[np.float32] = cosine_distance(embeddings, concepts).cpu().float().numpy()
    beyond: NDArray[np.float32] = similarity - thresholds.cpu().float().numpy()
    return beyond
