"""The set made of docstrings: balanced, repeatable, disjoint, and nothing of it is executed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gptbert.datasets import Dataset, docstrings
from gptbert.datasets.docstrings import Function, read_docstrings
from gptbert.errors import UserError


@pytest.fixture(scope="module")
def sets() -> tuple[Dataset, Dataset]:
    return read_docstrings()


@pytest.fixture(scope="module")
def functions(sets: tuple[Dataset, Dataset]) -> dict[str, Function]:
    """All functions that the set may use, by name."""
    found, _ = docstrings.described_functions(Path(sets[0].source))
    return {function.name: function for function in found}


def library(folder: Path, functions: int = 80, modules: int = 4, extra: str = "") -> Path:
    """Fabricates a library whose modules would stop the test if anything imported them."""
    for module in range(modules):
        source = ["raise SystemExit('imported')", extra]
        for number in range(module, functions, modules):
            source += [f"def work{number}(a, b=1):", f'    """Do the job number {number} well."""']
        (folder / f"module{module}.py").write_text("\n".join(source))
    return folder


def original(folder: Path) -> dict[str, str]:
    """{function: its own description} of everything that is used."""
    functions, _ = docstrings.described_functions(folder)
    return {function.name: function.description for function in functions}


# --- The standard library of the running Python ---


def test_set_is_large_enough_to_learn_from(sets: tuple[Dataset, Dataset]) -> None:
    train, dev = sets
    assert len(train.examples) > 2000
    assert len(dev.examples) > 250


def test_classes_are_equally_frequent(sets: tuple[Dataset, Dataset]) -> None:
    for dataset in sets:
        counts = Counter(example.label for example in dataset.examples)
        assert dataset.classes == ("no", "yes")
        assert counts["yes"] == counts["no"] == len(dataset.examples) / 2


def test_splits_share_no_function_and_no_text(
    sets: tuple[Dataset, Dataset], functions: dict[str, Function]
) -> None:
    own = {function.description: name for name, function in functions.items()}
    train, dev = (
        {example.id for example in dataset.examples}
        | {own[example.texts[0]] for example in dataset.examples}
        for dataset in sets
    )
    assert not train & dev
    texts = [text for dataset in sets for example in dataset.examples for text in example.texts]
    assert len(set(texts)) == len(texts)


def test_labels_are_true(sets: tuple[Dataset, Dataset], functions: dict[str, Function]) -> None:
    for dataset in sets:
        for example in dataset.examples:
            own = functions[example.id].description
            assert (own == example.texts[0]) == (example.label == "yes")
            assert example.texts[1].startswith(f"{example.id}(")


def test_half_of_the_wrong_descriptions_come_from_the_module(
    sets: tuple[Dataset, Dataset], functions: dict[str, Function]
) -> None:
    describes = {function.description: function.module for function in functions.values()}
    for dataset in sets:
        wrong = [example for example in dataset.examples if example.label == "no"]
        same = sum(functions[e.id].module == describes[e.texts[0]] for e in wrong)
        assert 0.45 <= same / len(wrong) <= 0.5


def test_descriptions_do_not_spell_the_name_as_code(sets: tuple[Dataset, Dataset]) -> None:
    for example in sets[0].examples:
        name = example.id.rsplit(".", 1)[-1]
        if "_" in name and example.label == "yes":
            assert f" {name} " not in f" {example.texts[0]} "


def test_set_is_the_same_in_another_process(sets: tuple[Dataset, Dataset]) -> None:
    """Another hash seed of Python changes the order of its sets and must change nothing here."""
    code = (
        "from gptbert.datasets.docstrings import read_docstrings\n"
        "print(*(dataset.fingerprint for dataset in read_docstrings()))"
    )
    root = Path(docstrings.__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.split() == [dataset.fingerprint for dataset in sets]


def test_scanned_modules_are_not_imported() -> None:
    code = (
        "import sys; from gptbert.datasets.docstrings import read_docstrings\n"
        "import sysconfig; sysconfig.get_paths()  # it reads its own configuration\n"
        "before = set(sys.modules); train, _ = read_docstrings()\n"
        "print(any(e.id.startswith('turtle.') for e in train.examples))\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    root = Path(docstrings.__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout == "True\n\n"


def test_name_tells_the_version(sets: tuple[Dataset, Dataset]) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    assert sets[0].name == f"docstrings of Python {version} train"
    assert sets[1].name == f"docstrings of Python {version} dev"


def test_what_was_left_out_is_counted(sets: tuple[Dataset, Dataset]) -> None:
    assert "functions share their description" in sets[0].notes[0]


# --- A fabricated library ---


def test_seeds_give_other_splits(tmp_path: Path) -> None:
    library(tmp_path)
    first, again, other = (read_docstrings(seed, folder=tmp_path) for seed in (0, 0, 1))
    assert first == again
    assert {e.id for e in first[1].examples} != {e.id for e in other[1].examples}
    assert first[0].fingerprint != other[0].fingerprint


def test_limit_counts_the_examples_of_both_splits(tmp_path: Path) -> None:
    library(tmp_path)
    train, dev = read_docstrings(limit=32, folder=tmp_path)
    assert (len(train.examples), len(dev.examples)) == (28, 4)


@pytest.mark.parametrize("limit", [-1, 0, 31])
def test_small_limits_are_refused(limit: int) -> None:
    with pytest.raises(UserError, match=f"limit is {limit}, expected at least 32"):
        read_docstrings(limit=limit)


@pytest.mark.parametrize("modules", [1, 3, 40])
@pytest.mark.parametrize("limit", range(32, 48))
def test_no_description_stays_with_its_function(tmp_path: Path, limit: int, modules: int) -> None:
    own = original(library(tmp_path, modules=modules))
    for dataset in read_docstrings(limit=limit, folder=tmp_path):
        counts = Counter(example.label for example in dataset.examples)
        assert counts["yes"] == counts["no"] > 0
        for example in dataset.examples:
            assert (own[example.id] == example.texts[0]) == (example.label == "yes")


def test_folder_without_functions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found 0 described functions in .*name another folder"):
        read_docstrings(folder=tmp_path)


def test_files_that_are_not_python_are_counted(tmp_path: Path) -> None:
    library(tmp_path)
    (tmp_path / "old.py").write_text("print 'Python 2'")
    (tmp_path / "binary.py").write_bytes(b"\x00\xff")
    train, _ = read_docstrings(folder=tmp_path)
    assert train.notes[1] == "2 files are not Python of this version: left out"


def test_private_and_undescribed_functions_are_left_out(tmp_path: Path) -> None:
    extra = """
def _private(): "Do the secret job well."
def silent(): pass
def short(): "Too short."
def copy_tree(): "Use copy_tree to copy a tree."
def close(): "Close what was opened before."
def run(): "run(command) starts the given command."
class _Hidden:
    def method(self): "Do the hidden job well."
class Shown:
    def method(self): "Do the visible job well."
    def method(self): "Do another job of the same name."
"""
    names = original(library(tmp_path, modules=1, extra=extra))
    assert {name.removeprefix("module0.") for name in names if "work" not in name} == {
        "close", "Shown.method",
    }  # fmt: skip
    assert names["module0.Shown.method"] == "Do the visible job well."


def test_packages_and_skipped_folders(tmp_path: Path) -> None:
    body = '"""m"""\ndef f{0}(): "Do the work of {0} here."\n'
    for folder in ("pack", "test", "_private", "site-packages"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text(body.format(folder.replace("-", "")))
        (tmp_path / folder / "part.py").write_text(body.format(folder.strip("_")[:4] + "part"))
    (tmp_path / "_secret.py").write_text(body.format("secret"))
    assert set(original(tmp_path)) == {"pack.fpack", "pack.part.fpackpart"}


@pytest.mark.parametrize(
    ("signature", "shown"),
    [
        ("()", "()"),
        ("(a, b=None)", "(a, b)"),
        ("(self, a)", "(a)"),
        ("(a, /, b, *rest, key=1, **others)", "(a, b, *rest, key, **others)"),
        ("(a, *, key)", "(a, *, key)"),
    ],
)
def test_signatures_show_names_only(tmp_path: Path, signature: str, shown: str) -> None:
    (tmp_path / "m.py").write_text(f'def f{signature}: "Do the work of here."')
    (function,) = docstrings.described_functions(tmp_path)[0]
    assert function.name + function.arguments == f"m.f{shown}"


def test_description_is_the_first_sentences_of_the_first_paragraph(tmp_path: Path) -> None:
    long = "A sentence of these words " * 8
    (tmp_path / "m.py").write_text(
        f'def f():\n  """Do the\n  work, e.g. this. Then\n  stop. {long}.\n\n  More.\n  """'
    )
    assert original(tmp_path) == {"m.f": "Do the work, e.g. this. Then stop."}
