"""Models brought here from the Hugging Face hub."""
