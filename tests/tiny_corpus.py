"""A small corpus, a vocabulary for it, and `gptbert prepare-corpus` on them, a little at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from gptbert.corpora import prepare as module
from gptbert.corpora.prepare import Request

WORDS = ["the", "of", "and", "to", "in", "a", "is", "that", "it", "was", "for", "on", "they", "one"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PORTION = {"UNIT_BYTES": 4000, "PIECE_TOKENS": 400}
SHARD_TOKENS = 700
QUIET = True

_DRIVER = """\
import sys, time
from gptbert import cli
from gptbert.pipeline import store_files, store_writer
from gptbert.corpora import prepare as module

write = store_files.LocalFiles.write

def write_slowly(*arguments):
    time.sleep(0.02)
    write(*arguments)

store_files.LocalFiles.write = write_slowly  # in the workers too, who import this file

if __name__ == "__main__":
    for name, value in {portion}.items():
        setattr(module, name, value)
    store_writer.StoreWriter.__init__.__kwdefaults__["shard_tokens"] = {shard_tokens}
    sys.exit(cli.main(["prepare-corpus", *sys.argv[1:]]))
"""


def write_vocabulary(path: Path, words=WORDS) -> Path:
    """A vocab.txt of `words`, single letters not among them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{entry}\n" for entry in [*SPECIALS, *words, ".", "##s"]))
    return path


def write_corpus(folder: Path, files: int = 30, seed: int = 0, sentences: int = 12) -> Path:
    """Text files of a document each, a sentence a line."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        lines = [
            " ".join(rng.choice(WORDS, rng.integers(3, 15))).capitalize() + "."
            for _ in range(rng.integers(2, sentences))
        ]
        (folder / f"{number:04d}.txt").write_text("\n".join(lines) + "\n")
    return folder


def prepare(monkeypatch, tmp_path: Path, output: str | Path = "store", **changes):
    """Prepares `tmp_path/text` with `tmp_path/vocab.txt` in small portions; returns the report."""
    for name, value in PORTION.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setitem(module.StoreWriter.__init__.__kwdefaults__, "shard_tokens", SHARD_TOKENS)
    settings = {
        "tokenizer": str(tmp_path / "vocab.txt"),
        "inputs": (str(tmp_path / "text"),),
        "format": "paragraphs",
        "held_out": 0.2,
        "workers": 1,
    } | changes
    where = output if "://" in str(output) else str(tmp_path / output)
    request = Request(output=str(where), **settings)
    return module.prepare_corpus(request, quiet=QUIET)


def start(tmp_path: Path, output: str = "store", workers: int = 2, limit: int = 0):
    """Starts the same as a command of its own, in a process group of its own, writing slowly.

    With `limit`, no file may grow beyond so many bytes.
    """
    driver = tmp_path / "driver.py"
    driver.write_text(_DRIVER.format(portion=PORTION, shard_tokens=SHARD_TOKENS))
    command = [
        sys.executable,
        str(driver),
        f"--tokenizer={tmp_path / 'vocab.txt'}",
        f"--input={tmp_path / 'text'}",
        f"--output={tmp_path / output}",
        "--format=paragraphs",
        "--held_out=0.2",
        f"--workers={workers}",
        "--quiet",
    ]
    if limit:
        command = ["sh", "-c", f'ulimit -f {limit // 512}; exec "$@"', "sh", *command]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parent.parent,
        # Tests that run in the background of a shell inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def content(store: Path) -> dict[str, bytes]:
    """Every file of a store but its report, which tells the time that was taken."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name not in ("report.json", ".lock")
    }
