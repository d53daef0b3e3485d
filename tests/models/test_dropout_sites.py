"""Where the models drop: their outputs are those of the equations with the masks of each site.

The equations are written out in NumPy; every place has a rate of its own, so that a place left out,
doubled, moved or given the rate or the mask of another one changes the result.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.models import dropout
from gptbert.models.dropout import Noise, step_key
from gptbert.models.heads import GptClassifier, SequenceClassifier
from gptbert.models.inputs import Packed
from gptbert.models.parameters import describe, merge, stack_layers
from gptbert.models.presets import BertConfig, Compute, GptConfig
from gptbert.models.pretraining import NextTokenModel

SIZES = {"layers": 2, "width": 12, "heads": 3, "inner": 20, "vocabulary": 31, "positions": 9}
RATES = {"dropout": 0.2, "attention_dropout": 0.4}
BERT = BertConfig(**SIZES, **RATES)
GPT = GptConfig(**SIZES, **RATES, embedding_dropout=0.3)
GPT2 = GptConfig(**SIZES, **RATES, embedding_dropout=0.3, norm_place="pre")
MODELS = {
    "BERT": (BERT, lambda compute, rngs: SequenceClassifier(BERT, compute, 3, rngs)),
    "GPT": (GPT, lambda compute, rngs: GptClassifier(GPT, compute, 3, rngs)),
    "GPT-2": (GPT2, lambda compute, rngs: GptClassifier(GPT2, compute, 3, rngs)),
}
CASES = (("BERT", False), ("GPT", False), ("GPT-2", True))  # the last with scanned layers
QUICKLY = {"xla_backend_optimization_level": 0}
CLASSIFIER_RATE = 0.25  # set on the head: that of the backbone's other places is `dropout`


def batch():
    """Two examples in each of two rows, and where each begins."""
    rng = np.random.default_rng(0)
    lengths, size = ((5, 4), (3, 6)), 9
    tokens, types = rng.integers(0, 31, (2, size)), rng.integers(0, 2, (2, size))
    positions = np.array([[t for n in row for t in range(n)] for row in lengths])
    segments = np.array(
        [[1 + 2 * r + k for k in (0, 1) for _ in range(lengths[r][k])] for r in (0, 1)]
    )
    starts = np.array([[0, row[0]] for row in lengths])
    arrays = (tokens, positions, segments, types)
    return Packed(*(each.astype(np.int32) for each in arrays)), starts.astype(np.int32)


def draw(build):
    """Random parameters of a model, layers numbered."""
    rng = np.random.default_rng(1)
    _, shapes = describe(functools.partial(build, Compute()))
    return {
        path: (rng.normal(0, 0.3, value.shape) + path.endswith("scale")).astype(np.float32)
        for path, value in shapes.items()
    }


@functools.partial(jax.jit, static_argnums=(1, 2, 3), compiler_options=QUICKLY)
def kept(noise, kind, shape, rate, *of):
    """The factors of a mask: `of` are the other arguments of the method `kind` of Noise."""
    ones = jnp.ones(shape, jnp.float32)
    method = getattr(noise, kind)
    return method(ones, *of[:-1], rate, of[-1])


class Reference:
    """The equations of one packed batch, every place with its mask."""

    def __init__(self, config, parameters, packed, noise):
        self.config, self.packed, self.noise = config, packed, noise
        self.p = {path: np.asarray(value, np.float64) for path, value in parameters.items()}

    def mask(self, kind, shape, rate, *of):
        return np.asarray(kept(self.noise, kind, shape, rate, *of), np.float64)

    def drop(self, x, rate, site):
        return x * self.mask("features", x.shape, rate, site)

    def dropped_table(self, path, site):
        table = self.p[path]
        rows, rate = np.arange(len(table)), self.config.embedding_dropout
        return table * self.mask("table_rows", table.shape, rate, rows, site)

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.config.norm_epsilon)
        return scaled * self.p[f"{name}/scale"] + self.p[f"{name}/bias"]

    def attention(self, x, name, site):
        p, config = self.p, self.config
        q, k, v = np.moveaxis(
            np.einsum("rtd,dphk->rtphk", x, p[f"{name}/qkv_kernel"]) + p[f"{name}/qkv_bias"], 2, 0
        )
        scores = np.einsum("rqhk,rthk->rhqt", q, k) / np.sqrt(config.head_width)
        segments, at = self.packed.segments, np.arange(x.shape[1])
        visible = segments[:, :, None] == segments[:, None, :]
        if isinstance(config, GptConfig):
            visible = visible & (at[:, None] >= at[None, :])
        weights = np.exp(scores - scores.max(-1, keepdims=True)) * visible[:, None]
        weights /= weights.sum(-1, keepdims=True)
        weights *= self.mask("probabilities", weights.shape, config.attention_dropout, site)
        mixed = np.einsum("rhqt,rthk->rqhk", weights, v)
        return (
            np.einsum("rqhk,hkd->rqd", mixed, p[f"{name}/output_kernel"]) + p[f"{name}/output_bias"]
        )

    def mlp(self, x, name):
        p = self.p
        inner = x @ p[f"{name}/up/kernel"] + p[f"{name}/up/bias"]
        form = self.config.activation == "gelu_tanh"
        inner = np.asarray(jax.nn.gelu(inner.astype(np.float32), approximate=form), np.float64)
        return inner @ p[f"{name}/down/kernel"] + p[f"{name}/down/bias"]

    def layers(self, x, prefix):
        pre = isinstance(self.config, GptConfig) and self.config.norm_place == "pre"
        for number in range(self.config.layers):
            name, site = f"{prefix}/layers/{number}", 4 * number
            y = self.norm(x, f"{name}/attention_norm") if pre else x
            y = self.attention(y, f"{name}/attention", site)
            x = x + self.drop(y, self.config.dropout, site + 1)
            x = x if pre else self.norm(x, f"{name}/attention_norm")
            y = self.norm(x, f"{name}/mlp_norm") if pre else x
            x = x + self.drop(self.mlp(y, name), self.config.dropout, site + 2)
            x = x if pre else self.norm(x, f"{name}/mlp_norm")
        return self.norm(x, f"{prefix}/final_norm") if pre else x

    def bert(self):
        tables = (
            self.p[f"bert/embeddings/{name}/table"] for name in ("word", "position", "token_type")
        )
        ids = (self.packed.tokens, self.packed.positions, self.packed.token_types)
        x = sum(table[each] for table, each in zip(tables, ids, strict=True))
        x = self.norm(x, "bert/embeddings/norm")
        return self.layers(self.drop(x, self.config.dropout, dropout.EMBEDDINGS), "bert")

    def gpt(self):
        if self.config.norm_place == "pre":
            p, packed = self.p, self.packed
            x = p["gpt/embeddings/word/table"][packed.tokens]
            x = x + p["gpt/embeddings/position/table"][packed.positions]
            return self.layers(
                self.drop(x, self.config.embedding_dropout, dropout.EMBEDDINGS), "gpt"
            )
        word = self.dropped_table("gpt/embeddings/word/table", dropout.WORD_TABLE)
        position = self.dropped_table("gpt/embeddings/position/table", dropout.POSITION_TABLE)
        return self.layers(word[self.packed.tokens] + position[self.packed.positions], "gpt")

    def logits(self, starts, rate):
        if isinstance(self.config, GptConfig):
            x = np.take_along_axis(self.gpt(), starts[..., None], 1)
        else:
            x = np.take_along_axis(self.bert(), starts[..., None], 1)
            x = np.tanh(x @ self.p["pooler/dense/kernel"] + self.p["pooler/dense/bias"])
        segments = np.take_along_axis(self.packed.segments, starts, 1)
        x = x * self.mask("vectors", x.shape, rate, segments, dropout.CLASSIFIER)
        return x @ self.p["classifier/kernel"] + self.p["classifier/bias"]


@pytest.mark.parametrize(("name", "scanned"), CASES)
def test_every_place_drops_by_its_own_mask(name, scanned):
    config, build = MODELS[name]
    parameters = draw(build)
    packed, starts = batch()
    noise = Noise(jnp.asarray(step_key(3, 1)), packed.segments, packed.positions)
    compute = Compute(scan_layers=scanned)
    graph, _ = describe(functools.partial(build, compute))
    model = merge(graph, stack_layers(parameters) if scanned else parameters)
    assert model.rate == config.dropout
    model.rate = CLASSIFIER_RATE
    found = jax.jit(model, compiler_options=QUICKLY)(packed, starts, noise)
    expected = Reference(config, parameters, packed, noise).logits(starts, CLASSIFIER_RATE)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("config", [GPT, GPT2], ids=["GPT", "GPT-2"])
def test_the_output_projection_of_gpt_drops_as_its_word_table_that_of_gpt2_nothing(config):
    build = lambda compute, rngs: NextTokenModel(config, compute, rngs)  # noqa: E731
    parameters = draw(build)
    packed, _ = batch()
    noise = Noise(jnp.asarray(step_key(3, 1)), packed.segments, packed.positions)
    model = merge(describe(functools.partial(build, Compute()))[0], parameters)
    reference = Reference(config, parameters, packed, noise)
    table = reference.p["gpt/embeddings/word/table"]
    if config is GPT:
        table = reference.dropped_table("gpt/embeddings/word/table", dropout.WORD_TABLE)
    logits = reference.gpt() @ table.T
    labels = np.roll(packed.tokens, -1, 1)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_p, labels[..., None], -1).sum()

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def loss_of(packed, noise):
        return model.losses(model(packed, noise), labels, jnp.ones(labels.shape), noise)[0]

    loss = loss_of(packed, noise)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_published_rates_are_those_of_all_places():
    for config in (BertConfig(), GptConfig()):
        assert (config.dropout, config.attention_dropout) == (0.1, 0.1)
    assert GptConfig().embedding_dropout == 0.1
