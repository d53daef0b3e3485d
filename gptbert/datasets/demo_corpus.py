"""Raw text that needs no download: what the running Python's standard library says about itself.

Two kinds of documents: the topics of Python's own documentation (`pydoc_data`), and the docstrings
of public modules in the order of the source, each under the name of what it describes:

    zipfile.ZipFile.extractall(path, members, pwd)
    Extract all members from the archive to the current working directory. 'path' specifies a ...

Functions can be left out, so that a labelled set made of them (`docstrings.py`) keeps what nothing
has been trained on. The files are parsed with `ast`; nothing is imported or executed.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import sysconfig
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path

from gptbert.datasets import Dataset
from gptbert.datasets.docstrings import argument_names, description_of, public_modules
from gptbert.errors import UserError

_TOPICS = "pydoc_data/topics.py"
_Described = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True, slots=True)
class LibraryDocument:
    """A topic or a docstring; the lines of `text` are a heading and paragraphs."""

    id: str
    text: str


def library_documents(
    left_out: Dataset | None = None, folder: Path | str | None = None
) -> list[LibraryDocument]:
    """Reads all documents: topics by name, then docstrings by module.

    Args:
      left_out: Pairs of `read_docstrings`: their functions are left out with their docstrings, and
        so is every other docstring that begins with one of their descriptions.
      folder: Python sources to read; by default the standard library of the running Python.

    Raises:
      UserError: There is no text in the folder.
    """
    root = Path(folder if folder is not None else sysconfig.get_paths()["stdlib"])
    examples = left_out.examples if left_out else []
    functions = {example.id for example in examples}
    descriptions = {example.texts[0].lower() for example in examples}
    documents = [*_topics(root), *_docstrings(root, functions, descriptions)]
    if not documents:
        raise UserError(
            f"no documented Python files in {root}, expected the standard library; "
            "name another folder"
        )
    return documents


def _topics(root: Path) -> Iterator[LibraryDocument]:
    """The topics of Python's documentation; none where they are not installed."""
    tree = _parsed(root / _TOPICS)
    for node in tree.body if tree else []:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            for name in sorted(topics):
                if text := _unwrapped(topics[name]):
                    yield LibraryDocument(f"topic {name}", text)


def _docstrings(
    root: Path, functions: Collection[str], descriptions: Collection[str]
) -> Iterator[LibraryDocument]:
    for path, module in public_modules(root):
        tree = _parsed(path)
        for name, heading, node in _described(tree, module) if tree else ():
            if name in functions or _begins_with(node, descriptions):
                continue
            yield LibraryDocument(name, f"{heading}\n{_unwrapped(ast.get_docstring(node) or '')}")


def _described(tree: ast.Module, module: str) -> Iterator[tuple[str, str, _Described]]:
    """Yields (name, heading, node) of everything that has a docstring, in the order of lines."""
    pending: list[tuple[str, str, _Described]] = [(module, f"module {module}", tree)]
    while pending:
        name, heading, node = pending.pop()
        if ast.get_docstring(node):
            yield name, heading, node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for child in reversed(node.body):
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                below = f"{name}.{child.name}".removeprefix(".")
                pending.append((below, _heading(below, child), child))


def _heading(name: str, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return f"class {name}" if isinstance(node, ast.ClassDef) else name + argument_names(node.args)


def _begins_with(node: _Described, descriptions: Collection[str]) -> bool:
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
