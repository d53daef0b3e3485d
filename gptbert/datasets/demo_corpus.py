"""What the running Python's standard library says about itself: raw text, and a labelled set.

Text: the topics of Python's own documentation (`pydoc_data`) and the docstrings of each public
module, one document each. Labels: which part of the library a function's description comes from,

    "Extract all members from the archive to the current working directory."  ->  tarfile

The parts are the packages and modules with the most described functions. Functions that are scored
are left out of the text, with their docstrings. Nothing is downloaded; the files are parsed with
`ast`, and nothing is imported or executed. What there is depends on the version of Python.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import platform
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from gptbert.datasets import Dataset, Example
from gptbert.datasets.docstrings import (
    Function,
    described_functions,
    description_of,
    public_modules,
)
from gptbert.errors import UserError

CLASSES = 8
DEV_SHARE = 1 / 3  # a third: the share of right answers is then known to two points or so
_TOPICS = "pydoc_data/topics.py"
_Described = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


# --- Labels ---


def read_origins(
    classes: int = CLASSES, folder: Path | str | None = None
) -> tuple[Dataset, Dataset]:
    """Reads (train, dev): descriptions of functions, labelled with their top-level module.

    Args:
      classes: How many modules: those with the most described functions.
      folder: Python sources to read; by default the standard library of the running Python.

    Raises:
      UserError: There are too few described functions.
    """
    root = _root(folder)
    functions, notes = described_functions(root)
    counts = Counter(map(_origin, functions))
    names = sorted(sorted(counts, key=lambda name: (-counts[name], name))[:classes])
    members = [function for function in functions if _origin(function) in names]
    held = {function.name for function in members if _draw(function.name) < DEV_SHARE}
    splits = {
        "train": [function for function in members if function.name not in held],
        "dev": [function for function in members if function.name in held],
    }
    if len(names) < 2 or not all(splits.values()):
        raise UserError(
            f"found {len(members)} described functions of {len(names)} modules in {root}, expected "
            "the standard library's Python files; name another folder"
        )
    train, dev = (_dataset(split, each, names, root, notes) for split, each in splits.items())
    return train, dev


def _origin(function: Function) -> str:
    return function.name.split(".")[0]


def _draw(name: str) -> float:
    """A number in [0, 1) that depends on nothing but the name."""
    return int.from_bytes(hashlib.sha256(f"origin/{name}".encode()).digest()[:6], "big") / 2**48


def _dataset(
    split: str,
    functions: Sequence[Function],
    names: Sequence[str],
    root: Path,
    notes: tuple[str, ...],
) -> Dataset:
    ordered = sorted(functions, key=lambda function: _draw(function.name))
    examples = [Example(f.name, (f.description,), _origin(f)) for f in ordered]
    rows = [(example.id, example.texts, example.label) for example in examples]
    return Dataset(
        name=f"origins of docstrings of Python {platform.python_version()} {split}",
        examples=examples,
        classes=tuple(names),
        source=str(root),
        fingerprint=hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        notes=notes,
    )


# --- Text ---


@dataclasses.dataclass(frozen=True, slots=True)
class LibraryDocument:
    """A topic or a module; the lines of `text` are headings and paragraphs."""

    id: str
    text: str


def library_documents(
    left_out: Dataset | None = None, folder: Path | str | None = None
) -> list[LibraryDocument]:
    """Reads all documents: topics by name, then modules by name.

    Args:
      left_out: Functions, by the ids of the examples, whose docstrings are left out; so is every
        other docstring that begins with one of their descriptions.
      folder: Python sources to read; by default the standard library of the running Python.

    Raises:
      UserError: There is no text in the folder.
    """
    root = _root(folder)
    examples = left_out.examples if left_out else []
    functions = {example.id for example in examples}
    descriptions = {example.texts[0].lower() for example in examples}
    documents = [*_topics(root), *_modules(root, functions, descriptions)]
    if not documents:
        raise UserError(
            f"no documented Python files in {root}, expected the standard library; "
            "name another folder"
        )
    return documents


def _root(folder: Path | str | None) -> Path:
    return Path(folder if folder is not None else sysconfig.get_paths()["stdlib"])


def _topics(root: Path) -> Iterator[LibraryDocument]:
    """The topics of Python's documentation; none where they are not installed."""
    tree = _parsed(root / _TOPICS)
    for node in tree.body if tree else []:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            for name in sorted(topics):
                if text := _unwrapped(topics[name]):
                    yield LibraryDocument(f"topic {name}", text)


def _modules(
    root: Path, functions: Collection[str], descriptions: Collection[str]
) -> Iterator[LibraryDocument]:
    for path, module in public_modules(root):
        tree = _parsed(path)
        texts = [
            text
            for name, node in (_described(tree, module) if tree else ())
            if name not in functions and (text := _unwrapped(ast.get_docstring(node) or ""))
            if not _begins_with(text, node, descriptions)
        ]
        if texts:
            yield LibraryDocument(f"module {module}", "\n".join(texts))


def _described(tree: ast.Module, module: str) -> Iterator[tuple[str, _Described]]:
    """Yields (name, node) of what may have a docstring, in the order of lines."""
    pending: list[tuple[str, _Described]] = [(module, tree)]
    while pending:
        name, node = pending.pop()
        yield name, node
        if isinstance(node, (ast.Module, ast.ClassDef)):
            for child in reversed(node.body):
                if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                    pending.append((f"{name}.{child.name}".removeprefix("."), child))


def _begins_with(text: str, node: _Described, descriptions: Collection[str]) -> bool:
    if text.split("\n")[0].lower() in descriptions:
        return True
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return description_of(node).lower() in descriptions
    return False


def _unwrapped(text: str) -> str:
    """A paragraph a line; rules under headings are dropped."""
    paragraphs = re.split(r"\n\s*\n", re.sub(r"^\s*([=*~^#-])\1{2,}\s*$", "", text, flags=re.M))
    return "\n".join(filter(None, (" ".join(paragraph.split()) for paragraph in paragraphs)))


def _parsed(path: Path) -> ast.Module | None:
    """The syntax tree of a file; None where it is missing or not Python of this version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in other people's strings
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
