"""Markdown, books and hard-wrapped prose -> plain text, one paragraph or heading a line.

A paragraph ends at a blank line, a heading or a rule; its lines are joined by blanks (verse too).
Blocks are set apart by an empty line. Dropped are marks, never words: `#` of headings, `_` and `*`
of emphasis, `>` of quotations, `-`, `+`, `*` of lists, rules, the addresses of links and pictures.
Code keeps its lines and loses its fences; a fence that nothing closes is a rule or text. Heads and
feet go: YAML front matter, the head `# Title: …  ## Author: …  ## Year: …  ---`, and what Project
Gutenberg puts around a book.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Notes = tuple[str, ...]

_FRONT_MATTER = re.compile(
    r"\A---[ ]*\n(?:(?!---|\.\.\.)(?:[\w'\"][^\n:]*:|[ \t]|- |#|(?=\n))[^\n]*\n){0,200}+"
    r"(?:---|\.\.\.)[ ]*\n"
)
_BOOK_HEAD = re.compile(
    r"\A\s*# Title:[^\n]*\n(?:\n*## [A-Z]\w*:[^\n]*\n)*(?:\n*-{3,}[ ]*(?:\n|\Z))?"
)
_START = re.compile(
    r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^*]{0,600}\*\*\*"
    r"|^\*END\* ?THE SMALL PRINT![^\n]*",
    re.MULTILINE,
)
_START_WORDS = ("PROJECT GUTENBERG", "SMALL PRINT!")
_END = re.compile(
    r"^\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG"
    r"|^(?:\*\*\* ?)?End of (?:the |this )?Project Gutenberg",
    re.MULTILINE | re.IGNORECASE,
)
_CREDITS = re.compile(
    r"\A\s*(?:This e-?(?:text|book) was )?(?:produced|prepared|transcribed|e-?text prepared) by"
    r"[^\n]*+\n(?:[ \t]*+\S[^\n]*+\n)*+",
    re.IGNORECASE,
)
_PICTURE = re.compile(r"\[Illustration(?::[^\]]{0,500})?\]")

_HEADING = re.compile(r"#{1,6}(?:\s+|$)(.*)", re.DOTALL)
_RULE = re.compile(r"(?:[-*_=][ \t]*+){3,}+")
_ITEM = re.compile(r"[-+*][ \t]+(?=\S)")
_MARKS = frozenset("#>-+*_=[")
_FENCE = ("```", "~~~")
_FENCE_LINE = re.compile(r"^[^\S\n]*+(?:```|~~~)[^\n]*", re.MULTILINE)
# What begins a block of code: perhaps a language follows, which holds no mark of the fence.
_OPENING = re.compile(r"(`{3,}+)[^`]*|(~{3,}+)\s*+(?:[\w+#.-]*|\{[^{}~]*\})")
_CLOSING = re.compile(r"`{3,}|~{3,}")
_LINK = re.compile(
    r'!?\[([^\[\]\n]{0,500})\]\((?:[^()\s]|\([^()\s]*\))*(?:[ \t]+"[^"\n]{0,500}")?[ \t]*\)'
)
_DEFINITION = re.compile(
    r"\[[^\[\]\n]{1,100}\]:[ \t]*(?:<|/|#|www\.|\w{1,10}:)\S*(?:[ \t]+[\"'(][^\n]*)?"
)
_UNDERSCORES = re.compile(r"_(?:(?<![\w\\]_)_?+(?=[^\s_])|(?<=[^\s_\\]_)_?+(?!\w))")
_STARS = re.compile(r"(?<![\\*])(\*{1,3})(?=[^\s*])([^*]{1,500}?)(?<=[^\s\\])\1(?!\*)")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!>~|])")
_STOP = re.compile(r"[.!?:;\"'”’)\]*_][ \t]*\Z")
_LINE = re.compile(r"[^\n]*\n?")
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_LINE_END = re.compile(r"\n[ \t]*")
_SAMPLE = 1 << 18


def is_book(head: str) -> bool:
    """Whether a text begins as a book of Project Gutenberg or of a Markdown library does."""
    return bool(_BOOK_HEAD.match(head) or _start(head))


def read_book(text: str) -> tuple[str, Notes]:
    """Returns the text between a book's head and foot, as `read_markdown`, and what was missing."""
    notes: Notes = ()
    if start := _start(text):
        text = text[start.end() :]
        end = _END.search(text)
        text = _CREDITS.sub("", text[: end.start()] if end else text)
        notes = () if end else ("a book without an end mark",)
    elif not _BOOK_HEAD.match(text):
        notes = ("a book without a head that is known",)
    if "[Illustration" in text:
        text = _PICTURE.sub("", text)
    return read_markdown(text)[0], notes


def _start(text: str) -> re.Match[str] | None:
    """The end of what Project Gutenberg puts before a book."""
    return _START.search(text) if any(word in text for word in _START_WORDS) else None


def read_markdown(text: str) -> tuple[str, Notes]:
    """Returns the text without marks; paragraphs and headings are lines, an empty one between."""
    text = _FRONT_MATTER.sub("", text, count=1)
    text = _BOOK_HEAD.sub("", text, count=1)
    return "\n\n".join(filter(None, _blocks(text))), ()


def unwrap(text: str) -> tuple[str, Notes]:
    """Joins the lines of prose wrapped at a column; other text comes back as it is.

    Wrapped prose: most lines of its paragraphs but the last are 50 to 100 characters long, nearly
    none is longer, and fewer than half of them end in punctuation.
    """
    sample = text[:_SAMPLE].rpartition("\n")[0] if len(text) > _SAMPLE else text
    blocks = [block.split("\n") for block in _BLANK_LINES.split(sample)]
    inner = [line for block in blocks for line in block[:-1]]
    if len(inner) < 4 or any(len(line) > 200 for line in inner):
        return text, ()
    wrapped = sum(50 <= len(line) <= 100 for line in inner)
    stops = sum(bool(_STOP.search(line)) for line in inner)
    if wrapped < 0.8 * len(inner) or stops >= 0.5 * len(inner):
        return text, ()
    joined = (_LINE_END.sub(" ", block) for block in _BLANK_LINES.split(text))
    return "\n\n".join(joined), ("hard-wrapped lines joined to paragraphs",)


def _blocks(text: str) -> Iterator[str]:
    """Yields headings, paragraphs, list items and lines of code, without marks."""
    lines: list[str] = []
    code, fences = False, _fences(text)
    for match in _LINE.finditer(text):
        line = match[0].strip()
        if match.start() in fences:
            code, line = not code, ""
        elif not code and line.startswith(_FENCE) and _CLOSING.fullmatch(line):
            line = ""  # an ornament
        kind, line = _classify(line) if line[:1] in _MARKS and not code else ("text", line)
        if lines and (code or not line or kind != "text"):
            yield _inline(" ".join(lines))
            lines = []
        if code:
            yield line
        elif kind == "heading":
            yield _inline(line)
        elif line:
            lines.append(line)


def _fences(text: str) -> set[int]:
    """Where the lines begin that open and close code, in turn; each one opened is closed.

    A fence is closed by one of the same character that is at least as long.
    """
    if not any(fence in text for fence in _FENCE):
        return set()
    found = [(match.start(), match[0].strip()) for match in _FENCE_LINE.finditer(text)]
    longest = {"`": 0, "~": 0}
    closes = []  # whether what might open there is closed behind
    for _, line in reversed(found):
        opening = _OPENING.fullmatch(line)
        closes.append(bool(opening) and _width(line) <= longest[line[0]])
        if _CLOSING.fullmatch(line):
            longest[line[0]] = max(longest[line[0]], len(line))
    fences: set[int] = set()
    opened = ""
    for (start, line), is_closed in zip(found, reversed(closes), strict=True):
        if opened and line.startswith(opened) and _CLOSING.fullmatch(line):
            fences.add(start)
            opened = ""
        elif not opened and is_closed:
            fences.add(start)
            opened = line[: _width(line)]
    return fences


def _width(line: str) -> int:
    """How many marks a line begins with."""
    return len(line) - len(line.lstrip(line[0]))


def _classify(line: str) -> tuple[str, str]:
    """A line that begins with a mark -> (heading, item or text; what it says)."""
    if line[0] == ">":
        line = line.lstrip("> ")
    if heading := _HEADING.fullmatch(line):
        return "heading", _without_closing(heading[1])
    if _RULE.fullmatch(line) or _DEFINITION.fullmatch(line):
        return "text", ""
    if item := _ITEM.match(line):
        return "item", line[item.end() :]
    return "text", line


def _without_closing(heading: str) -> str:
    """A heading without the marks that close it, which follow a blank: `C#` keeps its own."""
    bare = heading.rstrip("#")
    return heading if bare and not bare[-1].isspace() else bare.rstrip()


def _inline(text: str) -> str:
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    if "_" in text:
        text = _UNDERSCORES.sub("", text)
    if "*" in text:
        text = _STARS.sub(r"\2", text)
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text
