"""Shapes by name, and the parameters that they have, counted to the unit.

Counts: computed from the papers' sizes; BERT's agree with the released checkpoints, GPT-2's with
its README (124M, 355M, 774M, 1558M).
"""

import collections
import dataclasses
import math

import jax
import pytest

from gptbert.errors import UserError
from gptbert.models.heads import make_classifier
from gptbert.models.parameters import describe, stack_layers, unstack_layers
from gptbert.models.presets import PRESETS, BertConfig, Compute, GptConfig, preset
from gptbert.models.pretraining import MaskedLanguageModel, NextTokenModel

# name: encoder alone, with MLM head, with pooler and both heads, classifier of 2 and of 3 classes
BERT = {
    "bert-tiny": (4_369_408, 4_416_698, 4_433_468, 4_386_178, 4_386_307),
    "bert-mini": (11_104_768, 11_201_594, 11_267_900, 11_171_074, 11_171_331),
    "bert-small": (28_500_992, 28_795_194, 29_058_876, 28_764_674, 28_765_187),
    "bert-medium": (41_110_528, 41_404_730, 41_668_412, 41_374_210, 41_374_723),
    "bert-base": (108_891_648, 109_514_298, 110_106_428, 109_483_778, 109_484_547),
    "bert-large": (334_092_288, 335_174_458, 336_226_108, 335_143_938, 335_144_963),
    "minilm-l6-h384": (22_565_376, 22_744_506, 22_893_116, 22_713_986, 22_714_371),
    "minilm-l12-h384": (33_212_160, 33_391_290, 33_539_900, 33_360_770, 33_361_155),
}
# name: total with the tied output projection, of which one block
GPT = {
    "gpt": (116_534_784, 7_087_872),
    "gpt2-124m": (124_439_808, 7_087_872),
    "gpt2-355m": (354_823_168, 12_596_224),
    "gpt2-774m": (774_030_080, 19_677_440),
    "gpt2-1558m": (1_557_611_200, 30_740_800),
}


def count(build):
    """Parameters by the first part of their paths, and of the first layer."""
    _, parameters = describe(build)
    counts = collections.Counter()
    for path, value in parameters.items():
        counts[path.split("/")[0]] += math.prod(value.shape)
        counts["layer"] += math.prod(value.shape) * ("/layers/0/" in path)
    return counts


@pytest.mark.parametrize("name", BERT)
def test_parameters_of_bert(name):
    config = preset(name)
    heads = count(lambda rngs: MaskedLanguageModel(config, Compute(), rngs))
    bert, pooler, mlm, nsp = (heads[part] for part in ("bert", "pooler", "mlm", "nsp"))
    classifiers = [config.width * classes + classes for classes in (2, 3)]
    assert BERT[name] == (
        bert,
        bert + mlm,
        bert + pooler + mlm + nsp,
        *(bert + pooler + classifier for classifier in classifiers),
    )


@pytest.mark.parametrize("name", ["bert-tiny", "minilm-l6-h384"])
@pytest.mark.parametrize("classes", [2, 3])
def test_parameters_of_classifiers(name, classes):
    config = preset(name)
    found = count(lambda rngs: make_classifier(config, Compute(), classes, rngs))
    assert found.total() - found["layer"] == BERT[name][classes + 1]
    without = count(lambda rngs: make_classifier(config, Compute(), classes, rngs, "mean"))
    assert without.keys() == {"bert", "classifier", "layer"}


@pytest.mark.parametrize("size, total", [("base", 108_932_934), ("large", 334_661_958)])
def test_parameters_of_cased_bert(size, total):
    config = dataclasses.replace(preset(f"bert-{size}"), vocabulary=28_996)
    found = count(lambda rngs: MaskedLanguageModel(config, Compute(), rngs))
    assert found.total() - found["layer"] == total


@pytest.mark.parametrize("name", GPT)
def test_parameters_of_gpt(name):
    def build(rngs):
        return NextTokenModel(preset(name), Compute(), rngs)

    found = count(build)
    assert (found["gpt"], found["layer"]) == GPT[name]


@pytest.mark.parametrize("classes, total", [(1, 116_537_857), (3, 116_539_395)])
def test_parameters_of_gpt_as_it_is_fine_tuned(classes, total):
    """With three special tokens and a linear head."""
    config = dataclasses.replace(preset("gpt"), vocabulary=40_481)
    found = count(lambda rngs: make_classifier(config, Compute(), classes, rngs))
    assert found["gpt"] + found["classifier"] == total


@pytest.mark.parametrize("name", ["bert-tiny", "gpt-tiny", "gpt2-tiny"])
def test_stacked_layers_are_the_same_parameters(name):
    config = preset(name)
    model = NextTokenModel if isinstance(config, GptConfig) else MaskedLanguageModel
    _, plain = describe(lambda rngs: model(config, Compute(), rngs))
    _, stacked = describe(lambda rngs: model(config, Compute(scan_layers=True), rngs))
    shapes = {path: value.shape for path, value in plain.items()}
    unstacked = jax.eval_shape(unstack_layers, stacked)
    assert {path: value.shape for path, value in unstacked.items()} == shapes
    again = jax.eval_shape(stack_layers, plain)
    assert {k: v.shape for k, v in again.items()} == {k: v.shape for k, v in stacked.items()}


def test_the_sizes_of_the_table():
    for name, config in PRESETS.items():
        assert config.inner == 4 * config.width
        assert config.head_width == (32 if name.startswith("minilm") else 64)
        is_gpt2 = name.startswith("gpt2")
        assert config.positions == (1024 if is_gpt2 else 512)
        if isinstance(config, GptConfig):
            assert config.vocabulary == (50_257 if is_gpt2 else 40_478)
            assert config.norm_place == ("pre" if is_gpt2 else "post")
            assert config.norm_epsilon == 1e-5
            assert config.activation == "gelu_tanh"
            rates = {config.dropout, config.attention_dropout, config.embedding_dropout}
            assert rates == ({0.0} if is_gpt2 else {0.1})
            assert config.residual_scaling == is_gpt2
            assert config.position_stddev == (0.01 if is_gpt2 else 0.02)


def test_an_unknown_name_is_guessed():
    with pytest.raises(UserError, match=r"model 'gpt2-125m' is unknown.*gpt2-124m"):
        preset("gpt2-125m")


@pytest.mark.parametrize(
    "config, fields, words",
    [
        (BertConfig, {"layers": 0}, "layers is 0"),
        (BertConfig, {"token_types": 0}, "token_types is 0"),
        (BertConfig, {"dropout": 1.0}, "dropout is 1.0"),
        (GptConfig, {"vocabulary": -3}, "vocabulary is -3"),
        (GptConfig, {"heads": 7}, "7 heads do not divide the width 768"),
        (GptConfig, {"activation": "relu"}, "activation 'relu' is unknown"),
        (GptConfig, {"embedding_dropout": -0.1}, "embedding_dropout is -0.1"),
        (GptConfig, {"norm_place": "both"}, "norm_place 'both' is unknown"),
    ],
)
def test_impossible_shapes(config, fields, words):
    with pytest.raises(UserError, match=words):
        config(**fields)
