"""From files to a folder with a vocabulary: the same for the same text, whole or absent."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gptbert import cli
from gptbert.corpora import vocabulary as module
from gptbert.corpora import word_counts
from gptbert.corpora.vocabulary import Request, summary, train_vocabulary
from gptbert.errors import UserError
from gptbert.tokenizers import load_tokenizer
from gptbert.tokenizers.basic import Rules
from gptbert.tokenizers.train_words import WordCounts

KINDS = ("wordpiece", "bpe", "byte-bpe", "sentencepiece")
SIZES = {"wordpiece": 260, "bpe": 260, "byte-bpe": 400, "sentencepiece": 160}
FILES = {
    "wordpiece": ["tokenizer.json", "tokenizer_config.json", "vocab.txt"],
    "bpe": ["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"],
    "byte-bpe": ["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"],
    "sentencepiece": ["spiece.model", "tokenizer_config.json"],
}
SYLLABLES = [first + second for first in "bdklmnrst" for second in "aeio"]


def write_texts(folder: Path, count: int = 6, words: int = 300) -> Path:
    """Files of made-up words; common ones return, as in a language."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(11)
    known = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(900)]
    for number in range(count):
        chosen = (known[int(900 * draw.random() ** 2)] for _ in range(words))
        text = " ".join(word.title() if n % 9 == 0 else word for n, word in enumerate(chosen))
        (folder / f"{number}.txt").write_text(text + ".\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("texts"))


def train(kind: str, output: Path, *inputs: Path | str, **changes: object) -> module.Report:
    names = tuple(map(str, inputs))
    given = {"size": SIZES.get(kind), "workers": 1, **changes}
    return train_vocabulary(Request(kind, names, str(output), **given), quiet=True)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def nothing_beside(output: Path) -> bool:
    return [path.name for path in output.parent.iterdir()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_writes_what_can_be_loaded(kind: str, texts: Path, tmp_path: Path) -> None:
    report = train(kind, tmp_path / "made" / "here", texts)
    output = tmp_path / "made" / "here"
    assert sorted(contents(output)) == FILES[kind]
    assert [path.name for path in output.parent.iterdir()] == ["here"]
    tokenizer = load_tokenizer(output)
    assert (tokenizer.kind, tokenizer.vocabulary_size) == (kind, SIZES[kind])
    assert tokenizer.decode(tokenizer.encode("dalo bare")).replace(" ", "") == "dalobare"
    assert report.written
    assert report.counted.counts.documents == 6


@pytest.mark.parametrize("kind", KINDS)
def test_files_do_not_depend_on_processes_or_order(
    kind: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_counts, "PORTION_BYTES", 3_000)
    train(kind, tmp_path / "one", texts)
    names = sorted(texts.iterdir(), reverse=True)
    report = train(kind, tmp_path / "two", *names, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert report.counted.counts.documents == 6


def test_forgetting_rare_words_does_not_depend_on_processes(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_counts, "PORTION_BYTES", 3_000)
    add = WordCounts.add
    monkeypatch.setattr(WordCounts, "add", lambda mine, other: add(mine, other, 90))
    reports = [train("byte-bpe", tmp_path / f"{n}", texts, size=270, workers=n) for n in (1, 2)]
    assert reports[0].counted.counts.forgotten == reports[1].counted.counts.forgotten > 0
    assert len(reports[0].counted.counts.words) <= 90
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    told = summary(reports[0], Request("byte-bpe", ("x",), "out", size=270))
    assert "rare words, to bound memory and time" in told


def test_sentencepiece_is_given_the_most_frequent_words(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SENTENCEPIECE_WORDS", 200)
    report = train("sentencepiece", tmp_path / "out", texts, size=100)
    assert len(report.counted.counts.words) == 200
    assert report.counted.counts.forgotten > 0


def test_case_is_kept_when_asked(texts: Path, tmp_path: Path) -> None:
    train("wordpiece", tmp_path / "uncased", texts)
    train("wordpiece", tmp_path / "cased", texts, lowercase=False)
    uncased, cased = (load_tokenizer(tmp_path / name) for name in ("uncased", "cased"))
    assert uncased.encode("Dalo") == uncased.encode("dalo")
    assert cased.encode("Dalo") != cased.encode("dalo")
    config = json.loads((tmp_path / "cased" / "tokenizer_config.json").read_text())
    assert config["do_lower_case"] is False


def test_unused_entries(texts: Path, tmp_path: Path) -> None:
    train("wordpiece", tmp_path / "out", texts, unused=3)
    lines = (tmp_path / "out" / "vocab.txt").read_text().split("\n")
    assert lines[:8] == [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *("[unused0]", "[unused1]", "[unused2]"),
    ]


def test_the_same_again_changes_nothing(texts: Path, tmp_path: Path) -> None:
    train("wordpiece", tmp_path / "out", texts)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = train("wordpiece", tmp_path / "out", texts)
    assert not again.written
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert (before, len(list(tmp_path.iterdir()))) == (after, 1)
    request = Request("wordpiece", ("x",), str(tmp_path / "out"), size=260)
    assert "was there already, the same" in summary(again, request)


def test_an_empty_folder_is_filled(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert train("byte-bpe", tmp_path / "out", texts).written


@pytest.mark.parametrize("changes", [{"size": 250}, {"lowercase": False}, {"unused": 1}])
def test_another_vocabulary_is_refused(
    texts: Path, tmp_path: Path, changes: dict[str, int | bool]
) -> None:
    train("wordpiece", tmp_path / "out", texts)
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match=r"another vocabulary \(wordpiece, 260 entries\)"):
        train("wordpiece", tmp_path / "out", texts, **changes)
    assert contents(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_other_peoples_folders_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("x")
    with pytest.raises(UserError, match="out holds thesis.doc; expected a new or empty folder"):
        train("wordpiece", tmp_path / "out", tmp_path / "no-such-file")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file is a file; expected"):
        train("wordpiece", tmp_path / "file", tmp_path / "no-such-file")
    with pytest.raises(UserError, match="cannot make"):
        train("wordpiece", tmp_path / "file" / "below", tmp_path / "no-such-file")


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_the_text_does_not_give(kind: str, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"too many.*expected at most --size=(\d+)") as error:
        train(kind, tmp_path / "out", texts, size=50_000)
    assert nothing_beside(tmp_path / "out")
    largest = int(str(error.value).split("--size=")[1].split(",")[0])
    assert train(kind, tmp_path / "out", texts, size=largest).entries == largest


def write_many_characters(path: Path) -> Path:
    """Words of 600 characters, some frequent, some rare."""
    draw, letters = random.Random(5), [chr(0xA000 + number) for number in range(600)]
    weights = [1 / (1 + number) for number in range(len(letters))]
    known = ["".join(draw.choices(letters, weights, k=draw.randint(2, 6))) for _ in range(1_500)]
    path.write_text(" ".join(draw.choices(known, [1 / (1 + n) for n in range(1_500)], k=9_000)))
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [5_100, 30_000])
def test_the_size_that_is_named_works(kind: str, size: int, tmp_path: Path) -> None:
    """Though fewer characters are entries of a smaller vocabulary."""
    path = write_many_characters(tmp_path / "in.txt")
    with pytest.raises(UserError, match=rf"^{size:,} entries are too many.*more text") as error:
        train(kind, tmp_path / "out", path, size=size)
    named = int(str(error.value).split("--size=")[1].split(",")[0])
    assert train(kind, tmp_path / "out", path, size=named).entries == named


def test_the_size_that_is_named_works_beside_unused_entries(tmp_path: Path) -> None:
    path = write_many_characters(tmp_path / "in.txt")
    with pytest.raises(UserError, match=r"^300 entries are too few.* at least --size=") as error:
        train("wordpiece", tmp_path / "out", path, size=300, unused=5_000)
    named = int(str(error.value).split("--size=")[1].split(",")[0])
    assert train("wordpiece", tmp_path / "out", path, size=named, unused=5_000).entries == named


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_below_the_alphabet(kind: str, texts: Path, tmp_path: Path) -> None:
    given = {} if kind == "byte-bpe" else {"alphabet": 1000}
    with pytest.raises(UserError, match=r"too few: .* at least --size=\d+"):
        train(kind, tmp_path / "out", texts, size=20, **given)
    assert nothing_beside(tmp_path / "out")


def test_a_tiny_alphabet_is_told(texts: Path, tmp_path: Path) -> None:
    report = train("wordpiece", tmp_path / "out", texts, size=30, alphabet=10)
    assert report.unspelt > 0
    request = Request("wordpiece", ("x",), "out", size=30, alphabet=10)
    assert "words with a character beyond the 10 most frequent" in summary(report, request)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\xfe\x80" * 999, b" \n\t "], ids=["empty", "binary", "white"]
)
def test_nothing_to_learn_from(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"no words in the input: 1 .*for instance .*in\.txt"):
        train("wordpiece", tmp_path / "out", tmp_path / "in.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_one_word_that_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("w" * 201)
    with pytest.raises(UserError, match="no words in the input: 1 of more than 200 characters"):
        train("wordpiece", tmp_path / "out", tmp_path / "in.txt")


def test_rubbish_beside_text_is_told(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "in")
    (folder / "rubbish.txt").write_bytes(b"\x00\xff\xfe\x80" * 999)
    report = train("wordpiece", tmp_path / "out", folder)
    assert report.counted.counts.documents == 6
    told = summary(report, Request("wordpiece", ("x",), "out"))
    assert "not read: 1" in told
    assert "rubbish.txt" in told


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(UserError, match="cannot write .*No space left"):
        train("wordpiece", tmp_path / "out", texts)
    assert nothing_beside(tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "wordpeice"}, "unknown kind 'wordpeice' .did you mean 'wordpiece'"),
        ({"algorithm": "ngram"}, "unknown algorithm 'ngram'"),
        ({"size": 0}, "--size=0: expected a number from 1 to 1,000,000"),
        ({"size": 10**9}, "--size=1000000000: expected"),
        ({"alphabet": 0}, "count something"),
        ({"unused": -1}, "count something"),
        ({"kind": "bpe", "lowercase": False}, "--cased: GPT's words are lower-case"),
        ({"kind": "byte-bpe", "lowercase": True}, "--lowercase: GPT-2's vocabulary"),
    ],
)
def test_refuses_requests(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Request(**{"kind": "wordpiece", "inputs": ("x",), "output": "y", **changes})  # type: ignore[arg-type]


def test_default_sizes_are_those_of_the_papers() -> None:
    requests = [Request(kind, ("x",), "y") for kind in KINDS]
    assert [request.entries for request in requests] == [30_522, 40_478, 50_257, 32_000]
    assert [request.characters for request in requests] == [1000, 238, 1000, 1000]
    assert requests[1].entries - 2 * requests[1].characters - 2 == 40_000
    assert Request("wordpiece", ("x",), "y", size=2_000).characters == 100
    assert requests[0].rules == Rules(lowercase=True)


def test_the_command(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--kind=bpe", "--size=260", f"--input={texts}/*.txt", f"--output={tmp_path}/out"]
    assert cli.main(["train-vocabulary", *flags, "--workers=1"]) == 0
    told = capsys.readouterr().out
    assert f"{tmp_path}/out: bpe, 260 entries, " in told
    assert "merges" in told
    assert "from 6 documents: 1,80" in told
    assert cli.main(["tokenize", f"--tokenizer={tmp_path}/out", "dalo"]) == 0
    assert capsys.readouterr().out.endswith("</w>\n")
    assert cli.main(["train-vocabulary", *flags, "--cased"]) == 2
    assert cli.main(["train-vocabulary", *flags, "--cased", "--lowercase"]) == 2
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.parity
@pytest.mark.torch
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_the_folder(kind: str, texts: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    train(kind, tmp_path / "out", texts)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ours = load_tokenizer(tmp_path / "out")
    assert len(theirs) == ours.vocabulary_size
    for path in sorted(texts.iterdir()):
        line = path.read_text().strip()[:2000]
        assert theirs.encode(line, add_special_tokens=False) == ours.encode(line)


def test_killed_at_any_time_it_leaves_nothing(tmp_path: Path) -> None:
    """Also no worker: they end with whoever started them."""
    text = (write_texts(tmp_path / "in", count=1) / "0.txt").read_text()
    for number in range(4):
        (tmp_path / "in" / f"large{number}.txt").write_text(text * 4_000)
    flags = [f"--input={tmp_path}/in", f"--output={tmp_path}/out", "--kind=wordpiece"]
    command = [sys.executable, "-m", "gptbert", "train-vocabulary", *flags, "--workers=2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: len(children(process.pid)) >= 3)  # two workers and a resource tracker
        workers = children(process.pid)
        process.kill()
        process.wait()
        until(lambda: not any(map(alive, workers)))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return []


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_byte_bpe_has_a_smallest_size() -> None:
    with pytest.raises(UserError, match="100 entries are too few: byte-bpe needs 257") as error:
        Request("byte-bpe", ("text",), "out", size=100)
    assert "alphabet" not in str(error.value)


def fill(monkeypatch: pytest.MonkeyPatch, output: Path) -> list[str]:
    """Lets nothing be moved over `output`, as of a mount point; gives the names moved into it."""
    replace, moved = os.replace, []

    def mounted(source: Path, target: Path) -> None:
        if Path(target) == output:
            raise OSError(errno.EBUSY, "Device or resource busy")
        replace(source, target)
        if Path(target).parent == output:
            moved.append(Path(target).name)

    monkeypatch.setattr(os, "replace", mounted)
    return moved


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_folder_may_be_a_mount_point(
    kind: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    moved = fill(monkeypatch, tmp_path / "out")
    report = train(kind, tmp_path / "out", texts)
    assert report.written
    assert sorted(contents(tmp_path / "out")) == FILES[kind] == sorted(moved)
    assert moved[0] == "tokenizer_config.json"
    assert not train(kind, tmp_path / "out", texts).written


def test_an_empty_folder_may_lie_where_nothing_can_be_written(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and access(path, mode))
    fill(monkeypatch, tmp_path / "out")
    assert train("bpe", tmp_path / "out", texts).written
    with pytest.raises(UserError, match=f"cannot write into {tmp_path}: permission denied"):
        train("bpe", tmp_path / "new" / "below", texts)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class Killed(BaseException):
    """Ends a run where a kill would."""


def killed_after(moves: int, output: Path, patch: pytest.MonkeyPatch) -> None:
    """Lets the process be killed as soon as so many files were moved into `output`."""
    replace, moved = os.replace, []

    def mounted(source: Path, target: Path) -> None:
        if Path(target).parent == output:
            if len(moved) == moves:
                raise Killed
            moved.append(target)
        replace(source, target)

    patch.setattr(os, "replace", mounted)
    patch.setattr(module.shutil, "rmtree", lambda *_, **__: None)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_between_two_moves_the_same_command_finishes(
    kind: str, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(kind, tmp_path / "whole", texts)
    for moves in range(len(FILES[kind])):
        output = tmp_path / f"out{moves}"
        output.mkdir()
        with monkeypatch.context() as patch:
            killed_after(moves, output, patch)
            with pytest.raises(Killed):
                train(kind, output, texts)
        assert len(list(output.iterdir())) == moves + 1  # the rest lies in a hidden folder
        assert len([name for name in FILES[kind] if (output / name).exists()]) == moves
        assert train(kind, output, texts).written
        assert contents(output) == contents(tmp_path / "whole")


def test_killed_between_two_moves_another_command_is_refused(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch:
        killed_after(2, tmp_path / "out", patch)
        with pytest.raises(Killed):
            train("bpe", tmp_path / "out", texts)
    before = {
        n: (tmp_path / "out" / n).read_bytes() for n in ("merges.txt", "tokenizer_config.json")
    }
    for kind in ("bpe", "byte-bpe", "wordpiece"):
        with pytest.raises(
            UserError, match=r"out holds merges.txt, tokenizer_config.json; expected"
        ):
            train(kind, tmp_path / "out", texts, size=300)
        assert contents(tmp_path / "out") == before
    assert train("bpe", tmp_path / "out", texts).written


def test_parent_folders_are_not_made_for_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        train("bpe", tmp_path / "new" / "x" / "y", tmp_path / "missing")
    assert nothing_beside(tmp_path / "new")


@pytest.mark.parametrize("inside", [True, False])
def test_what_a_kill_left_goes_with_the_next_run(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    output = tmp_path / "[out]"
    if inside:
        output.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            train("bpe", output, texts)
    home = output if inside else tmp_path
    (left,) = home.iterdir()
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = [left.name.replace(f".{os.getpid()}.", f".{pid}.") for pid in (ended.pid, os.getppid())]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / f".other{names[0][6:]}").mkdir()  # of another output
    assert train("wordpiece", output, texts).written
    assert sorted(contents(output)) == FILES["wordpiece"]
    beside = sorted(path.name for path in tmp_path.iterdir())
    assert beside == sorted([names[1], f".other{names[0][6:]}", "[out]"])
