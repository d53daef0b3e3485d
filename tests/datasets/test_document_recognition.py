"""Which format raw text has: by content, then by name, then by size."""

from __future__ import annotations

import pytest

from gptbert.datasets.document_recognition import PLAIN_BYTES, recognise
from gptbert.datasets.document_types import Unreadable

WIKI = b'<doc id="1" url="u" title="T">\nT\n\nText.\n</doc>\n'
BOOK = b"# Title: Emma\n\n## Author: Jane\n\n-------\n\nText"
START = b"Licence\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\nText"


@pytest.mark.parametrize(
    ("head", "name", "format"),
    [
        (WIKI, "wiki_00", "wikiextractor"),
        (b"\xef\xbb\xbf\n" + WIKI, "a.txt", "wikiextractor"),
        (b"stray text\n" + WIKI, "a.txt", "wikiextractor"),
        (b'<doc revid="5" id="1">\nT', "a", "wikiextractor"),
        (b"<doc comment>\nT", "a", "text"),
        (b'{"text": "a"}\n{"text": "b"}\n', "a.txt", "jsonl"),
        (b'{"text": "a"', "a.json", "jsonl"),
        (b"{}\n", "a", "jsonl"),
        (b"{a set}\n", "a.txt", "text"),
        (b'{"not json\n', "a.txt", "text"),
        (b"broken\n", "a.jsonl", "jsonl"),
        (b"broken\n", "a.NDJSON.gz", "jsonl"),
        (BOOK, "a.md", "gutenberg"),
        (START, "a.txt", "gutenberg"),
        (b"# A heading\n\nText", "a.md", "markdown"),
        (b"# A heading\n\nText", "a.markdown.xz", "markdown"),
        (b"# A heading\n\nText", "a.txt", "text"),
        (b"A.\nB.\n\nC.\nD!\n", "a", "paragraphs"),
        (b"A.\r\nB.\r\n\r\nC.\r\nD.\r\n", "a", "paragraphs"),
        (b"A line\nB line\n\nC.\nD.\n", "a", "text"),
        (b"A.\nB.\nC.\nD.\n", "a", "text"),
        (b"", "a", "text"),
    ],
)
def test_recognised(head: bytes, name: str, format: str) -> None:
    assert recognise(head, name, lambda: len(head)) == format


def test_the_size_decides_last() -> None:
    assert recognise(b"Text", "a.txt", lambda: PLAIN_BYTES) == "text"
    assert recognise(b"Text", "a.txt", lambda: PLAIN_BYTES + 1) == "paragraphs"
    assert recognise(b"Text", "a.md", lambda: PLAIN_BYTES + 1) == "markdown"


def test_a_named_format_is_taken_at_its_word() -> None:
    assert recognise(b"<html>", "a.md", lambda: 0, "paragraphs") == "paragraphs"
    with pytest.raises(Unreadable, match="binary data"):
        recognise(bytes(100), "a.md", lambda: 0, "paragraphs")


def test_a_few_wrong_bytes_are_damage_and_not_another_kind_of_file() -> None:
    assert recognise(b'{"text": "\x00\xff"}\n', "a.jsonl", lambda: 0) == "jsonl"


def test_formats_that_begin_like_text_are_known_by_their_marks() -> None:
    page = b"1 0 obj\n<< /Type /Page /Parent 2 0 R >>\nendobj\n" * 1000
    for format in ("auto", "text"):
        with pytest.raises(Unreadable, match="PDF, which is not read .convert it with pdftotext"):
            recognise(b"%PDF-1.4\n" + page, "a.txt", lambda: 0, format)
    letter = rb"{\rtf1\ansi{\fonttbl{\f0 Times;}}\f0 Dear Sir,\par}"
    with pytest.raises(Unreadable, match="RTF, which is not read"):
        recognise(letter, "a.rtf", lambda: 0)
    assert recognise(letter, "a.rtf", lambda: 0, "text") == "text"
    for text in (b"BZhang said", b"PAR1 is a code."):
        assert recognise(text, "a.txt", lambda: 0) == "text"
