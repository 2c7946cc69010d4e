"""From files to networks: every checkpoint and LoRA format that the catalogue may name, safetensors only."""

from inference.loading.load import ModelFiles, open_model

__all__ = ["ModelFiles", "open_model"]
