"""`--dry_run`: says what would run, and the run that follows agrees with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gptbert.runs import dry_run, finetune
from tests.fabricated import flags, make_glue, results
from tests.fixtures_pretraining import make_tokenizer_folder
from tests.fixtures_runs import Called, call, refused

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("quickly")]

FIELDS = {"max_length": 20, "num_epochs": 1, "frozen": "^bert/"}


@pytest.fixture(scope="module")
def glue(tmp_path_factory) -> Path:
    return make_glue(tmp_path_factory.mktemp("glue"), "mrpc", "stsb")


@pytest.fixture(scope="module")
def told(tmp_path_factory, glue: Path, bert_dir: Path) -> str:
    """What a dry run prints; it makes no run folder and trains nothing."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "train", lambda *a, **more: pytest.fail("it trained"))
        called = dry(glue, bert_dir, folder)
    assert called.code == 0 and called.err == "" and not folder.exists()
    return called.out


def dry(glue: Path, bert: Path, folder: Path, task: str = "mrpc", **fields: object) -> Called:
    return call(*flags(glue, bert, folder, task, **{**FIELDS, **fields}), "--dry_run")


def row(told: str, split: str) -> list[str]:
    return next(line.split() for line in told.splitlines() if line.startswith(f"{split} "))


def test_it_agrees_with_the_run(told: str, glue: Path, bert_dir: Path, tmp_path: Path) -> None:
    assert call(*flags(glue, bert_dir, tmp_path / "run", **FIELDS), "--quiet").code == 0
    found = results(tmp_path / "run")
    for split, examples in found["examples_by_split"].items():
        assert row(told, split)[1:3] == [str(examples), str(found["truncated"][split])]
    assert int(row(told, "train")[2]) > 0 and int(row(told, "train")[-1]) == 20
    assert f"steps: {found['steps']} of 16 examples\n" in told
    assert f"rows x tokens: {', '.join(found['shapes'])}\n" in told
    filled = found["tokens_per_second"] / found["tokens_per_second_with_padding"]
    assert f"fill: {filled:.3f} of the computed tokens are real" in told
    for note in found["notes"]:
        assert f"note: {note}\n" in told


def test_memory_and_time(told: str) -> None:
    assert re.search(r"\nparameters: [\d,]+\n", told)
    assert re.search(r"\nmemory of a step: [\d,]+ MiB a device", told)
    assert re.search(r"\nestimated time: about \d+ s of training on 1 x cpu, assuming ", told)
    assert "classes: not_equivalent, equivalent\n" in told


def test_more_memory_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "memory_limit", lambda: 3 << 20)
    assert dry_run.memory_told("memory", 2 << 20).endswith("2 MiB a device (state and temporaries)")
    told = dry_run.memory_told("memory", 4 << 20)
    assert ", MORE than the 3 MiB there are: --config.accumulate" in told


def test_a_batch_is_decoded(told: str, glue: Path) -> None:
    """Every example of the batch is one of the file, cut where it was too long."""
    data = (glue / "MRPC" / "train.tsv").read_text().splitlines()[1:]
    pairs = {tuple(line.split("\t")[3:]): line[0] for line in data}
    rows = re.findall(r"\n  row \d+: (.*)", told)
    examples = [example for row in rows if row != "(empty)" for example in row.split(" | ")]
    assert len(examples) == 16 and len(rows) > 4
    for example in examples:
        text, label = example.rsplit(" -> ", 1)
        first, second = re.fullmatch(r"\[CLS\] (.*) \[SEP\] (.*) \[SEP\]", text).groups()
        (found,) = [
            number
            for pair, number in pairs.items()
            if pair[0].startswith(first) and pair[1].startswith(second)
        ]
        assert label == ("not_equivalent", "equivalent")[int(found)]


def test_scores_and_pieces(glue: Path, bert_dir: Path, tmp_path: Path) -> None:
    told = dry(glue, bert_dir, tmp_path / "run", "stsb", accumulate=2).out
    assert "classes: one score" in told and "of 16 examples in 2 pieces" in told
    assert re.search(r"\[SEP\] -> \d\.\d+\n", told)


def test_pairs_that_a_gpt_reads_in_both_orders(glue: Path, tmp_path: Path) -> None:
    vocabulary = make_tokenizer_folder(tmp_path / "vocabulary")
    command = flags(glue, tmp_path, tmp_path / "run", model="test-gpt", tokenizer=vocabulary,
                    init_from=None, max_length=20)  # fmt: skip
    told = call(*[each.replace("configs/glue.py", "configs/gpt_glue.py") for each in command],
                "--dry_run")  # fmt: skip
    assert told.code == 0, told
    first = next(line for line in told.out.splitlines() if line.startswith("  row 0: "))
    text = first.split(" | ")[0].removeprefix("  row 0: ").split(" -> ")[0]
    one, other = (
        re.fullmatch(r"(.+) <delimiter> (.+) <extract>", part.strip()).groups()
        for part in text.split("<start>")[1:]
    )
    assert one == other[::-1]


def test_bad_input(glue: Path, bert_dir: Path, tmp_path: Path) -> None:
    said = refused(*flags(glue, bert_dir, tmp_path / "run", batch_size=0), "--dry_run")
    assert "--config.batch_size is 0" in said


def test_no_workdir_is_needed(glue: Path, bert_dir: Path, tmp_path: Path) -> None:
    command = flags(glue, bert_dir, tmp_path / "run", **FIELDS)[:-1]
    assert call(*command, "--dry_run").code == 0
