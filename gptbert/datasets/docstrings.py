"""A labelled set that needs no download: the docstrings of the running Python's standard library.

Each example asks whether a description belongs to a function:

    ("Recursively copy a directory tree.", "shutil.copytree(src, dst, symlinks)")  ->  yes
    ("Recursively copy a directory tree.", "shutil.rmtree(path, ignore_errors)")   ->  no

Every function is used once. Half of a split's functions keep their own description (`yes`); the
others exchange theirs along a permutation without fixed points (`no`), about half of them within
their module. So the classes are equally frequent, every text occurs once, and neither text alone
tells the label. All choices are pure functions of a hash of (seed, purpose, function name).

The source files are parsed with `ast`; nothing is imported or executed. Which docstrings there
are depends on the version of Python, which is part of the set's name and fingerprint.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import os
import platform
import re
import sysconfig
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from gptbert.datasets import Dataset, Example
from gptbert.errors import UserError

CLASSES = ("no", "yes")
DEV_SHARE = 1 / 8
MIN_LIMIT = 32  # 4 dev examples, of which 2 can exchange their descriptions
MIN_WORDS, MAX_WORDS = 3, 32
# Tests and demonstrations, tables made by programs, and applications that are not a library.
SKIPPED = {
    "ensurepip", "encodings", "idle_test", "idlelib", "lib2to3", "pydoc_data", "test", "tests",
    "turtledemo",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """A public function or method, as its source file shows it."""

    module: str
    name: str  # with module and class: "zipfile.ZipFile.extractall"
    arguments: str  # "(path, members, pwd)"
    description: str


def read_docstrings(
    seed: int = 0, limit: int | None = None, folder: Path | str | None = None
) -> tuple[Dataset, Dataset]:
    """Reads the set and returns (train, dev); no function and no text is in both.

    Args:
      seed: Another seed gives another split and other wrong descriptions.
      limit: At most this many examples over both splits, chosen by hash.
      folder: Python sources to read; by default the standard library of the running Python.

    Returns:
      Two `Dataset`s of pairs (description, signature) with classes ("no", "yes"). An example's
      id is the function whose signature it shows.

    Raises:
      UserError: The folder has no Python files or too few functions, or `limit` is below 32.
    """
    if limit is not None and limit < MIN_LIMIT:
        raise UserError(f"limit is {limit}, expected at least {MIN_LIMIT} examples")
    root = Path(folder if folder is not None else sysconfig.get_paths()["stdlib"])
    functions, notes = described_functions(root)
    functions = sorted(functions, key=lambda f: _draw(seed, "order", f.name))[:limit]
    if len(functions) < MIN_LIMIT:
        raise UserError(
            f"found {len(functions)} described functions in {root}, expected the standard "
            f"library's Python files or at least {MIN_LIMIT} functions; name another folder"
        )
    dev_size = _even(len(functions) * DEV_SHARE)
    train_size = _even(len(functions) - dev_size)
    splits = {
        "train": functions[dev_size : dev_size + train_size],
        "dev": functions[:dev_size],
    }
    train, dev = (_dataset(split, members, seed, root, notes) for split, members in splits.items())
    return train, dev


def _even(number: float) -> int:
    return 2 * int(number / 2)


def _dataset(
    split: str, functions: Sequence[Function], seed: int, root: Path, notes: tuple[str, ...]
) -> Dataset:
    examples = _examples(functions, seed)
    rows = [(example.id, example.texts, example.label) for example in examples]
    return Dataset(
        name=f"docstrings of Python {platform.python_version()} {split}",
        examples=examples,
        classes=CLASSES,
        source=str(root),
        fingerprint=hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        notes=notes,
    )


# --- Which description goes with which function ---


def _examples(functions: Sequence[Function], seed: int) -> list[Example]:
    """Yes and no alternate: `functions` are in the order of a hash, so that is no pattern."""
    wrong = _wrong_descriptions(functions[1::2], seed)
    examples = []
    for function in functions:
        label = "no" if function.name in wrong else "yes"
        description = wrong.get(function.name, function.description)
        texts = (description, function.name + function.arguments)
        examples.append(Example(id=function.name, texts=texts, label=label))
    return examples


def _wrong_descriptions(functions: Sequence[Function], seed: int) -> dict[str, str]:
    """Returns {function name: another's description}, a permutation without fixed points.

    Pairs of functions of one module swap theirs, until half of the functions are served; the
    rest passes theirs on to functions of other modules.
    """
    modules = defaultdict(list)
    for function in functions:
        modules[function.module].append(function)
    pairs = [
        (members[index], members[index + 1])
        for members in modules.values()
        for index in range(0, len(members) - 1, 2)
    ]
    pairs.sort(key=lambda pair: _draw(seed, "pair", pair[0].name))
    wrong: dict[str, str] = {}
    for one, other in pairs[: len(functions) // 4]:
        wrong |= {one.name: other.description, other.name: one.description}
    far = sorted((f for f in functions if f.name not in wrong), key=lambda f: (f.module, f.name))
    # In the order of modules, a shift by the size of the largest module leaves every module,
    # provided that one has no more than half of the functions.
    largest = max(Counter(f.module for f in far).values(), default=0)
    return wrong | _rotated(far, largest if largest < len(far) else 1)


def _rotated(functions: Sequence[Function], shift: int) -> dict[str, str]:
    return {
        function.name: functions[(index + shift) % len(functions)].description
        for index, function in enumerate(functions)
    }


def _draw(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


# --- Reading the sources ---


def described_functions(root: Path) -> tuple[list[Function], tuple[str, ...]]:
    """Returns the functions with a description of their own and notes on what was left out."""
    functions: dict[str, Function] = {}
    unreadable = 0
    for path, module in public_modules(root):
        try:
            found = list(_functions_in(path.read_bytes(), module))
        except (OSError, SyntaxError, ValueError, RecursionError):
            unreadable += 1
            continue
        for function in found:  # of a property's getter and setter the first counts
            functions.setdefault(function.name, function)
    times = Counter(function.description.lower() for function in functions.values())
    kept = [f for f in functions.values() if times[f.description.lower()] == 1]
    notes = [f"{len(functions) - len(kept)} functions share their description: left out"]
    if unreadable:
        notes.append(f"{unreadable} files are not Python of this version: left out")
    return kept, tuple(notes)


def public_modules(root: Path) -> Iterator[tuple[Path, str]]:
    """Yields (file, dotted name) of all public modules below `root`, in the order of names."""
    for folder, subfolders, files in os.walk(root):
        # Folders such as site-packages and config-3.11-x86_64 have names that none can import.
        subfolders[:] = sorted(name for name in subfolders if _is_public(name))
        for file in sorted(files):
            stem, extension = os.path.splitext(file)
            if extension != ".py" or not (_is_public(stem) or stem == "__init__"):
                continue
            parts = Path(folder).relative_to(root).parts
            yield Path(folder, file), ".".join(parts if stem == "__init__" else (*parts, stem))


def _is_public(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_") and name not in SKIPPED


def _functions_in(source: bytes, module: str) -> Iterator[Function]:
    """Yields the described public functions of a file, and its public classes' methods."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in other people's strings
        tree = ast.parse(source)
    pending: list[tuple[str, list[ast.stmt]]] = [(module, tree.body)]
    while pending:
        prefix, body = pending.pop()
        for node in body:
            if isinstance(node, ast.ClassDef) and _is_public(node.name):
                pending.append((f"{prefix}.{node.name}", node.body))
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                description = description_of(node)
                if description and _is_public(node.name):
                    name = f"{prefix}.{node.name}".removeprefix(".")
                    yield Function(module, name, _arguments(node.args), description)


def description_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The docstring's first sentences, or "" where there is none that could be recognised.

    A description that spells the function's name as code does (`copy_tree`, `copytree(`) would
    give the answer away; plain words (`Close the file.` of `close`) may stay.
    """
    paragraph = (ast.get_docstring(node) or "").split("\n\n")[0]
    sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split()))
    description = sentences[0]
    for sentence in sentences[1:]:
        if len(f"{description} {sentence}".split()) > MAX_WORDS:
            break
        description = f"{description} {sentence}"
    word_like = node.name.isalpha() and node.name.islower()
    told = re.search(
        rf"\b{re.escape(node.name)}\b{re.escape('(') if word_like else ''}", description
    )
    words = len(re.findall(r"[A-Za-z]{2,}", description))
    return "" if told or words < MIN_WORDS else description


def _arguments(arguments: ast.arguments) -> str:
    """Renders the names of the arguments, `self` and `cls` apart: "(src, dst, *, mode)"."""
    names = [a.arg for a in arguments.posonlyargs + arguments.args]
    if names and names[0] in ("self", "cls"):
        names.pop(0)
    if arguments.vararg:
        names.append(f"*{arguments.vararg.arg}")
    elif arguments.kwonlyargs:
        names.append("*")
    names += [a.arg for a in arguments.kwonlyargs]
    if arguments.kwarg:
        names.append(f"**{arguments.kwarg.arg}")
    return f"({', '.join(names)})"
