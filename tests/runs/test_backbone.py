"""How texts become tokens for each backbone, and the rows that fine-tuning adds to a GPT."""

import numpy as np
import pytest

from gptbert.models.presets import BertConfig, GptConfig
from gptbert.pipeline.packing import Shape, assemble
from gptbert.runs.backbone import add_gpt_tokens, encode_for, gpt_tokens, with_gpt_tokens
from gptbert.tokenizers import load_tokenizer
from tests.fixtures_pretraining import make_tokenizer_folder
from tests.fixtures_runs import VOCABULARY

TEXTS = [("the dog", "a cat"), ("no film", "the book")]
LABELS = np.arange(2, dtype=np.int32)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(make_tokenizer_folder(tmp_path_factory.mktemp("v") / "vocabulary"))


def where_read(config, tokenizer):
    features = encode_for(config, TEXTS, LABELS, tokenizer, 20, unordered=True)
    batch = assemble(features, np.arange(2), [[0], [1]], Shape(2, 20, 1))
    return features, batch.targets.starts


def test_bert_is_read_at_cls_and_a_left_to_right_one_at_its_end(tokenizer):
    sizes = {"width": 16, "heads": 2, "vocabulary": len(VOCABULARY)}
    _, starts = where_read(BertConfig(**sizes), tokenizer)
    assert starts.tolist() == [[0], [0]]
    features, starts = where_read(BertConfig(**sizes, left_to_right=True), tokenizer)
    assert starts[:, 0].tolist() == (features.lengths - 1).tolist()


def test_gpt_gets_three_rows(tokenizer):
    size = len(VOCABULARY)
    config = with_gpt_tokens(GptConfig(vocabulary=size))
    assert config.vocabulary == size + 3
    tokens = gpt_tokens(config)
    assert (tokens.start, tokens.delimiter, tokens.extract) == (size, size + 1, size + 2)
    features, starts = where_read(config, tokenizer)
    assert starts.shape == (2, 1, 2)  # both orders of a pair
    assert features.tokens[features.starts[:-1]].tolist() == [size, size]
    assert features.tokens.max() == size + 2


def test_new_rows_are_drawn_as_published():
    config = GptConfig(width=768, vocabulary=203)
    table = np.ones((200, 768), np.float32)
    grown = add_gpt_tokens(table, config, seed=0)
    assert grown.shape == (203, 768) and (grown[:200] == 1).all()
    assert grown[200:].std() == pytest.approx(0.02, rel=0.05)
    assert abs(grown[200:].mean()) < 0.002
    assert (add_gpt_tokens(table, config, seed=1)[200:] != grown[200:]).all()
    assert add_gpt_tokens(grown, config, seed=0) is grown
