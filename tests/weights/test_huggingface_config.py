import json

import pytest

from gptbert.errors import UserError
from gptbert.models.presets import PRESETS, BertConfig
from gptbert.weights.huggingface_config import config_settings, read_config
from tests.weights.bert_folders import CONFIG, SETTINGS


def write(folder, **settings):
    merged = {k: v for k, v in {**SETTINGS, **settings}.items() if v is not ...}
    (folder / "config.json").write_text(json.dumps(merged))
    return folder


def refused(folder, *words):
    with pytest.raises(UserError) as error:
        read_config(folder)
    for word in words:
        assert word in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def test_every_field_is_read(tmp_path):
    config, settings = read_config(write(tmp_path))
    assert config == CONFIG
    assert settings == SETTINGS


@pytest.mark.parametrize(
    "spelt, meant",
    [("gelu", "gelu"), ("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh")],
)
def test_forms_of_gelu(tmp_path, spelt, meant):
    assert read_config(write(tmp_path, hidden_act=spelt))[0].activation == meant


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_written_settings_are_read_back(tmp_path, activation):
    config = BertConfig(layers=3, width=60, heads=5, inner=100, activation=activation)
    (tmp_path / "config.json").write_text(json.dumps(config_settings(config)))
    assert read_config(tmp_path)[0] == config


def test_fields_of_released_files_are_tolerated(tmp_path):
    more = {
        "gradient_checkpointing": False,
        "position_embedding_type": "absolute",
        "use_cache": True,
        "_name_or_path": "somewhere",
        "directionality": "bidi",
        "pooler_fc_size": 768,
        "pooler_type": "first_token_transform",
        "pruned_heads": {},
        "task_specific_params": None,
        "is_decoder": False,
        "add_cross_attention": False,
        "transformers_version": "4.8.2",
        "torch_dtype": "float32",
    }
    assert read_config(write(tmp_path, **more))[0] == CONFIG


def test_the_first_files_lack_some_fields(tmp_path):
    folder = write(
        tmp_path,
        architectures=...,
        model_type=...,
        layer_norm_eps=...,
        initializer_range=...,
        hidden_dropout_prob=...,
        attention_probs_dropout_prob=...,
    )
    config, _ = read_config(folder)
    assert config.norm_epsilon == 1e-12
    assert config.initial_stddev == 0.02
    assert config.dropout == config.attention_dropout == 0.1


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"model_type": "roberta"}, ["model_type 'roberta'", "expected model_type 'bert'"]),
        ({"model_type": ["bert"]}, ["model_type ['bert']"]),
        ({"model_type": ..., "architectures": ["T5Model"]}, ["architectures ['T5Model']"]),
        ({"architectures": "Bert"}, ["architectures is 'Bert'"]),
        ({"is_decoder": "yes"}, ["is_decoder is 'yes'", "expected False"]),
        ({"add_cross_attention": True}, ["add_cross_attention"]),
        ({"position_embedding_type": "relative_key"}, ["'relative_key'", "expected 'absolute'"]),
        ({"pruned_heads": {"1": [0]}}, ["pruned_heads"]),
        ({"hidden_act": "relu"}, ["hidden_act is 'relu'", "gelu_new"]),
        ({"hidden_act": ...}, ["hidden_act is None"]),
        ({"hidden_act": ["gelu"]}, ["hidden_act is ['gelu']"]),
        ({"hidden_size": ...}, ["no hidden_size", "expected a positive integer"]),
        ({"type_vocab_size": ...}, ["no type_vocab_size"]),
        ({"vocab_size": "30522"}, ["vocab_size is '30522'"]),
        ({"num_hidden_layers": 0}, ["num_hidden_layers is 0"]),
        ({"num_hidden_layers": -2}, ["num_hidden_layers is -2"]),
        ({"num_hidden_layers": True}, ["num_hidden_layers is True"]),
        ({"intermediate_size": 20.0}, ["intermediate_size is 20.0"]),
        ({"num_attention_heads": 5}, ["5 heads do not divide the width 12"]),
        ({"hidden_dropout_prob": 1.5}, ["dropout is 1.5"]),
        ({"hidden_dropout_prob": "0.1"}, ["hidden_dropout_prob is '0.1'"]),
        ({"layer_norm_eps": float("nan")}, ["layer_norm_eps is nan"]),
        ({"layer_norm_eps": None}, ["layer_norm_eps is None"]),
    ],
)
def test_bad_settings(tmp_path, settings, words):
    refused(write(tmp_path, **settings), str(tmp_path / "config.json"), *words)


def test_a_misspelt_field_is_guessed(tmp_path):
    refused(
        write(tmp_path, hidden_size=..., hiden_size=12),
        "no hidden_size (did you mean 'hiden_size'?)",
    )


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe{}", b'{"a": 1,}', b"[" * 100_000, b"\x80\x81"]
)
def test_broken_json(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    refused(tmp_path, "config.json is not JSON")


def test_json_that_is_no_object(tmp_path):
    (tmp_path / "config.json").write_text("[1, 2]")
    refused(tmp_path, "config.json holds a JSON list")


def test_nothing_there(tmp_path):
    refused(tmp_path / "bert-base", "no folder", str(tmp_path / "bert-base"), "hf download")
    refused(tmp_path, "no config.json", "which holds nothing")
    (tmp_path / "vocab.txt").touch()
    refused(tmp_path, "which holds vocab.txt")
    refused(tmp_path / "vocab.txt", "is a file", "give the folder")


def test_presets_agree_with_the_real_file(minilm_dir):
    assert read_config(minilm_dir)[0] == PRESETS["minilm-l6-h384"]
