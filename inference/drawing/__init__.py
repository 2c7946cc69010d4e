"""A batch becomes pixels: prompts, noise, few steps, decoding, previews and the safety check."""
