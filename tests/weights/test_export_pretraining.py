"""Exports of models with the heads of pre-training, and of GPTs; what comes back is the same."""

import dataclasses
import json
import os

import numpy as np
import pytest
import yaml

from gptbert.errors import UserError
from gptbert.runs.export import export as export_folder
from gptbert.weights.export import ModelCard, export_huggingface
from gptbert.weights.huggingface_names import parameter_shapes, to_huggingface
from gptbert.weights.pretrained import load
from gptbert.weights.safetensors_files import open_tensors
from tests.tokenizers import tiny_sentencepiece
from tests.weights import bert_folders, gpt_folders
from tests.weights.bert_folders import CONFIG

CARD = ModelCard(
    "tiny", task="pretraining/any", split="heldout", metrics={"loss": 2.5, "bits_per_byte": 1.25}
)
LEFT_TO_RIGHT = dataclasses.replace(CONFIG, left_to_right=True)


def drawn(config, **heads):
    rng = np.random.default_rng(5)
    shapes = parameter_shapes(config, **heads)
    return {path: rng.normal(0, 0.3, shape).astype(np.float32) for path, shape in shapes.items()}


def export(folder, config, values, words):
    output = folder / "out"
    export_huggingface(output, config, values, words, labels=None, regression=False, card=CARD)
    return output


@pytest.mark.parametrize(
    "config, heads, architecture, purpose",
    [
        (CONFIG, {"mlm": True, "nsp": True}, "BertForPreTraining", "fill-mask"),
        (CONFIG, {"mlm": True, "pooler": False}, "BertForMaskedLM", "fill-mask"),
        (CONFIG, {"nsp": True}, "BertForNextSentencePrediction", "feature-extraction"),
        (LEFT_TO_RIGHT, {"mlm": True, "pooler": False}, "BertLMHeadModel", "text-generation"),
    ],
)
def test_bert_comes_back_as_it_was(tmp_path, config, heads, architecture, purpose):
    expected = drawn(config, **heads)
    output = export(tmp_path, config, expected, bert_folders.tokenizer(tmp_path))
    settings = json.loads((output / "config.json").read_text())
    assert settings["architectures"] == [architecture]
    assert settings["is_decoder"] == config.left_to_right
    assert "id2label" not in settings
    names = open_tensors(output).shapes
    assert all(name.startswith(("bert.", "cls.")) for name in names)
    again = load(output)
    assert again.config == config
    assert again.parameters.keys() == expected.keys()
    assert all(np.array_equal(again.parameters[path], expected[path]) for path in expected)
    _, head, body = (output / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["pipeline_tag"] == purpose
    assert head["model-index"][0]["results"][0]["metrics"][1]["value"] == 1.25
    assert "A BERT with 2 layers" in body
    assert ("trained on pretraining/any" in body) == (purpose != "feature-extraction")
    assert "AutoModelFor" in body
    assert "Not exported" not in body


@pytest.mark.parametrize(
    "config, heads, architecture, left",
    [
        (CONFIG, {"mlm": True}, "BertForMaskedLM", ["pooler"]),
        (CONFIG, {"mlm": True, "nsp": True, "pooler": False}, "BertForMaskedLM", ["nsp"]),
        (CONFIG, {"nsp": True, "pooler": False}, "BertModel", ["nsp"]),
        (
            CONFIG,
            {"mlm": True, "nsp": True, "classes": 2},
            "BertForSequenceClassification",
            ["mlm", "nsp"],
        ),
        (LEFT_TO_RIGHT, {"mlm": True}, "BertLMHeadModel", ["pooler"]),
        (LEFT_TO_RIGHT, {"mlm": True, "nsp": True}, "BertLMHeadModel", ["nsp", "pooler"]),
        (LEFT_TO_RIGHT, {"nsp": True}, "BertModel", ["nsp"]),
    ],
)
def test_heads_that_the_class_lacks_are_left_out_and_told(
    tmp_path, config, heads, architecture, left
):
    given = drawn(config, **heads)
    words = bert_folders.tokenizer(tmp_path)
    told = export_huggingface(
        tmp_path / "out", config, given, words, labels=None, regression=False, card=CARD
    )
    assert told == tuple(f"{head} ({architecture} has none)" for head in left)
    assert f"Not exported: {', '.join(told)}." in (tmp_path / "out" / "README.md").read_text()
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["architectures"] == [architecture]
    found = load(tmp_path / "out").parameters
    assert found.keys() == {path for path in given if path.split("/")[0] not in left}


def test_a_folder_with_too_many_heads_says_what_is_not_exported(tmp_path):
    stored = {
        name if name.startswith("cls.") else f"bert.{name}": tensor
        for name, tensor in to_huggingface(CONFIG, drawn(CONFIG, mlm=True))
    } | {"qa_outputs.bias": np.zeros(2, np.float32)}
    folder = bert_folders.write_folder(tmp_path / "bert", stored)
    source = export_folder(folder, tmp_path / "out")
    assert source.ignored == (
        "qa_outputs.bias (question-answering head)",
        "pooler (BertForMaskedLM has none)",
    )


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_sentencepiece_is_told_to_make_berts_input_for_a_bert_only(tmp_path, model):
    words = tiny_sentencepiece.model("unigram")
    config = CONFIG if model == "bert" else gpt_folders.GPT2
    config = dataclasses.replace(config, vocabulary=words.vocabulary_size)
    output = export(tmp_path, config, drawn(config), words)
    stated = json.loads((output / "tokenizer_config.json").read_text())
    name = "tokenizer.model" if model == "bert" else "spiece.model"
    assert (output / name).is_file()
    assert ("special_tokens_pattern" in stated) == (model == "bert")
    assert ("save_pretrained" in (output / "README.md").read_text()) == (model == "bert")
    assert load(output).tokenizer.fingerprint == words.fingerprint


@pytest.mark.parametrize(
    "name, architecture, model",
    [("gpt", "OpenAIGPTLMHeadModel", "A GPT with"), ("gpt2", "GPT2LMHeadModel", "A GPT-2 with")],
)
def test_gpt_comes_back_as_it_was(tmp_path, name, architecture, model):
    config, expected = gpt_folders.CONFIGS[name], gpt_folders.parameters(name)
    words = gpt_folders.tokenizer(tmp_path, name)
    output = export(tmp_path, config, expected, words)
    settings = json.loads((output / "config.json").read_text())
    assert settings["architectures"] == [architecture]
    end = words.special.end_of_text
    assert settings["bos_token_id"] == settings["eos_token_id"] == end
    assert (end is None) == (name == "gpt")
    assert sorted(os.listdir(output)) == [
        "README.md",
        "config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]
    assert all(key.startswith("transformer.") for key in open_tensors(output).shapes)
    again = load(output)
    assert again.config == config
    assert again.parameters.keys() == expected.keys()
    assert all(np.array_equal(again.parameters[path], expected[path]) for path in expected)
    assert again.tokenizer.fingerprint == words.fingerprint
    text = (output / "README.md").read_text()
    assert yaml.safe_load(text.split("---\n")[1])["pipeline_tag"] == "text-generation"
    assert model in text
    assert "AutoModelForCausalLM" in text


def test_what_transformers_has_no_class_for(tmp_path):
    words = gpt_folders.tokenizer(tmp_path, "gpt2")
    values = gpt_folders.parameters("gpt2")
    head = {"classifier/kernel": np.zeros((12, 2)), "classifier/bias": np.zeros(2)}
    with pytest.raises(UserError, match="GPT has a classifier, for which transformers has no"):
        export(tmp_path, gpt_folders.GPT2, values | head, words)
    odd = dataclasses.replace(gpt_folders.GPT, inner=20)
    with pytest.raises(UserError, match="transformers has no GPT with .* inner width 20"):
        export(tmp_path, odd, drawn(odd), gpt_folders.tokenizer(tmp_path, "gpt"))
    assert not (tmp_path / "out").exists()
