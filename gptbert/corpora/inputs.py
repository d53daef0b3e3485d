"""What a command reads: the sources that its patterns name, but for what it writes itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gptbert.datasets.documents import Source, find_sources
from gptbert.errors import UserError


def read_inputs(
    patterns: Sequence[str], format: str, *, text_field: str, output: str, tokenizer: str = ""
) -> list[Source]:
    """`find_sources` without the files of the output and of the tokenizer, which are no text.

    Both may lie in a folder that is read: without this the same command would find other input when
    it is started again. A tokenizer's folder is left out unless a pattern names it, or something in
    it.

    Raises:
      UserError: As of `find_sources`, and nothing is left.
    """
    found = find_sources(patterns, format, text_field=text_field)
    own = {"output": output}
    if tokenizer and not any(_is_below(_fixed(pattern), tokenizer) for pattern in patterns):
        own["tokenizer"] = tokenizer
    roots = tuple(os.path.join(os.path.realpath(place), "") for place in own.values())
    sources = [s for s in found if not f"{os.path.realpath(s.path)}{os.sep}".startswith(roots)]
    if not sources:
        where = " or ".join(f"--{name}={place}" for name, place in own.items())
        raise UserError(f"all input lies in {where}; expected a folder for each")
    return sources


def _is_below(path: str, place: str) -> bool:
    """Whether a path is a place, or something in it, whatever links lead there."""
    root = os.path.join(os.path.realpath(place), "")
    return f"{os.path.realpath(path)}{os.sep}".startswith(root)


def _fixed(pattern: str) -> str:
    """The part of a pattern before the first folder or file that is not named."""
    path = os.path.expanduser(pattern)
    if os.path.lexists(path):
        return path
    fixed = Path("/" if path.startswith("/") else ".")
    for part in Path(path).parts:
        if set(part) & set("*?["):
            break
        fixed /= part
    return str(fixed)
