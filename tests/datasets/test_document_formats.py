"""Documents of WikiExtractor and JSONL: escapes, printable names, the field that holds the text."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from gptbert.datasets.documents import Document, Reject, find_sources, read_documents
from gptbert.errors import UserError


def read(path: Path, content: str, format: str = "auto", **options) -> list[Document | Reject]:
    """Writes and reads a file."""
    path.write_text(content)
    sources = find_sources([str(path)], format, **options)
    return [found for source in sources for found in read_documents(source)]


def test_wikiextractor_text_and_names_are_unescaped_once(tmp_path: Path) -> None:
    doc = '<doc id="{0}" url="u" title="{1}">\n{2}\n\n{3}\n</doc>\n'
    found = read(
        tmp_path / "w",
        doc.format("1&amp;2", "A &lt;b&gt; C", "A &lt;b&gt; C", "x &lt; y &amp;amp; z &#8212; w")
        + doc.format("2", "AT&amp;T", "AT&T", "R&B; AT&T, &copy=1, &notit;")
        + doc.format("3", "R & B", "R &amp; B", "a &#0; b &#xD800; c &#x110000; d")
        + doc.format("4", "D", "Another &amp; line", "text"),
    )
    assert [item.id for item in found] == ["1&2", "2", "3", "4"]
    assert [item.text for item in found] == [
        "x < y &amp; z \u2014 w",
        "R&B; AT&T, &copy=1, &notit;",
        "a \ufffd b \ufffd c \ufffd d",
        "Another & line\n\ntext",
    ]
    assert found[2].notes == ("a character lost before (U+FFFD) is kept",)


def test_wikiextractor_text_on_the_line_of_a_tag_is_read(tmp_path: Path) -> None:
    tag = '<doc id="{}" url="u" title="T">'
    found = read(
        tmp_path / "w",
        f"{tag.format(1)}First paragraph.\nSecond.\n</doc>\n"
        f"{tag.format(2)} T\n\nText.</doc>\n"
        f"{tag.format(3)}Whole &lt;b&gt; text.</doc>{tag.format(4)}More.</doc>\r\n"
        f"{tag.format(5)}\nT\n\nOf </doc> and <doc >.\n  </doc>\n"
        '<doc id="6" title="A "B" & C > D" >A "B" & C > D\nText.\n</doc>\n'
        "<doc id=7>\nText.\n</doc>\n",
    )
    assert [item.id for item in found] == ["1", "2", "3", "4", "5", "6", "16"]
    assert [item.text for item in found] == [
        "First paragraph.\nSecond.",
        "Text.",
        "Whole <b> text.",
        "More.",
        "Of </doc> and <doc >.",
        "Text.",
        "Text.",
    ]


def test_wikiextractor_stray_text_between_documents_of_a_line_is_told(tmp_path: Path) -> None:
    tag = '<doc id="{}" url="u" title="T">'
    found = read(tmp_path / "w", f"{tag.format(1)}\nA.</doc>\nstray\n{tag.format(2)}T</doc>\n")
    assert [item.kind for item in found if isinstance(item, Reject)] == [
        "text outside <doc …> and </doc>",
        "a document without text",
    ]
    assert found[0].text == "A."


WRAPPED = "and so the long story of the two of them went on for a while yet"


def test_hard_wrapped_paragraphs_are_joined_and_say_so(tmp_path: Path) -> None:
    block = "\n".join([WRAPPED] * 4)
    found = read(tmp_path / "a", f"{block}\n\n{block}\r\nthe end.\n\nA title\n", "paragraphs")
    whole = " ".join([WRAPPED] * 4)
    assert [item.text for item in found] == [whole, f"{whole} the end.", "A title"]
    told = ("hard-wrapped lines joined to paragraphs",)
    assert [item.notes for item in found] == [told, told, ()]


def test_large_hard_wrapped_text_is_joined_in_every_part(tmp_path: Path) -> None:
    block = "\n".join([WRAPPED] * 9) + "\n\n"
    found = read(tmp_path / "a.txt", block * 30_000, part_bytes=10_000_000)
    assert len({item.source for item in found}) == 2
    assert {(item.format, item.text) for item in found} == {("paragraphs", " ".join([WRAPPED] * 9))}


def test_a_sentence_a_line_stays_so(tmp_path: Path) -> None:
    block = "\n".join([f"{WRAPPED}."] * 9)
    (found,) = read(tmp_path / "a", block, "paragraphs")
    assert (found.text, found.notes) == (block, ())


def test_a_field_that_is_missing_names_the_flag(tmp_path: Path) -> None:
    path, row = tmp_path / "a.jsonl", '{"body": "One."}\n'
    (found,) = read(path, row)
    assert found.reason == "no text in field 'text' (found 'body'; --text_field names the field)"
    with pytest.raises(UserError, match="--text_field=body does nothing with --format=markdown"):
        read(path, row, "markdown", text_field="body")


def test_names_of_documents_can_be_printed(tmp_path: Path) -> None:
    ids = ["\ud800", "a\x1b[31m\nb", "x" * 500, "Übung", 7, "\x00" * 500, "y" * 200]
    rows = [json.dumps({"text": f"Text {n}.", "id": id}) for n, id in enumerate(ids)]
    tag = '<doc id="z\x1bz" url="u" title="T">\nT\n\nText.\n</doc>\n'
    found = read(tmp_path / "a.jsonl", "\n".join(rows))
    found += read(tmp_path / "w", tag)
    assert [item.id for item in found] == [
        "\\ud800", "a\\x1b[31m\\nb", "x" * 199 + "…", "Übung", "7",
        ("\\x00" * 50)[:199] + "…", "y" * 200, "z\\x1bz",
    ]  # fmt: skip
    assert all(item.id.isprintable() and item.id.encode() for item in found)


def test_what_has_been_read_never_falls(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("a.txt", b"Text. " * 2000), ("b.txt", b""), ("c.txt", b"Text.")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (source,) = find_sources([str(tmp_path / "a.tar")])
    first, empty, last = read_documents(source)
    assert isinstance(empty, Reject)
    assert empty.reason == "an empty file"
    assert 12_000 < first.end <= empty.end <= last.end <= source.bytes
