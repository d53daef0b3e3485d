"""Markdown and wrapped prose: what is dropped, what is kept, and that no word is lost."""

from __future__ import annotations

import time

import pytest

from gptbert.datasets.document_books import read_books
from gptbert.datasets.document_markup import read_markdown, unwrap


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("# Title\ntext\nmore\n\n\nnext", "Title\n\ntext more\n\nnext"),
        ("## Closed ##\n#hash tag", "Closed\n\n#hash tag"),
        ("Setext\n======\nText\n------\nMore", "Setext\n\nText\n\nMore"),
        ("a\n\n* * *\n\nb\n___\nc\n-----\nd", "a\n\nb\n\nc\n\nd"),
        ("- one\n- two\n  goes on\n* three\n1. four", "one\n\ntwo goes on\n\nthree 1. four"),
        ("> quoted\n> text\n>\n> more", "quoted text\n\nmore"),
        ("an _emphasis_, __strong__, a_b and _a b_", "an emphasis, strong, a_b and a b"),
        ("an *emphasis*, **strong**, 2 * 3 * 4, a*", "an emphasis, strong, 2 * 3 * 4, a*"),
        ("Mr. ____ of B. and _Mrs._ C.", "Mr. ____ of B. and Mrs. C."),
        ("a [link](http://x.org/a_(b) \"T\") here", "a link here"),
        ("![A picture](p.png) and [text] (not a link)", "A picture and [text] (not a link)"),
        ("see [it][1]\n\n[1]: http://x.org 'T'\n[So]: he left", "see [it][1]\n\n[So]: he left"),
        (r"\*not emphasis\* and \_this\_", "*not emphasis* and _this_"),
        ("```python\na_b = *c*\n\nx = 1\n```\ntext", "a_b = *c*\n\nx = 1\n\ntext"),
        ("---\ntitle: X\ntags:\n- a\n---\nText", "Text"),
        ("---\nText of a kind.\n---\nMore", "Text of a kind.\n\nMore"),
        ("# Title: Emma\n\n## Author: Jane\n\n## Year: 1815\n\n-------\n\nText", "Text"),
        ("verse one  \nverse two\n--he said", "verse one verse two --he said"),
        ("", ""),
        ("```\nnever _closed_\n", "never closed"),
        ("```python\nnever _closed_\n", "```python never closed"),
        ("```\na_\n~~~\nb_\n``\n````\n_c_", "a_\n\n~~~\n\nb_\n\n``\n\nc"),
        ("~~~~ {.c++}\na_\n~~~\n~~~~\n_b_", "a_\n\n~~~\n\nb"),
        ("```in a line``` _and_\nmore\n\n# Next", "```in a line``` and more\n\nNext"),
        ("_a_\n\n~~~~~~\n\n_b_\n\n# C", "a\n\nb\n\nC"),
        ("~~~ The End ~~~\n\n_b_", "~~~ The End ~~~\n\nb"),
        ("# Programming in C#\n## F# ##\n### ###\n#### G ##\t", "Programming in C#\n\nF#\n\nG"),
    ],
)  # fmt: skip
def test_markdown(markdown: str, text: str) -> None:
    assert read_markdown(markdown)[0] == text


def test_fences_that_nothing_closes_take_linear_time() -> None:
    text = "\n".join("~" * width + " x" for width in range(3, 1500)[::-1]) + "\n" + "~" * 3
    start = time.process_time()
    assert read_markdown(text)[0] == " ".join(text.split("\n")[:-2])
    assert time.process_time() - start < 2


def test_unwrap_leaves_verse_lists_and_long_lines_alone() -> None:
    verse = "\n".join(["Shall I compare thee to a summer's day, my dear and only friend?"] * 9)
    lists = "\n".join(["a short line"] * 9)
    long = "\n".join(["word " * 60] * 9)
    for text in (verse, lists, long, "one\ntwo", ""):
        assert unwrap(text) == (text, ())


def test_unwrap_keeps_every_word() -> None:
    line = "it went on and on without an end, line upon line, until the very"
    text = "\n\n  \n".join("\n  ".join([line] * n) for n in (1, 5, 9))
    joined, notes = unwrap(text)
    assert joined.split() == text.split() and notes
    assert joined.count("\n") == 4


HOSTILE = {
    "underscores": "_a ",
    "stars": "*a",
    "brackets": "[a](",
    "open": "[",
    "links": "[a](b)",
    "escapes": "\\*",
    "rules": "- ",
    "blank": "\n \n",
    "marks": "\n#",
    "quotes": "\n> ",
    "fences": "\n```\n",
    "unclosed": "\n```a`\n~~~ b\n",
    "ornament": "~",
    "produced": "Produced by\nx ",
    "front": "---\na: b\n",
    "pictures": "[Illustration: ",
    "starts": "\n*** START OF THE PROJECT GUTENBERG EBOOK X",
    "books": "\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\nx\nEnd of Project Gutenberg\n",
    "licences": "\nEnd of Project Gutenberg\n\nProject Gutenberg e-text ",
    "credits": "\nScanned and Scanned and Scanned by ",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_is_linear(kind: str) -> None:
    def seconds(size: int) -> float:
        text = HOSTILE[kind] * (size // len(HOSTILE[kind]))
        book = "*** START OF THE PROJECT GUTENBERG EBOOK ***\n" + text
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            list(read_books(book))
            unwrap(text)
            read_markdown(text)
            best = min(best, time.process_time() - start)
        return best

    small, large = seconds(10_000), seconds(80_000)
    assert large < 24 * small + 0.02
