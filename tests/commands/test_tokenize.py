"""`gptbert tokenize`: one line out for each line in, whatever is in them."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gptbert.commands import tokenize
from gptbert.errors import UserError
from tests.tokenizers import tiny_bpe, tiny_sentencepiece

PROGRAM = "import sys; from gptbert.commands.tokenize import main; sys.exit(main(sys.argv[1:]))"
ROOT = Path(__file__).parents[2]
ENTRIES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "]", "mask", "play", "##ing", "é"]


@pytest.fixture
def vocab(tmp_path: Path) -> str:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(ENTRIES), encoding="utf-8")
    return f"--tokenizer={path}"


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))


def start(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=stdout, stderr=pipe)


def test_texts(vocab: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert tokenize.main([vocab, "Playing [MASK]", "", "xyz"]) == 0
    assert capsysbinary.readouterr().out == b"play ##ing [ mask ]\n\n[UNK]\n"


def test_ids_between_texts(vocab: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert tokenize.main([vocab, "play", "--ids", "playing"]) == 0
    assert capsysbinary.readouterr().out == b"8\n8 9\n"


def test_cased(vocab: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert tokenize.main([vocab, "--cased", "Play play \u00e9"]) == 0
    assert capsysbinary.readouterr().out.decode() == "[UNK] play é\n"


def test_lines_in_are_lines_out(
    vocab: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    lines = ["play", "", "play\rplay\r", "play\u2028play\u0085", "\x0b\x0c\x1c\x00", "playing"]
    out = b"play\n\nplay play\nplay play\n\nplay ##ing\n"
    for ending in ("", "\n"):
        data = ("\n".join(lines) + ending).encode()
        feed(monkeypatch, data)
        assert tokenize.main([vocab]) == 0
        assert capsysbinary.readouterr().out == out
        (tmp_path / "texts").write_bytes(data)
        assert tokenize.main([vocab, f"--input={tmp_path / 'texts'}"]) == 0
        assert capsysbinary.readouterr().out == out


@pytest.mark.parametrize(("data", "out"), [(b"", b""), (b"\n", b"\n"), (b"\n\n \n", b"\n\n\n")])
def test_empty_input(
    vocab: str,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    data: bytes,
    out: bytes,
) -> None:
    feed(monkeypatch, data)
    assert tokenize.main([vocab]) == 0
    assert capsysbinary.readouterr().out == out


def test_refuses_what_is_not_utf8(
    vocab: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    feed(monkeypatch, b"play\ncaf\xe9\nplay\n")
    with pytest.raises(UserError, match=r"standard input, line 2: byte 0xe9 \(byte 4 of the line"):
        tokenize.main([vocab])
    assert capsysbinary.readouterr().out == b"play\n"
    path = tmp_path / "texts"
    path.write_bytes("play\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"texts, line 1: byte 0xff"):
        tokenize.main([vocab, f"--input={path}"])
    with pytest.raises(UserError, match=r"TEXT, argument 2: byte 0xe9"):
        tokenize.main([vocab, "play", "caf\udce9"])


def test_reads_compressed_files(
    vocab: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    for suffix, compress in ((".gz", gzip.compress), (".xz", lzma.compress)):
        path = tmp_path / f"texts{suffix}"
        path.write_bytes(compress(b"play\nplaying\n"))
        assert tokenize.main([vocab, f"--input={path}"]) == 0
        assert capsysbinary.readouterr().out == b"play\nplay ##ing\n"
        path.write_bytes(path.read_bytes()[:-6])
        with pytest.raises(UserError, match=f"texts{suffix}: the compressed file is damaged"):
            tokenize.main([vocab, f"--input={path}"])
        path.write_bytes(b"play\n")
        with pytest.raises(UserError, match=f"texts{suffix}: the compressed file is damaged"):
            tokenize.main([vocab, f"--input={path}"])
        capsysbinary.readouterr()  # what came before the cut was printed


def test_a_byte_order_mark_is_no_part_of_the_first_line(
    vocab: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    tiny_bpe.gpt2().save(tmp_path / "bytes")
    (tmp_path / "plain").write_bytes(b"The\n\xef\xbb\xbfThe\n")
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfThe\n\xef\xbb\xbfThe\n")
    told = []
    for name in ("plain", "marked"):
        tokenize.main([f"--tokenizer={tmp_path / 'bytes'}", f"--input={tmp_path / name}"])
        told.append(capsysbinary.readouterr().out)
    first, second = told[0].splitlines()
    assert told[0] == told[1] and first != second


def test_refuses_missing_files(vocab: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*/none: No such file"):
        tokenize.main([vocab, f"--input={tmp_path / 'none'}"])
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        tokenize.main([vocab, f"--input={tmp_path}"])
    with pytest.raises(UserError, match="no tokenizer at"):
        tokenize.main([f"--tokenizer={tmp_path / 'none'}", "play"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "required: --tokenizer"),
        (["--tokenizer=v", "--caesd", "x"], "unknown argument --caesd (did you mean '--cased'?)"),
        (["--tokenizer=v", "--input=f", "x"], "--input: not allowed with TEXT"),
    ],
)
def test_wrong_flags_are_bad_input(arguments: list[str], told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        tokenize.main(arguments)


def test_example_of_the_help_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        tokenize.main(["--help"])
    assert stop.value.code == 0
    example = capsys.readouterr().out.split("example:\n")[1]
    program = f'{shlex.quote(sys.executable)} -c {shlex.quote(PROGRAM)} "$@"'
    script = f"gptbert() {{ shift; {program}; }}\n{example}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert done.stdout == b"play ##ing !\n"


def test_streams_line_by_line(vocab: str) -> None:
    with start(vocab) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(2):  # each answer comes before the next line is sent
            process.stdin.write("playing é\n".encode())
            process.stdin.flush()
            assert process.stdout.readline() == b"play ##ing [UNK]\n"
        process.stdin.close()
        assert process.wait() == 0


def test_reader_that_leaves_is_no_error(vocab: str, tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_bytes(b"playing\n" * 100_000)
    with start(vocab, f"--input={path}") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"play ##ing\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_full_disk(vocab: str) -> None:
    with open("/dev/full", "wb") as full, start(vocab, "play", stdout=full.fileno()) as process:
        _, told = process.communicate()
        lines = told.decode().splitlines()
        assert lines[-1].endswith("UserError: cannot write the output: No space left on device")


def test_imports_no_jax() -> None:
    code = "import sys, gptbert.commands.tokenize; sys.exit('jax' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


@pytest.mark.parametrize(
    ("kind", "out"),
    [
        ("bpe", b"the</w> cat</w> did</w> n't</w>\nthe</w> \\n</w> cat</w>\n"),
        ("byte-bpe", "The Ġcat Ġdidn 't\nthe Ċ ca t\n".encode()),
    ],
)
def test_other_kinds(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], kind: str, out: bytes
) -> None:
    (tiny_bpe.gpt() if kind == "bpe" else tiny_bpe.gpt2()).save(tmp_path)
    for path in (tmp_path, tmp_path / "vocab.json", tmp_path / "tokenizer.json"):
        assert tokenize.main([f"--tokenizer={path}", "The cat didn't", "the\ncat"]) == 0
        assert capsysbinary.readouterr().out == out


def test_sentencepiece(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    tiny_sentencepiece.model("bpe").save(tmp_path)
    for path in (tmp_path, tmp_path / "spiece.model"):
        assert tokenize.main([f"--tokenizer={path}", "the cat"]) == 0
        assert capsysbinary.readouterr().out.decode() == "▁the ▁cat\n"


def test_the_line_feed_is_no_part_of_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A byte-level vocabulary would show it."""
    tiny_bpe.gpt2().save(tmp_path)
    for ending in (b"", b"\n"):
        feed(monkeypatch, b"the\n\n the\r" + ending)
        assert tokenize.main([f"--tokenizer={tmp_path}"]) == 0
        assert capsysbinary.readouterr().out.decode() == "the\n\nĠthe č\n"


def test_cased_is_for_wordpiece(tmp_path: Path) -> None:
    tiny_bpe.gpt().save(tmp_path)
    with pytest.raises(UserError, match="is of kind bpe, whose files settle the case"):
        tokenize.main([f"--tokenizer={tmp_path}", "--cased", "x"])


def test_help_is_ascii() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", PROGRAM, "--help"]
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0


def test_the_folder_of_a_run_keeps_its_tokenizer(
    vocab: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "model.json").write_text("{}")
    Path(vocab.partition("=")[2]).rename(tmp_path / "tokenizer" / "vocab.txt")
    assert tokenize.main([f"--tokenizer={tmp_path}", "playing"]) == 0
    assert capsysbinary.readouterr().out == b"play ##ing\n"


def test_standard_input_that_is_closed(vocab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="standard input is closed; expected TEXT"):
        tokenize.main([vocab])
