"""Losses of pre-training against `transformers` and PyTorch: values, gradients, folders.

BertForPreTraining, BertLMHeadModel (left to right), OpenAIGPTLMHeadModel, GPT2LMHeadModel, with
random weights of odd sizes. The reference computes in float64, ours in float32; the rule of
comparison is in tests/reference.py.
"""

from __future__ import annotations

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from gptbert.models.inputs import Packed
from gptbert.models.parameters import describe, merge
from gptbert.models.presets import Compute, GptConfig, preset
from gptbert.models.pretraining import MaskedLanguageModel, NextTokenModel
from gptbert.pipeline.packing import pack
from gptbert.runs.export import export
from gptbert.tokenizers import load_tokenizer
from gptbert.weights import huggingface_names
from gptbert.weights.export import ModelCard, export_huggingface
from gptbert.weights.huggingface import read_huggingface
from gptbert.weights.pretrained import load
from tests import tiny
from tests.tokenizers import tiny_sentencepiece
from tests.weights import bert_folders, gpt_folders

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test-parity)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

pytestmark = [pytest.mark.parity, pytest.mark.torch]

BERT = {"hidden_size": 60, "num_attention_heads": 5, "num_hidden_layers": 3}
BERT |= {"intermediate_size": 100, "vocab_size": 101, "max_position_embeddings": 77}
GPT = {"n_embd": 60, "n_head": 5, "n_layer": 3, "vocab_size": 101, "n_positions": 77}
NARROW = {"n_embd": 21, "n_head": 1, "n_layer": 2, "vocab_size": 53, "n_positions": 77}
MODELS = {
    "BERT": ("BertForPreTraining", BERT),
    "BERT, tanh, one layer": (
        "BertForPreTraining",
        {**BERT, "num_hidden_layers": 1, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    ),
    "BERT without sentences": ("BertForMaskedLM", BERT),
    "BERT, left to right": ("BertLMHeadModel", {**BERT, "is_decoder": True}),
    "GPT": ("OpenAIGPTLMHeadModel", GPT),
    "GPT, one head": ("OpenAIGPTLMHeadModel", NARROW),
    "GPT-2": ("GPT2LMHeadModel", {**GPT, "n_inner": 100}),
    "GPT-2, one head": ("GPT2LMHeadModel", {**NARROW, "layer_norm_epsilon": 1e-12}),
}
LENGTHS = (3, 77, 17, 30, 9, 2)
LAYOUTS = ("padded", "packed")


@dataclasses.dataclass(frozen=True)
class Case:
    """A model with its padded batch and what PyTorch computes, by our names."""

    kind: str
    weights: object
    batch: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rows:
    """A batch in our rows, with the answer at every position [R,T] and whether it counts."""

    packed: Packed
    labels: np.ndarray
    weights: np.ndarray


def random_model(kind: str, fields: dict):
    """A float32 model whose weights are large enough for uneven attention."""
    model = getattr(transformers, kind)._from_config(
        getattr(transformers, kind).config_class(**fields), attn_implementation="eager"
    )
    rng = np.random.default_rng(len(fields))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_table = any(word in name for word in ("embed", "wte", "wpe"))
            values = rng.normal(0, 0.25 if is_table else 0.12, parameter.shape)
            is_scale = name.endswith(("LayerNorm.weight", "ln_1.weight", "ln_2.weight"))
            scale = 1.0 if is_scale or name.endswith("ln_f.weight") else 0.0
            parameter.copy_(torch.from_numpy(values + scale))
    return model.eval()


def random_batch(kind: str, vocabulary: int) -> dict[str, np.ndarray]:
    """Padded; without token 0, whose gradient PyTorch's BERT leaves out."""
    rng = np.random.default_rng(7)
    real = np.arange(max(LENGTHS))[None] < np.array(LENGTHS)[:, None]
    tokens = rng.integers(1, vocabulary, real.shape) * real
    batch = {"input_ids": tokens, "attention_mask": real.astype(np.int64)}
    if kind in ("BertForPreTraining", "BertForMaskedLM"):
        second = np.arange(max(LENGTHS))[None] >= rng.integers(1, 9, len(LENGTHS))[:, None]
        masked = real & (rng.random(real.shape) < 0.3)
        masked[:, 1] = True  # at least one each
        original = rng.integers(1, vocabulary, real.shape)
        batch["token_type_ids"] = (second & real).astype(np.int64)
        batch["labels"] = np.where(masked, original, -100)
    else:
        batch["labels"] = np.where(real, tokens, -100)
    if kind == "BertForPreTraining":
        batch["next_sentence_label"] = rng.integers(0, 2, len(LENGTHS))
    return batch


def theirs(kind: str, model, batch: dict[str, np.ndarray], config) -> dict[str, np.ndarray]:
    """Loss, logits and gradients in float64, by our names."""
    model = model.double()
    model.zero_grad()
    output = model(**{name: torch.from_numpy(array) for name, array in batch.items()})
    output.loss.backward()
    naming = huggingface_names.naming(config)
    gradients = {
        huggingface_names.canonical(name, naming.prefix): p.grad.numpy().copy()
        for name, p in model.named_parameters()
    }
    places = huggingface_names.all_places(
        config,
        pooler=kind == "BertForPreTraining",
        mlm=kind.startswith("Bert"),
        nsp=kind == "BertForPreTraining",
    )
    assert gradients.keys() == places.keys()
    shapes = huggingface_names.shapes_of(config, places)
    found = huggingface_names.from_huggingface(places, shapes, gradients.__getitem__)
    found["loss"] = output.loss.item()
    logits = output.prediction_logits if kind == "BertForPreTraining" else output.logits
    found["logits"] = logits.detach().numpy()[asked(batch)]
    if kind == "BertForPreTraining":
        found["next logits"] = output.seq_relationship_logits.detach().numpy()
    return found


def asked(batch: dict[str, np.ndarray]) -> np.ndarray:
    """bool [E,S]: masked tokens, or those that another follows."""
    if "token_type_ids" in batch:
        return batch["labels"] >= 0
    real = batch["attention_mask"].astype(bool)
    return real & np.pad(real[:, 1:], ((0, 0), (0, 1)))


def ours(case: Case, layout: str) -> dict[str, np.ndarray]:
    """The same from our equations, in one layout of the batch."""
    batch, where = lay_out(case.batch, layout)
    config, compute = case.weights.config, Compute()
    is_masked, has_next = "token_type_ids" in case.batch, case.kind == "BertForPreTraining"
    if is_masked:
        graph, shapes = describe(
            lambda rngs: MaskedLanguageModel(config, compute, rngs, next_sentence=has_next)
        )
    else:
        graph, shapes = describe(lambda rngs: NextTokenModel(config, compute, rngs))
    found = {path: value.shape for path, value in case.weights.parameters.items()}
    assert found == {path: value.shape for path, value in shapes.items()}

    def loss(parameters):
        model = merge(graph, parameters)
        if is_masked:
            return masked_loss(model, batch, case.batch.get("next_sentence_label"), where)
        vectors = model(batch.packed)
        weights = batch.weights.astype(np.float32)
        total, _ = model.losses(vectors, batch.labels, weights, chunk=13)
        return total / weights.sum(), (model.logits(vectors), None)

    quickly = {"xla_backend_optimization_level": 0}
    run = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=quickly)
    (value, (logits, scores)), results = jax.device_get(run(case.weights.parameters))
    results["loss"] = float(value)
    if is_masked:
        positions, real = masked_slots(batch.weights)
        by_slot, logits = logits, np.zeros((*batch.labels.shape, config.vocabulary), np.float32)
        rows, slots = np.nonzero(real)
        logits[rows, positions[rows, slots]] = by_slot[rows, slots]
    examples = [
        logits[row, start : start + n] for (row, start), n in zip(where, LENGTHS, strict=True)
    ]
    wanted = [row[:n] for row, n in zip(asked(case.batch), LENGTHS, strict=True)]
    results["logits"] = np.concatenate([e[w] for e, w in zip(examples, wanted, strict=True)])
    if has_next:
        results["next logits"] = scores
    return results


def masked_loss(model, batch, next_labels, where):
    """As the released code combines them: each a mean, added up."""
    positions, real = masked_slots(batch.weights)
    labels = np.take_along_axis(batch.labels, positions, 1)
    starts = np.broadcast_to([start for _, start in where], (len(batch.labels), len(where)))
    vectors, scores = model(batch.packed, positions, starts)
    total, _ = model.losses(vectors, labels, real.astype(np.float32), chunk=5)
    value = total / real.sum()
    if next_labels is None:
        return value, (model.logits(vectors), None)
    examples = np.arange(len(where))
    scores = scores[np.array([row for row, _ in where]), examples]
    value = value - jax.nn.log_softmax(scores)[examples, next_labels].mean()
    return value, (model.logits(vectors), scores)


def masked_slots(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions [R,M] of what is asked for, and which slots are no filler."""
    count = weights.sum(1).max() + 2
    positions = np.argsort(-weights, axis=1, kind="stable")[:, :count]
    real = np.take_along_axis(weights, positions, 1)
    return np.where(real, positions, 0), real


def lay_out(batch: dict[str, np.ndarray], layout: str) -> tuple[Rows, list[tuple[int, int]]]:
    """Rows of the examples, and (row, start) of each."""
    size = max(LENGTHS) + 5
    rows = [[e] for e in range(len(LENGTHS))] if layout == "padded" else pack(LENGTHS, size)
    shape = (len(rows) + 1, size)
    tokens, positions, segments, types, labels, weights = np.zeros((6, *shape), np.int32)
    where = {}
    wanted = batch["labels"]
    if "token_type_ids" not in batch:
        wanted = np.pad(batch["input_ids"][:, 1:], ((0, 0), (0, 1)))
    for row, members in enumerate(rows):
        start = 0
        for example in members:
            length = LENGTHS[example]
            there, here = np.s_[row, start : start + length], np.s_[example, :length]
            where[example] = (row, start)
            tokens[there], positions[there] = batch["input_ids"][here], range(length)
            segments[there], weights[there] = example + 1, asked(batch)[here]
            types[there] = batch.get("token_type_ids", np.zeros_like(wanted))[here]
            labels[there] = np.maximum(wanted[here], 0)
            start += length
    packed = Packed(tokens, positions, segments, types)
    return Rows(packed, labels, weights), [where[example] for example in range(len(LENGTHS))]


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory):
    kind, fields = MODELS[request.param]
    folder = tmp_path_factory.mktemp("odd")
    model = random_model(kind, fields)
    model.save_pretrained(folder)
    weights = read_huggingface(folder)
    assert weights.ignored == []
    batch = random_batch(kind, fields["vocab_size"])
    return Case(kind, weights, batch, theirs(kind, model, batch, weights.config))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_logits_and_gradients(case, layout):
    found = ours(case, layout)
    assert isinstance(case.weights.config, GptConfig) == (not case.kind.startswith("Bert"))
    tiny.assert_close(found, case.expected)


EXPORTS = {
    "BertForPreTraining": (bert_folders.CONFIG, {"mlm": True, "nsp": True}),
    "BertForMaskedLM": (bert_folders.CONFIG, {"mlm": True, "pooler": False}),
    "BertLMHeadModel": (
        dataclasses.replace(bert_folders.CONFIG, left_to_right=True),
        {"mlm": True, "pooler": False},
    ),
    "OpenAIGPTLMHeadModel": (gpt_folders.GPT, {}),
    "GPT2LMHeadModel": (gpt_folders.GPT2, {}),
}
AUTO = {"BertForPreTraining": "AutoModelForPreTraining", "BertForMaskedLM": "AutoModelForMaskedLM"}


@pytest.mark.parametrize("kind", EXPORTS)
def test_exported_models_load_and_agree(kind, tmp_path):
    """Through the class that the model card names, with nothing left over and nothing new."""
    config, heads = EXPORTS[kind]
    rng = np.random.default_rng(4)
    shapes = huggingface_names.parameter_shapes(config, **heads)
    values = {path: rng.normal(0, 0.4, shape).astype(np.float32) for path, shape in shapes.items()}
    is_gpt = isinstance(config, GptConfig)
    names = {"OpenAIGPTLMHeadModel": "gpt", "GPT2LMHeadModel": "gpt2"}
    tokenizer = (
        gpt_folders.tokenizer(tmp_path, names[kind]) if is_gpt else bert_folders.tokenizer(tmp_path)
    )
    output = tmp_path / "out"
    export_huggingface(
        output, config, values, tokenizer, labels=None, regression=False, card=ModelCard("test")
    )
    auto = getattr(transformers, AUTO.get(kind, "AutoModelForCausalLM"))
    model, loading = auto.from_pretrained(output, output_loading_info=True)
    assert {name: list(found) for name, found in loading.items() if found} == {}
    assert type(model).__name__ == kind
    assert model.dtype == torch.float32

    text = "the cat" if is_gpt else "hello world how are you"
    theirs = transformers.AutoTokenizer.from_pretrained(output)
    ids = tokenizer.encode(text)
    assert theirs(text, add_special_tokens=False)["input_ids"] == ids
    with torch.no_grad():
        result = model.double().eval()(torch.tensor([ids]))
    expected = result.prediction_logits if kind == "BertForPreTraining" else result.logits
    row = np.array([ids, range(len(ids)), [1] * len(ids), [0] * len(ids)], np.int32)[:, None]
    loaded = load(output)
    if kind in AUTO:
        hidden, pooled = loaded.model(Packed(*row), np.zeros((1, 1), np.int32))
        logits = loaded.model.word_scores(hidden)
    else:
        graph, _ = describe(lambda rngs: NextTokenModel(config, Compute(), rngs))
        language = merge(graph, loaded.parameters)
        logits = language.logits(language(Packed(*row)))
    assert np.abs(logits - expected.numpy()).max() <= 1e-5 * np.abs(expected.numpy()).max()
    if kind == "BertForPreTraining":
        scores = loaded.model.nsp(pooled, "float32")[0]
        expected = result.seq_relationship_logits
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


HEADS = ("pooler", "mlm", "nsp", "classes")
SETS = [
    (left_to_right, heads)
    for left_to_right in (False, True)
    for count in range(len(HEADS) + 1)
    for heads in itertools.combinations(HEADS, count)
    if "classes" not in heads or ("pooler" in heads and not left_to_right)
]


@pytest.mark.parametrize("left_to_right, heads", SETS)
def test_any_heads_load_with_nothing_left_over_and_nothing_new(left_to_right, heads, tmp_path):
    config = dataclasses.replace(bert_folders.CONFIG, left_to_right=left_to_right)
    given = {"pooler": "pooler" in heads, "classes": 3 if "classes" in heads else None}
    given |= {head: head in heads for head in ("mlm", "nsp")}
    values = {
        path: np.ones(shape, np.float32)
        for path, shape in huggingface_names.parameter_shapes(config, **given).items()
    }
    words = bert_folders.tokenizer(tmp_path)
    card = ModelCard("test")
    export_huggingface(
        tmp_path / "out", config, values, words, labels=None, regression=False, card=card
    )
    (kind,) = json.loads((tmp_path / "out" / "config.json").read_text())["architectures"]
    options = {"add_pooling_layer": "pooler" in heads} if kind == "BertModel" else {}
    _, loading = getattr(transformers, kind).from_pretrained(
        tmp_path / "out", output_loading_info=True, **options
    )
    assert {name: list(found) for name, found in loading.items() if found} == {}


def test_a_model_of_next_sentences_comes_back_as_it_was(tmp_path):
    config = transformers.BertConfig(**{**BERT, "vocab_size": len(bert_folders.WORDS)})
    model = transformers.BertForNextSentencePrediction(config).eval()
    model.save_pretrained(tmp_path / "bert")
    words = "".join(f"{word}\n" for word in bert_folders.WORDS)
    (tmp_path / "bert" / "vocab.txt").write_text(words)
    assert export(tmp_path / "bert", tmp_path / "out").ignored == ()
    (kind,) = json.loads((tmp_path / "out" / "config.json").read_text())["architectures"]
    again, loading = getattr(transformers, kind).from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert {name: list(found) for name, found in loading.items() if found} == {}
    tokens = torch.arange(2, 12)[None]
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("name", ["gpt-mini", "gpt2-mini"])
def test_a_gpt_with_wordpiece_gets_no_marks_of_bert(name, tmp_path):
    """Through the files alone: the pieces of the text, no [CLS], no [SEP], no token types."""
    words = bert_folders.tokenizer(tmp_path)
    config = dataclasses.replace(
        preset(name), vocabulary=words.vocabulary_size, layers=1, positions=32
    )
    shapes = huggingface_names.parameter_shapes(config)
    values = {path: np.zeros(shape, np.float32) for path, shape in shapes.items()}
    card = ModelCard("test")
    out = tmp_path / "out"
    export_huggingface(out, config, values, words, labels=None, regression=False, card=card)
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    text = "Hello worlds, how are\tyou? zebra"
    batch = theirs(text, return_tensors="pt")
    assert batch["input_ids"][0].tolist() == words.encode(text) == load_tokenizer(out).encode(text)
    assert "token_type_ids" not in batch
    transformers.AutoModelForCausalLM.from_pretrained(out)(**batch)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_bert_with_sentencepiece_hears_the_same_text(kind, tmp_path):
    """Through the files alone: ids with [CLS] and [SEP], token types, hidden states."""
    words = tiny_sentencepiece.model(kind)
    config = dataclasses.replace(
        bert_folders.CONFIG, vocabulary=words.vocabulary_size, positions=77
    )
    rng = np.random.default_rng(4)
    shapes = huggingface_names.parameter_shapes(config)
    values = {path: rng.normal(0, 0.4, shape).astype(np.float32) for path, shape in shapes.items()}
    card = ModelCard("test")
    export_huggingface(
        tmp_path / "out", config, values, words, labels=None, regression=False, card=card
    )
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = transformers.AutoModel.from_pretrained(tmp_path / "out").double().eval()
    texts = [
        ("the cat",),
        ("The cat didn't see.", "It walks, in 1990!"),
        ("",),
        ("ﬁnd Ａ中", "a\tb"),
    ]
    encoded = load(tmp_path / "out").encode(texts)
    for number, text in enumerate(texts):
        batch = theirs(*text, return_tensors="pt")
        assert theirs.convert_ids_to_tokens(batch["input_ids"][0]) == encoded.tokens[number]
        with torch.no_grad():
            expected = model(**batch)
        for found, right in (
            (encoded.hidden[number], expected.last_hidden_state[0].numpy()),
            (encoded.pooled[number], expected.pooler_output[0].numpy()),
        ):
            assert np.abs(found - right).max() <= 1e-5 * np.abs(right).max()
