"""BERT's input transform against the released code's loop, written out plainly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.errors import UserError
from gptbert.pipeline.encode import encode_texts


class Letters:
    """A tokenizer whose tokens are letters."""

    class special:
        cls, sep = 1, 2

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
