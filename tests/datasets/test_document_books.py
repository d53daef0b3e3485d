"""Books: their heads and feet go, no word of theirs does, however many a file holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptbert.datasets.document_books import is_book, read_books
from gptbert.datasets.document_markup import Notes
from gptbert.datasets.documents import Document, find_sources, read_documents

HEAD = "# Title: Emma\n\n## Author: Jane Austen\n\n## Year: 1815\n\n-------\n\n"
GUTENBERG = (
    "The Project Gutenberg EBook of Emma, by Jane Austen\n\nLicence.\n\n"
    "*** START OF THIS PROJECT GUTENBERG EBOOK EMMA\nIN TWO LINES ***\n\n\n"
    "Produced by An Anonymous Volunteer\nand another\n\n\nEMMA\n\nby Jane\n\n"
    "CHAPTER I\n\n[Illustration: A house]\n\nEmma _Woodhouse_,\nhandsome,\nclever.\n\nFINIS\n\n\n"
    "End of the Project Gutenberg EBook of Emma\n\n*** END OF THIS PROJECT GUTENBERG EBOOK EMMA ***"
    "\n\nMuch licence.\n"
)


def read_book(text: str) -> tuple[str, Notes]:
    """The only book of a text."""
    ((book, notes),) = read_books(text)
    return book, notes


def marked(title: str, text: str) -> str:
    """A book as Project Gutenberg gives it out today."""
    return (
        f"\ufeffThe Project Gutenberg EBook of {title}\n\nThis eBook is for anyone anywhere.\n\n"
        f"*** START OF THE PROJECT GUTENBERG EBOOK {title} ***\n\n\nProduced by Ann\n\n\n{text}\n\n"
        f"*** END OF THE PROJECT GUTENBERG EBOOK {title} ***\n\n{LICENCE}\n"
    )


LICENCE = "\n\n".join(["The Project Gutenberg licence. " + "You may copy it. " * 100] * 10)
VOLUME = "\n\n".join(f"The night of day {number} was long." for number in range(300))


def test_books_lose_head_and_foot() -> None:
    assert read_book(GUTENBERG) == (
        "EMMA\n\nby Jane\n\nCHAPTER I\n\nEmma Woodhouse, handsome, clever.\n\nFINIS",
        (),
    )
    assert read_book(HEAD + "## I\n\nText.") == ("I\n\nText.", ())


def test_books_without_their_marks_say_so() -> None:
    text, notes = read_book(GUTENBERG.partition("End of the Project")[0])
    assert text.endswith("FINIS") and notes == ("a book without an end mark",)
    assert read_book("Text.") == ("Text.", ("a book without a head that is known",))
    assert is_book(HEAD) and is_book(GUTENBERG) and not is_book("# Title\n\nText")


def test_early_project_gutenberg_heads() -> None:
    text = "x\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\nText.\n"
    assert read_book(text + "End of Project Gutenberg's Emma\nx")[0] == "Text."


def test_books_lose_no_words(data_dir) -> None:
    for path in (data_dir / "corpora" / "sample").glob("*.md"):
        raw = path.read_text()
        text, notes = read_book(raw)
        body = raw.partition("-------")[2]
        plain = "".join(character for character in body if character.isalnum())
        assert "".join(character for character in text if character.isalnum()) == plain
        assert not notes


def test_each_book_of_a_file_is_read() -> None:
    text = marked("A", "Text of A.") + marked("B", "Text of B.") + marked("C", "Text of C.")
    assert list(read_books(text)) == [(f"Text of {name}.", ()) for name in "ABC"]


def test_a_book_without_an_end_mark_ends_at_the_next_one() -> None:
    text = marked("A", "Text of A.").partition("*** END")[0] + marked("B", "Text of B.")
    assert list(read_books(text)) == [
        ("Text of A.", ("a book without an end mark",)),
        ("Text of B.", ()),
    ]


def test_volumes_behind_an_end_mark_are_read() -> None:
    end = "End of this Project Gutenberg Etext, volume 1\n"
    start = "*** START OF THE PROJECT GUTENBERG EBOOK WORKS ***\n"
    outside = ("text of a book outside its marks",)
    one = f"{start}One.\n\n{end}\n{VOLUME}\n\n{end}\n{LICENCE}"
    assert list(read_books(one)) == [("One.", ()), (VOLUME, outside)]
    beside = f"{start}One.\n\n{end}\n{LICENCE}\n\n{VOLUME}\n\n{LICENCE}\n\n{marked('B', 'Two.')}"
    assert list(read_books(beside)) == [("One.", ()), (VOLUME, outside), ("Two.", ())]
    before = f"{VOLUME}\n\n{marked('B', 'Two.')}"
    assert list(read_books(before)) == [(VOLUME, outside), ("Two.", ())]


def test_a_small_print_at_the_end_begins_no_book() -> None:
    early = "*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*\n"
    first, second = marked("A", "Text of A."), marked("B", "Text of B.")
    for text in (f"{first}\n{early}", f"{first}\n{early}\n{second}"):
        assert [book for book, _ in read_books(text)] == ["Text of A.", "Text of B."][
            : text.count("START")
        ]


@pytest.mark.parametrize(
    "start",
    [
        "*** START OF THE PROJECT GUTENBERG EBOOK X ***",
        "***START OF THE PROJECT GUTENBERG EBOOK X***",
        "  *** START OF THIS PROJECT GUTENBERG EBOOK X ***",
        "*** START OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK X ***",
        "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
        "*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*",
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        "*** END OF THE PROJECT GUTENBERG EBOOK X ***",
        "*** END OF THE PROJECT GUTENBERG EBOOK X\nAND Y ***",
        "***END OF THE PROJECT GUTENBERG EBOOK X***",
        "   End of the Project Gutenberg EBook of X",
        "\tEnd of Project Gutenberg's X, by Y",
        "End of The Project Gutenberg Etext of X",
        "*** END OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK X ***",
    ],
)
@pytest.mark.parametrize(
    "credits",
    [
        "",
        "Produced by Ann\nand Bob",
        "This etext was prepared by Ann",
        "E-text prepared by Ann",
        "Transcribed from the 1887 Macmillan and Co. edition by Ann, email\na@b.org",
        "Scanned and proofed by Ann",
        "This eBook was transcribed, edited and proofread by Ann",
    ],
)
def test_the_marks_in_use(start: str, end: str, credits: str) -> None:
    text = (
        f"The head.\n\n{start}\n\n\n{credits}\n\n\nPrepared for all.\n\nText.\n\n{end}\n\nThe foot."
    )
    assert is_book(text)
    assert read_book(text) == ("Prepared for all.\n\nText.", ())


def test_a_foot_without_a_head_goes_too() -> None:
    foot = f"\n\nEnd of Project Gutenberg's Emma\n\n{LICENCE}"
    assert read_book(f"{HEAD}Text.{foot}") == ("Text.", ())
    assert read_book(f"Text.{foot}") == ("Text.", ("a book without a head that is known",))


def test_marks_without_a_book_between_give_nothing() -> None:
    assert read_book(marked("A", "").replace("Produced by Ann", "")) == ("", ())


def test_books_of_one_file_have_names_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "all.txt"
    path.write_text(marked("A", "Text of A.") + marked("B", "Text of B."))
    (source,) = find_sources([str(path)])
    found = list(read_documents(source))
    assert all(isinstance(item, Document) and item.format == "gutenberg" for item in found)
    assert [(item.id, item.text) for item in found] == [
        ("all.txt", "Text of A."),
        ("all.txt, text 2", "Text of B."),
    ]
