"""However `gptbert prepare-corpus` ends, the same command goes on and the store is the same."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from gptbert.corpora import prepare as module
from gptbert.corpora.units import Setup, UnitEncoder, finished_pieces
from gptbert.errors import RunFailed, UserError
from gptbert.pipeline.store import TokenStore
from tests.tiny_corpus import content, prepare, start, write_corpus, write_vocabulary
from tests.tiny_store import flip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A corpus of many portions, and its store `whole`, prepared without interruption."""
    folder = tmp_path_factory.mktemp("corpus")
    write_vocabulary(folder / "vocab.txt")
    write_corpus(folder / "text", 160)
    # One file of many documents, the longest unit: many pieces. And every document twice.
    texts = [path.read_text() for path in sorted((folder / "text").iterdir())]
    for number in range(0, len(texts), 10):
        texts[number] += "\nA paragraph with a \0 in it.\n"
    (folder / "text" / "0100b.txt").write_text("\n".join(texts))
    for number in (20, 21, 90):
        (folder / "text" / f"{number:04d}b.txt").write_bytes(bytes(range(256)) * 9)
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch, folder, "whole", workers=2)
    rows = [json.loads(line) for line in (folder / "whole" / "rejects.jsonl").open()]
    assert [(Path(row["file"]).name, row["count"]) for row in rows] == [
        ("0020b.txt", 1),
        ("0021b.txt", 1),
        ("0090b.txt", 1),
        ("0100b.txt", 16),
    ]
    return folder


@contextlib.contextmanager
def running(folder: Path, output: str, pieces: int, **choices):
    """The command, when it has left so many pieces; it is gone at the end."""
    process = start(folder, output, **choices)
    try:
        while len(pieces_of(folder / output)) < pieces:
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def pieces_of(store: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(n for n in os.listdir(store / "unfinished") if not n.startswith("."))
    return []


def workers_of(process) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


def wait_until_gone(processes: list[int]) -> None:
    end = time.monotonic() + 10
    for number in processes:
        while time.monotonic() < end and Path(f"/proc/{number}").exists():
            stat = Path(f"/proc/{number}/stat")
            with contextlib.suppress(OSError):
                if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                    break  # dead, not yet collected by whatever adopted it
            time.sleep(0.01)
        assert time.monotonic() < end, f"process {number} is still there"


@pytest.mark.e2e
@pytest.mark.parametrize("pieces", [0, 1, 12])
def test_killed_at_any_moment_it_goes_on(whole, monkeypatch, pieces):
    output = f"killed{pieces}"
    with running(whole, output, pieces) as process:
        children = workers_of(process) if pieces else []
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    wait_until_gone(children)
    assert not (whole / output / "manifest.json").exists()
    left = pieces_of(whole / output)
    assert len(left) >= pieces
    if left:
        with pytest.raises(UserError, match="is an unfinished token store"):
            TokenStore.open(whole / output)
    asked = []
    encode_units = module.encode_units

    def watched(setup, tasks, workers, stop):
        asked.extend(tasks)
        return encode_units(setup, tasks, workers, stop)

    monkeypatch.setattr(module, "encode_units", watched)
    prepare(monkeypatch, whole, output)
    # What was finished is not asked for again, and a unit goes on behind its last piece.
    done = {int(name[:6]) for name in left if "-last" in name}
    assert not done & {number for number, _, _ in asked}
    there = {number: len(names) for number, _, names in asked if names}
    assert there == {
        number: count
        for number in {int(name[:6]) for name in left} - done
        if (count := sum(int(name[:6]) == number for name in left))
    }
    assert content(whole / output) == content(whole / "whole")


@pytest.mark.e2e
@pytest.mark.parametrize("whom", ["the command", "its group"])
def test_asked_to_stop_it_keeps_what_is_done(whole, monkeypatch, whom):
    output = f"stopped-{whom[:3]}"
    with running(whole, output, 3) as process:
        children = workers_of(process)
        if whom == "the command":
            process.terminate()
        else:  # as `timeout` does, and what manages services
            os.killpg(process.pid, signal.SIGTERM)
        told = process.communicate(timeout=20)[1]
    assert process.returncode == 75
    assert told.startswith("gptbert: stopped on request; what is encoded is kept")
    assert told.count("\n") == 1
    wait_until_gone(children)
    assert len(pieces_of(whole / output)) >= 3
    prepare(monkeypatch, whole, output)
    assert content(whole / output) == content(whole / "whole")


@pytest.mark.e2e
def test_interrupted_from_the_keyboard_it_leaves_nobody_behind(whole):
    with running(whole, "interrupted", 3) as process:
        children = workers_of(process)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert told == "gptbert: interrupted from the keyboard\n"
    assert len(children) >= 2
    wait_until_gone(children)


@pytest.mark.e2e
def test_two_at_once_are_refused(whole, monkeypatch):
    with (
        running(whole, "busy", 1),
        pytest.raises(UserError, match="another process is working in .*busy"),
    ):
        prepare(monkeypatch, whole, "busy")


@pytest.mark.e2e
def test_a_disk_that_takes_no_more(whole, monkeypatch):
    """A limit on the size of files stands in for a full disk: the big piece cannot be written."""
    monkeypatch.setitem(module.__dict__, "PIECE_TOKENS", 1 << 20)
    monkeypatch.setattr("tests.tiny_corpus.PORTION", {"PIECE_TOKENS": 1 << 20, "UNIT_BYTES": 4000})
    process = start(whole, "full", limit=26_624)  # the plan is smaller
    told = process.communicate(timeout=20)[1]
    assert process.returncode == 2
    assert told.startswith("gptbert: a file would be larger than it may be (`ulimit -f`")
    assert " bytes needed for unfinished/" in told and "raise the limit, then start" in told
    assert told.count("\n") == 1
    assert not list((whole / "full").rglob("*.partial"))
    prepare(monkeypatch, whole, "full")
    assert content(whole / "full") == content(whole / "whole")


def test_what_a_killed_worker_was_writing_is_removed(whole, monkeypatch):
    """One worker meets a full disk; the others are killed, wherever they are."""

    def meet_a_full_disk(setup, *_):
        piece = Path(setup.output, "unfinished", ".000007-0000-last.npz.4917.partial")
        piece.parent.mkdir()
        piece.write_bytes(b"half")
        yield 7, 12
        raise UserError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="the disk is full"):
        patch.setattr(module, "encode_units", meet_a_full_disk)
        prepare(patch, whole, "half")
    assert not list((whole / "half").rglob("*.partial"))
    prepare(monkeypatch, whole, "half")
    assert content(whole / "half") == content(whole / "whole")


def test_a_crash_while_shards_are_written(whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module.StoreWriter, "commit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(patch, whole, "crashed")
    assert (whole / "crashed" / "train" / "00000.tokens").exists()
    assert not (whole / "crashed" / "manifest.json").exists()
    monkeypatch.setattr(module, "encode_units", lambda setup, tasks, *_: iter(tasks))
    prepare(monkeypatch, whole, "crashed")  # no unit is encoded again
    assert content(whole / "crashed") == content(whole / "whole")


def test_a_killed_worker_is_told_with_what_it_read(whole, monkeypatch):
    encode_units = module.encode_units

    def killing(*arguments):
        for count, found in enumerate(encode_units(*arguments)):
            if count == 3:
                for child in workers_of(type("", (), {"pid": os.getpid()})):
                    with contextlib.suppress(ProcessLookupError):
                        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                            os.kill(child, signal.SIGKILL)
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(module, "encode_units", killing)
        with pytest.raises(RunFailed, match=r"a worker that read .*\.txt .*exit code -9"):
            prepare(patch, whole, "starved", workers=2)
    prepare(monkeypatch, whole, "starved")
    assert content(whole / "starved") == content(whole / "whole")


def test_a_damaged_piece_is_named(whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "_merge", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(patch, whole, "damaged")
    pieces, done = finished_pieces(module.open_files(whole / "damaged"))
    assert len(pieces) == len(done) > 5
    many = max(pieces.values(), key=len)
    assert len(many) > 5
    flip(whole / "damaged" / many[1], 200)
    with pytest.raises(UserError, match=rf"{many[1]} is damaged .*; delete it and start"):
        prepare(monkeypatch, whole, "damaged")
    (whole / "damaged" / many[1]).unlink()
    prepare(monkeypatch, whole, "damaged")
    assert content(whole / "damaged") == content(whole / "whole")


def test_a_tokenizer_that_changes_meanwhile_is_noticed(whole):
    setup = Setup(str(whole / "vocab.txt"), None, "f" * 64, str(whole / "x"), 0.0, 0, 100)
    with pytest.raises(UserError, match="changed while the corpus was read"):
        UnitEncoder(setup)
