"""Checkpoints of a run: written whole or not at all, and read without running what is in them."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from howard.errors import WeightsError, is_out_of_memory


def save(file: Path, state: dict[str, Any]) -> None:
    """Write the checkpoint whole or not at all."""
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(file)


def read(file: Path, remedy: str) -> dict[str, Any]:
    """What `save` wrote, on the CPU. Raises WeightsError, with the remedy, for any other file:
    loaded with weights_only, so that a pickle with code in it is refused."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of what the error says as well
            return dict(torch.load(file, map_location="cpu", weights_only=True))
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}: check its rights") from error
    except Exception as error:  # many kinds; torch's own words advise to run what is in the file
        raise WeightsError(f"{file} is damaged, or no checkpoint: {remedy}") from error


@contextmanager
def taking_up(file: Path, remedy: str) -> Iterator[dict[str, Any]]:
    """What is in the file, as `read` does, for a network to take up inside. Raises WeightsError
    where it lacks a part, or is of another network or width."""
    stored = read(file, remedy)
    try:
        yield stored
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise WeightsError(f"{file} does not fit {file.stem} ({reason}): {remedy}") from error
