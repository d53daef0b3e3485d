"""BERT against `transformers` and PyTorch, live: values, gradients, and folders in both directions.

The reference computes in float64, ours in float32; the rule of comparison is in tests/reference.py.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from gptbert.models.presets import BertConfig
from gptbert.pipeline.encode import encode_texts
from gptbert.weights.export import ModelCard, export_huggingface
from gptbert.weights.huggingface import read_bert
from gptbert.weights.huggingface_names import parameter_shapes, to_huggingface
from gptbert.weights.pretrained import load
from gptbert.weights.safetensors_files import convert_command, open_tensors
from tests import reference

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test-parity)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

pytestmark = [pytest.mark.parity, pytest.mark.torch]

ODD = {"hidden_size": 60, "num_attention_heads": 5, "num_hidden_layers": 3}
ODD |= {"intermediate_size": 100, "vocab_size": 101, "max_position_embeddings": 77}
SHAPES = {
    "erf": {**ODD, "num_labels": 2},
    "tanh, a score": {**ODD, "num_labels": 1, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    "one head, narrow": {
        **ODD,
        "hidden_size": 21,
        "num_attention_heads": 1,
        "intermediate_size": 13,
        "num_labels": 5,
        "hidden_act": "gelu_pytorch_tanh",
    },
}
TEXTS = [
    ("A cat sits on the mat.",),
    ("How old are you?", "What is your age?"),
    ("The company said on Friday that profits had fallen by 12.5% to $3.4 billion.",),
    ("Yes",),
    ("Dr. Müller's naïve café—closed since 1999!", "It is open; 日本語 too."),
    ("word " * 100, "another " * 60),
]


def random_model(fields: dict):
    """A float32 model whose weights are large enough for uneven attention."""
    config = transformers.BertConfig(**fields, attn_implementation="eager")
    model = transformers.BertForSequenceClassification(config).eval()
    rng = np.random.default_rng(fields["num_labels"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = rng.normal(0, 0.25 if "embeddings" in name else 0.12, parameter.shape)
            scale = 1.0 if "LayerNorm.weight" in name else 0.0
            parameter.copy_(torch.from_numpy(values + scale))
    return model


def random_batch(config, lengths=(3, 77, 17, 30, 9)) -> dict[str, np.ndarray]:
    """A padded batch without token 0, whose gradient PyTorch's embedding leaves out."""
    rng = np.random.default_rng(7)
    real = np.arange(max(lengths))[None] < np.array(lengths)[:, None]
    second = np.arange(max(lengths))[None] >= rng.integers(2, 9, len(lengths))[:, None]
    return {
        "input_ids": rng.integers(1, config.vocab_size, real.shape) * real,
        "attention_mask": real.astype(np.int64),
        "token_type_ids": (second & real).astype(np.int64),
        "labels": labels(config.num_labels, len(lengths)),
    }


def labels(classes: int, examples: int) -> np.ndarray:
    if classes == 1:
        return np.linspace(-1.0, 5.0, examples)
    return np.arange(examples) % classes


def theirs(model, batch: dict[str, np.ndarray], config: BertConfig) -> reference.Results:
    """What PyTorch computes, in float64."""
    model = model.double().eval()
    model.zero_grad()
    output = model(
        **{name: torch.from_numpy(array) for name, array in batch.items()},
        output_hidden_states=True,
    )
    output.loss.backward()
    real = batch["attention_mask"].astype(bool)
    gradients = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    return reference.Results(
        output.logits.detach().numpy(),
        output.hidden_states[-1].detach().numpy()[real],
        output.loss.item(),
        reference.gradients_by_path(config, gradients),
    )


@pytest.fixture(scope="module", params=SHAPES)
def random_case(request, tmp_path_factory):
    """A folder written by transformers, a batch, and its results."""
    folder = tmp_path_factory.mktemp("odd")
    model = random_model(SHAPES[request.param])
    model.save_pretrained(folder)
    weights = read_bert(folder)
    assert weights.ignored == weights.missing == []
    batch = random_batch(model.config)
    return weights, batch, theirs(model, batch, weights.config)


@pytest.mark.parametrize("layout", reference.LAYOUTS)
def test_random_models_of_odd_sizes(random_case, layout):
    weights, batch, expected = random_case
    features = reference.as_features(**batch)
    ours = reference.compute(weights.config, weights.parameters, features, layout)
    reference.assert_same(ours, expected)


@pytest.fixture(scope="module")
def real_case(minilm_dir, tmp_path_factory):
    """The packaged weights with a head, real sentences, and their results.

    The labels are not balanced: a head that knows nothing says 1/2, and the gradients of as many
    examples of either class cancel to 1/100 of their size. What is left has 100 times the rounding
    (5e-5 of its largest entry here, 2e-5 in PyTorch's own float32).
    """
    model = transformers.BertForSequenceClassification.from_pretrained(
        minilm_dir, num_labels=2, attn_implementation="eager"
    )
    with torch.no_grad():
        model.classifier.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    folder = tmp_path_factory.mktemp("real")
    model.save_pretrained(folder)
    bert = load(minilm_dir)
    numbers = np.array([1, 0, 1, 1, 1, 1], np.int32)
    features = encode_texts(TEXTS, numbers, bert.tokenizer, 128)
    return read_bert(folder), features, theirs(model, padded(features), bert.config)


def padded(features) -> dict[str, np.ndarray]:
    packed = reference.lay_out(features, "padded").packed
    return {
        "input_ids": packed.tokens.astype(np.int64),
        "attention_mask": (packed.segments > 0).astype(np.int64),
        "token_type_ids": packed.token_types.astype(np.int64),
        "labels": features.labels.astype(np.int64),
    }


@pytest.mark.parametrize("layout", reference.LAYOUTS)
def test_real_weights(real_case, layout):
    weights, features, expected = real_case
    ours = reference.compute(weights.config, weights.parameters, features, layout)
    reference.assert_same(ours, expected)


def save(folder, kind: str, dtype=None, **options):
    """A random model of a class of transformers, saved by it."""
    config = transformers.BertConfig(**ODD)
    torch.manual_seed(1)
    model = getattr(transformers, kind)(config).to(dtype or torch.float32)
    model.save_pretrained(folder, **options)
    return model


@pytest.mark.parametrize(
    "kind, pooler, ignored",
    [
        ("BertModel", True, ()),
        ("BertForPreTraining", True, ()),
        ("BertForMaskedLM", False, ()),
        ("BertForQuestionAnswering", False, ("qa_outputs.",)),
        ("BertForTokenClassification", False, ("classifier.",)),
        ("BertForMultipleChoice", True, ("classifier.",)),
    ],
)
def test_folders_of_other_classes(tmp_path, kind, pooler, ignored):
    model = save(tmp_path, kind)
    weights = read_bert(tmp_path)
    stored = {k: v.numpy() for k, v in model.state_dict().items()}
    places = dict(to_huggingface(weights.config, weights.parameters))
    for name, tensor in places.items():
        if kind != "BertModel" and not name.startswith("cls."):
            name = f"bert.{name}"
        np.testing.assert_array_equal(tensor, stored[name], err_msg=name)
    assert ("pooler/dense/kernel" in weights.parameters) == pooler
    assert ("mlm/bias" in weights.parameters) == (kind in ("BertForPreTraining", "BertForMaskedLM"))
    assert ("nsp/bias" in weights.parameters) == (kind == "BertForPreTraining")
    assert bool(weights.ignored) == bool(ignored)
    assert all(entry.startswith(ignored) for entry in weights.ignored)
    for prefix in ignored:
        assert [entry for entry in weights.ignored if entry.startswith(prefix)]


def test_shards_and_half_precision(tmp_path):
    model = save(tmp_path, "BertModel", dtype=torch.bfloat16, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    weights = read_bert(tmp_path)
    for name, tensor in to_huggingface(weights.config, weights.parameters):
        expected = model.state_dict()[name].float().numpy()
        np.testing.assert_array_equal(tensor, expected, err_msg=name)


def test_the_command_that_converts_a_pickle(tmp_path):
    model = save(tmp_path, "BertModel")
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    subprocess.run(
        convert_command(tmp_path), shell=True, check=True, env={**os.environ, "PATH": path}
    )
    names = {name for name in model.state_dict() if not name.endswith("position_ids")}
    assert names <= set(open_tensors(tmp_path).shapes)
    assert read_bert(tmp_path).missing == ["classifier/kernel", "classifier/bias"]


def exported(folder, bert, classes, labels, *, regression=False, pooler=True):
    """Our random head on given weights, exported."""
    rng = np.random.default_rng(3)
    values = {k: v for k, v in bert.parameters.items() if pooler or not k.startswith("pooler")}
    if classes:
        shapes = parameter_shapes(bert.config, classes=classes)
        for path in ("classifier/kernel", "classifier/bias"):
            values[path] = rng.normal(0, 0.2, shapes[path]).astype(np.float32)
    output = folder / "exported"
    card = ModelCard("test", task="glue/any", split="dev", metrics={"accuracy": 0.5})
    export_huggingface(
        output,
        bert.config,
        values,
        bert.tokenizer,
        labels=labels,
        regression=regression,
        card=card,
    )
    return output


def load_theirs(folder, kind="AutoModelForSequenceClassification", **options):
    """The model that transformers makes of a folder, which must leave no question open."""
    model, loading = getattr(transformers, kind).from_pretrained(
        folder, output_loading_info=True, **options
    )
    assert {name: list(found) for name, found in loading.items() if found} == {}
    return model.eval()


@pytest.mark.parametrize(
    "classes, names, regression",
    [(3, ("contradiction", "entailment", "neutral"), False), (1, None, True), (2, None, False)],
)
def test_exported_classifiers_load_and_agree(minilm_dir, tmp_path, classes, names, regression):
    output = exported(tmp_path, load(minilm_dir), classes, names, regression=regression)
    model = load_theirs(output)
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.dtype == torch.float32
    assert model.config.num_labels == classes
    assert model.config.problem_type == (
        "regression" if regression else "single_label_classification"
    )
    if names:
        assert tuple(model.config.id2label[n] for n in range(classes)) == names
        assert model.config.label2id == {name: n for n, name in enumerate(names)}

    bert = load(output)
    features = encode_texts(TEXTS, labels(2, len(TEXTS)).astype(np.int32), bert.tokenizer, 128)
    batch = {k: torch.from_numpy(v) for k, v in padded(features).items() if k != "labels"}
    with torch.no_grad():
        expected = model.double()(**batch).logits.numpy()
    ours = reference.compute(
        bert.config, bert.parameters, features, "packed", gradients=False
    ).logits
    assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()


def test_an_exported_tokenizer_gives_the_same_ids(minilm_dir, tmp_path):
    bert = load(minilm_dir)
    output = exported(tmp_path, bert, 2, ("no", "yes"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(output)
    assert tokenizer.model_max_length == bert.config.positions
    assert len(tokenizer) == bert.tokenizer.vocabulary_size
    features = encode_texts(TEXTS, np.zeros(len(TEXTS), np.int32), bert.tokenizer, 512)
    for number, text in enumerate(TEXTS):
        theirs = tokenizer(*text)
        start, end = features.starts[number : number + 2]
        assert theirs["input_ids"] == features.tokens[start:end].tolist()
        types = np.arange(end - start) >= features.first_lengths[number]
        assert theirs["token_type_ids"] == types.astype(int).tolist()


def test_exported_weights_without_head_load_and_agree(minilm_dir, tmp_path):
    bert = load(minilm_dir)
    model = load_theirs(exported(tmp_path, bert, 0, None), "AutoModel").double()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    texts = [text[0] for text in TEXTS]
    encoded = bert.encode(texts)
    for number, text in enumerate(texts):
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt"))
        for found, right in (
            (encoded.hidden[number], expected.last_hidden_state[0].numpy()),
            (encoded.pooled[number], expected.pooler_output[0].numpy()),
        ):
            assert np.abs(found - right).max() <= 1e-5 * np.abs(right).max()


def test_exported_weights_without_pooler_load_as_the_card_says(minilm_dir, tmp_path):
    output = exported(tmp_path, load(minilm_dir), 0, None, pooler=False)
    assert load_theirs(output, "AutoModel", add_pooling_layer=False).pooler is None


def test_an_exported_model_card_is_valid(minilm_dir, tmp_path):
    from huggingface_hub import ModelCard as HubCard

    data = HubCard.load(exported(tmp_path, load(minilm_dir), 2, ("no", "yes")) / "README.md").data
    assert data.license == "other"
    assert data.eval_results[0].metric_value == 0.5
    assert data.eval_results[0].dataset_name == "glue/any"
