"""From text to words as GPT's released code does it, with rules of our own for ftfy and spaCy.

The released `text_utils.py` repairs text with `ftfy.fix_text`, rewrites it, splits it with spaCy's
English tokenizer (2.0) and lower-cases each word. The rewriting is as released: dashes, ellipsis
and acute accent to ASCII; a space on both sides of each run of one of - ~ ! " ; ? + , ) ( / * [ ]
} { | _; a line feed with the white space around it is a word. The two libraries are stood in for
by what matters in English prose.

For ftfy: line ends of all systems, U+0085, U+2028 and U+2029 become line feeds; control
characters, byte order marks, U+206A to U+206F and U+FFF9 to U+FFFC go; quotes become straight,
Latin ligatures letters, full-width forms ASCII; NFC. Not done: text decoded wrongly ("\u00e2\u20ac"
for a quote), HTML entities ("&amp;") and terminal escapes stay; half of a surrogate pair is U+FFFD.

For spaCy: marks at the ends of words; runs of most marks come apart; final periods, but for
abbreviations ("Mr.", "Inc.") and initials ("J.", "U.S."); runs of periods; contractions in lower
case or with a capital ("do n't", "it 's", "can not", "do nt"); currency, percent, units and am/pm
at digits; "end.The". Known to differ: spaCy's lists are longer (slang, clock times); a mark or
symbol beyond ASCII is a word here even between letters; and rules apply here wherever they fit,
where spaCy peels a word from its ends and gives up at what it knows. On Wikipedia and three novels,
not used to find the rules, more than 99.95% of the words must be those of ftfy and spaCy:
`tests/tokenizers/test_parity_gpt_words.py` checks it.

A chunk between white space is split regardless of its neighbours, so that chunks can be cached.
"""

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


def _titled(words: str) -> str:
    return " ".join(f"{word} {word.capitalize()}" for word in words.split())


def _alternatives(words: str, before: str = "") -> str:
    return "|".join(before + word.replace(".", "[.]") for word in dict.fromkeys(words.split()))


# Capitals throughout ("DON'T") are not split, as in spaCy, whose lists know two spellings.
_SUBJECTS = _titled(
    "i you he she it we they who what when where why how there that could should might must"
)
_AUXILIARIES = _titled(
    "do does did is are was were has have had could should would might must may need ought dare "
    "ca ai wo sha"
)
# Words written as one: the second part -> its first parts.
_GLUED = {
    "not": "can",
    "na": "gon",
    "ta": "got",
    "m": "i",
    "re": "you they",
    "ve": "i you we they",
    "ll": "you they",
    "d": "you they",
    "s": "who what where how there that",
    "nt": "do does did is are was were has have had could should would might must need ca ai wo",
}
_OPENED = "s S ll d re em cause Cause bout Bout cos Cos cuz Cuz coz Coz nuff Nuff"
_CLIPPED = _titled("goin nothin nuthin somethin doin havin lovin ol")
_UNITS = (
    "km m dm cm mm nm ha yd in ft kg g mg t lb oz mph kmh hPa Pa mbar mb MB kb KB gb GB tb TB T G "
    "M K k"
)
_ABBREVIATIONS = (
    "Mr Mrs Ms Dr Jr Adm Bros co Co Corp Gen Gov Inc Ltd Md Messrs Mo Mont Mt Ph Prof Rep Rev Sen"
    " St vs a.m p.m e.g i.e v.s Jan Feb Mar Apr May Jun Jul Aug Sep Sept Oct Nov Dec Ala Ariz Ark"
    " Calif Colo Conn Del Fla Ga Ia Id Ill Ind Kan Kans Ky La Mass Mich Minn Miss Neb Nebr Nev Okla"
    " Ore Pa Penn Tenn Va Wash Wis"
)
_ABBREVIATED = frozenset(_ABBREVIATIONS.split())
_GLUED_WORDS = frozenset(
    first + second for second, firsts in _GLUED.items() for first in _titled(firsts).split()
)

# Apart, even in runs; runs of - ~ / | are one word.
_SINGLE = r'[!";?+,)(*\[\]}{_]'
_WORD = r"[\p{L}\p{M}\p{N}]"
_END = rf"(?!{_WORD})"
_MARK = "['`:<>#&%=]"
_BEYOND = r"(?![\x00-\x7f])[\p{P}\p{Sc}\p{So}]"
_START = r"\b"

# A word ends at every place where one of these matches; all match the place only. Alternatives of a
# lookbehind have one length each, and hold no other look-around, so that Oniguruma knows them too.
BREAKS = (
    rf"(?<={_SINGLE})(?={_SINGLE})",
    # Marks at the ends of words; between letters or digits they stay ("o'clock", "AT&T", "10:30").
    rf"(?<=\S)(?=['`:<>#&]{_END})(?<!{_alternatives(_CLIPPED, _START)})(?!(?<=')'|(?<=`)`)",
    rf"(?<={_MARK})(?<![^\s'`:<>#&%=]{_MARK})(?=\S)(?!(?<=')'|(?<=`)`)"
    rf"(?!(?<=')(?:{_alternatives(_OPENED)}){_END})",
    r"(?<=\p{L})(?=[:<>=]\p{L})",
    r"(?<=\p{L}[:<>=])(?=\p{L})",
    rf"(?<=\S)(?={_BEYOND})",
    r"(?<=[\p{P}\p{Sc}\p{So}])(?<![\x00-\x7f])(?=\S)",
    # Contractions.
    rf"(?<={_WORD})(?='[sS]{_END})",
    rf"(?<={_alternatives(_AUXILIARIES, _START)})(?=n't{_END})",
    rf"(?<={_alternatives(_SUBJECTS, _START)}|'d|n't)(?='(?:m|ll|d|ve|re){_END})",
    rf"(?<=\b[yY]')(?=all{_END})",
    *(
        rf"(?<={_alternatives(_titled(firsts), _START)})(?={second}{_END})"
        for second, firsts in _GLUED.items()
    ),
    # Runs of periods; the last period, but for abbreviations and initials; "end.The".
    r"(?<=[^\s.])(?=[.][.])",
    r"(?<=[.][.])(?=[^\s.])",
    rf"(?<=[^\s.])(?=[.](?:{_MARK}|{_BEYOND})*(?!\S))(?<!^\p{{L}}|\s\p{{L}}|[^\p{{Lu}}]\p{{Lu}}|"
    rf"{_alternatives(_ABBREVIATIONS, _START)}|\p{{N}}[ap][.]m)",
    r"(?<=\p{Ll})(?=[.]\p{Lu})(?<!\bPh)",
    r"(?<=\p{Ll}[.])(?=\p{Lu})(?<!\bPh[.])",
    # Amounts.
    r"(?<=\$)(?=\S)",
    r"(?<=\p{N})(?=[$%])",
    rf"(?<=\p{{N}})(?=(?:{_alternatives(_UNITS)}){_END})",
    rf"(?<=\b\p{{N}}|\b1[0-2])(?=(?:am|pm|AM|PM|a[.]m|p[.]m){_END})",
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
    """A chunk, repaired, and cut where the released code puts spaces around runs of a mark."""
    if not (chunk.isascii() and chunk.isprintable()):
        chunk = _SURROGATE.sub("\ufffd", _DELETED.sub("", chunk)).translate(_REPAIRED)
        chunk = unicodedata.normalize("NFC", chunk).translate(_RELEASED)
    return _PARTS.findall(chunk)


def part_words(part: str) -> list[str]:
    """The words of a part, lower-cased."""
    # Spares most parts the search, which takes far longer than the rest.
    if part in PADDED or _is_plain(part):
        return [part.lower()]
    body = part[:-1]
    ends = part[-1] == "." and len(body) > 1 and (body[-1].islower() or body[-2].isupper())
    if ends and _is_plain(body) and body not in _ABBREVIATED:
        return [body.lower(), "."]
    return [word.lower() for word in _BREAK.sub(" ", part).split()]


def _is_plain(part: str) -> bool:
    """Whether there is nothing to break: letters that are not like "gonna" or "dont"."""
    return part.isascii() and part.isalpha() and part not in _GLUED_WORDS
