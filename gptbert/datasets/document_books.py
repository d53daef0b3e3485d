"""Books of Project Gutenberg and of Markdown libraries: where each begins and ends in a file.

A book stands between a start mark (`*** START OF …`, or the end of the small print of early texts)
and the end mark that follows; a file may hold several, one after another. What stands before a
start mark and behind an end mark is a head or a foot, and dropped, unless it holds `_MORE`
characters in which neither Project Gutenberg nor an e-text is named: no licence does, so that is
text of a book (volumes with an end mark after each), which is read and noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gptbert.datasets.document_markup import BOOK_HEAD, Notes, read_markdown

_MARK = re.compile(
    r"^[ \t]*+(?:"
    r"(?P<start>\*\*\* ?START OF (?:THE |THIS )?(?:COPYRIGHTED )?PROJECT GUTENBERG[^*]{0,600}\*\*\*"
    r"|\*END\*? ?THE SMALL PRINT![^\n]*)"
    r"|(?i:\*\*\* ?End of (?:the |this )?(?:copyrighted )?Project Gutenberg[^*]{0,600}\*\*\*"
    r"|(?:\*\*\* ?)?(?:The )?End of (?:the |this )?(?:copyrighted )?Project Gutenberg[^\n]*))",
    re.MULTILINE,
)
_MARK_WORDS = ("GUTENBERG", "Gutenberg", "SMALL PRINT!")
# The first line of a file of Project Gutenberg.
_HEAD = re.compile(
    r"^[^\w\n]{0,9}(?:This is )?(?:The )?Project Gutenberg", re.MULTILINE | re.IGNORECASE
)
_CREDITS = re.compile(
    r"\A\s*+(?:(?:This )?e-?(?:text|book) (?:was )?)?"
    r"(?:transcribed from (?:the|an?)\b|"
    r"(?:produced|prepared|transcribed|scanned|digiti[sz]ed|typed|proofed|proofread)"
    r"(?:(?:,|,? and|,? &) \w+){0,3} by\b)"
    r"[^\n]*+\n(?:[ \t]*+\S[^\n]*+\n)*+",
    re.IGNORECASE,
)
_PICTURE = re.compile(r"\[Illustration(?::[^\]]{0,500})?\]")
# Licences name one of these every 3,000 characters at least.
_LICENCE = re.compile(r"gutenberg|\be-?(?:text|book)", re.IGNORECASE)
_MORE = 5_000

_NO_END: Notes = ("a book without an end mark",)
_NO_HEAD: Notes = ("a book without a head that is known",)
_OUTSIDE: Notes = ("text of a book outside its marks",)


def is_book(head: str) -> bool:
    """Whether a text begins as a book of Project Gutenberg or of a Markdown library does."""
    return bool(BOOK_HEAD.match(head)) or any(mark["start"] for mark in _marks(head))


def read_books(text: str) -> Iterator[tuple[str, Notes]]:
    """Yields the text between the head and foot of each book, as `read_markdown`, at least one.

    Its notes say what was missing.
    """
    empty = True
    for body, notes in _bodies(text):
        if body and not body.isspace():
            empty = False
            body = _PICTURE.sub("", body) if "[Illustration" in body else body
            yield read_markdown(body)[0], notes
    if empty:
        yield "", ()


def _marks(text: str) -> list[re.Match[str]]:
    """The start and end marks of books."""
    found = any(word in text for word in _MARK_WORDS)
    return list(_MARK.finditer(text)) if found else []


def _bodies(text: str) -> Iterator[tuple[str, Notes]]:
    """Yields what stands between marks and is text of a book; blank ones too."""
    marks = _marks(text)
    is_open = not marks or not marks[0]["start"]
    begin, started = 0, False
    unknown = () if BOOK_HEAD.match(text) else _NO_HEAD
    for mark in marks:
        between = text[begin : mark.start()]
        if not is_open:
            yield _more(between), _OUTSIDE
        elif not started:
            yield between, unknown
        elif mark["start"]:  # the next book, whose head has no mark
            head = _HEAD.search(between)
            yield _CREDITS.sub("", between[: head.start()] if head else between), _NO_END
        else:
            yield _CREDITS.sub("", between), ()
        begin, is_open = mark.end(), bool(mark["start"])
        started = started or is_open
    rest = text[begin:]
    if not is_open:
        yield _more(rest), _OUTSIDE
    else:
        yield (_CREDITS.sub("", rest), _NO_END) if started else (rest, unknown)


def _more(text: str) -> str:
    """The text of a book in what is not between marks, whole paragraphs; empty for none."""
    edges = [0, *(edge for named in _LICENCE.finditer(text) for edge in named.span()), len(text)]
    long = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= _MORE]
    if not long:
        return ""
    begin, end = long[0][0], long[-1][1]
    if begin:
        begin = max(begin, text.find("\n\n", begin, end))
    if end < len(text) and (cut := text.rfind("\n\n", begin, end)) > begin:
        end = cut
    return text[begin:end]
