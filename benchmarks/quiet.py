"""Silence of the libraries, so that a table stays one."""

from __future__ import annotations

import logging
import warnings

import diffusers
import transformers


def quieten() -> None:
    """No bars and no advice; errors are still heard."""
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
