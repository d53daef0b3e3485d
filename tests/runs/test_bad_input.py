"""Bad input: exit code 2, one sentence that names what is wrong, and no run folder is made."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gptbert.weights import checkpoints
from gptbert.weights.safetensors_files import open_tensors, write_safetensors
from tests.fabricated import contents, flags, make_glue
from tests.fixtures_runs import (
    VOCABULARY,
    call,
    keep_one_token_type,
    make_bert_folder,
    make_reviews,
    refused,
)

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("quickly")]

Refused = Callable[..., str]


@pytest.fixture
def glue(tmp_path: Path) -> Path:
    return make_glue(tmp_path / "glue", "mrpc", words=5)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return make_bert_folder(tmp_path / "bert")


@pytest.fixture
def sentence(glue: Path, bert: Path, tmp_path: Path) -> Refused:
    """Runs `finetune` on what the test has broken; the one sentence that it said."""

    def run(*more: str, task: str = "mrpc", **fields: object) -> str:
        said = refused(*flags(glue, bert, tmp_path / "run", task, **fields), *more)
        assert not (tmp_path / "run").exists(), "nothing is made for input that cannot work"
        return said

    return run


def rewrite(path: Path, change: Callable[[str], str], encoding: str = "utf-8") -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding=encoding)


# --- Data ---


def test_no_data_folder(sentence: Refused, tmp_path: Path) -> None:
    said = sentence(data_dir=tmp_path / "nowhere")
    assert f"data folder {tmp_path / 'nowhere'} does not exist" in said
    assert "gptbert prepare glue/mrpc --data_dir=" in said


def test_no_file_in_the_data_folder(sentence: Refused, glue: Path) -> None:
    (glue / "MRPC" / "dev.tsv").unlink()
    said = sentence()
    assert f"looked for {glue / 'MRPC' / 'dev.tsv'}" in said and "gptbert prepare" in said


def test_no_data_folder_given(sentence: Refused) -> None:
    assert "no data: expected --config.data_dir=DIR" in sentence(data_dir=None)


def test_a_benchmark_with_the_recipe_of_own_files(glue: Path, bert: Path, tmp_path: Path) -> None:
    make_reviews(tmp_path / "own.csv")
    said = refused(
        "finetune", "--config=configs/text_classification.py", "--config.task=glue/mrpc",
        f"--config.data_dir={glue}", f"--config.init_from={bert}",
        f"--config.train_file={tmp_path / 'own.csv'}", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert "own.csv is not read with --config.task=glue/mrpc" in said


def test_own_files_with_the_recipe_of_a_benchmark(sentence: Refused) -> None:
    said = sentence("--config.task=text")
    assert "expected --config=configs/text_classification.py" in said


def test_wrong_column_count(sentence: Refused, glue: Path) -> None:
    rewrite(glue / "MRPC" / "train.tsv", lambda text: text.replace("\n1\t", "\n1\tmore\t", 1))
    said = sentence()
    assert "train.tsv:" in said and "6 columns instead of 5 ('Quality', '#1 ID'" in said


def test_renamed_column(sentence: Refused, glue: Path) -> None:
    rewrite(glue / "MRPC" / "dev.tsv", lambda text: text.replace("Quality", "Qality", 1))
    said = sentence()
    assert "dev.tsv:1: no column 'Quality' (did you mean 'Qality'?)" in said


def test_unknown_label(sentence: Refused, glue: Path) -> None:
    rewrite(glue / "MRPC" / "dev.tsv", lambda text: text.replace("\n1\t", "\nyes\t", 1))
    said = sentence()
    assert "dev.tsv:" in said and "unknown label 'yes'; known labels: 0, 1" in said


def test_empty_file(sentence: Refused, glue: Path) -> None:
    (glue / "MRPC" / "train.tsv").write_text("")
    assert "train.tsv: the file is empty" in sentence()


def test_header_only(sentence: Refused, glue: Path) -> None:
    rewrite(glue / "MRPC" / "train.tsv", lambda text: text.splitlines(keepends=True)[0])
    assert "train.tsv: a header and no rows" in sentence()


def test_utf_16(sentence: Refused, glue: Path) -> None:
    rewrite(glue / "MRPC" / "train.tsv", str, encoding="utf-16")
    said = sentence()
    assert "train.tsv: this is UTF-16, UTF-8 is needed" in said and "iconv -f UTF-16" in said


def test_latin_1(sentence: Refused, glue: Path) -> None:
    rewrite(glue / "MRPC" / "train.tsv", lambda t: t.replace("good", "café"), encoding="latin-1")
    said = sentence()
    assert "not UTF-8 (byte 0xe9 at offset " in said and "iconv -f WINDOWS-1252" in said


def test_unknown_task(sentence: Refused) -> None:
    assert "task 'glue/mprc' is unknown (did you mean 'mrpc'?)" in sentence(task="mprc")


def test_diagnostics_have_no_training_data(sentence: Refused) -> None:
    assert "gptbert evaluate --workdir=RUN --task=glue/ax" in sentence(task="ax")


# --- Weights and vocabulary ---


def test_no_weights_folder(sentence: Refused, tmp_path: Path) -> None:
    assert f"no folder '{tmp_path / 'no'}'" in sentence(init_from=tmp_path / "no")


def test_weights_that_are_not_finite(sentence: Refused, bert: Path) -> None:
    files = open_tensors(bert)
    tensors = {name: files.read(name).copy() for name in files.shapes}
    name = next(name for name in tensors if "pooler.dense.weight" in name)
    tensors[name][0, :2] = np.nan, np.inf
    write_safetensors(bert / "model.safetensors", tensors)
    assert f"2 of 256 numbers of tensor '{name}' are not finite" in sentence()


def test_pairs_for_a_model_with_one_token_type(
    sentence: Refused, glue: Path, bert: Path, tmp_path: Path
) -> None:
    keep_one_token_type(bert)
    assert "has one token type (type_vocab_size 1), which cannot tell the two texts" in sentence()


def test_a_folder_of_something_else_stays_as_it_is(glue: Path, bert: Path) -> None:
    before = contents(bert)
    assert "holds a config.json of something else (weights?)" in refused(*flags(glue, bert, bert))
    assert contents(bert) == before


def test_nothing_to_start_from(sentence: Refused) -> None:
    assert "nothing to start from" in sentence(init_from=None)


def test_an_empty_weights_folder(sentence: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = sentence(init_from=tmp_path / "empty")
    assert f"no config.json in {tmp_path / 'empty'}, which holds nothing" in said


def test_vocabulary_of_other_weights(sentence: Refused, bert: Path) -> None:
    rewrite(bert / "vocab.txt", lambda text: text + "zebra\n")
    count = len(VOCABULARY)
    assert f"the tokenizer has {count + 1} entries, but the weights" in sentence()


def test_longer_than_the_positions(sentence: Refused) -> None:
    said = sentence(max_length=64)
    assert "--config.max_length=64 is longer than the 40 positions" in said


def test_no_room_for_text(sentence: Refused) -> None:
    assert "max_length is 4, which leaves no room" in sentence(max_length=4)


def edit_config(bert: Path, **settings: object) -> None:
    rewrite(bert / "config.json", lambda text: json.dumps({**json.loads(text), **settings}))


def test_heads_that_do_not_divide_the_width(sentence: Refused, bert: Path) -> None:
    edit_config(bert, num_attention_heads=3)
    assert "3 heads do not divide the width 16" in sentence()


def test_weights_and_config_that_disagree(sentence: Refused, bert: Path) -> None:
    edit_config(bert, intermediate_size=48)
    said = sentence()
    assert "has shape [32, 16], expected [48, 16] from config.json" in said


def test_another_number_of_layers(sentence: Refused, bert: Path) -> None:
    edit_config(bert, num_hidden_layers=3)
    assert "2 layers where config.json says num_hidden_layers 3" in sentence()


def test_another_architecture(sentence: Refused, bert: Path) -> None:
    edit_config(bert, model_type="roberta")
    assert "model_type 'roberta' is not supported; expected model_type 'bert'" in sentence()


def test_cut_weights(sentence: Refused, bert: Path) -> None:
    path = bert / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert str(path) in sentence()


def test_corrupt_weights(sentence: Refused, bert: Path) -> None:
    path = bert / "model.safetensors"
    path.write_bytes(b"\xff" * 64 + path.read_bytes()[64:])
    assert str(path) in sentence()


def test_a_missing_tensor(sentence: Refused, bert: Path) -> None:
    files = open_tensors(bert)
    tensors = {name: files.read(name) for name in files.shapes}
    name = next(name for name in tensors if "layer.1.output.dense.weight" in name)
    kept = {other: np.array(value) for other, value in tensors.items() if other != name}
    write_safetensors(bert / "model.safetensors", kept)
    assert name.removeprefix("bert.") in sentence()


# --- Fields ---


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("batch_size=0", "--config.batch_size is 0, expected at least 1"),
        ("max_length=-1", "--config.max_length is -1, expected at least 1"),
        ("num_epochs=0", "--config.num_epochs is 0.0, expected a positive number"),
        (
            "num_epochs=1e12",
            "1e+12 of 60 examples, in batches of 16, plans 6e+13 examples",
        ),
        ("batch_size=1000000000", "in batches of 1,000,000,000, plans 1e+09 examples; expected at"),
        ("num_epochs=-3", "--config.num_epochs is -3.0, expected a positive number"),
        ("learning_rate=nan", "--config.learning_rate is nan, expected a positive number"),
        ("learning_rate=inf", "--config.learning_rate is inf, expected a positive number"),
        ("weight_decay=nan", "--config.weight_decay is nan, expected 0 or a positive number"),
        ("clip_norm=-1", "--config.clip_norm is -1.0, expected 0 or a positive number"),
        ("dropout=1.0", "dropout is 1.0, expected 0 <= x < 1"),
        ("warmup_proportion=2", "--config.warmup_proportion is 2.0, expected 0 to 1"),
        ("seed=-1", "--config.seed is -1, expected 0 or more"),
        ("seed=99999999999", "--config.seed is 99999999999, expected at most 4294967295"),
        ("keep=0", "--config.keep is 0, expected at least 1"),
        ("eval_every=-1", "--config.eval_every is -1, expected 0 or more"),
        ("accumulate=3", "--config.accumulate=3 does not divide --config.batch_size=16"),
        ("row_length=8", "--config.row_length=8 is shorter than the longest example (15 tokens)"),
        ("compute_dtype=float61", "'float61' is not supported"),
        ("compute_dtype=bfloat", "(did you mean 'bfloat16'?)"),
        ("schedule=bertt", "schedule 'bertt' is unknown (did you mean 'bert'?)"),
        ("optimizer=bert_adm", "'bert_adm' is unknown (did you mean 'bert_adam'?)"),
        ("pooling=max", "pooling 'max' is unknown"),
        ("select=worst", "--config.select is 'worst', expected 'last' or 'best'"),
        ("model=bert-minni", "'bert-minni' is unknown (did you mean 'bert-mini'?)"),
        ("model=bert-mini", "--config.model=bert-mini is not the shape of the weights"),
        ("mesh.tensor=3", "mesh data=-1, fsdp=1, tensor=3 does not cover 1 device(s)"),
        ("mesh.data=0", "does not cover 1 device(s)"),
        ("frozen=layers/[", "'layers/[' is not a regular expression"),
        ("frozen=layer/0", "'layer/0' matches no parameter"),
        ("frozen=(3,)", "3 is not a regular expression"),
        ("frozen=.", "--config.frozen matches every parameter"),
        ("lerning_rate=1", "--config.lerning_rate (did you mean 'learning_rate'?)"),
        ("mesh.tenser=1", "--config.mesh.tenser (did you mean 'mesh.tensor'?)"),
        ("batch_size=many", "--config.batch_size='many': expected a whole number"),
        ("batch_size=1.5", "--config.batch_size='1.5': expected a whole number"),
        ("remat=maybe", "--config.remat='maybe': expected true or false"),
    ],
)
def test_fields(sentence: Refused, field: str, expected: str) -> None:
    assert expected in sentence(f"--config.{field}")


def test_no_config(tmp_path: Path) -> None:
    assert "no config: expected --config=FILE.py" in refused("finetune", f"--workdir={tmp_path}")


def test_no_workdir(glue: Path, bert: Path) -> None:
    assert "expected --workdir=DIR" in refused(*flags(glue, bert, Path("x"))[:-1])


# --- A user's own file ---


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("train_file=", "no data: expected --config.train_file=FILE"),
        ("train_file=nowhere.csv", "nowhere.csv: cannot be read: No such file"),
        ("train_file=own.doc", "own.doc: unknown kind of file; expected one of .tsv"),
        ("text_columns=reviw", "own.csv:1: no column 'reviw' (did you mean 'review'?)"),
        ("label_column=stars", "own.csv:1: no column 'stars'"),
        ("label_column=review", "the column 'review' is named as text and as label"),
        ("label_column=", "no labels: expected --config.label_column=NAME"),
        ("text_columns=", "text_columns=nothing: expected the name of one column, or two"),
        ("text_columns=a,b,c", "text_columns=a, b, c: expected the name of one column, or two"),
        ("text_columns=(1,2)", "text_columns=1, 2: expected the name of one column, or two"),
        (
            "label_kind=stars",
            "--config.label_kind is 'stars', expected 'auto' or 'classes' or 'score'",
        ),
        ("eval_share=1.5", "--config.eval_share is 1.5, expected a share between 0 and 1"),
        ("eval_file=other.csv", "other.csv:2: unknown label 'so-so'"),
    ],
)
def test_own_file(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_reviews(tmp_path / "own.csv")
    (tmp_path / "other.csv").write_text("review,verdict\nfine film,so-so\n")
    own = ["train_file=own.csv", "text_columns=review", "label_column=verdict", "max_length=32"]
    command = [f"--config.{each}" for each in (*own, f"init_from={bert}", field)]
    config = "--config=configs/text_classification.py"
    assert expected in refused("finetune", config, *command, "--workdir=run")
    assert not Path("run").exists()


# --- Places that cannot be written ---


def test_the_run_folder_is_a_file(glue: Path, bert: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        said = refused(*flags(glue, bert, place))
        assert f"--workdir={place} cannot be used" in said
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where root cannot write")
def test_the_run_folder_cannot_be_made(glue: Path, bert: Path) -> None:
    assert "cannot be used" in refused(*flags(glue, bert, Path("/proc/run")))


def test_full_disk_while_saving(
    glue: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orbax passes the file system's word on; the checkpoint of before stays, and goes on."""
    write, written = checkpoints._write_arrays, []

    def fill(folder: Path, arrays: dict) -> None:
        write(folder, arrays)
        written.append(folder)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints, "_write_arrays", fill)
    fields = {"checkpoint_every": 1, "num_epochs": 1, "frozen": "^bert/", "learning_rate": 1e-2}
    command = [*flags(glue, bert, tmp_path / "run", **fields), "--quiet"]
    said = refused(*command)
    assert "the disk is full" in said and "the last good checkpoint is step 1" in said
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["00000001"]
    assert not (tmp_path / "run" / "results.json").exists()
    assert not [name for name in contents(tmp_path / "run") if "partial" in name]
    assert call(*command).code == 0 and (tmp_path / "run" / "results.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_while_writing_the_log(glue: Path, bert: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl.partial").symlink_to("/dev/full")
    fields = {"num_epochs": 1, "frozen": "^bert/", "learning_rate": 1e-2}
    said = refused(*flags(glue, bert, tmp_path / "run", **fields), "--quiet")
    assert "the disk is full" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_while_writing_for_tensorboard(
    glue: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written by the thread that trains: nobody waits for a writer that has died."""
    from tensorboardX import event_file_writer

    writer = event_file_writer.RecordWriter
    monkeypatch.setattr(event_file_writer, "RecordWriter", lambda path: writer("/dev/full"))
    fields = {"num_epochs": 1, "frozen": "^bert/", "learning_rate": 1e-2}
    said = refused(*flags(glue, bert, tmp_path / "run", **fields), "--quiet")
    assert "the disk is full" in said


# --- Platforms ---


@pytest.mark.parametrize("platform", ["nonsense", "tpu", "cuda"])
def test_a_platform_that_is_not_there(
    platform: str, glue: Path, bert: Path, tmp_path: Path
) -> None:
    if platform == "cuda" and shutil.which("nvidia-smi"):
        pytest.skip("there may be a GPU here")
    if platform == "tpu" and any(Path("/dev").glob("accel*")):
        pytest.skip("there may be a TPU here")
    command = [sys.executable, "-m", "gptbert", *flags(glue, bert, tmp_path / "run")]
    environment = {**os.environ, "JAX_PLATFORMS": platform, "GPTBERT_COMPILATION_CACHE": "0"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if line.startswith("gptbert: ")]
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert len(said) == 1 and f"JAX_PLATFORMS='{platform}' cannot be used" in said[0]
    assert not (tmp_path / "run").exists()
