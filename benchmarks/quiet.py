"""Silences the libraries, so that their output does not break up the table."""

from __future__ import annotations

import logging
import warnings

import diffusers
import transformers


def quieten() -> None:
    """No progress bars and no warnings; errors are still shown."""
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
