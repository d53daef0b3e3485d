"""English text -> sentences, by rules: what next sentence prediction makes its pairs of.

A sentence ends at a line's end, and within a line at `.`, `!`, `?` or `…` (quotes and brackets that
close after it belong to it) where white space and what can begin a sentence follow: a letter that
is not lower case or a digit, with quotes and brackets that open before it. Exceptions:

* After a title (`Mr.`) or `e.g.` a sentence always goes on, after `No.` or `Fig.` before a number.
* After an initial (`J. Smith`), `U.S.`, `a.m.`, `Inc.`, `etc.` and the like it goes on unless a
  frequent first word follows (`The`, `He`, `However`).
* What numbers a line (`1.`, `IV.`) stays with it; `Well... I see` goes on after its dots, and
  `"Why?" I asked.`, `"Stop!" Mr. Hale cried.` after the quotation.
* A line that breaks off between two lower-case letters goes on in the next, unless the text is
  said to have a sentence a line.

Nothing but white space is ever lost, and the time is linear in the length of the text whatever
stands in it: every pattern consumes each character a bounded number of times.
"""

from __future__ import annotations

import re

# They stand before a name, a reference or an explanation.
_ALWAYS = """
Mr Mrs Ms MR MRS DR Messrs Mme Mlle Dr Drs Prof Rev Hon Fr Sra Gen Lt Col Maj Capt Cpl Sgt Cmdr
Comdr Adm Brig Gov Sen Rep Pres Supt Insp Amb Pvt Ven Msgr M
e.g i.e viz cf vs v ca c approx esp incl resp fl b
"""
_BEFORE_NUMBERS = """
no nos fig figs vol vols ch chap sec sect art arts eq eqs pp pl bk cap op ed par ver pt No Nos Fig
Figs Vol Vols Ch Chap Sec Sect Art Arts Eq Eqs Pp Pl Bk Cap Op Ed Par Pt p l
"""
_BEFORE_FIRST_WORDS_NOT = """
Sr Jr Snr Jnr Esq St Ste Mt Ft Inc Ltd Co Cos Corp Bros Dept Univ Assn Ave Blvd Rd Hwy Bldg
etc est al ibid seq Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thur Thurs
Fri Ala Ariz Ark Calif Colo Conn Del Fla Ga Ill Ind Kan Ky La Md Mich Minn Miss Mont Neb Nev Okla
Ore Pa Penn Tenn Tex Va Vt Wash Wis Wyo lb lbs oz ft sq mi hr hrs min mins yr yrs Lat Ph.D
"""
_FIRST = """
The This That These Those There Then They He She It We You His Her Its Their Our My Your I A An
In On At By For From With Without After Before During Since Until Under Over Between Among
As If When While Where What Who Why How Which Whether Although Though Because However Moreover
Therefore Thus Hence Also But And Or Nor Yet So Not No Yes Some Many Most Several All Both Each
Every Another Other Others One Two Three Such Only Even Now Here Today Later Once Instead
Despite According Nevertheless Meanwhile Finally Eventually Born Having Being Let Oh Well Is Are
Was Were Do Does Did Had Has Have Can Could Will Would Shall Should May Might Must
"""
_FIRST_WORDS = frozenset(_FIRST.split())
_ALWAYS_ON, _NUMBER_ON, _MAYBE_ON = 1, 2, 3
_RULES = dict.fromkeys(_BEFORE_FIRST_WORDS_NOT.split(), _MAYBE_ON)
_RULES |= dict.fromkeys(_BEFORE_NUMBERS.split(), _NUMBER_ON)
_RULES |= dict.fromkeys(_ALWAYS.split(), _ALWAYS_ON)
_WINDOW = 12  # characters looked at before a full stop: more than any abbreviation has

# The run of stops is tried from its first stop only, and all else is possessive: linear time.
_STOP = re.compile(
    r"""[.!?…](?<![.!?…][.!?…])[.!?…]*+    # a run of stops
        ["'”’»)\]}*_]*+(?:\[\d{1,3}\])*+   # what closes after it
        \s++                               # the gap
        (?=["'“‘«(\[{*_$£€¿¡–—-]*+         # what may open the next sentence
           ([^\W_a-z]))                    # which begins so
    """,
    re.VERBOSE,
)
_BROKEN_LINE = re.compile(r"\n(?<=[a-z,;]\n)(?=[a-z])")
_LAST_WORD = re.compile(r"[\w.'’]*\Z")
_DOTTED = re.compile(r"[^\W\d](?:\w?\.\w)+\w?")
_LINE_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,3})*|[IVXLC]+|[A-Za-z]")
_ROMAN_OR_DIGIT = re.compile(r"\d|[IVXLC]{2,}\b|[VXLC]\b")
_SAYS = re.compile(
    r"(?:(?:Mr|Mrs|Dr)\. |Miss |Lady |Lord |Sir )?\w+ (?:said|asked|cried|answered|replied|"
    r"exclaimed|thought|shouted|whispered|repeated|inquired|enquired|began|returned|continued|"
    r"murmured|called|demanded|interrupted|ejaculated|says)\b"
)


def split_sentences(text: str, *, join_lines: bool = True) -> list[str]:
    """Returns the sentences of a text in order, stripped, none of them empty.

    Joined without their white space they are the text without its white space.

    Args:
      text: Its lines end at line feeds.
      join_lines: Whether a line that breaks off between two lower-case letters goes on in the next;
        False where every line is a sentence or several.
    """
    if join_lines and "\n" in text:
        text = _BROKEN_LINE.sub(" ", text)
    sentences: list[str] = []
    for line in text.split("\n"):
        if line := line.strip():
            _split_line(line, sentences)
    return sentences


def _split_line(line: str, sentences: list[str]) -> None:
    begin = 0
    for match in _STOP.finditer(line):
        at, after = match.span()
        first = match.start(1)
        if line[at] == "." and line[at + 1] not in ".!?…":
            if _abbreviates(line, begin, at, first):
                continue
        elif _interrupts(line, at, after, first):
            continue
        if line[first] > "\x7f" and line[first].islower():
            continue
        sentences.append(line[begin:after].rstrip())
        begin = after
    sentences.append(line[begin:])


def _abbreviates(line: str, begin: int, at: int, first: int) -> bool:
    """Whether the sentence from `begin` goes on after the full stop `at` and before `first`."""
    word = line[max(begin, at - _WINDOW) : at]
    word = word[word.rfind(" ") + 1 :]
    if not word.isalpha():
        word = _last_word(word)
    rule = _RULES.get(word)
    if rule is None:
        size = len(word)
        if at - begin <= size + 2 and _LINE_NUMBER.fullmatch(word):
            return True
        if (size > 1 and word.isalpha()) or not size:
            return False
        initial = size == 1 and word.isalpha() and line[at + 1].isspace()
        rule = _MAYBE_ON if initial or _DOTTED.fullmatch(word) else None
    if rule == _MAYBE_ON:
        return _next_word(line, first) not in _FIRST_WORDS
    if rule == _NUMBER_ON:
        return bool(_ROMAN_OR_DIGIT.match(line, first))
    return rule == _ALWAYS_ON


def _last_word(window: str) -> str:
    found = _LAST_WORD.search(window)
    return found[0].strip("'’_") if found else ""


def _next_word(line: str, first: int) -> str:
    """The letters from `first`, more than any first word has at most; an initial with its stop."""
    end = first + 1
    while end < first + 14 and line[end : end + 1].isalpha():
        end += 1
    return line[first : end + (line[first + 1 : first + 2] == ".")]


def _interrupts(line: str, at: int, after: int, first: int) -> bool:
    """Whether dots are a pause before `I`, or a speaker is named after a quotation."""
    if line[at] in ".…":
        return _next_word(line, first) == "I"
    return line[after - 2] in "\"”’'" and bool(_SAYS.match(line, first))
