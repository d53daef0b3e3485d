"""Archives: read as streams, nothing extracted; what is hostile, damaged or cut is told."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import tarfile
import time
from pathlib import Path

import pytest

from gptbert.datasets.documents import Document, Reject, find_sources, read_documents

GOOD = b"Good text.\n"


def tar(members: dict[str, bytes | tarfile.TarInfo], format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of files, and of headers as they are given."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def header(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, link
    return info


def read(path: Path, content: bytes, format: str = "auto") -> tuple[list[str], dict[str, str]]:
    """Writes and reads a file -> (member: text of documents, {place: kind} of rejects)."""
    path.write_bytes(content)
    folder = sorted(os.listdir(path.parent))
    (source,) = find_sources([str(path)], format)
    found = list(read_documents(source))
    assert sorted(os.listdir(path.parent)) == folder
    assert all(item.end <= source.bytes for item in found)
    good = [item.source.removeprefix(f"{path}:") for item in found if isinstance(item, Document)]
    bad = {
        item.source.removeprefix(f"{path.parent}/"): item.kind
        for item in found
        if isinstance(item, Reject)
    }
    return good, bad


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.tgz", "a.txz", "no_suffix"])
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_are_read_in_order(tmp_path: Path, name: str, format: int) -> None:
    pack = {"gz": gzip.compress, "xz": lzma.compress}.get(name[-2:], lambda raw: raw)
    members = {"b/z.txt": GOOD, "b/folder": header(tarfile.DIRTYPE), "a/Ünï.md": GOOD * 900}
    if format != tarfile.USTAR_FORMAT:
        members["long/" * 60 + "name.txt"] = GOOD
    good, bad = read(tmp_path / name, pack(tar(members, format)))
    assert good == [key for key in members if key != "b/folder"]
    assert not bad


def test_members_are_read_by_their_own_format(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar({"a.jsonl": b'{"text": "A"}\n{"text": "B"}', "b.md": b"# C\n\n_D_"}))
    (source,) = find_sources([str(path)])
    found = [(item.source, item.id, item.text) for item in read_documents(source)]
    assert found == [
        (f"{path}:a.jsonl", "1", "A"),
        (f"{path}:a.jsonl", "2", "B"),
        (f"{path}:b.md", "b.md", "C\n\nD"),
    ]


def test_hostile_members_are_rejects_and_nothing_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    members = {
        "../../evil.txt": GOOD,
        "/tmp/evil.txt": GOOD,
        "a/../../evil.txt": GOOD,
        "b\\..\\..\\evil.txt": GOOD,
        "C:\\evil.txt": GOOD,
        "d:/evil.txt": GOOD,
        "link": header(tarfile.SYMTYPE, "/etc/passwd"),
        "hard": header(tarfile.LNKTYPE, "good.txt"),
        "device": header(tarfile.CHRTYPE),
        "block": header(tarfile.BLKTYPE),
        "pipe": header(tarfile.FIFOTYPE),
        "odd": header(b"Z"),
        "a/._x": GOOD,
        "./.git/config": GOOD,
        "line\nbreak.txt": b"",
        "./good.txt": GOOD,
        "a:b.txt": GOOD,
    }
    good, bad = read(folder / "a.tar", tar(members))
    assert good == ["./good.txt", "a:b.txt"]
    out, absolute = (
        f"an archive member {what}"
        for what in ("whose path leads out of the archive", "with an absolute path")
    )
    assert bad == {
        "a.tar:../../evil.txt": out,
        "a.tar:/tmp/evil.txt": absolute,
        "a.tar:a/../../evil.txt": out,
        "a.tar:b\\..\\..\\evil.txt": out,
        "a.tar:C:\\evil.txt": absolute,
        "a.tar:d:/evil.txt": absolute,
        "a.tar:link": "a symbolic link in an archive",
        "a.tar:hard": "a hard link in an archive",
        "a.tar:device": "a device in an archive",
        "a.tar:block": "a device in an archive",
        "a.tar:pipe": "a pipe in an archive",
        "a.tar:odd": "an archive member of an unknown kind",
        "a.tar:a/._x": "a hidden file",
        "a.tar:./.git/config": "a hidden file",
        "a.tar:line\\nbreak.txt": "an empty file",
    }
    assert os.listdir(tmp_path) == ["in"] and os.listdir(folder) == ["a.tar"]


def test_a_bad_member_does_not_stop_the_next(tmp_path: Path) -> None:
    members = {
        "rubbish.bin": os.urandom(300_000),
        "a.txt": GOOD,
        "cut.gz": gzip.compress(os.urandom(300_000).hex().encode())[:-1000],
        "b.txt": GOOD,
        "latin1.txt": "Caf\u00e9 ".encode("latin-1") + GOOD * 99,
        "fake.xz": GOOD,
        "c.txt": GOOD,
    }
    good, bad = read(tmp_path / "a.tar.gz", gzip.compress(tar(members)))
    assert good == ["a.txt", "b.txt", "c.txt"]
    assert bad == {
        "a.tar.gz:rubbish.bin": "binary data, not text",
        "a.tar.gz:cut.gz": "the compressed file is damaged or cut short",
        "a.tar.gz:latin1.txt:1": "not UTF-8",
        "a.tar.gz:fake.xz": "not compressed as its name says",
    }


def test_archives_within_archives(tmp_path: Path) -> None:
    content, place = tar({"x.txt.xz": lzma.compress(GOOD)}), "x.txt.xz"
    for depth in range(2):
        name = f"{depth}.tar.gz"
        content, place = tar({name: gzip.compress(content)}), f"{name}:{place}"
    good, bad = read(tmp_path / "a.tar", content)
    assert good == [place] and not bad
    good, bad = read(tmp_path / "a.tar", tar({"b.tar": content, "good.txt": GOOD}))
    assert good == ["good.txt"]
    assert list(bad.values()) == ["archives within archives"]


@pytest.mark.parametrize("pack", ["", ".gz", ".xz"])
def test_cut_archives_keep_what_came_before(tmp_path: Path, pack: str) -> None:
    packer = {"": lambda raw: raw, ".gz": gzip.compress, ".xz": lzma.compress}[pack]
    members = {f"{n}.txt": os.urandom(9_000).hex().encode() for n in range(20)}
    packed = packer(tar(members))
    good, bad = read(tmp_path / f"a.tar{pack}", packed[: len(packed) // 2])
    assert good == [f"{number}.txt" for number in range(len(good))]
    assert 6 <= len(good) <= 10
    cut = "the file is cut short" if not pack else "the compressed file is damaged or cut short"
    assert bad[f"a.tar{pack}"] == cut
    assert set(bad) <= {f"a.tar{pack}", f"a.tar{pack}:{len(good)}.txt"}


def test_an_archive_cut_between_members_is_told(tmp_path: Path) -> None:
    content = tar({"a.txt": GOOD, "b.txt": GOOD})
    assert read(tmp_path / "a.tar", content[:1024]) == (
        ["a.txt"],
        {"a.tar": "the archive is cut short"},
    )


def test_a_damaged_header_in_the_middle_is_told(tmp_path: Path) -> None:
    content = bytearray(tar({"a.txt": GOOD, "b.txt": GOOD}))
    content[1024 + 5] ^= 1
    good, bad = read(tmp_path / "a.tar", bytes(content))
    assert good == ["a.txt"]
    assert bad == {"a.tar": "the archive is damaged"}


def test_what_follows_the_end_mark_is_told(tmp_path: Path) -> None:
    content = tar({"a.txt": GOOD})
    assert read(tmp_path / "a.tar", content * 2) == (
        ["a.txt"],
        {"a.tar": "the archive goes on after its end mark"},
    )


def test_empty_archives(tmp_path: Path) -> None:
    assert read(tmp_path / "a.tar", tar({})) == ([], {"a.tar": "an empty archive"})
    folder = tar({"folder": header(tarfile.DIRTYPE)})
    assert read(tmp_path / "b.tar", folder) == ([], {"b.tar": "an empty archive"})
    assert read(tmp_path / "c.tar", b"") == ([], {"c.tar": "an empty file"})


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_giant_extended_headers_take_no_memory(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 8 << 30
    content = tar({"a.txt": GOOD})[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(9000)
    good, bad = read(tmp_path / "a.tar", content)
    assert good == ["a.txt"]
    assert bad == {"a.tar": "the archive is damaged"}


def extended(records: bytes) -> bytes:
    """An archive whose first header is a POSIX extended one that holds `records`."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    return info.tobuf() + records + bytes(-len(records) % 512) + tar({"a.txt": GOOD})


DAMAGED = {
    "too long": b"99 path=x\n",
    "no length": b"x path=y\n",
    "no size": b"15 size=notten\n",
    "empty": b"0 ",
    "only a length": b"12",
    "padded": b"%04400d path=x\n" % 4408,
    "padded behind": (b"0000100%04400d path=" % 0).ljust(20_000, b"x"),
    "many digits": b"5011 size=%s\n" % (b"1" * 5000),
    "21 digits": b"30 size=%021d\n" % 7,
    "other digits": "13 size=\u0661\u0662\n".encode(),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_extended_headers(tmp_path: Path, kind: str) -> None:
    content = extended(DAMAGED[kind])
    assert read(tmp_path / "a.tar", content) == ([], {"a.tar": "the archive is damaged"})


def test_many_records_take_linear_time(tmp_path: Path) -> None:
    content = extended(b"2 " * (1 << 18))
    start = time.process_time()
    assert read(tmp_path / "a.tar", content) == (["a.txt"], {})
    assert time.process_time() - start < 2


def test_what_nobody_foresaw_is_a_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such\x1b thing")

    monkeypatch.setattr("gptbert.datasets.documents.is_tar", fail)
    assert read(tmp_path / "a.txt", GOOD) == ([], {"a.txt": "cannot be read"})


def test_a_size_that_is_a_lie(tmp_path: Path) -> None:
    info = tarfile.TarInfo("big.txt")
    info.size = 1 << 40
    good, bad = read(tmp_path / "a.tar", tar({"a.txt": GOOD})[:1024] + info.tobuf() + GOOD)
    assert good == ["a.txt"]
    assert bad["a.tar:big.txt"] == "the file is cut short"


def test_sparse_members_are_rejects(tmp_path: Path) -> None:
    info = tarfile.TarInfo("sparse.txt")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[482] = 1  # one more block of the map
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    content = bytes(block) + bytes(512) + b"x" * 512 + tar({"a.txt": GOOD})
    good, bad = read(tmp_path / "a.tar", content)
    assert good == ["a.txt"]
    assert bad == {"a.tar:sparse.txt": "a sparse file in an archive"}
