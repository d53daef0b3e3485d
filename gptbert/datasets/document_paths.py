"""Patterns -> paths: files, folders and globs, with what stands in the way of reading them.

A pattern is a file, a folder (all files in it, at any depth) or a glob (`*`, `?`, `[ab]`, and `**`
for folders of any depth); a name that exists is meant literally. Links are followed, but not back
up into a folder that is being walked. Globs leave out hidden names, as shells do; those below a
folder that is read as a whole are problems, so that they are counted.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from gptbert.errors import UserError, nearest


def expand(pattern: str) -> Iterator[tuple[str, str]]:
    """Yields (path, problem) of the files that a pattern names.

    Raises:
      UserError: The pattern is empty, which the current folder is not meant by, or an address.
    """
    if not pattern:
        raise UserError("an input without a name; expected a file, a folder or a glob of raw text")
    if "://" in pattern:
        raise UserError(f"{pattern}: raw text is read from local files; copy it here first")
    path = os.path.expanduser(pattern)
    if os.path.lexists(path):
        yield from _files(os.path.normpath(path))
        return
    base = "/" if path.startswith("/") else ""
    parts = [part for part in path.split("/") if part]
    while parts[-1:] == ["**"] or parts[-2:] == ["**", "*"]:
        parts.pop()
    for match, problem in _match(base, parts, ()) if parts else [(base or ".", "")]:
        if problem:
            yield match, problem
        else:
            yield from _files(os.path.normpath(match))


def _files(path: str) -> Iterator[tuple[str, str]]:
    """A file itself; of a folder all files below it; a folder without files is a problem."""
    if not os.path.isdir(path):
        yield path, _broken(path)
        return
    empty = True
    for match, problem in itertools.chain(_match(path, ["**", "*"], ()), _hidden(path, ())):
        if problem or not os.path.isdir(match):
            empty = False
            yield match, problem or _broken(match)
    if empty:
        yield path, "an empty folder"


def _broken(path: str) -> str:
    try:
        os.stat(path)
    except OSError as error:
        target = "a link to nothing" if os.path.islink(path) else "cannot be read"
        return f"{target} ({error.strerror})"
    return ""


def _match(
    base: str, parts: list[str], above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, str]]:
    """Yields (path, problem) of what `parts` match below a folder, in no order."""
    if not parts:
        yield base, ""
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _descend(base, parts, above)
    elif not set(part) & set("*?["):
        path = os.path.join(base, part)
        if os.path.lexists(path):
            yield from _match(path, rest, ())
    else:
        names, problem = _names(base)
        if problem:
            yield base, problem
        for name in names:
            shown = not name.startswith(".") or part.startswith(".")
            if shown and fnmatch.fnmatchcase(name, part):
                path = os.path.join(base, name)
                if not rest or os.path.isdir(path):
                    yield from _match(path, rest, ())


def _descend(
    base: str, parts: list[str], above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, str]]:
    """`**`: the folder itself and all folders below it, links that lead back up excepted."""
    here = _identity(base)
    if here in above:
        yield base, "a link that leads back to a folder above it"
        return
    while parts[1:2] == ["**"]:
        parts = parts[1:]
    yield from _match(base, parts[1:] or ["*"], ())
    for name in _names(base)[0]:
        path = os.path.join(base, name)
        if not name.startswith(".") and os.path.isdir(path):
            yield from _match(path, parts, (*above, here))


def _hidden(base: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, str]]:
    """The hidden names below a folder, one for a whole hidden folder."""
    here = _identity(base)
    for name in _names(base)[0] if here not in above else ():
        path = os.path.join(base, name)
        if name.startswith("."):
            yield path, "a hidden file or folder (name it to read it)"
        elif os.path.isdir(path):
            yield from _hidden(path, (*above, here))


def _identity(folder: str) -> tuple[int, int]:
    """What tells a folder from all others, whatever name led to it."""
    try:
        state = os.stat(folder or ".")
    except OSError:
        return (-1, -1)
    return (state.st_dev, state.st_ino)


def _names(folder: str) -> tuple[list[str], str]:
    try:
        return os.listdir(folder or "."), ""
    except OSError as error:
        return [], "" if not os.path.isdir(folder or ".") else f"cannot be read ({error.strerror})"


def nothing_found(pattern: str) -> str:
    """The sentence for a pattern that names nothing, with the nearest names that exist."""
    path = os.path.expanduser(pattern)
    folder = Path("/" if path.startswith("/") else ".")
    for part in Path(path).parts:
        if not (folder / part).is_dir():
            break
        folder /= part
    names = sorted(_names(str(folder))[0])
    wanted = os.path.relpath(path, folder).split("/")[0]
    hint = nearest(wanted, names)
    if not hint and names:
        hint = f" ({folder} holds {', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
    return f"{pattern}: no such file, folder or match{hint}; expected files of raw text"
