"""Folders of GPT and GPT-2, and the heads of BERT's pre-training: read, refused, written."""

import json

import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.models.parameters import describe
from gptbert.models.presets import PRESETS, BertConfig, Compute, GptConfig
from gptbert.models.pretraining import MaskedLanguageModel, NextTokenModel
from gptbert.weights.huggingface import read_bert, read_huggingface
from gptbert.weights.huggingface_config import config_settings, read_config
from gptbert.weights.huggingface_names import parameter_shapes, to_huggingface
from tests.weights import bert_folders, gpt_folders
from tests.weights.gpt_folders import CONFIGS, parameters, tensors, write_folder

NAMES = ("gpt", "gpt2")
TABLES = {"gpt": "tokens_embed.weight", "gpt2": "wte.weight"}


def refused(folder, *words, read=read_huggingface):
    with pytest.raises(UserError) as error:
        read(folder)
    for word in words:
        assert word in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for path in expected:
        np.testing.assert_array_equal(found[path], expected[path], err_msg=path)
        assert found[path].dtype == np.float32


@pytest.mark.parametrize("name", ["gpt-tiny", "gpt", "gpt2-tiny", "gpt2-124m"])
def test_shapes_are_those_of_the_models(name):
    config = PRESETS[name]
    _, abstract = describe(lambda rngs: NextTokenModel(config, Compute(), rngs))
    assert parameter_shapes(config) == {k: v.shape for k, v in abstract.items()}


@pytest.mark.parametrize("next_sentence", [True, False])
def test_shapes_of_pretraining_are_those_of_the_model(next_sentence):
    config = PRESETS["bert-tiny"]
    _, abstract = describe(
        lambda rngs: MaskedLanguageModel(config, Compute(), rngs, next_sentence=next_sentence)
    )
    shapes = parameter_shapes(config, pooler=next_sentence, mlm=True, nsp=next_sentence)
    assert shapes == {k: v.shape for k, v in abstract.items()}


@pytest.mark.parametrize("prefix", ["transformer.", ""])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read(tmp_path, name, prefix):
    expected = parameters(name)
    weights = read_huggingface(write_folder(tmp_path, name, tensors(name, expected, prefix)))
    assert weights.config == CONFIGS[name]
    assert_equal(weights.parameters, expected)
    assert weights.ignored == weights.missing == []
    assert weights.labels is None
    assert sorted(weights.loaded) == sorted(tensors(name, expected, prefix))


def test_query_key_and_value_lie_where_the_equations_take_them(tmp_path):
    stored = tensors("gpt2", parameters("gpt2"))
    found = read_huggingface(write_folder(tmp_path, "gpt2", stored)).parameters
    x = np.random.default_rng(1).normal(size=12).astype(np.float32)
    expected = x @ stored["transformer.h.1.attn.c_attn.weight"]
    for part in range(3):
        mine = np.einsum("d,dhk->hk", x, found["gpt/layers/1/attention/qkv_kernel"][:, part])
        np.testing.assert_allclose(
            mine.reshape(-1), expected[12 * part : 12 * part + 12], rtol=1e-5
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_second_copy_of_the_word_table(tmp_path, name):
    """Old files carry it as lm_head.weight; it must be the same, and alone it will do."""
    stored = tensors(name, parameters(name))
    table = stored[f"transformer.{TABLES[name]}"]
    weights = read_huggingface(write_folder(tmp_path, name, stored | {"lm_head.weight": table}))
    assert_equal(weights.parameters, parameters(name))
    assert "lm_head.weight" in weights.loaded
    other = stored | {"lm_head.weight": table + 1}
    refused(write_folder(tmp_path, name, other), "'lm_head.weight' is not the same as", "tied")
    wide = stored | {"lm_head.weight": np.zeros((len(table) + 1, 12), np.float32)}
    refused(write_folder(tmp_path, name, wide), "'lm_head.weight' is not the same as")
    alone = {k: v for k, v in stored.items() if not k.endswith(TABLES[name])}
    folder = write_folder(tmp_path, name, alone | {"lm_head.weight": table})
    assert_equal(read_huggingface(folder).parameters, parameters(name))


def test_buffers_and_other_heads_are_listed_with_the_reason(tmp_path):
    more = {
        "transformer.h.0.attn.bias": np.ones((1, 1, 11, 11), np.float32),
        "transformer.h.1.attn.masked_bias": np.ones((), np.float32),
        "score.weight": np.zeros((2, 12), np.float32),
        "multiple_choice_head.summary.weight": np.zeros((1, 12), np.float32),
        "surprise": np.zeros(1, np.float32),
    }
    stored = tensors("gpt2", parameters("gpt2")) | more
    weights = read_huggingface(write_folder(tmp_path, "gpt2", stored))
    told = dict(entry.removesuffix(")").split(" (", 1) for entry in weights.ignored)
    assert told.keys() == more.keys()
    assert told["transformer.h.0.attn.bias"] == "the mask of old files"
    assert "which has no bias" in told["score.weight"]
    assert told["surprise"] == "no tensor of GPT-2"


@pytest.mark.parametrize("name", NAMES)
def test_missing_tensors_are_named(tmp_path, name):
    stored = tensors(name, parameters(name))
    del stored["transformer.h.1.mlp.c_fc.bias"]
    kind = {"gpt": "GPT", "gpt2": "GPT-2"}[name]
    refused(write_folder(tmp_path, name, stored), f"of a {kind} with 2 layers: h.1.mlp.c_fc.bias")


def test_wrong_shapes_are_told_with_both_sides(tmp_path):
    stored = tensors("gpt2", parameters("gpt2"))
    stored["transformer.h.0.mlp.c_fc.weight"] = np.zeros((20, 12), np.float32)
    refused(
        write_folder(tmp_path, "gpt2", stored),
        "'transformer.h.0.mlp.c_fc.weight' has shape [20, 12], expected [12, 20]",
        "n_embd 12",
    )


@pytest.mark.parametrize("layers, word", [(1, "have more"), (3, "lack h.2"), (10**12, "1,000,000")])
def test_numbers_of_layers_that_disagree(tmp_path, layers, word):
    refused(write_folder(tmp_path, "gpt2", n_layer=layers), "n_layer", word)


@pytest.mark.parametrize("setting", [{"n_positions": 10**12}, {"vocab_size": 10**15}])
def test_sizes_are_checked_before_memory_is_taken(tmp_path, setting):
    refused(write_folder(tmp_path, "gpt2", **setting), "expected [1000000000")


def test_tensors_of_the_other_gpt(tmp_path):
    stored = tensors("gpt", parameters("gpt"))
    refused(write_folder(tmp_path, "gpt2", stored), "lack", "of a GPT-2", "wte.weight")
    bert = bert_folders.tensors(bert_folders.parameters())
    refused(write_folder(tmp_path, "gpt", bert), "no tensor h.0", "expected a GPT")


def test_where_a_bert_is_expected(tmp_path):
    refused(write_folder(tmp_path, "gpt2"), "holds a GPT-2; expected a BERT", read=read_bert)


@pytest.mark.parametrize("name", NAMES)
def test_files_that_do_not_say_what_they_are(tmp_path, name):
    assert read_config(write_folder(tmp_path, name, model_type=...))[0] == CONFIGS[name]


@pytest.mark.parametrize("name", NAMES)
def test_first_files_lack_some_fields(tmp_path, name):
    missing = dict.fromkeys(
        ("resid_pdrop", "attn_pdrop", "embd_pdrop", "layer_norm_epsilon", "initializer_range"), ...
    )
    config, _ = read_config(write_folder(tmp_path, name, **missing, n_inner=...))
    assert config.dropout == config.attention_dropout == config.embedding_dropout == 0.1
    assert config.norm_epsilon == 1e-5
    assert config.initial_stddev == 0.02
    assert config.position_stddev == (0.01 if name == "gpt2" else 0.02)
    assert config.inner == 48


@pytest.mark.parametrize(
    "name, settings, words",
    [
        ("gpt", {"afn": "relu"}, ["afn is 'relu'", "'gelu' (tanh form)"]),
        ("gpt", {"afn": ...}, ["afn is None"]),
        ("gpt2", {"activation_function": "swish"}, ["activation_function is 'swish'"]),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, ["scale_attn_by_inverse_layer_idx"]),
        ("gpt2", {"scale_attn_weights": False}, ["scale_attn_weights is False", "expected True"]),
        ("gpt2", {"add_cross_attention": True}, ["add_cross_attention"]),
        ("gpt2", {"n_inner": 0}, ["n_inner is 0"]),
        ("gpt2", {"n_head": 5}, ["5 heads do not divide the width 12"]),
        ("gpt2", {"n_embd": "12"}, ["n_embd is '12'"]),
        ("gpt2", {"embd_pdrop": 1.5}, ["embedding_dropout is 1.5"]),
        ("gpt2", {"resid_pdrop": None}, ["resid_pdrop is None"]),
    ],
)
def test_bad_settings(tmp_path, name, settings, words):
    refused(write_folder(tmp_path, name, **settings), "config.json", *words, read=read_config)


@pytest.mark.parametrize("form", ["gelu", "gelu_tanh"])
@pytest.mark.parametrize("inner", [48, 20])
def test_written_settings_are_read_back(tmp_path, form, inner):
    def again(config):
        (tmp_path / "config.json").write_text(json.dumps(config_settings(config)))
        return read_config(tmp_path)[0]

    for name in NAMES:
        config = GptConfig(**{**vars(CONFIGS[name]), "activation": form, "inner": inner})
        if name == "gpt" and (form, inner) != ("gelu_tanh", 48):
            with pytest.raises(UserError, match="transformers has no GPT with"):
                config_settings(config)
        else:
            assert again(config) == config
    left_to_right = BertConfig(**{**vars(bert_folders.CONFIG), "left_to_right": True})
    assert again(left_to_right) == left_to_right


def pretraining_parameters(**heads):
    rng = np.random.default_rng(5)
    shapes = parameter_shapes(bert_folders.CONFIG, **heads)
    return {path: rng.normal(0, 0.3, shape).astype(np.float32) for path, shape in shapes.items()}


def pretraining_tensors(values):
    return {
        name if name.startswith("cls.") else f"bert.{name}": tensor
        for name, tensor in to_huggingface(bert_folders.CONFIG, values)
    }


@pytest.mark.parametrize(
    "heads",
    [
        {"mlm": True, "nsp": True},
        {"mlm": True, "pooler": False},
        {"nsp": True},
        {"mlm": True, "nsp": True, "classes": 3},
    ],
)
def test_heads_of_pretraining_are_read(tmp_path, heads):
    expected = pretraining_parameters(**heads)
    stored = pretraining_tensors(expected)
    if "classes" in heads:
        stored = {n.replace("bert.classifier", "classifier"): t for n, t in stored.items()}
    weights = read_bert(bert_folders.write_folder(tmp_path, stored))
    assert_equal(weights.parameters, expected)
    assert weights.ignored == []


def test_copies_of_the_word_table_and_bias(tmp_path):
    expected = pretraining_parameters(mlm=True, nsp=True)
    stored = pretraining_tensors(expected)
    table = stored["bert.embeddings.word_embeddings.weight"]
    copies = {
        "cls.predictions.decoder.weight": table,
        "cls.predictions.decoder.bias": stored["cls.predictions.bias"],
    }
    assert_equal(
        read_bert(bert_folders.write_folder(tmp_path, stored | copies)).parameters, expected
    )
    other = stored | {"cls.predictions.decoder.bias": copies["cls.predictions.decoder.bias"] + 1}
    refused(
        bert_folders.write_folder(tmp_path, other),
        "'cls.predictions.decoder.bias' is not the same as 'cls.predictions.bias'",
    )


def test_half_a_head_is_refused_by_name(tmp_path):
    stored = pretraining_tensors(pretraining_parameters(mlm=True, nsp=True))
    del stored["cls.predictions.transform.dense.bias"]
    refused(
        bert_folders.write_folder(tmp_path, stored),
        "lack 1 of the 46 tensors",
        "cls.predictions.transform.dense.bias",
    )


def test_ours_to_theirs_refuses_what_does_not_fit():
    values = gpt_folders.parameters("gpt2")
    values["classifier/kernel"] = np.zeros((12, 2), np.float32)
    with pytest.raises(ValueError, match=r"GPT-2: classifier/kernel \(12, 2\) \(expected None\)"):
        list(to_huggingface(gpt_folders.GPT2, values))
