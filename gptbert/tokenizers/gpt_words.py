"""From text to words as GPT's released code does it, with rules of our own for ftfy and spaCy.

The released `text_utils.py` repairs text with `ftfy.fix_text`, standardises it, splits it with
spaCy's English tokenizer (2.0) and lower-cases each word. The standardisation is as released; the
two libraries are stood in for by what of them matters in English prose:

| step | here | not done, or done otherwise, by these rules |
| --- | --- | --- |
| ftfy | line ends and U+0085, U+2028, U+2029 are line feeds; control characters, byte order marks and other invisible leftovers (U+206A to U+206F, U+FFF9 to U+FFFC) go; quotes become straight, Latin ligatures letters, full-width forms ASCII; NFC | text decoded wrongly ("â€œ"), HTML entities ("&amp;") and terminal escapes stay as they are; half of a surrogate pair is U+FFFD |
| released | dashes, ellipsis, acute accent; runs of - ~ ! " ; ? + , ) ( / * [ ] } { | _ between spaces; line feeds are words | nothing |
| spaCy | marks at the ends of a word, final periods but for abbreviations and initials, runs of periods, contractions ("do n't", "it 's", "can not"), currency, percent, units and am/pm after digits, "end.The" | spaCy's lists of exceptions are longer (slang, clock times, emoticons) and know case; beyond ASCII every mark or symbol is a word here, in spaCy only at the ends of a word; "U.S.A." and "u.s.a." alike keep their last period here |

A chunk between white space is split regardless of its neighbours, so that chunks can be cached.
"""  # noqa: E501 - a table

from __future__ import annotations

import re
import unicodedata

import regex

# White space for `str.split` that the repair turns into line feeds or deletes.
_LINE_BREAK = re.compile("\r\n|[\r\x85\u2028\u2029]")
_NOT_SPACE = dict.fromkeys((0x0B, 0x1C, 0x1D, 0x1E, 0x1F))
_ODD_SPACES = ("\r", "\x0b", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u2028", "\u2029")

# What stands in for ftfy, character by character; then NFC; then the released rewriting.
DELETED = "\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\u206a-\u206f\ufeff\ufff9-\ufffc"
REPAIRED = {
    **dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
    **{
        c: unicodedata.normalize("NFKC", c)
        for c in "Ĳĳﬀﬁﬂﬃﬄﬅﬆ" + "".join(map(chr, range(0xFF01, 0xFF5F)))
    },
    "ŉ": "'n",
}
RELEASED = {**dict.fromkeys("—–―", "-"), "…": "...", "´": "'"}
PADDED = '-~!";?+,)(/*[]}{|_'

DELETED_IN_ONIGURUMA = "[" + "".join(f"\\x{{{ord(c):x}}}" if c != "-" else c for c in DELETED) + "]"

_DELETED = re.compile(f"[{DELETED}]")
_REPAIRED = str.maketrans(REPAIRED)
_RELEASED = str.maketrans(RELEASED)
_SURROGATE = re.compile("[\ud800-\udfff]")
# A run of the same mark, or what stands between such runs.
_PARTS = re.compile(
    "|".join(f"{re.escape(mark)}+" for mark in PADDED) + f"|[^{re.escape(PADDED)}]+"
)


def _any_case(words: str) -> str:
    return " ".join(f"{word} {word.capitalize()} {word.upper()}" for word in words.split())


def _alternatives(words: str, before: str = "") -> str:
    return "|".join(before + word.replace(".", "[.]") for word in dict.fromkeys(words.split()))


_START = r"\b"

# Of these alternatives each has one length, as a lookbehind must have in Oniguruma's syntax.
_SUBJECTS = _any_case(
    "i you he she it we they who what when where why how there that could should might must"
)
_AUXILIARIES = _any_case(
    "do does did is are was were has have had could should would might must need ca ai wo"
)
_OPENED = _any_case("s m d ll re ve n em cause bout cos cuz coz nuff")
_SHORTENED = _alternatives(_any_case("m ll d ve re"))
_CLIPPED = _any_case("goin nothin nuthin somethin doin havin lovin ol")
_UNITS = (
    "km m dm cm mm nm ha yd in ft kg g mg t lb oz mph kmh hPa Pa mbar mb MB kb KB gb GB tb TB T G "
    "M K k am pm AM PM a.m p.m"
)
_ABBREVIATIONS = _any_case("mr mrs ms dr jr vs") + (
    " Adm Bros co Co Corp Gen Gov Inc Ltd Md Messrs Mo Mont Mt Ph Prof Rep Rev Sen St"
    " Jan Feb Mar Apr May Jun Jul Aug Sep Sept Oct Nov Dec"
    " Ala Ariz Ark Calif Colo Conn Del Fla Ga Ia Id Ill Ind Kan Kans Ky La Mass Mich Minn Miss Neb"
    " Nebr Nev Okla Ore Pa Penn Tenn Va Wash Wis"
)

_ABBREVIATED = frozenset(_ABBREVIATIONS.split())

_WORD = r"[\p{L}\p{M}\p{N}]"
_END = rf"(?!{_WORD})"
_MARK = "['`:<>#&%=]"
_MARK_BEYOND = r"[\p{P}\p{Sm}\p{Sc}\p{So}]"
_BEYOND = rf"(?![\x00-\x7f]){_MARK_BEYOND}"

# A word ends at every place where one of these matches; all match the place only.
BREAKS = (
    # Marks at the ends of words; between letters or digits they stay ("o'clock", "AT&T", "10:30").
    rf"(?<=\S)(?={_MARK}{_END})(?<!{_alternatives(_CLIPPED, _START)})",
    rf"(?<!{_WORD}{_MARK})(?<={_MARK})(?=\S)(?!(?<=')(?:{_alternatives(_OPENED)}){_END})",
    r"(?<=\p{L})(?=[:<>=]\p{L})",
    r"(?<=\p{L}[:<>=])(?=\p{L})",
    rf"(?<=\S)(?={_BEYOND})",
    rf"(?<={_MARK_BEYOND})(?<![\x00-\x7f])(?=\S)",
    # Contractions.
    rf"(?<={_WORD})(?='[sS]{_END})",
    rf"(?<=[a-zA-Z])(?=[nN]'[tT]{_END})",
    rf"(?<={_alternatives(_SUBJECTS, _START)}|'d|'D|n't|N'T)(?='(?:{_SHORTENED}){_END})",
    rf"(?<={_alternatives(_AUXILIARIES, _START)})(?=(?:nt|NT){_END})",
    rf"(?<=\b[cC]an)(?=not{_END})",
    rf"(?<=\b[gG]on)(?=na{_END})",
    rf"(?<=\b[gG]ot)(?=ta{_END})",
    # Runs of periods; the last period, but for abbreviations and initials; "end.The".
    r"(?<=[^\s.])(?=[.][.])",
    r"(?<=[.][.])(?=[^\s.])",
    rf"(?<=[^\s.])(?=[.](?:{_MARK}|{_BEYOND})*(?!\S))(?<!^\p{{L}}|\s\p{{L}}|[.]\p{{L}}|"
    rf"{_alternatives(_ABBREVIATIONS, _START)})",
    r"(?<=\p{Ll})(?=[.]\p{Lu})(?<!\bPh)",
    r"(?<=\p{Ll}[.])(?=\p{Lu})(?<!\bPh[.])",
    # Amounts.
    r"(?<=\$)(?=\S)",
    r"(?<=\p{N})(?=\$)",
    rf"(?<=\p{{N}})(?=(?:{_alternatives(_UNITS)}){_END})",
)
_BREAK = regex.compile("|".join(BREAKS), regex.V0)


def words(text: str) -> list[str]:
    """The words of `text`, lower-cased; a line feed, with the white space around it, is one.

    Line feeds at the start and at the end of the text are none.
    """
    found: list[str] = []
    for line in lines_of(text):
        if of_line := [word for chunk in line.split() for word in chunk_words(chunk)]:
            found += ["\n", *of_line] if found else of_line
    return found


def lines_of(text: str) -> list[str]:
    """Splits at line ends, so that `str.split` finds the chunks of each line."""
    if any(odd in text for odd in _ODD_SPACES):
        text = _LINE_BREAK.sub("\n", text).translate(_NOT_SPACE)
    return text.split("\n")


def chunk_words(chunk: str) -> list[str]:
    """The words of a chunk that holds no white space."""
    return [word for part in chunk_parts(chunk) for word in part_words(part)]


def chunk_parts(chunk: str) -> list[str]:
    """A chunk, repaired and cut at the ends of the runs that the released code puts spaces around."""
    if not (chunk.isascii() and chunk.isprintable()):
        chunk = _SURROGATE.sub("\ufffd", _DELETED.sub("", chunk)).translate(_REPAIRED)
        chunk = unicodedata.normalize("NFC", chunk).translate(_RELEASED)
    return _PARTS.findall(chunk)


def part_words(part: str) -> list[str]:
    """The words of a part, lower-cased."""
    # Spares most parts the search, which takes 50 times as long as the rest.
    if part in PADDED or _is_plain(part):
        return [part.lower()]
    body = part[:-1]
    if part[-1] == "." and len(body) > 1 and _is_plain(body) and body not in _ABBREVIATED:
        return [body.lower(), "."]
    return [word.lower() for word in _BREAK.sub(" ", part).split()]


def _is_plain(part: str) -> bool:
    """Whether there is nothing to break: letters that do not end like "gonna" or "dont"."""
    return part.isascii() and part.isalpha() and part[-1] not in "aAtT"
