"""Sentences: where they end and where they only seem to; nothing lost; linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbert.datasets.documents import Document, find_sources, read_documents
from gptbert.datasets.sentences import split_sentences

# The right sentences of each text are set apart by " | ".
CASES = """
The cat sat. | The dog ran.
Really? | Yes! | Good.
Mr. Smith met Mrs. Jones. | They talked.
Dr. Watson and Prof. Moriarty argued; Gen. Lee did not.
He saw St. Paul in Minn. | The town was small.
M. Dupont and Mme. Bovary left Rouen.
MR. BENNET WAS AMONG THE EARLIEST.
J. R. R. Tolkien wrote it. | C. S. Lewis read it.
George W. Bush spoke. | Laura listened.
I met J. A. Smith and T. I. Brown.
It was written by John F. Kennedy's friend A. Schlesinger.
So do I. | The man agreed.
He took vitamin C. | It helped.
The U.S. Supreme Court ruled. | It was over.
He moved to the U.S. | He liked it there.
She came at 5 p.m. | The shop was closed.
She came at 5 p.m. Monday and left.
Use tools, e.g. Emacs, or editors, i.e. Vi.
Compare Roe v. Wade and Brown vs. Board of Education.
Smith et al. (1999) found it. | Others, cf. Brown, did not.
They sold apples, pears, etc. | The shop closed.
They sold apples, pears, etc. John bought some.
Apple Inc. Shares rose. | Microsoft Corp. fell.
Martin Luther King Jr. Day is in January.
He was born on Sept. 5 and died on Dec. 24 in the evening.
See Fig. 3 and Vol. II, pp. 5-7, No. 12. | The rest is on p. 4.
He said no. | Then he left.
"No. | I won't," he said.
She has a Ph.D. in physics.
Pi is 3.14. | The price was $5.50. | Version 2.0 shipped in 1990. | Then came 3.0.
It cost a lot. | $5 was too much.
In 1815 it ended. | 1816 was cold.
1. The first rule holds.
IV. The Return
12. Of this and that.
Visit www.example.com. | Then mail a.b@c.org, or see http://x.org/a.B/C.html?q=A.B for more.
He opened file.txt. | It was empty.
"Stop!" he cried. | "Never."
"Stop!" | He ran.
"Why?" I asked. | "Because," she said.
"Really?" Mr. Hale said. | Nobody answered.
“Really?” | The room was silent. | “Yes.” | ‘Oh.’ | So it was.
He said, "It is late." | She nodded.
He left. | "Where to?" | "Home."
(See the notes.) | They are long. | [They really are.] | Good.
It ended (at last). | Everyone slept.
It was so.[12] | Others differ.[3][4] | Then more.
Well... I don't know. | But... | He paused.
Wait… | The door opened. | Perhaps… I see.
What?! | You did it!! | Yes?
and so on . . . | Then it stopped.
He stopped... and went on. | Fine.
Yahoo! is a company. | It is old.
He left.-- "Come back!" | She wept.
It was the end—the very end. | —Or so he thought.
"I don't." | John left. | They can't. | Mary stayed.
_Stop._ | He ran. | *Now.* | She too.
Äpfel sind rot. | Étienne came. ça va. élan vital stays. | Ōsaka is large.
He weighed 70 kg. | John weighed more.
It was -5 °C. | The lake froze.
X. Y. Zed came at 6 a.m. sharp with the Rev. Mr. Green of St. Mary's, Esq. | He was late.
The J.-P. Sartre prize, the Acme Co. Ltd. building and Mt. Everest, ca. 1900.
Is it? | It is. | 'Tis well.
The dog sat . | The cat ran .
No stop at the end
""".strip().split("\n")


@pytest.mark.parametrize("number", range(len(CASES)))
def test_tricky_sentences(number: int) -> None:
    expected = CASES[number].split(" | ")
    assert split_sentences(" ".join(expected)) == expected


def test_there_are_enough_tricky_cases() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("External links\n\nThe text. More.\n", ["External links", "The text.", "More."]),
        ("A heading\nText of it", ["A heading", "Text of it"]),
        ("the line breaks\noff here. AND\nthere", ["the line breaks off here.", "AND", "there"]),
        ("one,\ntwo;\nthree", ["one, two; three"]),
        ("a stop.\nlower case", ["a stop.", "lower case"]),
        ("  A.\tB?  \r\n\u00a0C!\u00a0D ", ["A.\tB?", "C!", "D"]),
        ("", []),
        (" \n\t\n ", []),
        (".", ["."]),
        ("...", ["..."]),
    ],
)
def test_lines_and_white_space(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


@pytest.mark.property
@given(
    st.lists(
        st.sampled_from(
            [*".!?…\"'()[]“”’ \n\t\r_*-—\u00a0\u2028IVAa1é", "Mr", "e.g", ". ", "? ", "U.S.", "The"]
        )
        | st.text(max_size=3),
        max_size=60,
    ).map("".join)
)
def test_nothing_but_white_space_is_lost(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)
    assert not any("\n" in sentence for sentence in sentences)


HOSTILE = {
    "one word": "a",
    "prose": "He came home late. She slept, and did not hear him! ",
    "stops": ".",
    "stops and blanks": ". ",
    "quotes": '"',
    "stop and quotes": '."',
    "blanks": " ",
    "openers": " (",
    "initials": "A.\t",
    "titles": "Mr.\t",
    "numbers": "[1]",
    "references": ".[1]",
    "lines": "a\n",
    "stops and lines": ".\n",
    "ellipses": "… I ",
    "underscores": "._",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_is_linear(kind: str) -> None:
    def seconds(size: int) -> float:
        text = HOSTILE[kind] * (size // len(HOSTILE[kind]))
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            split_sentences(text)
            best = min(best, time.process_time() - start)
        return best

    # Eight times the text: 8 times the time if linear, 64 if quadratic.
    small, large = seconds(25_000), seconds(200_000)
    assert large < 24 * small + 0.02


def test_one_line_of_many_megabytes() -> None:
    text = HOSTILE["prose"] * 200_000
    start = time.process_time()
    sentences = split_sentences(text)
    assert len(sentences) == 400_000
    assert time.process_time() - start < 10


def test_real_text_loses_nothing(data_dir) -> None:
    lengths = []
    for source in find_sources([str(data_dir / "corpora" / "sample")]):
        for document in read_documents(source):
            assert isinstance(document, Document)
            sentences = split_sentences(document.text)
            assert "".join("".join(sentences).split()) == "".join(document.text.split())
            lengths += [len(sentence.split()) for sentence in sentences]
    assert 10 < sum(lengths) / len(lengths) < 25
    assert max(lengths) < 400


def test_lines_that_break_off_are_joined_unless_each_is_a_sentence() -> None:
    text = "one line that\ngoes on\nand on. Two."
    assert split_sentences(text) == ["one line that goes on and on.", "Two."]
    kept = split_sentences(text, join_lines=False)
    assert kept == ["one line that", "goes on", "and on.", "Two."]
