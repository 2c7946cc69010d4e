"""The exceptions that libraries raise for damaged files, and one sentence on what is wrong with a file."""

from __future__ import annotations

import torch
from safetensors import SafetensorError

from inference.loading.unsupported import UnsupportedError

MALFORMED = (
    SafetensorError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)
"""What safetensors, diffusers and transformers raise for files that are damaged or of the wrong structure."""


def reason_of(error: BaseException) -> str:
    """One sentence on what is wrong: safetensors' own message where diffusers wrapped it in a longer one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, SafetensorError):
        cause = cause.__cause__ or cause.__context__
    line = str(cause or error).strip().partition("\n")[0]
    return line.partition(". ")[0][:300] or type(error).__name__


def check_finite(name: str, network: torch.nn.Module) -> None:
    """Raise ``UnsupportedError`` if the network called ``name`` has a weight that is not finite."""
    for weight, values in network.named_parameters():
        if not bool(values.sum(dtype=torch.float32).isfinite()):  # in half precision, sums overflow
            raise UnsupportedError(f"{weight} of the {name} holds values that are not finite")
