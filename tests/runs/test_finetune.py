"""`gptbert finetune` on fabricated data: what a run folder holds, and what each field does."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import struct
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from gptbert.metrics.glue import accuracy, f1, pearson
from gptbert.models.presets import BertConfig
from gptbert.pipeline.plan import cost_model
from gptbert.runs import assemble
from gptbert.runs.scoring import Scorer
from gptbert.training.run_log import RunLog, read_metrics
from gptbert.weights.checkpoints import Checkpoints
from gptbert.weights.huggingface import read_bert
from gptbert.weights.run_folder import read_run
from gptbert.weights.safetensors_files import open_tensors, write_safetensors
from tests.fabricated import ROWS, contents, flags, make_glue, results
from tests.fixtures_runs import VOCABULARY, call, make_bert_folder, refused

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("quickly")]

HEAD_ONLY = {"frozen": "^bert/", "learning_rate": 1e-2}  # compiles fast
OTHERS = ("cola", "sst2", "qqp", "qnli", "rte", "wnli")
CLASSES = ("not_equivalent", "equivalent")


@pytest.fixture(scope="module")
def glue(tmp_path_factory) -> Path:
    """Texts of all lengths."""
    return make_glue(tmp_path_factory.mktemp("glue"), "mrpc", "stsb")


@pytest.fixture(scope="module")
def even(tmp_path_factory) -> Path:
    """Texts of one length: what trains alike compiles once."""
    return make_glue(tmp_path_factory.mktemp("even"), "mrpc", *OTHERS, words=5)


@pytest.fixture(scope="module")
def mrpc(tmp_path_factory, glue, bert_dir) -> list[str]:
    """The command of a finished run; its last argument names the folder."""
    workdir = tmp_path_factory.mktemp("runs") / "mrpc"
    fields = {"log_every": 1, "checkpoint_every": 3, "keep": 2}
    command = flags(glue, bert_dir, workdir, **fields)
    called = call(*command)
    assert called.code == 0, called
    assert "finished: glue/mrpc dev: f1 " in called.out and "(step 11)" in called.out
    assert "note: newly initialised: classifier" in called.err
    assert "step 4, epoch 1.07: dev f1 " in called.err
    return command


@pytest.fixture(scope="module")
def run(mrpc) -> Path:
    return folder_of(mrpc)


def folder_of(command: list[str]) -> Path:
    return Path(command[-1].removeprefix("--workdir="))


def train(*arguments: object, **fields: object) -> dict:
    """Runs a command that must succeed; returns results.json."""
    command = flags(*arguments, **fields)
    called = call(*command, "--quiet")
    assert called.code == 0 and called.err == "", called
    return results(folder_of(command))


def parameters(workdir: Path, step: int | None = None) -> dict[str, np.ndarray]:
    return read_run(workdir, step)[1]


# --- The run folder ---


def test_results(run: Path) -> None:
    found = results(run)
    assert (found["task"], found["split"], found["seed"]) == ("glue/mrpc", "dev", 0)
    assert list(found["metrics"]) == list(found["majority_baseline"]) == ["f1", "accuracy"]
    assert all(0 <= value <= 1 for value in found["metrics"].values())
    assert found["examples"] == ROWS["dev"] and found["steps"] == 11
    assert found["checkpoint"] == {"step": 11, "epoch": 11 * 16 / 60, "which": "last"}
    assert [e["step"] for e in found["evaluations"]] == [4, 8, 11]
    assert found["hyperparameters"]["learning_rate"] == 1e-3
    assert found["hyperparameters"]["warmup_proportion"] == 0.1
    assert found["wall_clock_seconds"] >= found["train_seconds"] > 0
    rate = 11 * 16 / found["train_seconds"]
    assert math.isclose(found["examples_per_second"], rate, rel_tol=0.01)
    assert found["tokens_per_second_with_padding"] >= found["tokens_per_second"] > 0
    assert found["device_count"] == jax.device_count() and found["device_kind"] == "cpu"
    assert found["processor"].endswith(("core", "cores"))
    libraries = {"python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"}
    assert set(found["versions"]) == libraries
    assert "git_commit" in found and len(found["git_commit"] or 40 * "0") >= 40
    assert len(found["shapes"]) >= 1 and found["collapsed"] in (True, False)


def test_metrics_are_those_of_the_predictions(run: Path) -> None:
    lines = (run / "predictions" / "dev.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == ROWS["dev"]
    labels = [CLASSES.index(record["label"]) for record in records]
    predicted = [CLASSES.index(record["prediction"]) for record in records]
    metrics = {"f1": f1(labels, predicted), "accuracy": accuracy(labels, predicted)}
    assert results(run)["metrics"] == results(run)["splits"]["dev"] == metrics
    most = max(labels.count(0), labels.count(1)) / len(labels)
    assert results(run)["majority_baseline"]["accuracy"] == most
    for record in records:
        assert max(record["probabilities"], key=record["probabilities"].get) == record["prediction"]


def test_metrics_by_step_and_tensorboard(run: Path) -> None:
    records = read_metrics(run / "metrics.jsonl")
    assert [r["step"] for r in records if "train/loss" in r] == list(range(1, 12))
    assert [r["step"] for r in records if "eval/f1" in r] == [4, 8, 11]
    assert records[0]["learning_rate"] == 0.0, "warm-up begins at 0"
    scalars = {(r["step"], name): value for r in records for name, value in r.items()}
    (events,) = (run / "tensorboard").iterdir()
    seen = {
        (event.step, value.tag): value.simple_value
        for event in read_events(events)
        for value in event.summary.value
    }
    assert {(11, "train/loss"), (11, "eval/f1"), (1, "learning_rate")} <= seen.keys()
    for key, value in seen.items():
        assert math.isclose(scalars[key], value, rel_tol=1e-5, abs_tol=1e-9), key


def test_what_was_written_before_a_first_checkpoint_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loss in (1.0, 2.0):  # the second process found no checkpoint of the first
        monkeypatch.setattr("time.time", lambda now=1e9 + loss: now)  # names the file
        with RunLog(tmp_path, start_step=0, total_steps=9, quiet=True) as log:
            log.scalars(1, {"train/loss": loss})
    assert [r["train/loss"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [2.0]
    first, second = (read_events(each) for each in sorted((tmp_path / "tensorboard").iterdir()))
    assert not any(event.HasField("session_log") for event in first)
    starts = [event.step for event in second if event.HasField("session_log")]
    assert starts == [1], "TensorBoard leaves out what an earlier file has from there on"


def read_events(path: Path) -> list[Event]:
    """TensorBoard's framing: length uint64, its checksum, the event, its checksum."""
    data, at, events = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        events.append(Event.FromString(data[at + 12 : at + 12 + length]))
        at += length + 16
    return events


def test_the_surest_mistakes_of_the_whole_split_are_shown(run: Path) -> None:
    """What the page shows is chosen over all examples, not over the first ones of the file."""
    found = results(run)
    whole = list(map(json.loads, (run / "predictions" / "dev.jsonl").read_text().splitlines()))
    wrong = [row for row in whole if row["prediction"] != row["label"]]
    surest = sorted((max(row["probabilities"].values()) for row in wrong), reverse=True)[:12]
    shown = [row for row in found["predictions"] if row["prediction"] != row["label"]]
    assert [max(row["probabilities"].values()) for row in shown] == surest
    right = [row for row in whole if row["prediction"] == row["label"]][:12]
    assert found["predictions"][len(shown) :] == right


def test_checkpoints_and_descriptions(run: Path) -> None:
    saved = Checkpoints(run / "checkpoints")
    best = results(run)["best"]["step"]
    assert set(saved.steps()) == {9, 11, best}
    assert [saved.verify(step) for step in saved.steps()] == [[]] * len(saved.steps())
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["num_epochs"] == 3.0 and config["config"]["mesh"]["fsdp"] == 1
    wanted = {"data of train", "data of dev", "data of test", "tokenizer", "weights"}
    assert set(config["fingerprints"]) == wanted
    assert {"command", "started", "versions"} <= json.loads((run / "run.json").read_text()).keys()
    assert (run / "tokenizer" / "vocab.txt").is_file()
    page = (run / "report.html").read_text()
    assert "glue/mrpc" in page and f"{results(run)['metrics']['f1']:.4f}" in page


def test_test_predictions_are_a_submission(run: Path) -> None:
    assert results(run)["prediction_files"] == {"test": "predictions/MRPC.tsv"}
    header, *rows = (run / "predictions" / "MRPC.tsv").read_text().splitlines()
    assert header == "index\tprediction"
    assert [row.split("\t")[0] for row in rows] == [str(k) for k in range(ROWS["test"])]
    assert {row.split("\t")[1] for row in rows} <= {"0", "1"}


def test_nothing_half_written_is_left(run: Path) -> None:
    assert not [name for name in contents(run) if "partial" in name or "tmp" in name]


# --- The same command again ---


def test_again_says_that_it_is_finished(mrpc: list[str], run: Path) -> None:
    before = contents(run)
    written = (run / "results.json").stat().st_mtime_ns
    called = call(*mrpc)
    assert called.code == 0 and "already finished" in called.err
    assert "finished: glue/mrpc dev: f1" in called.out
    assert contents(run) == before and (run / "results.json").stat().st_mtime_ns == written


def test_again_tells_of_a_lost_checkpoint(mrpc: list[str], run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    command = [*mrpc[:-1], f"--workdir={copy}"]
    assert "which the figures come from" not in call(*command).err
    step = results(copy)["checkpoint"]["step"]
    folder = copy / "checkpoints" / f"{step:08d}"
    file = max((path for path in folder.rglob("*") if path.is_file()), key=os.path.getsize)
    file.write_bytes(file.read_bytes()[:-1])
    called = call(*command)
    assert called.code == 0
    assert f"the checkpoint of step {step}, which the figures come from, is damaged (" in called.err
    assert file.name in called.err and f"without {copy / 'results.json'} the same" in called.err
    shutil.rmtree(copy / "checkpoints")
    assert "is damaged (gone)" in call(*command).err


def test_again_with_another_config_is_refused(mrpc: list[str], run: Path) -> None:
    before = contents(run)
    said = refused(*mrpc, "--config.learning_rate=2e-3", "--config.seed=1")
    assert "config.learning_rate was 0.001 and is now 0.002" in said and "config.seed" in said
    assert contents(run) == before


def test_again_with_other_data_is_refused(mrpc, run, glue, bert_dir, tmp_path) -> None:
    before = contents(run)
    data = shutil.copytree(glue, tmp_path / "data")
    with (data / "MRPC" / "train.tsv").open("a") as file:
        file.write("1\t1\t2\tgood dog\tgood cat\n")
    assert "the data of train changed" in refused(*mrpc, f"--config.data_dir={data}")
    other = make_bert_folder(tmp_path / "bert", seed=1)
    assert "the weights changed" in refused(*mrpc, f"--config.init_from={other}")
    renamed = shutil.copytree(bert_dir, tmp_path / "renamed")
    (renamed / "vocab.txt").write_text("\n".join([*VOCABULARY[:-1], "zebra"]) + "\n")
    assert "the tokenizer changed" in refused(*mrpc, f"--config.init_from={renamed}")
    assert contents(run) == before


def test_again_with_free_fields_changed(mrpc, run, glue, tmp_path) -> None:
    """Where things lie and how they are computed may change."""
    data = shutil.copytree(glue, tmp_path / "moved")
    free = ["--config.keep=5", "--config.log_every=7", "--config.accumulate=2"]
    called = call(*mrpc, f"--config.data_dir={data}", *free)
    assert called.code == 0 and "already finished" in called.err


def test_a_folder_of_something_else_is_refused(mrpc, bert_dir, tmp_path) -> None:
    weights = shutil.copytree(bert_dir, tmp_path / "weights")
    said = refused(*mrpc[:-1], f"--workdir={weights}")
    assert "config.json of something else" in said


# --- Tasks ---


@pytest.mark.parametrize("task", OTHERS)
def test_glue_tasks(task: str, even: Path, bert_dir: Path, tmp_path: Path) -> None:
    found = train(even, bert_dir, tmp_path / "run", task, num_epochs=1, **HEAD_ONLY)
    wanted = {"cola": ["matthews_correlation", "accuracy"], "qqp": ["f1", "accuracy"]}
    assert list(found["metrics"]) == wanted.get(task, ["accuracy"])
    (file,) = found["prediction_files"].values()
    assert len((tmp_path / "run" / file).read_text().splitlines()) == ROWS["test"] + 1


def test_mnli_scores_both_dev_sets_and_predicts_the_diagnostics(mnli_run: Path) -> None:
    found = results(mnli_run)
    assert found["split"] == "dev_matched"
    assert list(found["splits"]) == ["dev_matched", "dev_mismatched"]
    assert found["metrics"] == found["splits"]["dev_matched"]
    assert found["examples"] == 17 and found["examples_by_split"]["dev_mismatched"] == 12
    files = {Path(file).name: mnli_run / file for file in found["prediction_files"].values()}
    rows = {name: len(path.read_text().splitlines()) - 1 for name, path in files.items()}
    assert rows == {"MNLI-m.tsv": 7, "MNLI-mm.tsv": 6, "AX.tsv": 9}
    values = {line.split("\t")[1] for line in files["AX.tsv"].read_text().splitlines()[1:]}
    assert values <= {"entailment", "neutral", "contradiction"}


def test_regression(glue: Path, bert_dir: Path, tmp_path: Path) -> None:
    found = train(glue, bert_dir, tmp_path / "run", "stsb", num_epochs=1, **HEAD_ONLY)
    assert list(found["metrics"]) == ["pearson", "spearman"]
    assert found["majority_baseline"] == {"pearson": 0.0, "spearman": 0.0}
    lines = (tmp_path / "run" / "predictions" / "dev.jsonl").read_text().splitlines()
    pairs = [(record["label"], record["prediction"]) for record in map(json.loads, lines)]
    assert found["metrics"]["pearson"] == pytest.approx(pearson(*zip(*pairs, strict=True)))
    assert found["collapsed"] is False
    rows = (tmp_path / "run" / "predictions" / "STS-B.tsv").read_text().splitlines()[1:]
    assert all(0 <= float(row.split("\t")[1]) <= 5 for row in rows)


# --- Fields ---


def test_best_on_dev(even: Path, bert_dir: Path, tmp_path: Path) -> None:
    fields = {
        "eval_every": 2,
        "select": "best",
        "learning_rate": 0.3,
        "frozen": "^bert/",
        "keep": 1,
    }
    found = train(even, bert_dir, tmp_path / "run", num_epochs=4, **fields)
    assert [e["step"] for e in found["evaluations"]] == [2, 4, 6, 8, 10, 12, 14, 15]
    best = max(found["evaluations"], key=lambda e: (e["metrics"]["f1"], -e["step"]))
    assert best["step"] < 15, "the data of this test should make an early evaluation the best"
    assert found["best"] == best and found["metrics"] == best["metrics"]
    assert found["checkpoint"]["which"] == "best"
    assert found["checkpoint"]["step"] == best["step"]
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [best["step"], 15]
    assert read_run(tmp_path / "run")[2] == best["step"]


def test_early_stopping(even: Path, bert_dir: Path, tmp_path: Path) -> None:
    """At a rate of nothing no evaluation is better than the first."""
    fields = {"eval_every": 2, "early_stopping": 2, "learning_rate": 1e-30, "frozen": "^bert/"}
    command = flags(even, bert_dir, tmp_path / "run", **fields)
    called = call(*command)
    assert called.code == 0 and "stopped early: no better f1 in 2 evaluations" in called.err
    found = results(tmp_path / "run")
    assert found["steps"] == 6 and [e["step"] for e in found["evaluations"]] == [2, 4, 6]
    assert found["checkpoint"]["step"] == 2 and found["checkpoint"]["which"] == "best"
    # Killed before the results were written, it does not go on where it had stopped.
    (tmp_path / "run" / "results.json").unlink()
    assert call(*command).code == 0
    again = results(tmp_path / "run")
    assert again["steps"] == 6 and again["metrics"] == found["metrics"]


def test_a_damaged_best_checkpoint_is_passed_over(
    even: Path, bert_dir: Path, tmp_path: Path
) -> None:
    """Killed before its results were written, the run finishes with the best one that is whole."""
    fields = {"eval_every": 3, "select": "best", "learning_rate": 1e-30, "num_epochs": 2}
    command = flags(even, bert_dir, tmp_path / "run", **fields, frozen="^bert/", keep=1)
    assert call(*command).code == 0
    steps = Checkpoints(tmp_path / "run" / "checkpoints").steps()
    assert results(tmp_path / "run")["checkpoint"]["step"] == steps[0] == 3
    folder = tmp_path / "run" / "checkpoints" / "00000003"
    file = max((path for path in folder.rglob("*") if path.is_file()), key=os.path.getsize)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    told = refused("predict", f"--workdir={tmp_path / 'run'}", "a dog sleeps")
    assert "checkpoint of step 3" in told and f"good steps: {steps[-1]} (`--step`" in told
    (tmp_path / "run" / "results.json").unlink()
    called = call(*command)
    assert called.code == 0, called.err
    assert "the best checkpoint (step 3) is damaged or gone" in called.err
    found = results(tmp_path / "run")
    assert found["checkpoint"] | {"epoch": 0} == {"step": steps[-1], "epoch": 0, "which": "last"}
    assert any("step 3) is damaged" in note for note in found["notes"])
    assert read_run(tmp_path / "run")[2] == steps[-1]


def test_other_equations_are_refused(even: Path, bert_dir: Path, tmp_path: Path) -> None:
    """A config.json of the weights that changed after the first half of the run."""
    weights = shutil.copytree(bert_dir, tmp_path / "weights")
    command = flags(even, weights, tmp_path / "run", num_epochs=1, **HEAD_ONLY)
    assert call(*command).code == 0
    (tmp_path / "run" / "results.json").unlink()
    settings = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps(settings | {"hidden_act": "gelu_new"}))
    called = call(*command, "--quiet")
    assert called.code == 2 and called.err.startswith("gptbert: ")
    assert "and is now 'gelu_tanh' (config.json of the weights has changed)" in called.err
    (weights / "config.json").write_text(json.dumps(settings))
    assert call(*command).code == 0


@pytest.mark.parametrize("scanned", [False, True])
def test_frozen_layers(
    glue: Path, bert_dir: Path, tmp_path: Path, scanned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on accelerators, where layers are scanned unless their number matters."""
    monkeypatch.setattr("gptbert.runs.layers.scans_layers", lambda: scanned)
    frozen = "('embeddings', 'layers/0/')"
    train(glue, bert_dir, tmp_path / "run", num_epochs=1, frozen=frozen)
    start, end = read_bert(bert_dir).parameters, parameters(tmp_path / "run")
    for path, value in start.items():
        stays = "embeddings" in path or "layers/0/" in path
        assert np.array_equal(end[path], value) == stays, path


def test_a_pattern_of_all_layers_is_followed_scanned(
    glue: Path, bert_dir: Path, tmp_path: Path
) -> None:
    frozen = "('layers/[0-9]+/up/', '^bert/embeddings')"
    fields = {"num_epochs": 1, "scan_layers": True, "frozen": frozen}
    train(glue, bert_dir, tmp_path / "run", **fields)
    start, end = read_bert(bert_dir).parameters, parameters(tmp_path / "run")
    for path, value in start.items():
        assert np.array_equal(end[path], value) == ("embeddings" in path or "/up/" in path), path


def test_scanned_layers_cannot_be_frozen_one_by_one(
    glue: Path, bert_dir: Path, tmp_path: Path
) -> None:
    fields = {"scan_layers": True, "frozen": "('embeddings|layers/0/',)"}
    told = refused(*flags(glue, bert_dir, tmp_path / "run", **fields))
    assert "freezes some layers and not others, which scanned layers cannot follow" in told


def test_named_choices(even: Path, bert_dir: Path, tmp_path: Path) -> None:
    choices = {"pooling": "mean", "optimizer": "adamw"}
    train(even, bert_dir, tmp_path / "run", num_epochs=1, **choices, **HEAD_ONLY)
    description, end, step = read_run(tmp_path / "run")
    assert description.pooling == "mean"
    assert not any(path.startswith("pooler/") for path in end)
    state = Checkpoints(tmp_path / "run" / "checkpoints").restore_arrays(step, "optimizer_state/")
    assert any(path.endswith("count") for path in state), "what corrects the bias counts steps"


def test_accumulated_equals_whole(run: Path, glue: Path, bert_dir: Path, tmp_path: Path) -> None:
    found = train(glue, bert_dir, tmp_path / "run", accumulate=2)
    assert found["steps"] == 11
    whole, pieces = parameters(run), parameters(tmp_path / "run")
    start = read_bert(bert_dir).parameters
    for path in start:
        moved = np.abs(whole[path] - start[path]).max()
        assert np.abs(whole[path] - pieces[path]).max() <= 0.02 * moved + 1e-6, path


def test_random_weights(even: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    fields = {"model": "bert-tiny", "tokenizer": tmp_path / "vocab.txt", "num_epochs": 1}
    found = train(even, "", tmp_path / "run", **fields, **HEAD_ONLY)
    assert "starting from random weights" in found["notes"]
    table = parameters(tmp_path / "run")["bert/embeddings/word/table"]
    assert table.shape == (len(VOCABULARY), 128) and 0.01 < table.std() < 0.03


# --- Starting from a classifier ---


def test_the_same_labels_keep_the_head(run: Path, even: Path, tmp_path: Path) -> None:
    fields = {"learning_rate": 1e-30, "frozen": "^bert/", "num_epochs": 1}
    found = train(even, run, tmp_path / "next", **fields)
    assert not any("newly initialised" in note for note in found["notes"])
    assert np.array_equal(
        parameters(tmp_path / "next")["classifier/kernel"], parameters(run)["classifier/kernel"]
    )


def test_a_head_without_its_pooler_is_replaced_with_a_word(
    run: Path, even: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    assert call("export", f"--workdir={run}", f"--output={folder}").code == 0
    files = open_tensors(folder)
    tensors = {name: files.read(name) for name in files.files}
    without = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    assert len(without) == len(tensors) - 2
    (folder / "model.safetensors").unlink()
    write_safetensors(folder / "model.safetensors", without)
    found = train(even, folder, tmp_path / "next", num_epochs=1, **HEAD_ONLY)
    told = " ".join(found["notes"])
    assert "a classifier but not the pooler that it reads; a new one replaces it" in told
    assert "newly initialised: pooler, classifier" in told


def test_other_labels_get_a_new_head_and_a_word(run: Path, even: Path, tmp_path: Path) -> None:
    fields = {"num_epochs": 1, **HEAD_ONLY}
    called = call(*flags(even, run, tmp_path / "next", "rte", **fields))
    assert called.code == 0, called
    assert "a classifier for other labels (not_equivalent, equivalent)" in called.err
    assert "newly initialised: classifier" in called.err


def test_labels_in_another_order(even: Path, tmp_path: Path) -> None:
    """F1 is that of `equivalent`, wherever the weights have that class."""
    scores = []
    for number, order in enumerate((CLASSES, CLASSES[::-1])):
        bert = make_bert_folder(tmp_path / f"bert{number}", classes=order)
        fields = {"learning_rate": 1e-30, "num_epochs": 1, "frozen": "^bert/"}
        found = train(even, bert, tmp_path / f"run{number}", **fields)
        records = found["predictions"]
        hits = sum(r["label"] == r["prediction"] == "equivalent" for r in records)
        said = sum((r["label"], r["prediction"]).count("equivalent") for r in records)
        assert found["metrics"]["f1"] == pytest.approx(2 * hits / said)
        scores.append(found["metrics"]["accuracy"])
    assert sum(scores) == pytest.approx(1.0), "the two heads say the opposite of each other"


# --- Failing for a stated reason ---


def test_a_loss_that_becomes_nan(glue: Path, bert_dir: Path, tmp_path: Path) -> None:
    fields = {"learning_rate": 1e30, "checkpoint_every": 1}
    called = call(*flags(glue, bert_dir, tmp_path / "run", **fields), "--quiet")
    assert called.code == 3 and called.out == ""
    assert called.err.startswith("gptbert: the run failed: the ") and called.err.count("\n") == 1
    saved = Checkpoints(tmp_path / "run" / "checkpoints").latest_step()
    assert "became nan at step " in called.err
    assert f"the last good checkpoint is that of step {saved}." in called.err
    assert all(np.isfinite(value).all() for value in parameters(tmp_path / "run").values())
    assert not (tmp_path / "run" / "results.json").exists()


def test_weights_that_overflow(glue: Path, tmp_path: Path) -> None:
    """Before the first update no learning rate is to blame."""
    bert = make_bert_folder(tmp_path / "bert")
    files = open_tensors(bert)
    tensors = {name: files.read(name).copy() for name in files.shapes}
    next(value for name, value in tensors.items() if "output.dense.weight" in name)[:] = 3e38
    write_safetensors(bert / "model.safetensors", tensors)
    called = call(*flags(glue, bert, tmp_path / "run"), "--quiet")
    assert called.code == 3 and "the loss became nan at step 1;" in called.err
    assert "no checkpoint was saved yet" in called.err
    assert not (tmp_path / "run" / "results.json").exists()
    assert "it is the weights or the data" in called.err and "learning_rate" not in called.err


@pytest.mark.parametrize("best", [False, True])
def test_what_the_last_evaluation_scored_is_not_scored_again(
    even: Path, bert_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: bool
) -> None:
    """Unless the figures are those of an earlier checkpoint."""
    scored = []
    outputs = Scorer.outputs
    monkeypatch.setattr(
        Scorer, "outputs", lambda *asked: scored.append(asked[-1]) or outputs(*asked)
    )
    fields = {"select": "best", "learning_rate": 1e-30} if best else {}
    found = train(even, bert_dir, tmp_path / "run", num_epochs=2, frozen="^bert/", **fields)
    assert found["checkpoint"]["which"] == ("best" if best else "last")
    assert scored == ["dev"] * (2 + best) + ["test"]


# --- Compilation ---


def test_nothing_compiles_after_the_first_evaluation(
    glue: Path, bert_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    marks: dict[int, int] = {}
    scalars = RunLog.scalars

    def listen(event: str, seconds: float, **more: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(more.get("fun_name")))

    def mark(log: RunLog, step: int, values: dict) -> None:
        marks[step] = len(compiled)
        scalars(log, step, values)

    # Compilations that cost nothing, so that the plan takes more than one shape.
    costs = cost_model(BertConfig(layers=2, width=16, heads=2, inner=32), on_cpu=True)
    free = dataclasses.replace(costs, compilation=0.0)
    monkeypatch.setattr(assemble, "cost_model", lambda *a, **more: free)
    monkeypatch.setattr(RunLog, "scalars", mark)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        fields = {"eval_every": 3, "checkpoint_every": 2, "log_every": 1, "num_epochs": 6}
        found = train(glue, bert_dir, tmp_path / "run", **fields, **HEAD_ONLY)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert sum("update" in name for name in compiled) == len(found["shapes"]) > 1, compiled
    assert sum("score" in name for name in compiled) <= 2, "one shape each of dev and test"
    assert marks[6] > 0 and marks[22] == marks[6], compiled[marks[6] :]


def test_cut_texts_and_repeated_examples_are_told(
    glue: Path, bert_dir: Path, tmp_path: Path
) -> None:
    called = call(
        *flags(glue, bert_dir, tmp_path / "run", num_epochs=0.1, **HEAD_ONLY)[:-1],
        "--config.max_length=8", "--config.batch_size=70", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert called.code == 0, called
    cut = next(line for line in called.err.splitlines() if "are cut" in line)
    assert cut.startswith("note: texts longer than --config.max_length=8 are cut: ")
    assert "of 60 of train" in cut and "of 20 of dev" in cut
    assert "is more than the 60 training examples" in called.err


def test_a_folder_of_other_things_is_refused(even: Path, bert_dir: Path, tmp_path: Path) -> None:
    """Logs may lie there; data, or a folder given by mistake, may not."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "table.tsv").write_text("a\tb\n")
    told = refused(*flags(even, bert_dir, folder, num_epochs=1, **HEAD_ONLY))
    assert "is not empty (it holds table.tsv) and holds no run" in told
    assert [path.name for path in folder.iterdir()] == ["table.tsv"]
    (folder / "table.tsv").rename(folder / "said.log")
    train(even, bert_dir, folder, num_epochs=1, **HEAD_ONLY)
