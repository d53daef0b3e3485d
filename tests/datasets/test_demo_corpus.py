"""The text of the standard library: topics and docstrings, and nothing of what is scored."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gptbert.datasets import Dataset, Example
from gptbert.datasets.demo_corpus import LibraryDocument, library_documents, read_origins
from gptbert.errors import UserError

SOURCE = '''
"""Archives of files.

They may be
large.
"""
raise SystemExit("imported")

class Archive:
    """One archive.

    Members
    =======

    They have names.
    """

    def add(self, name, *, mode=None):
        """Add a file to the archive."""
        def inside():
            """Never shown."""

    def close(self):
        pass

async def extract(path):
    """Extract all members of an archive."""

def _hidden(a):
    """Extract all members of an archive."""
'''


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "archive.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("def broken(:")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / "pydoc_data" / "topics.py").write_text(
        "topics = {'while': 'The \"while\" statement\\n**********\\n\\nIt repeats\\nthings.\\n',"
        " 'del': 'It ' 'deletes.'}\n"
    )
    return tmp_path


def leaving_out(*examples: Example) -> Dataset:
    return Dataset("pairs", list(examples), ("no", "yes"), "", "")


def test_topics_and_docstrings_in_their_order(library: Path) -> None:
    assert library_documents(folder=library) == [
        LibraryDocument("topic del", "It deletes."),
        LibraryDocument("topic while", 'The "while" statement\nIt repeats things.'),
        LibraryDocument(
            "module archive",
            "Archives of files.\nThey may be large.\nOne archive.\nMembers\nThey have names.\n"
            "Add a file to the archive.\nExtract all members of an archive.\n"
            "Extract all members of an archive.",
        ),
    ]


def test_functions_are_left_out_with_their_descriptions(library: Path) -> None:
    scored = leaving_out(
        Example("archive.Archive.add", ("Add a file to the archive.",), "archive"),
        Example("other.extract", ("Extract all members of an archive.",), "other"),
    )
    (document,) = library_documents(scored, library)[2:]
    assert document.text.endswith("One archive.\nMembers\nThey have names.")


def test_topics_may_be_missing(library: Path) -> None:
    (library / "pydoc_data" / "topics.py").unlink()
    assert library_documents(folder=library)[0].id == "module archive"


def test_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no documented Python files"):
        library_documents(folder=tmp_path)


def test_nothing_that_is_scored_is_in_the_text_of_the_standard_library() -> None:
    train, dev = read_origins()
    documents = library_documents(dev)
    assert len(documents) > 200 and sum(len(each.text) for each in documents) > 1_000_000
    lines = {line for document in documents for line in document.text.split("\n")}
    assert not [example for example in dev.examples if example.texts[0] in lines]
    assert sum(example.texts[0] in lines for example in train.examples) > len(train.examples) / 3


# --- Labels ---


def test_origins_of_the_standard_library() -> None:
    train, dev = read_origins()
    assert train.classes == dev.classes == tuple(sorted(train.classes)) and len(dev.classes) == 8
    for dataset in (train, dev):
        for example in dataset.examples:
            assert example.id.split(".")[0] == example.label and len(example.texts) == 1
        assert {example.label for example in dataset.examples} == set(dataset.classes)
    ids, texts = (
        [{get(example) for example in dataset.examples} for dataset in (train, dev)]
        for get in (lambda example: example.id, lambda example: example.texts)
    )
    assert not ids[0] & ids[1] and not texts[0] & texts[1]
    share = len(dev.examples) / (len(train.examples) + len(dev.examples))
    enough = 300 if sys.version_info < (3, 13) else 250  # 3.13 has fewer modules
    assert 0.3 < share < 0.37 and len(dev.examples) > enough


def test_origins_are_the_same_again(tmp_path: Path) -> None:
    for module in ("files", "sockets", "small"):
        count = 5 if module == "small" else 60
        lines = [f'def work{n}(a):\n    """Do job {n} of the {module}."""' for n in range(count)]
        (tmp_path / f"{module}.py").write_text("\n".join(lines))
    train, dev = read_origins(classes=2, folder=tmp_path)
    assert train.classes == ("files", "sockets")
    assert len(train.examples) + len(dev.examples) == 120
    assert read_origins(classes=2, folder=tmp_path) == (train, dev)
    assert train.fingerprint != dev.fingerprint


def test_origins_need_functions_of_several_modules(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text('def f():\n    """Do this one job."""\n')
    with pytest.raises(UserError, match="found 1 described functions of 1 modules"):
        read_origins(folder=tmp_path)
