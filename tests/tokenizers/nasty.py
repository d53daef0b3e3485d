"""Lines that break tokenizers: every Unicode block, controls, white space, contractions."""

from __future__ import annotations

import random
import unicodedata

_SPACES = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"
_MARKS = "'`\".,:;!?-_~+*/()[]{}|<>#&%=$@^\\—–―…´’‘“”«»¿¡。、°£€§†•™×"
_CONTRACTIONS = [
    "don't",
    "DON'T",
    "can't",
    "cannot",
    "it's",
    "It'S",
    "I'm",
    "you'll",
    "they've",
    "we'd",
    "he'd've",
    "couldn't've",
    "John'll",
    "o'clock",
    "'tis",
    "'em",
    "goin'",
    "dogs'",
    "y'all",
    "gonna",
    "gotta",
    "dont",
    "hasnt",
    "'s",
    "'LL",
    "''",
    "``s''",
    "n't",
    "won't'",
    "'",
    "'t",
]
_WORDS = [
    "Mr.",
    "Mrs.",
    "U.S.",
    "e.g.",
    "a.m.",
    "Ph.D.",
    "Jan.",
    "etc.",
    "end.The",
    "J.",
    ".5",
    "5.",
    "3.14",
    "1,000.50",
    "10:30",
    "$5",
    "5$",
    "US$7",
    "50%",
    "5km",
    "8am",
    "1990's",
    "AT&T",
    "C#",
    "http://www.x.com/a?b=c&d",
    "foo@bar.com",
    "<br>",
    "a=b",
    "a==b",
    "x<y",
    "...",
    "..",
    "wait...what",
    "ﬁnd",
    "ﬀ",
    "Ĳ",
    "ＡＢＣ！",
    "café",
    "café",
    "ẛ̣",
    "Å",
    "한국어",
    "中文字",
    "日本語テキスト",
    "हिन्दी",
    "ไทย",
    "עברית",
    "العربية",
    "👩\u200d👩\u200d👧",
    "🇩🇪",
    "☃",
    "a\u200bb",
    "so\xadft",
    "\ufeffx",
    "\u2060",
    "�",
    "\ufffe",
    "\ue000",
    "<|endoftext|>",
    "<unk>",
    "[MASK]",
    "</w>",
    "Ġ",
    "ĠĠ",
    "▁",
    "İI",
    "𝐀",
    "\U0010ffff",
    "\x00",
    "\x01a\x02",
    "\x7f",
    "\x80",
]


def lines(count: int, seed: int = 0) -> list[str]:
    """Fixed ones first, then mixtures; no halves of surrogate pairs."""
    draw = random.Random(seed)
    made = [
        "",
        " ",
        "  ",
        "\n",
        "\x00",
        "a" * 5_000,
        "é中" * 1_500,
        " " * 3_000,
        "'" * 999,
        "-_" * 2_000,
    ]
    made += [
        "\n\n a \n",
        "a \n b",
        "a\n \nb",
        "\t\ta  b   ",
        " a",
        "a ",
        "a\r\nb\rc",
        "\u3000a\u3000",
    ]
    made += _blocks()
    while len(made) < count:
        made.append("".join(_part(draw) for _ in range(draw.randint(1, 12))))
    return made[:count]


def _part(draw: random.Random) -> str:
    kind = draw.randrange(9)
    if kind == 0:
        return "".join(draw.choice(_SPACES) for _ in range(draw.randint(1, 4)))
    if kind == 1:
        return "".join(draw.choice(_MARKS) for _ in range(draw.randint(1, 4)))
    if kind == 2:
        return draw.choice(_CONTRACTIONS)
    if kind == 3:
        return draw.choice(_WORDS)
    if kind == 4:
        return _character(draw)
    if kind == 5:
        return str(draw.randrange(10 ** draw.randint(1, 12)))
    if kind == 6:
        return "".join(draw.choice("abcdeiostnrlh") for _ in range(draw.randint(1, 15)))
    if kind == 7:
        return draw.choice(["The", "of", "Hello", "world", "walking", "I", "a"])
    return " "


def _character(draw: random.Random) -> str:
    while True:
        character = chr(draw.randrange(0x110000 if draw.random() < 0.2 else 0x3000))
        if unicodedata.category(character) not in ("Cs", "Cn"):
            return character


def _blocks() -> list[str]:
    """Assigned characters, 64 code points a line, then the same between letters."""
    made = []
    for start in range(0, 0x20000, 64):
        here = [chr(c) for c in range(start, start + 64) if _assigned(c)]
        if here:
            made += ["".join(here)] if start % 256 else ["a".join(here), " ".join(here)]
    return made


def _assigned(code: int) -> bool:
    return unicodedata.category(chr(code)) not in ("Cs", "Cn")
