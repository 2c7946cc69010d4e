"""From files to one loaded form: every checkpoint and LoRA format that the catalogue may name, safetensors only."""

from inference.loading.load import load_model
from inference.loading.loaded import LoadedModel, TextStage

__all__ = ["LoadedModel", "TextStage", "load_model"]
