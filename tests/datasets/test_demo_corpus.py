"""The text of the standard library: topics and docstrings, and nothing of what is scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptbert.datasets import Dataset, Example
from gptbert.datasets.demo_corpus import LibraryDocument, library_documents
from gptbert.datasets.docstrings import read_docstrings
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
        LibraryDocument("archive", "module archive\nArchives of files.\nThey may be large."),
        LibraryDocument(
            "archive.Archive", "class archive.Archive\nOne archive.\nMembers\nThey have names."
        ),
        LibraryDocument(
            "archive.Archive.add", "archive.Archive.add(name, *, mode)\nAdd a file to the archive."
        ),
        LibraryDocument(
            "archive.extract", "archive.extract(path)\nExtract all members of an archive."
        ),
        LibraryDocument(
            "archive._hidden", "archive._hidden(a)\nExtract all members of an archive."
        ),
    ]


def test_functions_are_left_out_with_their_descriptions(library: Path) -> None:
    pairs = leaving_out(
        Example("archive.Archive.add", ("Extract all members of an archive.", "…"), "no"),
    )
    ids = [document.id for document in library_documents(pairs, library)]
    assert ids == ["topic del", "topic while", "archive", "archive.Archive"]


def test_topics_may_be_missing(library: Path) -> None:
    (library / "pydoc_data" / "topics.py").unlink()
    assert library_documents(folder=library)[0].id == "archive"


def test_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no documented Python files"):
        library_documents(folder=tmp_path)


def test_nothing_of_the_dev_pairs_is_in_the_text_of_the_standard_library() -> None:
    _, dev = read_docstrings()
    documents = library_documents(dev)
    assert len(documents) > 2000 and sum(len(each.text) for each in documents) > 1_000_000
    functions = {example.id for example in dev.examples}
    assert not functions & {document.id for document in documents}
    firsts = {document.text.split("\n")[1] for document in documents if "\n" in document.text}
    told = [example for example in dev.examples if example.texts[0] in firsts]
    assert not told
