"""BERT's input transform against the released code's loop written plainly; GPT's by example."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.errors import UserError
from gptbert.pipeline.encode import GptTokens, encode_texts, encode_texts_for_gpt
from gptbert.pipeline.packing import Shape, assemble


class Letters:
    """A tokenizer whose tokens are letters."""

    class special:
        @staticmethod
        def require(*names):
            return tuple({"cls": 1, "sep": 2}[name] for name in names)

    def encode_batch(self, texts):
        return [[ord(letter) for letter in text] for text in texts]


def reference(texts, max_length):
    """`_truncate_seq_pair` and `convert_single_example` of run_classifier.py, as rules."""
    parts = [[ord(letter) for letter in text] for text in texts]
    if len(parts) == 2:
        while len(parts[0]) + len(parts[1]) > max_length - 3:
            (parts[0] if len(parts[0]) > len(parts[1]) else parts[1]).pop()
    else:
        parts[0] = parts[0][: max_length - 2]
    tokens, types = [1, *parts[0], 2], [0] * (len(parts[0]) + 2)
    if len(parts) == 2:
        tokens += [*parts[1], 2]
        types += [1] * (len(parts[1]) + 1)
    return tokens, types


texts = st.text(alphabet="abcdef", max_size=12)
example = st.one_of(st.tuples(texts), st.tuples(texts, texts))


@pytest.mark.property
@settings(max_examples=100)
@given(st.lists(example, min_size=1, max_size=6), st.integers(5, 20))
def test_tokens_and_types_are_those_of_the_released_code(examples, max_length):
    found = encode_texts(examples, np.zeros(len(examples), np.int32), Letters(), max_length)
    assert len(found) == len(examples)
    for number, each in enumerate(examples):
        tokens, types = reference(each, max_length)
        start, end = found.starts[number : number + 2]
        assert found.tokens[start:end].tolist() == tokens
        assert found.first_lengths[number] == types.count(0)
        whole = sum(map(len, each)) + 1 + len(each)
        assert found.truncated[number] == (whole > max_length)


def test_no_room_for_text_is_refused():
    with pytest.raises(UserError, match="expected at least 5"):
        encode_texts([("a", "b")], np.zeros(1, np.int32), Letters(), 4)


ADDED = GptTokens(50, 51, 52)


def gpt(texts, max_length=20, **options):
    labels = np.arange(len(texts), dtype=np.int32)
    return encode_texts_for_gpt(texts, labels, Letters(), max_length, ADDED, **options)


def test_gpt_reads_at_the_extract_token():
    found = gpt([("abc",), ("b",)])
    assert found.tokens.tolist() == [50, 97, 98, 99, 52, 50, 98, 52]
    assert (found.sequences, found.read_last, found.truncated.any()) == (1, True, False)
    batch = assemble(found, np.arange(2), [[0, 1]], Shape(1, 10, 3))
    assert batch.targets.starts.tolist() == [[4, 7, 0]]
    assert batch.targets.weights.tolist() == [[1, 1, 0]]
    assert not batch.packed.token_types.any()


def test_gpt_reads_a_pair_in_its_order_or_in_both():
    ordered, both = gpt([("ab", "c")]), gpt([("ab", "c")], unordered=True)
    assert ordered.tokens.tolist() == [50, 97, 98, 51, 99, 52]
    assert both.tokens.tolist() == [50, 97, 98, 51, 99, 52, 50, 99, 51, 97, 98, 52]
    batch = assemble(both, np.asarray([0]), [[0]], Shape(1, 14, 1))
    assert batch.targets.starts.tolist() == [[[5, 11]]]
    assert batch.packed.segments[0].tolist() == [1] * 6 + [2] * 6 + [0] * 2
    assert batch.packed.positions[0].tolist() == [*range(6), *range(6), 0, 0]


def test_gpt_cuts_the_longer_text_and_single_texts_are_never_doubled():
    found = gpt([("abcdefgh", "xy")], max_length=8, unordered=True)
    assert found.lengths.tolist() == [16] and found.truncated.all()
    assert gpt([("abc",)], unordered=True).sequences == 1
    with pytest.raises(UserError, match="leaves no room"):
        gpt([("a", "b")], max_length=4)
