"""Pre-training runs from a store to a run folder, and what can be done with it afterwards."""

import functools
import json
import math
import re
import shutil

import jax
import numpy as np
import pytest

from gptbert.commands.config_flag import load_config, set_field
from gptbert.errors import UserError
from gptbert.models.parameters import describe
from gptbert.models.presets import Compute, preset
from gptbert.models.pretraining import NextTokenModel
from gptbert.pipeline.store import TokenStore
from gptbert.runs import pretrain as pretraining_runs
from gptbert.runs.assemble_pretraining import (
    assemble_pretraining,
    check_numbers,
    checkpoint_steps,
)
from gptbert.runs.dry_run_pretraining import describe_pretraining
from gptbert.runs.export import export
from gptbert.runs.finetune import finetune
from gptbert.runs.pretrain import pretrain
from gptbert.runs.recipe import finetuning
from gptbert.training.run_log import RunLog, read_metrics
from gptbert.training.sharding import AXES, Layout, pad_vocabulary, parameter_count
from gptbert.weights.checkpoints import Checkpoints
from gptbert.weights.huggingface import read_huggingface
from tests.fabricated import make_glue, results
from tests.fixtures_pretraining import TINY, make_text_store, tiny_config
from tests.fixtures_runs import VOCABULARY, call, refused
from tests.pipeline.corpora import same

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("quickly")]


@pytest.fixture(scope="module", params=list(TINY))
def run(request, tmp_path_factory, text_store, quickly):
    """A finished run of each model."""
    workdir = tmp_path_factory.mktemp("runs") / request.param
    pretrain(tiny_config(request.param, text_store), workdir, quiet=True)
    return workdir


def test_it_learns_and_says_what_it_measured(run, text_store):
    found = results(run)
    metrics = found["metrics"]
    assert found["steps"] == 24 and found["checkpoint"]["step"] == 24
    first, last = found["evaluations"][0]["metrics"], found["evaluations"][-1]["metrics"]
    assert last["loss"] < first["loss"] and metrics == last
    if "bert" in run.name:
        assert metrics.keys() == {
            "loss", "mlm_loss", "perplexity", "mlm_accuracy", "nsp_loss", "nsp_accuracy"
        }  # fmt: skip
        assert metrics["loss"] == pytest.approx(metrics["mlm_loss"] + metrics["nsp_loss"])
        assert metrics["perplexity"] == pytest.approx(math.exp(metrics["mlm_loss"]))
    else:
        assert metrics.keys() == {"loss", "perplexity", "accuracy", "bits_per_byte"}
        held_out = TokenStore.open(text_store, "heldout")
        per_byte = held_out.tokens / held_out.bytes
        assert metrics["bits_per_byte"] == pytest.approx(
            metrics["loss"] * per_byte / math.log(2), rel=1e-6
        )
    assert metrics["loss"] < math.log(len(VOCABULARY)) + 1.0
    assert found["held_out"]["predictions"] > 50
    assert (found["held_out"]["bytes"] is None) == ("bert" in run.name)
    assert 0 < found["tokens"] <= 24 * 8 * 32


def test_metrics_while_it_runs(run, text_store):
    trained = TokenStore.open(text_store)
    per_byte = trained.tokens / trained.bytes
    records = [r for r in read_metrics(run / "metrics.jsonl") if "train/loss" in r]
    assert [record["step"] for record in records] == list(range(1, 25))
    expected = {
        "train/loss", "train/gradient_norm", "train/parameter_norm", "learning_rate",
        "tokens_per_second", "examples_per_second", "data_wait", "memory_bytes", "seconds_left",
        "model_flops_per_second",
    }  # fmt: skip
    kinds = {"train/mlm_loss", "train/mlm_accuracy", "train/nsp_loss", "train/nsp_accuracy"}
    expected |= kinds if "bert" in run.name else {"train/token_loss", "train/token_accuracy"}
    for record in records:
        assert record.keys() >= expected and all(record[k] is not None for k in expected)
        assert 0 <= record["data_wait"] <= 1
        predicted = record["train/mlm_loss" if "bert" in run.name else "train/token_loss"]
        assert record["train/perplexity"] == pytest.approx(math.exp(predicted))
        if "bert" in run.name:
            assert "train/bits_per_byte" not in record
        else:
            assert record["train/bits_per_byte"] == pytest.approx(
                predicted * per_byte / math.log(2)
            )
    assert records[0]["learning_rate"] == 0.0  # as released, both for BERT and GPT
    assert list((run / "tensorboard").iterdir())


def test_the_page_and_the_curve(run):
    assert call("report", f"--workdir={run}").code == 0
    page = (run / "report.html").read_text()
    assert "<svg" in page and "perplexity" in page


def test_fine_tuning_starts_from_it(run, tmp_path):
    config = finetuning("glue/mrpc")
    config.data_dir = str(make_glue(tmp_path / "glue", "mrpc", words=5))
    config.init_from, config.max_length, config.batch_size = str(run), 32, 8
    config.num_epochs = 1.0
    if "bert" not in run.name:
        config.optimizer, config.schedule = "gpt_adam", "gpt_linear"
    found = finetune(config.lock(), tmp_path / "run", quiet=True)
    assert 0 <= found["metrics"]["f1"] <= 1
    start = Checkpoints(run / "checkpoints").restore_arrays(24, prefix="parameters/")
    tuned = Checkpoints(tmp_path / "run/checkpoints").restore_arrays(prefix="parameters/")
    table = next(path for path in start if path.endswith("word/table"))
    kernel = next(path for path in start if path.endswith("layers/1/up/kernel"))
    assert not any(path.startswith(("mlm/", "nsp/")) for path in tuned)
    assert len(tuned[table]) == len(start[table]) + (0 if "bert" in run.name else 3)
    # A few small steps away from the pre-trained values, and nowhere near a new draw.
    assert 0 < np.abs(tuned[kernel] - start[kernel]).max() < 0.01
    # What was fine-tuned predicts.
    called = call("predict", f"--workdir={tmp_path / 'run'}", "--pair", "the dog .", "a cat .")
    assert called.code == 0, called.err


def test_export_is_read_back(run, tmp_path):
    export(run, tmp_path / "exported")
    exported = read_huggingface(tmp_path / "exported").parameters
    own = Checkpoints(run / "checkpoints").restore_arrays(24, prefix="parameters/")
    assert exported.keys() == own.keys()
    for path, value in own.items():
        np.testing.assert_array_equal(exported[path], value)


def test_going_on_from_weights_starts_where_they_ended(run, text_store, tmp_path):
    config = tiny_config(
        run.name, text_store, init_from=str(run), steps=2, warmup_steps=1, learning_rate=1e-12
    )
    found = pretrain(config, tmp_path / "more", quiet=True)
    assert found["metrics"]["loss"] == pytest.approx(results(run)["metrics"]["loss"], rel=1e-5)
    assert not any("newly" in note for note in found["notes"])


def test_a_store_behind_an_address(run, text_store, tmp_path):
    """Read by ranges, as an object store is; the same numbers."""
    config = tiny_config(run.name, f"file://{text_store}")
    pretrain(config, tmp_path / "run", quiet=True)
    found, local = results(tmp_path / "run"), results(run)
    assert (found["metrics"], found["held_out"]) == (local["metrics"], local["held_out"])


def test_numbers_without_brackets(text_store):
    config = tiny_config("test-bert", text_store)
    set_field(config, "masking.mixture", "0.7,0.2,0.1")
    set_field(config, "corpus_weights", "3")
    check_numbers(config)
    assert (config.masking.mixture, config.corpus_weights) == ((0.7, 0.2, 0.1), (3.0,))


def test_phases_share_one_schedule(text_store, tmp_path):
    phases = ((0.75, 16), (0.25, 32))
    config = tiny_config("test-bert", text_store, phases=phases, steps=8, warmup_steps=2)
    found = pretrain(config, tmp_path / "run", quiet=True)
    lengths = {shape.split(" x ")[1] for shape in found["shapes"]}
    assert lengths == {"16", "32"}
    records = read_metrics(tmp_path / "run/metrics.jsonl")
    rates = [record["learning_rate"] for record in records if "learning_rate" in record]
    expected = [3e-3 * (s / 2 if s < 2 else 1 - s / 8) for s in range(8)]
    assert rates == pytest.approx(expected)


def test_checkpoints_at_stated_and_log_spaced_steps(text_store, tmp_path):
    config = tiny_config(
        "test-gpt", text_store, steps=20, eval_every=0, keep=1, checkpoint_at="log"
    )
    assert checkpoint_steps(config) == (1, 2, 4, 8, 16)
    pretrain(config, tmp_path / "run", quiet=True)
    assert Checkpoints(tmp_path / "run/checkpoints").steps() == [1, 2, 4, 8, 16, 20]


def test_ablations_and_mixtures(text_store, tmp_path):
    other = make_text_store(tmp_path / "other", documents=20, seed=1)
    found = {}
    for objective in ("mlm", "left_to_right"):
        config = tiny_config(
            "test-bert", text_store, objective=objective, steps=6, eval_every=0,
            corpus=f"{text_store},{other}", corpus_weights=(0.75, 0.25),
        )  # fmt: skip
        found[objective] = pretrain(config, tmp_path / objective, quiet=True)["metrics"]
    assert not any(name.startswith("nsp") for name in found["mlm"])
    assert found["left_to_right"].keys() == {"loss", "perplexity", "accuracy"}
    records = read_metrics(tmp_path / "left_to_right/metrics.jsonl")
    record = next(each for each in records if "train/loss" in each)
    assert "train/perplexity" in record and "train/bits_per_byte" not in record
    description = json.loads((tmp_path / "left_to_right/model.json").read_text())
    assert description["model"]["left_to_right"] is True


def test_nothing_compiles_after_the_first_evaluation(text_store, tmp_path, monkeypatch):
    """But the update of a later phase, which began to compile with the first one."""
    compiled, marks, scalars = [], {}, RunLog.scalars

    def listen(event, seconds, **more):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(more.get("fun_name")))

    def mark(log, step, values):
        marks[step] = len(compiled)
        scalars(log, step, values)

    monkeypatch.setattr(RunLog, "scalars", mark)
    config = tiny_config(
        "test-bert", text_store, phases=((0.5, 16), (0.5, 32)), steps=12, warmup_steps=2,
        eval_every=2, checkpoint_every=1, frozen=("^bert/",),
    )  # fmt: skip
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        found = pretrain(config, tmp_path / "run", quiet=True)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert sum("update" in name for name in compiled) == len(found["shapes"]) > 1, compiled
    assert sum("measure" in name for name in compiled) == 1, compiled
    later = compiled[marks[3] : marks[12]]
    assert marks[3] > 0 and all("update" in name for name in later), later


def test_pieces_give_the_large_batch(text_store, tmp_path):
    losses = []
    for accumulate in (1, 4):
        config = tiny_config("test-bert", text_store, steps=5, accumulate=accumulate, eval_every=0)
        pretrain(config, tmp_path / str(accumulate), quiet=True)
        records = read_metrics(tmp_path / str(accumulate) / "metrics.jsonl")
        losses.append([r["train/loss"] for r in records if "train/loss" in r])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.parametrize("model", ["test-bert", "test-gpt"])
def test_the_progress_line(model, text_store, tmp_path, capsys):
    config = tiny_config(model, text_store, steps=6, eval_every=0, log_every=3)
    pretrain(config, tmp_path / "run")
    named = (
        r"mlm_accuracy \S+, nsp_accuracy" if "bert" in model else r"perplexity \S+, bits_per_byte"
    )
    line = rf"step 3/6: loss \S+, {named} \S+, rate \S+, tokens/s \S+, \d\d:\d\d left\n"
    assert re.search(line, capsys.readouterr().err)


@pytest.mark.parametrize("scan", [False, True])
def test_recomputed_layers_give_the_same_losses(scan, text_store, tmp_path):
    losses = []
    for remat in (False, True):
        config = tiny_config(
            "test-bert", text_store, steps=6, eval_every=0, remat=remat, scan_layers=scan
        )
        assert assemble_pretraining(config).compute.remat == remat
        pretrain(config, tmp_path / str(remat), quiet=True)
        records = read_metrics(tmp_path / str(remat) / "metrics.jsonl")
        losses.append([r["train/loss"] for r in records if "train/loss" in r])
    assert len(losses[0]) == 6
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.parametrize("model", ["test-bert", "test-gpt"])
def test_a_length_that_returns_goes_on_with_its_examples(model, text_store, tmp_path):
    returning = tiny_config(model, text_store, phases=((0.5, 32), (0.25, 16), (0.25, 32)))
    plan = assemble_pretraining(returning).plan
    whole = assemble_pretraining(tiny_config(model, text_store, steps=18)).plan
    for number, step in enumerate([*range(12), *range(18, 24)]):
        assert same(plan.batch(step), whole.batch(number))
    assert "6 steps of 8 examples" in describe_pretraining(returning)
    found = pretrain(returning, tmp_path / "run", quiet=True)
    assert found["steps"] == 24 and len(set(found["shapes"])) == len(found["shapes"])


def test_a_restored_run_draws_no_state_of_its_own(text_store, tmp_path, monkeypatch):
    """It would be held beside the restored one."""
    config = tiny_config("test-bert", text_store, steps=6, eval_every=0, checkpoint_at="3")
    first = pretrain(config, tmp_path / "run", quiet=True)
    (tmp_path / "run/results.json").unlink()
    shutil.rmtree(tmp_path / "run/checkpoints/00000006")

    def start_state(assembly):
        raise AssertionError("a checkpoint is there")

    monkeypatch.setattr(pretraining_runs, "start_state", start_state)
    assert pretrain(config, tmp_path / "run", quiet=True)["metrics"] == first["metrics"]


def test_the_padding_of_a_mesh_is_not_counted(text_store, tmp_path, monkeypatch):
    build = functools.partial(NextTokenModel, preset("gpt2-124m"), Compute())
    two = Layout(jax.sharding.AbstractMesh((1, 1, 2), AXES))
    padded = pad_vocabulary(describe(build)[1], two)
    assert padded["gpt/embeddings/word/table"].shape == (50_258, 768)
    assert parameter_count(padded, 50_257) == 124_439_808
    monkeypatch.setattr("gptbert.training.sharding._tensor", lambda layout: 5)
    config = tiny_config("test-bert", text_store, steps=6, eval_every=0)
    table = assemble_pretraining(config).initial_parameters()["bert/embeddings/word/table"]
    assert len(table) > len(VOCABULARY)
    count = pretrain(config, tmp_path / "run", quiet=True)["parameters"]
    saved = Checkpoints(tmp_path / "run/checkpoints").restore_arrays(6, prefix="parameters/")
    assert count == sum(array.size for array in saved.values())
    assert f"parameters: {count:,}\n" in describe_pretraining(config)


def test_frozen_parameters_stay_and_the_final_rate_is_reached(text_store, tmp_path):
    config = tiny_config(
        "test-gpt2", text_store, steps=6, eval_every=0, schedule="cosine", final_rate=0.5,
        warmup_steps=1, frozen=("embeddings",), checkpoint_at="1", optimizer="adamw",
    )  # fmt: skip
    pretrain(config, tmp_path / "run", quiet=True)
    records = read_metrics(tmp_path / "run/metrics.jsonl")
    rates = [record["learning_rate"] for record in records if "learning_rate" in record]
    falling = [0.5 * (1 + math.cos(math.pi * k / 5)) for k in range(5)]
    assert rates == pytest.approx([3e-3, *(3e-3 * (0.5 + 0.5 * share) for share in falling)])
    found = [
        Checkpoints(tmp_path / "run/checkpoints").restore_arrays(step, prefix="parameters/")
        for step in (1, 6)
    ]
    for path, value in found[0].items():
        assert ("embeddings" in path) == np.array_equal(value, found[1][path]), path


def test_dry_run_trains_nothing(text_store, tmp_path, capsys):
    told = describe_pretraining(tiny_config("test-bert", text_store))
    assert "24 steps of 8 examples" in told and "[MASK:" in told and "next:" in told
    assert "predictions (the denominator of the loss)" in told
    told = describe_pretraining(tiny_config("test-gpt", text_store))
    assert "parameters: " in told and "the first examples" in told


def test_dry_run_tells_the_memory_of_the_largest_step(text_store):
    lines = []
    for phases in (((0.5, 16), (0.5, 32)), ((0.5, 32), (0.5, 16)), ((1.0, 16),)):
        told = describe_pretraining(tiny_config("test-bert", text_store, phases=phases))
        lines += [line for line in told.splitlines() if line.startswith("memory of the largest")]
    assert lines[0] == lines[1] != lines[2]


def test_a_finished_run_and_another_store(run, text_store, tmp_path):
    before = (run / "results.json").read_bytes()
    assert pretrain(tiny_config(run.name, text_store), run, quiet=True) == results(run)
    assert (run / "results.json").read_bytes() == before
    other = make_text_store(tmp_path / "other", seed=5)
    with pytest.raises(UserError, match=rf"the corpus 0 \({other}\) changed"):
        pretrain(tiny_config(run.name, other), run, quiet=True)


BAD = {
    "corpus=": "no corpus: expected --config.corpus=STORE",
    "corpus=/nowhere/store": "/nowhere/store",
    "objective=next_token": "does not go with a BERT",
    "objective=mlm_nps": "did you mean 'mlm_nsp'",
    "warmup_steps=24": "leaves no step",
    "phases=((1.0,64),)": "knows 40 positions",
    "phases=((0.5,16),)": "shares sum to 1",
    "epsilon=-1": "epsilon is -1.0, expected a positive number",
    "epsilon=0": "epsilon is 0.0, expected a positive number",
    "final_rate=2": "final_rate is 2.0, expected a share, 0 to 1",
    "schedule=cosin": "did you mean 'cosine'",
    "optimizer=adam": "optimizer 'adam' is unknown",
    "masking.rate=1.5": "not between 0 and 1",
    "masking.mixture=(0.5,0.5,0.5)": "sum to 1",
    "checkpoint_at=soon": "'soon' is no step",
    "accumulate=3": "does not divide",
    "mesh.data=3": "does not cover",
    "init_from=/nowhere": "no folder '/nowhere'",
    "corpus_weights=(1.0,2.0)": "expected one positive number for each",
    "corpus=STORE,": "has an empty name",
    "short_share=15": "short_share is 15.0, expected a share, 0 to 1",
    "phases=((1.0,0),)": "expected at least 1",
    "phases=((1.0,-3),)": "expected at least 1",
    "phases=((1.0,32.5),)": "expected pairs (share of the steps",
    "corpus_weights=3,-1": "mixing weights [3.0, -1.0] for 1 corpora",
    "corpus_weights=a,b": "corpus_weights is ('a', 'b'), expected numbers with commas between",
    "masking.mixture=1,1,1": "sum to 1",
    "masking.mixture=('a','b','c')": "mixture is ('a', 'b', 'c'), expected numbers",
    "phases=(1.0,32)": "expected pairs (share of the steps",
    "phases=()": "shares sum to 1",
}


@pytest.mark.parametrize("change", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(change, text_store, tmp_path):
    given = {
        "corpus": text_store, "phases": "((1.0,32),)", "batch_size": 8, "steps": 24,
        "warmup_steps": 4, "model": "test-bert",
    }  # fmt: skip
    name, _, value = change.partition("=")
    flags = [f"--config.{k}={v}" for k, v in (given | {name: value}).items()]
    told = refused("pretrain", "--config=configs/bert.py:tiny", *flags, f"--workdir={tmp_path}/run")
    assert BAD[change] in told
    assert not (tmp_path / "run").exists()


JOBS = {
    "--processes=2": "--processes=2 without --coordinator; expected HOST:PORT",
    "--process=1": "--process=1 without --coordinator; expected HOST:PORT",
    "--processes=2 --process=0": "--processes=2 --process=0 without --coordinator",
    "--coordinator= --processes=2 --process=0": "--coordinator='': expected HOST:PORT, or auto",
    "--coordinator=here:1 --processes=2 --process=2": "which one this is, from 0",
    "--coordinator=nowhere.invalid:1 --processes=2 --process=0": "nowhere.invalid has no address",
    "--coordinator=localhost:99999 --processes=2 --process=0": "expected HOST:PORT, or auto",
    "--coordinator=auto --processes=2": "expected it without --processes and --process",
}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_half_described_is_refused(job, text_store, tmp_path):
    """Alone, each of its processes would take itself for the whole run."""
    flags = ["--config=configs/bert.py:tiny", f"--config.corpus={text_store}", *job.split()]
    assert JOBS[job] in refused("pretrain", *flags, f"--workdir={tmp_path}/run")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_lies_on_a_disk(text_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--config=configs/bert.py:tiny", f"--config.corpus={text_store}"]
    told = refused("pretrain", *flags, "--workdir=gs://bucket/run")
    assert "gs://bucket/run; expected a path on a local or shared disk" in told
    assert not list(tmp_path.iterdir())


UNREAD = {
    "short_share": 0.2,
    "duplicates": 10,
    "masking.rate": 0.3,
    "masking.mixture": (1.0, 0.0, 0.0),
    "masking.whole_words": True,
    "masking.most": 20,
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_field_that_the_objective_does_not_read_is_refused(name, text_store):
    for model, objective in (("test-gpt", "next_token"), ("test-bert", "left_to_right")):
        config = tiny_config(model, text_store, objective=objective)
        check_numbers(config)
        config.update_from_flattened_dict({name: UNREAD[name]})
        if objective == "left_to_right" and "masking" not in name:
            check_numbers(config)
            continue
        with pytest.raises(UserError, match=f"--config.{name}=.* does nothing with .*{objective}"):
            check_numbers(config)


def test_the_papers_configs_are_read_whole(text_store):
    sizes = ("bert.py:base", "bert.py:tiny", "gpt.py:gpt", "gpt.py:tiny", "gpt2.py:1558m")
    for size in (*sizes, "gpt2.py:tiny", "demo.py:pretrain-bert", "demo.py:pretrain-gpt"):
        flags = [("corpus", str(text_store))]
        check_numbers(load_config(f"configs/{size}", flags, example=""))


@pytest.mark.parametrize("length", [0, -3])
def test_windows_without_a_token_are_refused(length, text_store):
    with pytest.raises(UserError, match=f"sequence length {length} leaves no room"):
        assemble_pretraining(tiny_config("test-gpt", text_store, phases=((1.0, length),)))


def test_a_vocabulary_of_other_weights_is_refused(text_store, bert_dir, tmp_path):
    """The tiny BERT's own vocabulary fits; one entry more does not."""
    config = tiny_config("test-bert", text_store, init_from=str(bert_dir))
    assert assemble_pretraining(config).model.width == 16
    other = tmp_path / "store"
    make_text_store(other)
    manifest = json.loads((other / "manifest.json").read_text())
    assert manifest["tokenizer"]["vocabulary_size"] == len(VOCABULARY)
    assert jax.device_count() == 1
