"""GPT's words: the rewriting as released, and the rules that stand in for ftfy and spaCy."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.tokenizers import gpt_words
from tests.tokenizers import nasty


def told(text: str) -> str:
    return "|".join(gpt_words.words(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        (" \n \t\n", ""),
        ("Hello World", "hello|world"),
        # The released rewriting.
        ("a--b -c- ~~d", "a|--|b|-|c|-|~~|d"),
        ("a—b–c―d", "a|-|b|-|c|-|d"),
        ("wait…", "wait|..."),
        ("it´s", "it|'s"),
        ('"a";b?!c', 'a|"|;|b|?|!|c'.replace("a|", '"|a|', 1)),
        ("f(x)[1]{2}|_a_/b*c+d,", "f|(|x|)|[|1|]|{|2|}|||_|a|_|/|b|*|c|+|d|,"),
        ("a\\b", "a\\b"),
        ("!!!???--", "!|!|!|?|?|?|--"),
        ("a \n\n  b", "a|\n|b"),
        ("\n\na\r\nb\rc\u2028d\u2029e\x85f\n", "a|\n|b|\n|c|\n|d|\n|e|\n|f"),
        ("a\n\x00\n\u200ab", "a|\n|b"),
        ("a\tb\u00a0c\u3000d\x0ce", "a|b|c|d|e"),
        # For ftfy.
        ("“it’s” ‘so’", "\"|it|'s|\"|'|so|'"),
        ("ﬁnd oﬀ ＡＢＣ！", "find|off|abc|!"),
        ("cafe\u0301 \u212b", "café|å"),
        ("a\x00b\x0bc\x1cd\ufeffe\x7ff\x80g", "abcdefg"),
        ("\u037e", ";"),
        ("a\ud800b", "a|\ufffd|b"),
        ("&amp; â€œ", "&|amp|;|â|€|œ"),
        # Contractions.
        ("don't Don't DON'T can't tisn't", "do|n't|do|n't|don't|ca|n't|tisn't"),
        ("I'm you'll we'd they've you're that'll", "i|'m|you|'ll|we|'d|they|'ve|you|'re|that|'ll"),
        ("could've would've I'd've couldn't've", "could|'ve|would've|i|'d|'ve|could|n't|'ve"),
        ("John's JOHN'S dogs' 1990's it's", "john|'s|john|'s|dogs|'|1990|'s|it|'s"),
        ("John'll this'll", "john'll|this'll"),
        (
            "cannot gonna gotta dont Hasnt CANT want Y'all",
            "can|not|gon|na|got|ta|do|nt|has|nt|cant|want|y'|all",
        ),
        ("'s 'll 'em n't 've", "'s|'ll|'em|n't|'|ve"),
        ("nothin' goin' ol' o'clock ma'am", "nothin'|goin'|ol'|o'clock|ma'am"),
        # Marks at the ends of words.
        ("'hello' `a` ''b''", "'|hello|'|`|a|`|''|b|''"),
        ("AT&T &a a: 10:30 a:b #1 C#", "at&t|&|a|a|:|10:30|a|:|b|#|1|c|#"),
        ("<b> x<y =5 a=b a@b.c", "<|b|>|x|<|y|=|5|a|=|b|a@b.c"),
        ("«a» ¿b? 30°C™ a·b 。", "«|a|»|¿|b|?|30|°|c|™|a|·|b|。"),
        # Periods.
        ("The end. End.' (end.) end.", "the|end|.|end|.|'|(|end|.|)|end|."),
        ("Mr. Smith, Ph.D., of St. Ives vs. Dr. X", "mr.|smith|,|ph.d.|,|of|st.|ives|vs.|dr.|x"),
        ("U.S. e.g. a.m. J. K. I. USA. 5. in 1999.", "u.s.|e.g.|a.m.|j.|k.|i.|usa|.|5|.|in|1999|."),
        ("miss. Miss. wash. co. mr.", "miss|.|miss.|wash|.|co.|mr|."),
        ("u.s.a. U.S.A. PhD. A&E. 3B. aB. AB.", "u.s.a|.|u.s.a.|phd.|a&e.|3b.|ab.|ab|."),
        ("wait...what ..a a..", "wait|...|what|..|a|a|.."),
        ("end.The 3.14 www.x.com .5", "end|.|the|3.14|www.x.com|.5"),
        # Amounts.
        ("$5.50 5$ US$7 5% %5 v% £5 5€", "$|5.50|5|$|us$|7|5|%|%|5|v%|£|5|5|€"),
        ("5km 8am 8a.m. 5th 3D 10pm 1:35pm", "5|km|8|am|8|a.m.|5th|3d|10|pm|1:35pm"),
        # Case.
        ("ΟΔΟΣ ΣΑ", "οδος|σα"),
        ("İ", "i\u0307"),
    ],
)
def test_words_written_by_hand(text: str, words: str) -> None:
    assert told(text) == words


@pytest.mark.parametrize("mark", gpt_words.PADDED)
def test_runs_stand_alone(mark: str) -> None:
    """Runs of four marks stay together, the others come apart, as in spaCy."""
    for run in (mark, mark * 2, mark * 5):
        words = [run] if mark in "-~/|" else list(run)
        assert gpt_words.words(f"a{run}b") == ["a", *words, "b"]
        assert gpt_words.words(f"{run}x") == [*words, "x"]


def test_backslash_is_not_padded_as_released() -> None:
    assert gpt_words.words("a\\\\b+\\c") == ["a\\\\b", "+", "\\c"]


def by_rules_only(part: str) -> list[str]:
    return [word.lower() for word in gpt_words._BREAK.sub(" ", part).split()]


@pytest.mark.property
@settings(max_examples=500)
@given(
    part=st.one_of(
        st.text("aAtTndonsgMrShJ.'`:&1%$é°", min_size=1, max_size=8),
        st.sampled_from([*gpt_words._ABBREVIATED, *gpt_words._GLUED_WORDS, "end", "PhD"]),
        st.sampled_from([*gpt_words._ABBREVIATED, *gpt_words._GLUED_WORDS, "J"]).map("{}.".format),
    )
)
def test_plain_words_are_spared_the_search_only(part: str) -> None:
    assert gpt_words.part_words(part) == by_rules_only(part)


def test_chunks_do_not_see_their_neighbours() -> None:
    """Any text is as its chunks one by one: what makes a cache possible."""
    for text in nasty.lines(2_500)[::3]:
        alone = []
        for line in gpt_words.lines_of(text):
            alone += [w for chunk in line.split() for w in gpt_words.words(chunk)]
        assert [w for w in gpt_words.words(text) if w != "\n"] == alone


def test_words_hold_no_white_space_and_no_capitals() -> None:
    for word in gpt_words.words(" ".join(nasty.lines(2_500)[::3])):
        assert word == "\n" or not re.search(r"\s", word)
        assert word == word.lower()
