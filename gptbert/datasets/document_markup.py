"""Markdown and hard-wrapped prose -> plain text, one paragraph or heading a line.

A paragraph ends at a blank line, a heading or a rule; its lines are joined by blanks (verse too).
Blocks are set apart by an empty line. Dropped are marks, never words: `#` of headings, `_` and `*`
of emphasis, `>` of quotations, `-`, `+`, `*` of lists, rules, the addresses of links and pictures.
Code keeps its lines and loses its fences; a fence that nothing closes is a rule or text. Heads go:
YAML front matter, and `# Title: …  ## Author: …  ## Year: …  ---` of books.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Notes = tuple[str, ...]

_FRONT_MATTER = re.compile(
    r"\A---[ ]*\n(?:(?!---|\.\.\.)(?:[\w'\"][^\n:]*:|[ \t]|- |#|(?=\n))[^\n]*\n){0,200}+"
    r"(?:---|\.\.\.)[ ]*\n"
)
BOOK_HEAD = re.compile(
    r"\A\s*# Title:[^\n]*\n(?:\n*## [A-Z]\w*:[^\n]*\n)*(?:\n*-{3,}[ ]*(?:\n|\Z))?"
)

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
UNWRAPPED: Notes = ("hard-wrapped lines joined to paragraphs",)


def read_markdown(text: str) -> tuple[str, Notes]:
    """Returns the text without marks; paragraphs and headings are lines, an empty one between."""
    text = _FRONT_MATTER.sub("", text, count=1)
    text = BOOK_HEAD.sub("", text, count=1)
    return "\n\n".join(filter(None, _blocks(text))), ()


def unwrap(text: str) -> tuple[str, Notes]:
    """Joins the lines of prose wrapped at a column; other text comes back as it is."""
    if not is_wrapped(text[:_SAMPLE].rpartition("\n")[0] if len(text) > _SAMPLE else text):
        return text, ()
    return "\n\n".join(map(join_lines, _BLANK_LINES.split(text))), UNWRAPPED


def join_lines(paragraph: str) -> str:
    """A paragraph in one line."""
    return _LINE_END.sub(" ", paragraph)


def is_wrapped(text: str) -> bool:
    """Whether text is prose wrapped at a column.

    Most lines of its paragraphs but the last are 50 to 100 characters long, none is much longer,
    and fewer than half of them end in punctuation.
    """
    blocks = [block.split("\n") for block in _BLANK_LINES.split(text)]
    inner = [line for block in blocks for line in block[:-1]]
    if len(inner) < 4 or any(len(line) > 200 for line in inner):
        return False
    wrapped = sum(50 <= len(line) <= 100 for line in inner)
    stops = sum(bool(_STOP.search(line)) for line in inner)
    return wrapped >= 0.8 * len(inner) and stops < 0.5 * len(inner)


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
