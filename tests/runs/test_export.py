"""`gptbert export`: a run, or weights as they are, as a folder for everyone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from gptbert.weights.huggingface import read_bert
from gptbert.weights.run_folder import read_run
from tests.fabricated import contents
from tests.fixtures_runs import NLI, call, make_bert_folder, refused

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("quickly")]

FILES = {"README.md", "config.json", "model.safetensors", "vocab.txt", "tokenizer.json"}
PAIRS = ("--pair", "a good film", "a dull book", "--pair", "Some man sleeps !", "no man sleeps")


def same_bits(found, expected) -> None:
    assert found.keys() == expected.keys()
    for path in expected:
        np.testing.assert_array_equal(found[path], expected[path], err_msg=path)


def test_a_run(mnli_run, tmp_path):
    output = tmp_path / "bert-mnli"
    called = call("export", f"--workdir={mnli_run}", f"--output={output}")
    assert called.code == 0 and called.err == ""
    assert "step 6" in called.out and "entailment, neutral, contradiction" in called.out
    assert set(contents(output)) >= FILES
    description, parameters, _ = read_run(mnli_run)
    found = read_bert(output)
    assert found.config == description.config and found.labels == NLI
    assert found.missing == [] and found.ignored == []
    same_bits(found.parameters, parameters)
    # It labels texts as the run does.
    shares = [
        [json.loads(line)["probabilities"] for line in out.splitlines()]
        for out in (
            call("predict", f"--workdir={mnli_run}", *PAIRS).out,
            call("predict", f"--init_from={output}", *PAIRS).out,
        )
    ]
    assert shares[0] == shares[1] and len(shares[0]) == 2


def test_the_model_card_tells_results_and_recipe(mnli_run, tmp_path):
    call("export", f"--workdir={mnli_run}", f"--output={tmp_path / 'card'}")
    card = (tmp_path / "card" / "README.md").read_text()
    accuracy = json.loads((mnli_run / "results.json").read_text())["metrics"]["accuracy"]
    for told in ("# card", "glue/mnli dev_matched", f"| accuracy | {accuracy:.4f} |", "tiny-bert",
                 "| learning_rate | 0.0100 |", "| seed | 0 |", *NLI):  # fmt: skip
        assert told in card, told


def test_figures_are_those_of_the_step(mnli_run, tmp_path):
    """An earlier checkpoint is exported with its own figures, one without figures with none."""
    copy = shutil.copytree(mnli_run, tmp_path / "run")
    results = json.loads((copy / "results.json").read_text())
    results["evaluations"][0]["metrics"] = {"accuracy": 0.125}
    (copy / "results.json").write_text(json.dumps(results))
    call("export", f"--workdir={copy}", "--step=3", f"--output={tmp_path / 'a'}")
    assert "| accuracy | 0.1250 |" in (tmp_path / "a" / "README.md").read_text()
    assert not np.array_equal(
        read_bert(tmp_path / "a").parameters["classifier/kernel"],
        read_run(copy)[1]["classifier/kernel"],
    )
    del results["evaluations"][0]
    (copy / "results.json").write_text(json.dumps(results))
    called = call("export", f"--workdir={copy}", "--step=3", f"--output={tmp_path / 'b'}")
    assert "no figures" in called.out
    assert "accuracy" not in (tmp_path / "b" / "README.md").read_text()


def test_an_unfinished_run(mnli_run, tmp_path):
    copy = shutil.copytree(mnli_run, tmp_path / "run")
    (copy / "results.json").unlink()
    called = call("export", f"--workdir={copy}", f"--output={tmp_path / 'a'}")
    assert called.code == 0 and "is not finished; the weights of step 6 are used" in called.err


@pytest.mark.parametrize("head", [(), NLI, 1, 2])
def test_weights_as_they_are(tmp_path, head):
    """Without a head, with names, a score, without names: all tensors come out as they went in."""
    weights = make_bert_folder(tmp_path / "bert", head)
    called = call("export", f"--init_from={weights}", f"--output={tmp_path / 'copy'}")
    assert called.code == 0, called
    before, after = read_bert(weights), read_bert(tmp_path / "copy")
    same_bits(after.parameters, before.parameters)
    assert (after.config, after.labels) == (before.config, before.labels)
    entries = [(folder / "vocab.txt").read_text() for folder in (weights, tmp_path / "copy")]
    assert entries[0] == entries[1]


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["run", "encoder"])
def test_transformers_loads_it_with_nothing_missing(kind, mnli_run, bert_dir, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test-parity)")
    transformers = pytest.importorskip("transformers")
    source = f"--workdir={mnli_run}" if kind == "run" else f"--init_from={bert_dir}"
    assert call("export", source, f"--output={tmp_path / 'out'}").code == 0
    auto = transformers.AutoModelForSequenceClassification if kind == "run" else (
        transformers.AutoModel
    )  # fmt: skip
    model, told = auto.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    if kind == "encoder":
        return
    assert model.config.id2label == dict(enumerate(NLI))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    texts = [PAIRS[1:3], PAIRS[4:6]]
    batch = tokenizer(*zip(*texts, strict=True), padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model.eval()(**batch).logits.softmax(-1).numpy()
    out = call("predict", f"--workdir={mnli_run}", *PAIRS).out
    ours = [list(json.loads(line)["probabilities"].values()) for line in out.splitlines()]
    np.testing.assert_allclose(ours, theirs, atol=3e-6)


def test_what_is_left_behind_is_named(tmp_path):
    weights = make_bert_folder(tmp_path / "bert", NLI)
    config = json.loads((weights / "config.json").read_text())
    changed = config | {"problem_type": "multi_label_classification"}
    (weights / "config.json").write_text(json.dumps(changed))
    called = call("export", f"--init_from={weights}", f"--output={tmp_path / 'copy'}")
    reason = "a head for multi_label_classification with 3 outputs"
    assert called.code == 0 and f"not exported: classifier.weight ({reason})" in called.out
    told = refused("predict", f"--init_from={weights}", "a text")
    assert "have no classifier (not used: " in told and reason in told


def test_the_output_may_be_a_link_to_an_empty_folder(mnli_run, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert call("export", f"--workdir={mnli_run}", f"--output={tmp_path / 'link'}").code == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--output=out"], "no model: expected either --workdir=RUN or --init_from=DIR"),
        (["--workdir=RUN"], "no place to write to: expected --output=DIR"),
        (["--workdir=RUN", "--output=used"], "the output folder used is not empty"),
        (["--workdir=RUN", "--output=used/file"], "is no folder"),
        (["--workdir=RUN", "--output=out", "--step=4"], "no checkpoint of step 4"),
        (["--workdir=NOWHERE", "--output=out"], "NOWHERE is not a run folder"),
        (["--init_from=NOWHERE", "--output=out"], "no folder NOWHERE"),
        (["--workdir=RUN", "--ouput=out"], "(did you mean '--output'?)"),
    ],
)
def test_refusals(mnli_run, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("precious")
    before = contents(tmp_path)
    arguments = [argument.replace("=RUN", f"={mnli_run}") for argument in arguments]
    assert told in refused("export", *arguments)
    assert contents(tmp_path) == before
