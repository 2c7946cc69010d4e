"""From files to networks: every checkpoint and LoRA format that the catalogue may name, safetensors only."""

from inference.loading.fingerprint import FileHashes
from inference.loading.load import ModelFiles, open_model

__all__ = ["FileHashes", "ModelFiles", "open_model"]
