import errno
import json
import os

import numpy as np
import pytest
import yaml

from gptbert.errors import UserError
from gptbert.runs.export import export as export_folder
from gptbert.weights import safetensors_files
from gptbert.weights.export import ModelCard, check_output, export_huggingface
from gptbert.weights.huggingface import read_bert
from gptbert.weights.pretrained import load
from gptbert.weights.safetensors_files import open_tensors
from tests.weights.bert_folders import CONFIG, parameters, tensors, tokenizer, write_folder

CARD = ModelCard("tiny")
LABELS = ("not_equivalent", "equivalent")


def export(folder, values, labels=None, regression=False, card=CARD, **more):
    output = folder / "out"
    words = tokenizer(folder)
    export_huggingface(
        output, CONFIG, values, words, labels=labels, regression=regression, card=card, **more
    )
    return output


def settings_of(output):
    return json.loads((output / "config.json").read_text())


@pytest.mark.parametrize(
    "classes, labels, regression, problem",
    [
        (2, LABELS, False, "single_label_classification"),
        (3, None, False, "single_label_classification"),
        (1, None, True, "regression"),
    ],
)
def test_classifiers_come_back_as_they_were(tmp_path, classes, labels, regression, problem):
    expected = parameters(classes=classes)
    output = export(tmp_path, expected, labels, regression)
    again = load(output)
    assert again.config == CONFIG
    assert again.labels == labels
    assert again.parameters.keys() == expected.keys()
    assert all(np.array_equal(again.parameters[path], expected[path]) for path in expected)
    assert again.tokenizer.fingerprint == tokenizer(tmp_path).fingerprint
    settings = settings_of(output)
    assert settings["architectures"] == ["BertForSequenceClassification"]
    assert settings["problem_type"] == problem
    assert len(settings["id2label"]) == classes
    assert settings["label2id"] == {n: int(c) for c, n in settings["id2label"].items()}


@pytest.mark.parametrize(
    "stated, name, rate",
    [
        ({"id2label": {"0": "relevance"}, "classifier_dropout": 0.5}, "relevance", 0.5),
        ({"id2label": {"0": "LABEL_0"}, "classifier_dropout": None}, "LABEL_0", None),
        ({"id2label": ["relevance"]}, "score", None),
        ({"id2label": {"0": 7}}, "score", None),
        (None, "score", None),
    ],
)
def test_what_config_json_said_of_a_score_is_kept(tmp_path, stated, name, rate):
    output = export(tmp_path, parameters(classes=1), regression=True, stated=stated)
    settings = settings_of(output)
    assert settings["id2label"] == {"0": name}
    assert settings["label2id"] == {name: 0}
    assert settings["classifier_dropout"] == rate
    assert load(output).labels is None


def test_weights_as_they_are_keep_it_too(tmp_path):
    stored = tensors(parameters(classes=1))
    stated = {"id2label": {"0": "relevance"}, "classifier_dropout": 0.5}
    source = export_folder(write_folder(tmp_path / "bert", stored, **stated), tmp_path / "out")
    assert {name: settings_of(tmp_path / "out")[name] for name in stated} == stated
    assert source.is_regression and source.ignored == ()


def test_bare_weights_have_no_prefix_and_no_labels(tmp_path):
    output = export(tmp_path, parameters())
    assert settings_of(output)["architectures"] == ["BertModel"]
    assert "id2label" not in settings_of(output)
    names = open_tensors(output).shapes
    assert "embeddings.LayerNorm.weight" in names
    assert not [name for name in names if name.startswith("bert.")]
    assert read_bert(output).ignored == []


def test_all_files_are_there_and_nothing_else(tmp_path):
    output = export(tmp_path, parameters(classes=2), LABELS)
    assert sorted(os.listdir(output)) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    stated = json.loads((output / "tokenizer_config.json").read_text())
    assert stated["model_max_length"] == CONFIG.positions
    assert sorted(os.listdir(tmp_path)) == ["out", "words.txt"]


def test_the_model_card(tmp_path):
    card = ModelCard(
        name='my "best": model',
        base="some/base",
        task="glue/mrpc",
        split="dev",
        metrics={"accuracy": 0.875, "f1": 0.9123456},
        training={"learning_rate": 5e-05, "command": "a | b"},
        language="en",
    )
    text = (export(tmp_path, parameters(classes=2), LABELS, card=card) / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["language"] == "en"
    assert head["license"] == "other"
    assert head["pipeline_tag"] == "text-classification"
    result = head["model-index"][0]["results"][0]
    assert head["model-index"][0]["name"] == card.name
    assert result["dataset"] == {"name": "glue/mrpc", "type": "glue/mrpc", "split": "dev"}
    assert {m["type"]: m["value"] for m in result["metrics"]} == card.metrics
    for shown in ("`not_equivalent`, `equivalent`", "| f1 | 0.9123 |", "| command | a \\| b |"):
        assert shown in body
    assert "| learning_rate | 5e-05 |" in body
    assert "AutoModelForSequenceClassification" in body


def test_a_card_without_figures(tmp_path):
    text = (export(tmp_path, parameters()) / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert "model-index" not in head
    assert "language" not in head
    assert head["pipeline_tag"] == "feature-extraction"
    assert "Results" not in text
    assert "add_pooling_layer" not in text


def test_weights_without_pooler_say_how_to_load_them(tmp_path):
    text = (export(tmp_path, parameters(pooler=False)) / "README.md").read_text()
    assert 'AutoModel.from_pretrained("tiny", add_pooling_layer=False)' in text


def test_mean_pooling_has_no_class_in_transformers(tmp_path):
    with pytest.raises(UserError, match=r"pooling 'mean'.*expected pooling 'cls'"):
        export(tmp_path, parameters(pooler=False, classes=2), LABELS)
    assert os.listdir(tmp_path) == ["words.txt"]


@pytest.mark.parametrize(
    "classes, labels, regression", [(2, ("a",), False), (2, None, True), (None, LABELS, False)]
)
def test_heads_that_contradict_their_labels(tmp_path, classes, labels, regression):
    with pytest.raises(ValueError, match=r"labels|score"):
        export(tmp_path, parameters(classes=classes), labels, regression)


def test_nothing_is_overwritten(tmp_path):
    output = export(tmp_path, parameters())
    before = (output / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"out is not empty \(it holds README\.md, config\.json"):
        export(tmp_path, parameters(seed=1))
    assert (output / "model.safetensors").read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is no folder"):
        check_output(tmp_path / "file")


def test_an_empty_folder_and_new_parents_are_fine(tmp_path):
    (tmp_path / "out").mkdir()
    assert read_bert(export(tmp_path, parameters())).ignored == []
    deep = tmp_path / "a" / "b"
    export_huggingface(
        deep,
        CONFIG,
        parameters(),
        tokenizer(tmp_path),
        labels=None,
        regression=False,
        card=CARD,
    )
    assert read_bert(deep).missing == ["classifier/kernel", "classifier/bias"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyError()])
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(safetensors_files, "save_file", fail)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyError):
        export(tmp_path, parameters())
    assert os.listdir(tmp_path) == ["words.txt"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        export_huggingface(
            tmp_path / "file" / "out",
            CONFIG,
            parameters(),
            tokenizer(tmp_path),
            labels=None,
            regression=False,
            card=CARD,
        )
