import json

import ml_dtypes
import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.models.heads import SequenceClassifier
from gptbert.models.parameters import describe
from gptbert.models.presets import PRESETS, Compute
from gptbert.weights.huggingface import read_bert
from gptbert.weights.huggingface_names import parameter_shapes, to_huggingface
from gptbert.weights.safetensors_files import write_safetensors
from tests.weights import bert_folders
from tests.weights.bert_folders import parameters, tensors, write_folder


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for path in expected:
        np.testing.assert_array_equal(found[path], expected[path], err_msg=path)
        assert found[path].dtype == np.float32
        assert found[path].flags.c_contiguous


def refused(folder, *words):
    with pytest.raises(UserError) as error:
        read_bert(folder)
    for word in words:
        assert word in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["bert-tiny", "minilm-l6-h384", "bert-base"])
def test_shapes_are_those_of_the_models(name):
    config = PRESETS[name]
    _, abstract = describe(lambda rngs: SequenceClassifier(config, Compute(), 3, rngs))
    assert parameter_shapes(config, classes=3) == {k: v.shape for k, v in abstract.items()}


@pytest.mark.parametrize("prefix", ["bert.", ""])
@pytest.mark.parametrize("classes", [None, 1, 3])
def test_what_is_written_is_read_with_and_without_prefix(tmp_path, prefix, classes):
    expected = parameters(classes=classes)
    weights = read_bert(write_folder(tmp_path, tensors(expected, prefix)))
    assert weights.config == bert_folders.CONFIG
    assert_equal(weights.parameters, expected)
    assert weights.classes == classes
    assert weights.ignored == []
    head = ["classifier/kernel", "classifier/bias"]
    assert weights.missing == (head if classes is None else [])
    assert sorted(weights.loaded) == sorted(tensors(expected, prefix))


def test_query_key_and_value_lie_where_the_equations_take_them(tmp_path):
    stored = tensors(parameters())
    kernel = read_bert(write_folder(tmp_path, stored)).parameters[
        "bert/layers/1/attention/qkv_kernel"
    ]
    x = np.random.default_rng(1).normal(size=12).astype(np.float32)
    for part, name in enumerate(("query", "key", "value")):
        expected = stored[f"bert.encoder.layer.1.attention.self.{name}.weight"] @ x
        found = np.einsum("d,dhk->hk", x, kernel[:, part])
        np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-5, atol=1e-6)


def test_old_layer_norm_names(tmp_path):
    expected = parameters()
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors(expected).items()
    }
    assert any(name.endswith("gamma") for name in old)
    assert_equal(read_bert(write_folder(tmp_path, old)).parameters, expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision(tmp_path, dtype):
    stored = {name: tensor.astype(dtype) for name, tensor in tensors(parameters()).items()}
    expected = {name: tensor.astype(np.float32) for name, tensor in stored.items()}
    weights = read_bert(write_folder(tmp_path, stored))
    found = {f"bert.{n}": t for n, t in to_huggingface(weights.config, weights.parameters)}
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert {value.dtype for value in weights.parameters.values()} == {np.dtype(np.float32)}


def test_other_heads_and_buffers_are_listed_with_the_reason(tmp_path):
    more = {
        "bert.embeddings.position_ids": np.arange(11)[None],
        "qa_outputs.weight": np.zeros((2, 12), np.float32),
        "surprise": np.zeros(1, np.float32),
    }
    weights = read_bert(write_folder(tmp_path, tensors(parameters()) | more))
    told = dict(entry.removesuffix(")").split(" (", 1) for entry in weights.ignored)
    assert told.keys() == more.keys()
    assert "question-answering head" in told["qa_outputs.weight"]
    assert told["surprise"] == "no tensor of BERT"
    assert not set(more) & set(weights.loaded)


@pytest.mark.parametrize(
    "settings, word",
    [
        ({"architectures": ["BertForTokenClassification"]}, "BertForTokenClassification"),
        ({"architectures": ["BertForMultipleChoice"]}, "BertForMultipleChoice"),
        ({"problem_type": "multi_label_classification"}, "multi_label_classification"),
        ({"problem_type": "regression"}, "regression with 3 outputs"),
    ],
)
def test_a_classifier_of_another_kind_is_no_sequence_classifier(tmp_path, settings, word):
    folder = write_folder(tmp_path, tensors(parameters(classes=3)), **settings)
    weights = read_bert(folder)
    assert weights.classes is None
    assert len(weights.ignored) == 2
    assert all(entry.startswith("classifier.") and word in entry for entry in weights.ignored)
    assert weights.missing == ["classifier/kernel", "classifier/bias"]


def test_a_missing_pooler_is_told(tmp_path):
    weights = read_bert(write_folder(tmp_path, tensors(parameters(pooler=False))))
    assert weights.missing == [
        f"{layer}/{kind}" for layer in ("pooler/dense", "classifier") for kind in ("kernel", "bias")
    ]


@pytest.mark.parametrize(
    "name", ["bert.embeddings.LayerNorm.bias", "bert.pooler.dense.bias", "classifier.bias"]
)
def test_missing_tensors_are_named(tmp_path, name):
    stored = tensors(parameters(classes=2))
    del stored[name]
    refused(write_folder(tmp_path, stored), "lack 1 of the 41 tensors", name.removeprefix("bert."))


def test_the_same_tensor_twice(tmp_path):
    stored = tensors(parameters())
    stored["bert.embeddings.LayerNorm.gamma"] = np.ones(12, np.float32)
    refused(write_folder(tmp_path, stored), "LayerNorm.gamma", "LayerNorm.weight", "same tensor")


def test_wrong_shapes_are_told_with_both_sides(tmp_path):
    stored = tensors(parameters())
    stored["bert.encoder.layer.1.output.dense.weight"] = np.zeros((20, 12), np.float32)
    refused(
        write_folder(tmp_path, stored),
        "'bert.encoder.layer.1.output.dense.weight' has shape [20, 12], expected [12, 20]",
        "hidden_size 12, intermediate_size 20",
    )


@pytest.mark.parametrize(
    "setting, name",
    [
        ({"hidden_size": 15}, "embeddings.word_embeddings.weight"),
        ({"vocab_size": 20}, "embeddings.word_embeddings.weight"),
        ({"max_position_embeddings": 10**12}, "embeddings.position_embeddings.weight"),
        ({"type_vocab_size": 1}, "embeddings.token_type_embeddings.weight"),
        ({"intermediate_size": 48}, "intermediate.dense.weight"),
    ],
)
def test_config_and_weights_that_disagree(tmp_path, setting, name):
    refused(write_folder(tmp_path, **setting), name, "expected", "from config.json")


@pytest.mark.parametrize("layers, word", [(1, "have more"), (3, "lack encoder.layer.2")])
def test_numbers_of_layers_that_disagree(tmp_path, layers, word):
    folder = write_folder(tmp_path, num_hidden_layers=layers)
    refused(folder, "have 2 layers", f"num_hidden_layers {layers}", word)


def test_an_absurd_number_of_layers_is_refused_at_once(tmp_path):
    refused(write_folder(tmp_path, num_hidden_layers=10**12), "1,000,000,000,000")


def test_a_layer_in_the_middle_is_missing(tmp_path):
    stored = {n: t for n, t in tensors(parameters()).items() if "layer.0" not in n}
    refused(write_folder(tmp_path, stored), "lack encoder.layer.0")


def test_tensors_of_another_architecture(tmp_path):
    stored = {"wte.weight": np.zeros((19, 12), np.float32)}
    refused(write_folder(tmp_path, stored), "no tensor encoder.layer.0", "wte.weight")


def test_class_names_are_read_in_their_order(tmp_path):
    names = {"2": "neutral", "0": "entailment", "1": "contradiction"}
    folder = write_folder(tmp_path, tensors(parameters(classes=3)), id2label=names)
    assert read_bert(folder).labels == ("entailment", "contradiction", "neutral")


@pytest.mark.parametrize(
    "classes, names", [(2, None), (2, {"0": "LABEL_0", "1": "LABEL_1"}), (1, {"0": "score"})]
)
def test_placeholders_and_scores_are_no_class_names(tmp_path, classes, names):
    folder = write_folder(tmp_path, tensors(parameters(classes=classes)), id2label=names)
    weights = read_bert(folder)
    assert weights.labels is None
    assert weights.classes == classes


def test_class_names_without_a_classifier_mean_nothing(tmp_path):
    assert read_bert(write_folder(tmp_path, id2label={"0": "no", "1": "yes"})).labels is None


@pytest.mark.parametrize(
    "names, word",
    [
        ({"0": "a", "1": "b"}, "names 2 classes, but classifier.weight has 3"),
        ({"0": "a", "1": "b", "2": "a"}, "one name to two classes"),
        ({"0": "a", "1": "b", "3": "c"}, "expected the keys"),
        ({"0": "a", "1": "b", "2": 7}, "expected names"),
        (["a", "b", "c"], "expected the keys"),
    ],
)
def test_bad_class_names(tmp_path, names, word):
    refused(
        write_folder(tmp_path, tensors(parameters(classes=3)), id2label=names), "id2label", word
    )


def test_ours_to_theirs_refuses_what_does_not_fit():
    values = parameters()
    values["bert/layers/0/up/kernel"] = values["bert/layers/0/up/kernel"].T
    with pytest.raises(ValueError, match=r"up/kernel \(20, 12\) \(expected \(12, 20\)\)"):
        list(to_huggingface(bert_folders.CONFIG, values))


def test_real_weights(minilm_dir):
    weights = read_bert(minilm_dir)
    assert weights.config == PRESETS["minilm-l6-h384"]
    assert sum(value.size for value in weights.parameters.values()) == 22_713_216
    assert weights.ignored == ["embeddings.position_ids (the numbers 0, 1, 2, ... of old files)"]
    assert weights.missing == ["classifier/kernel", "classifier/bias"]


def test_real_weights_cut_short(minilm_dir, tmp_path):
    (tmp_path / "config.json").write_bytes((minilm_dir / "config.json").read_bytes())
    whole = (minilm_dir / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 3])
    refused(tmp_path, "model.safetensors is cut off", "90,868,376")


def test_a_sharded_folder(tmp_path):
    expected = parameters(classes=2)
    stored = sorted(tensors(expected).items())
    folder = write_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    where = {}
    for number in range(3):
        shard = f"model-0000{number + 1}-of-00003.safetensors"
        part = dict(stored[number::3])
        write_safetensors(folder / shard, part)
        where |= dict.fromkeys(part, shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    assert_equal(read_bert(folder).parameters, expected)
