"""Lines: what ends one, which encodings are refused and how, damaged compression."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbert.datasets import lines
from gptbert.datasets.lines import read_lines, read_rows
from gptbert.errors import UserError


def test_only_line_feeds_end_lines() -> None:
    content = "a\u0085b\u2028c\x0bd\x0ce\x1cf\rg\r\r\nlast\r\n"
    found = list(read_lines(io.BytesIO(content.encode())))
    assert found == ["a\u0085b\u2028c\x0bd\x0ce\x1cf\rg\r", "last"]


def test_byte_order_mark_is_left_out_once() -> None:
    assert list(read_lines(io.BytesIO("\ufeff\ufeffa\n\ufeffb".encode()))) == ["\ufeffa", "\ufeffb"]


@pytest.mark.property
@given(st.lists(st.text('ab\t"\u0085\u2028\x0b\x1c\xe9\ufeff\U0001f388'), min_size=1))
def test_lines_come_back_as_written(written: list[str]) -> None:
    content = "".join(line + "\n" for line in written).encode()
    expected = [written[0].removeprefix("\ufeff"), *written[1:]]
    assert list(read_lines(io.BytesIO(content))) == expected


@pytest.mark.parametrize("pack", [None, gzip.compress, lzma.compress])
def test_compressed_copies_have_one_content_and_fingerprint(tmp_path: Path, pack) -> None:
    content = b"one\ntwo\n"
    suffix = {None: "", gzip.compress: ".gz", lzma.compress: ".xz"}[pack]
    path = tmp_path / f"file.tsv{suffix}"
    path.write_bytes(pack(content) if pack else content)
    digest = hashlib.sha256()
    assert list(read_lines(path, digest=digest)) == ["one", "two"]
    assert digest.hexdigest() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_damaged_compression_names_the_file(tmp_path: Path, suffix: str, pack) -> None:
    packed = pack(b"some text\n" * 1000)
    cut, flipped, other = (tmp_path / f"{name}{suffix}" for name in ("cut", "flipped", "other"))
    cut.write_bytes(packed[:-12])
    flipped.write_bytes(packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:])
    other.write_bytes(b"plain text\n")
    for path in (cut, flipped, other):
        with pytest.raises(UserError, match=rf"{path}: the compressed file is damaged"):
            list(read_lines(path))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named_with_the_command_that_converts(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "data.tsv"
    path.write_bytes("sentence\tlabel\n".encode(encoding))
    with pytest.raises(UserError, match=r"UTF-16.*byte 0 of line 1.*iconv -f UTF-16"):
        list(read_lines(path))


def test_latin1_is_told_with_line_and_offset(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_bytes("sentence\nein Caf\u00e9\n".encode("latin-1"))
    with pytest.raises(UserError, match=rf"{path}:2: not UTF-8 \(byte 0xe9 at offset 16 .*iconv"):
        list(read_lines(path))


@pytest.mark.parametrize(
    ("content", "encoding"), [(b"caf\xe9\n", "WINDOWS-1252"), (b"\xff\xfea\0", "UTF-16")]
)
def test_what_comes_through_a_pipe_is_converted_there(content: bytes, encoding: str) -> None:
    with pytest.raises(
        UserError, match=r"`\.\.\. \| iconv -f ENC -t UTF-8 \| gptbert".replace("ENC", encoding)
    ):
        list(read_lines(io.BytesIO(content)))


def test_nul_bytes_are_refused_with_their_place() -> None:
    with pytest.raises(UserError, match=r":2: a NUL byte at offset 5"):
        list(read_lines(io.BytesIO(b"abc\nd\0e\n")))


def test_endless_line_is_refused_before_it_fills_the_memory(monkeypatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1 << 20)
    stream = io.BytesIO(b"x" * (1 << 22))
    with pytest.raises(UserError, match=r"longer than 1 MiB"):
        list(read_lines(stream))
    assert stream.tell() <= (1 << 20) + 1


def test_missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "now.tsv").write_text("")
    with pytest.raises(
        UserError,
        match=rf"no\.tsv: cannot be read: No such file \(did you mean 'now.tsv'\?\); "
        rf"in {tmp_path} there is now.tsv",
    ):
        list(read_lines(tmp_path / "no.tsv"))
    with pytest.raises(UserError, match=r"cannot be read: Is a directory"):
        list(read_lines(tmp_path))


def test_rows_end_at_trailing_empty_lines_and_have_none_between() -> None:
    assert list(read_rows(io.BytesIO(b"a\nb\r\n\r\n\n"))) == [(1, "a"), (2, "b")]
    with pytest.raises(UserError, match=r":2: an empty line between the rows"):
        list(read_rows(io.BytesIO(b"a\n\nb\n")))


def test_xz_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 29}]
    path.write_bytes(lzma.compress(b"one\n", filters=filters))
    with pytest.raises(UserError, match=r"tsv.xz: xz that takes too much memory .*; unpack it"):
        list(read_lines(path))


def test_xz_files_are_closed_and_may_have_several_streams(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv.xz"
    path.write_bytes(lzma.compress(b"one\ntw") + lzma.compress(b"o\n"))
    with lines.open_file(path) as stream:
        file = stream.raw._stream
        assert stream.read() == b"one\ntwo\n"
    assert file.closed
