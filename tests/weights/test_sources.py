"""What a training starts from: which heads it takes along, what it says of the rest."""

import dataclasses

import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.models.heads import make_classifier
from gptbert.models.parameters import describe
from gptbert.models.presets import Compute
from gptbert.models.pretraining import MaskedLanguageModel, NextTokenModel
from gptbert.weights.checkpoints import Checkpoints
from gptbert.weights.huggingface_names import parameter_shapes, to_huggingface
from gptbert.weights.run_folder import write_description
from gptbert.weights.sources import fingerprint, read_weights, start_from
from tests.weights import bert_folders, gpt_folders
from tests.weights.bert_folders import CONFIG

LEFT_TO_RIGHT = dataclasses.replace(CONFIG, left_to_right=True)


def drawn(**heads):
    rng = np.random.default_rng(5)
    shapes = parameter_shapes(CONFIG, **heads)
    return {path: rng.normal(0, 0.3, shape).astype(np.float32) for path, shape in shapes.items()}


def heads_of(paths):
    return {path.split("/")[0] for path in paths}


def run_folder(folder, config, values, head, words):
    folder.mkdir()
    write_description(folder, config, (), "cls", words, "any", head)
    Checkpoints(folder / "checkpoints").save(5, {"parameters": values, "step": 5}, {})
    return str(folder)


@pytest.fixture
def pretrained_run(tmp_path):
    words = bert_folders.tokenizer(tmp_path)
    return run_folder(tmp_path / "run", CONFIG, drawn(mlm=True, nsp=True), "masked-lm", words)


@pytest.fixture
def pretrained_folder(tmp_path):
    stored = {
        name if name.startswith("cls.") else f"bert.{name}": tensor
        for name, tensor in to_huggingface(CONFIG, drawn(mlm=True, nsp=True))
    }
    return str(bert_folders.write_folder(tmp_path / "folder", stored))


@pytest.mark.parametrize("source", ["pretrained_run", "pretrained_folder"])
def test_fine_tuning_keeps_the_pooler_and_says_what_it_does_not_use(source, request):
    weights = read_weights(request.getfixturevalue(source))
    assert heads_of(weights.parameters) == {"bert", "pooler"}
    assert weights.parameters.keys() == drawn().keys()
    assert (weights.classes, weights.regression, weights.pooling) == ((), False, "cls")
    assert weights.notes[-1] == "not used of the weights: mlm, nsp"
    assert weights.fingerprint == fingerprint(weights.parameters)


@pytest.mark.parametrize("source", ["pretrained_run", "pretrained_folder"])
def test_pretraining_goes_on_with_both_heads(source, request):
    weights = read_weights(request.getfixturevalue(source), "masked-lm")
    _, wanted = describe(lambda rngs: MaskedLanguageModel(CONFIG, Compute(), rngs))
    start, notes = start_from(weights, wanted)
    expected = drawn(mlm=True, nsp=True)
    assert start.keys() == expected.keys() == wanted.keys()
    assert all(np.array_equal(start[path], expected[path]) for path in expected)
    assert notes == ()


def test_without_sentences_their_heads_stay_behind_and_are_told(pretrained_run):
    weights = read_weights(pretrained_run, "masked-lm")
    _, wanted = describe(
        lambda rngs: MaskedLanguageModel(CONFIG, Compute(), rngs, next_sentence=False)
    )
    start, notes = start_from(weights, wanted)
    assert heads_of(start) == {"bert", "mlm"}
    assert notes == ("not used of the weights: nsp, pooler",)


def test_an_encoder_alone_says_what_is_new(tmp_path):
    weights = read_weights(str(bert_folders.write_folder(tmp_path / "bert")), "masked-lm")
    _, wanted = describe(lambda rngs: MaskedLanguageModel(CONFIG, Compute(), rngs))
    start, notes = start_from(weights, wanted)
    assert heads_of(start) == {"bert", "pooler"}
    assert notes == ("newly initialised: mlm, nsp",)


def test_a_classifier_left_behind_is_told(tmp_path):
    stored = bert_folders.tensors(bert_folders.parameters(classes=3))
    folder = str(bert_folders.write_folder(tmp_path / "bert", stored))
    weights = read_weights(folder, "masked-lm")
    assert heads_of(weights.parameters) == {"bert", "pooler"}
    assert weights.notes == ("not used of the weights: classifier",)
    assert heads_of(read_weights(folder).parameters) == {"bert", "pooler", "classifier"}


@pytest.mark.parametrize("rate, is_told", [(0.5, True), (0.2, False), (None, False)])
def test_another_dropout_of_the_classifier_is_told(tmp_path, rate, is_told):
    folder = str(bert_folders.write_folder(tmp_path / "bert", classifier_dropout=rate))
    notes = read_weights(folder).notes
    assert len(notes) == is_told
    assert all("classifier_dropout 0.5 of config.json" in note for note in notes)
    assert read_weights(folder, "masked-lm").notes == ()


@pytest.mark.parametrize("name", ["gpt", "gpt2"])
@pytest.mark.parametrize("head", ["next-token", "classification"])
def test_gpt_from_a_folder_and_from_a_run(tmp_path, name, head):
    config, expected = gpt_folders.CONFIGS[name], gpt_folders.parameters(name)
    sources = [
        str(gpt_folders.write_folder(tmp_path / "folder", name)),
        run_folder(
            tmp_path / "run", config, expected, "next-token", gpt_folders.tokenizer(tmp_path, name)
        ),
    ]
    for source in sources:
        weights = read_weights(source, head)
        assert weights.config == config
        assert weights.parameters.keys() == expected.keys()
        _, language = describe(lambda rngs: NextTokenModel(config, Compute(), rngs))
        _, classifier = describe(lambda rngs: make_classifier(config, Compute(), 2, rngs))
        assert start_from(weights, language)[1] == ()
        start, notes = start_from(weights, classifier)
        assert heads_of(start) == {"gpt"}
        assert notes == ("newly initialised: classifier",)


def test_a_bert_that_reads_from_left_to_right(tmp_path):
    values = drawn(mlm=True, pooler=False)
    words = bert_folders.tokenizer(tmp_path)
    source = run_folder(tmp_path / "run", LEFT_TO_RIGHT, values, "next-token", words)
    _, wanted = describe(lambda rngs: NextTokenModel(LEFT_TO_RIGHT, Compute(), rngs))
    start, notes = start_from(read_weights(source, "next-token"), wanted)
    assert start.keys() == wanted.keys() == values.keys()
    assert notes == ()
    assert heads_of(read_weights(source).parameters) == {"bert"}


def test_another_backbone_or_shape_is_refused(tmp_path, pretrained_run):
    weights = read_weights(pretrained_run, "masked-lm")
    _, gpt = describe(lambda rngs: NextTokenModel(gpt_folders.GPT2, Compute(), rngs))
    with pytest.raises(UserError, match="weights of a BERT do not fit the model"):
        start_from(weights, gpt)
    deeper = dataclasses.replace(CONFIG, layers=3)
    _, wanted = describe(lambda rngs: MaskedLanguageModel(deeper, Compute(), rngs))
    with pytest.raises(UserError, match=r"bert/layers/2/\S+ \(absent\) where the model has"):
        start_from(weights, wanted)
    shallow = dataclasses.replace(CONFIG, layers=1)
    _, wanted = describe(lambda rngs: MaskedLanguageModel(shallow, Compute(), rngs))
    with pytest.raises(UserError, match=r"bert/layers/1/\S+ \S+.* where the model has \(absent\)"):
        start_from(weights, wanted)
    larger = dataclasses.replace(CONFIG, vocabulary=30)
    _, wanted = describe(lambda rngs: MaskedLanguageModel(larger, Compute(), rngs))
    with pytest.raises(UserError, match=r"word/table \(19, 12\) where the model has \(30, 12\)"):
        start_from(weights, wanted)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no folder .*--workdir of a run"):
        read_weights(str(tmp_path / "absent"))
