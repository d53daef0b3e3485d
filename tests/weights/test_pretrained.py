import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gptbert
from gptbert.errors import UserError
from gptbert.models.inputs import Packed
from gptbert.weights.checkpoints import Checkpoints
from gptbert.weights.export import ModelCard, export_huggingface
from gptbert.weights.huggingface_names import parameter_shapes
from gptbert.weights.pretrained import load
from gptbert.weights.run_folder import write_description
from tests.tokenizers import tiny_sentencepiece
from tests.weights import gpt_folders
from tests.weights.bert_folders import (
    CONFIG,
    WORDS,
    parameters,
    tensors,
    tokenizer,
    write_folder,
)

TEXTS = ["hello world!", ("how are you?", "fine, thanks"), "", "a b c", "you", ("a", "b")]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return load(write_folder(tmp_path_factory.mktemp("bert")))


def alone(tokens: list[str], types: list[int]) -> Packed:
    """One text in a row of its own, padded."""
    row = np.zeros((4, 1, CONFIG.positions), np.int32)
    ids = [WORDS.index(token) for token in tokens]
    for array, values in zip(row, (ids, range(len(ids)), [1] * len(ids), types), strict=True):
        array[0, : len(ids)] = list(values)
    return Packed(*row)


def test_each_text_as_if_alone(bert):
    """`encode` packs; the reference is one unpacked row a text through the module itself."""
    encoded = bert.encode(TEXTS)
    assert " ".join(encoded.tokens[1]) == "[CLS] how are you ? [SEP] fine , thank ##s [SEP]"
    assert encoded.tokens[2] == ["[CLS]", "[SEP]"]
    assert not encoded.truncated.any()
    model = jax.jit(lambda packed: bert.model(packed, jnp.zeros((1, 1), jnp.int32)))
    for number, tokens in enumerate(encoded.tokens):
        first = 1 + tokens.index("[SEP]")
        states, vectors = model(alone(tokens, [0] * first + [1] * (len(tokens) - first)))
        hidden, pooled = encoded.hidden[number], encoded.pooled[number]
        assert hidden.shape == (len(tokens), CONFIG.width)
        assert hidden.dtype == pooled.dtype == np.float32
        np.testing.assert_allclose(hidden, states[0, : len(tokens)], atol=1e-5)
        np.testing.assert_allclose(pooled, vectors[0, 0], atol=1e-5)


def test_many_texts_come_back_in_order(bert):
    texts = [" ".join(["a", "b", "c"][: 1 + n % 3] * (1 + n % 2)) for n in range(700)]
    encoded = bert.encode(texts)
    assert [len(t) for t in encoded.tokens] == [len(h) for h in encoded.hidden]
    kinds = {}
    for n in range(700):
        assert encoded.tokens[n] == ["[CLS]", *texts[n].split(), "[SEP]"]
        same = kinds.setdefault(texts[n], n)
        np.testing.assert_allclose(encoded.pooled[n], encoded.pooled[same], atol=1e-5)
    assert len(kinds) == 6


def test_one_text_and_none(bert):
    assert [len(hidden) for hidden in bert.encode("hello").hidden] == [3]
    nothing = bert.encode([])
    assert nothing.hidden == nothing.tokens == []
    assert nothing.pooled.shape == (0, CONFIG.width)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_tokens_are_those_of_the_vocabulary(tmp_path, kind):
    words = tiny_sentencepiece.model(kind)
    config = dataclasses.replace(CONFIG, vocabulary=words.vocabulary_size)
    rng = np.random.default_rng(0)
    values = {p: rng.normal(0, 0.3, s) for p, s in parameter_shapes(config).items()}
    card = ModelCard("test")
    export_huggingface(
        tmp_path / "bert", config, values, words, labels=None, regression=False, card=card
    )
    encoded = load(tmp_path / "bert").encode("the cat")
    assert encoded.tokens == [["[CLS]", *words.tokenize("the cat"), "[SEP]"]]
    assert encoded.tokens[0][1].startswith("\u2581")


def test_pairs_for_a_bert_with_one_token_type(tmp_path):
    stored = tensors(parameters())
    name = "bert.embeddings.token_type_embeddings.weight"
    stored[name] = stored[name][:1]
    bert = load(write_folder(tmp_path, stored, type_vocab_size=1))
    assert bert.encode(["hello", "world"]).tokens[0] == ["[CLS]", "hello", "[SEP]"]
    assert bert.encode([]).tokens == []
    with pytest.raises(UserError, match=r"type_vocab_size 1.*expected single texts"):
        bert.encode(["hello", ("a", "b")])


def test_what_is_left_out_and_what_is_not_there_is_told(tmp_path, bert):
    assert bert.ignored == ()
    assert bert.missing == ("classifier/kernel", "classifier/bias")
    stored = tensors(parameters(pooler=False)) | {"qa_outputs.bias": np.zeros(2, np.float32)}
    other = load(write_folder(tmp_path, stored))
    assert other.ignored == ("qa_outputs.bias (question-answering head)",)
    assert other.missing == ("pooler/dense/kernel", "pooler/dense/bias", *bert.missing)


def test_cut_texts_are_marked(bert):
    encoded = bert.encode(["a " * 30, "a b c"])
    assert [len(tokens) for tokens in encoded.tokens] == [CONFIG.positions, 5]
    assert encoded.truncated.tolist() == [True, False]
    assert bert.encode(["a b c"], max_length=4).tokens == [["[CLS]", "a", "b", "[SEP]"]]


def test_more_than_the_positions_is_refused(bert):
    with pytest.raises(UserError, match=r"max_length is 12, but the model in .* has 11 positions"):
        bert.encode("a", max_length=12)
    with pytest.raises(UserError, match="max_length is 2"):
        bert.encode("a", max_length=2)


@pytest.mark.parametrize("texts", [[3], [("a", "b", "c")], [None], [b"a"], [("a", 1)]])
def test_what_is_no_text(bert, texts):
    with pytest.raises(TypeError, match="expected a string or a pair of strings"):
        bert.encode(texts)


def test_without_pooler(tmp_path):
    bert = load(write_folder(tmp_path, tensors(parameters(pooler=False))))
    encoded = bert.encode(["a", "b"])
    assert encoded.pooled is None
    assert len(encoded.hidden) == 2
    assert bert.model.pooler is None


def test_a_classifier_is_part_of_the_model(tmp_path):
    stored = tensors(parameters(classes=3))
    names = {"0": "no", "1": "maybe", "2": "yes"}
    bert = load(write_folder(tmp_path, stored, id2label=names))
    assert bert.labels == ("no", "maybe", "yes")
    logits = bert.model.classifier(jnp.asarray(bert.encode(["a", "b"]).pooled), "float32")
    expected = bert.encode(["a", "b"]).pooled @ stored["classifier.weight"].T
    np.testing.assert_allclose(logits, expected + stored["classifier.bias"], rtol=1e-4, atol=1e-5)


def test_bfloat16_keeps_parameters_and_results_in_float32(bert):
    coarse = gptbert.load(bert.source, dtype="bfloat16")
    assert coarse.compute.dtype == "bfloat16"
    exact, rounded = bert.encode(TEXTS).hidden, coarse.encode(TEXTS).hidden
    assert {hidden.dtype for hidden in rounded} == {np.dtype(np.float32)}
    difference = max(np.abs(a - b).max() for a, b in zip(exact, rounded, strict=True))
    assert 1e-4 < difference < 0.1
    with pytest.raises(UserError, match="'float16' is not supported"):
        load(bert.source, dtype="float16")


@pytest.mark.parametrize("change", ["more", "one fewer", "much fewer"])
def test_a_vocabulary_of_another_model(tmp_path, change):
    folder = write_folder(tmp_path)
    if change == "more":
        (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in [*WORDS, "more"]))
    else:
        values = parameters()
        assert len(WORDS) % 8 not in (0, 7)  # else the larger table might be a padded one
        rows = len(WORDS) + (1 if change == "one fewer" else 128)
        table = np.zeros((rows, CONFIG.width), np.float32)
        stored = tensors(values) | {"bert.embeddings.word_embeddings.weight": table}
        write_folder(tmp_path, stored, vocab_size=len(table))
    with pytest.raises(UserError, match=r"tokenizer has \d+ entries, but .* table of \d+"):
        load(folder)


def test_a_table_padded_for_hardware_is_fine(tmp_path):
    table = np.zeros((64, CONFIG.width), np.float32)
    stored = tensors(parameters()) | {"bert.embeddings.word_embeddings.weight": table}
    assert load(write_folder(tmp_path, stored, vocab_size=64)).config.vocabulary == 64


def test_a_folder_without_vocabulary(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"vocab\.txt"):
        load(folder)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*expected a Hugging Face folder"):
        gptbert.load(str(tmp_path / "absent"))


def test_real_weights_know_which_sentences_are_alike(minilm_dir):
    bert = load(minilm_dir)
    means = [
        hidden.mean(0)
        for hidden in bert.encode(
            ["A cat sits on the mat.", "A kitten is lying on a rug.", "Stocks fell on Monday."]
        ).hidden
    ]
    cat, kitten, stocks = (mean / np.linalg.norm(mean) for mean in means)
    assert cat @ kitten > 0.5
    assert cat @ stocks < 0.2


@pytest.mark.parametrize("classes", [("no", "yes"), ()])
def test_a_run_folder(tmp_path, classes):
    expected = parameters(classes=len(classes) or 1)
    write_description(tmp_path, CONFIG, classes, "cls", tokenizer(tmp_path), "glue/any")
    Checkpoints(tmp_path / "checkpoints").save(7, {"parameters": expected, "step": 7}, {})
    bert = load(tmp_path)
    assert bert.labels == (classes or None)
    assert bert.ignored == bert.missing == ()
    assert bert.config == CONFIG
    assert bert.parameters.keys() == expected.keys()
    assert all(np.array_equal(bert.parameters[path], expected[path]) for path in expected)
    assert bert.encode("hello").tokens == [["[CLS]", "hello", "[SEP]"]]


@pytest.mark.parametrize("name", ["gpt", "gpt2"])
def test_a_gpt(tmp_path, name):
    gpt = gptbert.load(gpt_folders.write_folder(tmp_path, name))
    assert gpt.config == gpt_folders.CONFIGS[name]
    assert gpt.tokenizer.kind == {"gpt": "bpe", "gpt2": "byte-bpe"}[name]
    ids = gpt.tokenizer.encode("the cat")
    packed = alone_ids(ids, gpt.config.positions)
    logits = gpt.model.logits(gpt.model(packed))
    assert logits.shape == (1, gpt.config.positions, gpt.config.vocabulary)
    hidden = np.asarray(gpt.model.gpt(packed))
    table = gpt.parameters["gpt/embeddings/word/table"]
    np.testing.assert_allclose(logits, hidden @ table.T, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="holds a GPT, which `encode` does not know"):
        gpt.encode("the cat")


def alone_ids(ids: list[int], size: int) -> Packed:
    row = np.zeros((4, 1, size), np.int32)
    for array, values in zip(row, (ids, range(len(ids)), [1] * len(ids), [0]), strict=True):
        array[0, : len(ids)] = list(values)
    return Packed(*row)


def test_a_gpt_with_a_classifier(tmp_path):
    rng = np.random.default_rng(0)
    expected = gpt_folders.parameters("gpt2") | {
        "classifier/kernel": rng.normal(size=(12, 2)).astype(np.float32),
        "classifier/bias": np.ones(2, np.float32),
    }
    words = gpt_folders.tokenizer(tmp_path, "gpt2")
    write_description(tmp_path, gpt_folders.GPT2, ("no", "yes"), "cls", words, "glue/any")
    Checkpoints(tmp_path / "checkpoints").save(7, {"parameters": expected, "step": 7}, {})
    gpt = load(tmp_path)
    assert gpt.labels == ("no", "yes")
    packed = alone_ids(gpt.tokenizer.encode("the end"), 11)
    assert gpt.model(packed, jnp.zeros((1, 1), jnp.int32)).shape == (1, 1, 2)


def test_heads_of_pretraining_are_part_of_the_model(tmp_path):
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(CONFIG, mlm=True, nsp=True)
    expected = {p: rng.normal(0, 0.3, s).astype(np.float32) for p, s in shapes.items()}
    write_description(tmp_path, CONFIG, (), "cls", tokenizer(tmp_path), "any", "masked-lm")
    Checkpoints(tmp_path / "checkpoints").save(7, {"parameters": expected, "step": 7}, {})
    bert = load(tmp_path)
    assert bert.parameters.keys() == expected.keys()
    assert bert.labels is None
    assert bert.model.classifier is None
    encoded = bert.encode("hello world")
    scores = np.asarray(bert.model.word_scores(jnp.asarray(encoded.hidden[0])))
    assert scores.shape == (4, CONFIG.vocabulary)
    again = bert.model.mlm(encoded.hidden[0])
    table, bias = expected["bert/embeddings/word/table"], expected["mlm/bias"]
    np.testing.assert_allclose(scores, again @ table.T + bias, rtol=1e-4, atol=1e-5)
    assert bert.model.nsp(encoded.pooled, "float32").shape == (1, 2)
