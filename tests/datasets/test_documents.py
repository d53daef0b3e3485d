"""Reading raw text: each format, what is kept and what is rejected of bad input, memory, hashes."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import pickle
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbert.datasets import document_streams
from gptbert.datasets.documents import (
    Document,
    Reject,
    document_hash,
    find_sources,
    is_held_out,
    read_documents,
)

WIKI = (
    '<doc id="12" url="http://en.wikipedia.org/wiki?curid=12" title="Anarchism">\nAnarchism\n\n'
    'Anarchism is a "philosophy".\nEtymology.\nThe term & more.\n\n</doc>\n'
    '<doc id="13" url="http://x?curid=13" title="A &quot;B&quot; > C">\nA "B" > C\n\n'
    "Text.\n</doc>\n"
)
CUT = "the compressed file is damaged or cut short"
PACKERS = {
    "": lambda raw: raw,
    ".gz": gzip.compress,
    ".xz": lambda raw: lzma.compress(raw, preset=0),
}


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, format: str = "auto", **options) -> list[Document | Reject]:
    sources = find_sources([str(path)], format, **options)
    return [found for source in sources for found in read_documents(source)]


def texts(found: list[Document | Reject]) -> list[str]:
    return [item.text for item in found if isinstance(item, Document)]


def rejects(found: list[Document | Reject], root: Path) -> list[tuple[str, str]]:
    """(place below `root`, kind) of each reject."""
    return [
        (item.source.removeprefix(f"{root}/"), item.kind)
        for item in found
        if isinstance(item, Reject)
    ]


# Formats


def test_text_is_one_document_a_file(tmp_path: Path) -> None:
    (found,) = read(write(tmp_path / "a.txt", "\ufeffA title\r\n\r\nOne. Two.\rThree.\n\n"))
    assert isinstance(found, Document)
    assert (found.id, found.format, found.notes) == ("a.txt", "text", ())
    assert found.text == "A title\n\nOne. Two.\nThree."
    assert found.source == str(tmp_path / "a.txt")


def test_hard_wrapped_text_is_joined_and_says_so(tmp_path: Path) -> None:
    line = "and so the long story of the two of them went on for a while"
    block = "\n".join([line] * 4)
    (found,) = read(write(tmp_path / "a.txt", f"{block}\n\n{block} the end.\n"))
    assert found.text == f"{' '.join([line] * 4)}\n\n{' '.join([line] * 4)} the end."
    assert found.notes == ("hard-wrapped lines joined to paragraphs",)
    (verse,) = read(write(tmp_path / "b.txt", "Tiger, tiger\nburning bright\nin the\nforests\nof"))
    assert verse.text.count("\n") == 4 and not verse.notes


def test_paragraphs_are_documents_between_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "\ufeffA.\nB.\n\n \t\nC.\r\n\r\nD.\nE.")
    found = read(path, "paragraphs")
    assert texts(found) == ["A.\nB.", "C.", "D.\nE."]
    assert [item.id for item in found] == ["1", "5", "7"]


def test_a_sentence_a_line_is_recognised_as_paragraphs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", 'One. \nTwo!\n"Three?"\n\nFour.\nFive.\n')
    assert [item.format for item in read(path)] == ["paragraphs"] * 2
    path = write(tmp_path / "b.txt", "A paragraph.\n\nAnother one.\n\nA third.\n")
    assert [item.format for item in read(path)] == ["text"]


@pytest.mark.parametrize("suffix", PACKERS)
def test_large_plain_text_is_taken_as_paragraphs(tmp_path: Path, suffix: str) -> None:
    block = b"word " * 20_000 + b"\n\n"
    packed = PACKERS[suffix](block * 180)
    found = read(write(tmp_path / f"a.txt{suffix}", packed), part_bytes=1 << 30)
    assert Counter(item.format for item in found) == {"paragraphs": 180}


@pytest.mark.parametrize("suffix", PACKERS)
def test_wikiextractor(tmp_path: Path, suffix: str) -> None:
    found = read(write(tmp_path / f"wiki_00{suffix}", PACKERS[suffix](WIKI.encode())))
    assert [item.id for item in found] == ["12", "13"]
    assert {item.format for item in found} == {"wikiextractor"}
    assert texts(found) == [
        'Anarchism is a "philosophy".\nEtymology.\nThe term & more.',
        "Text.",
    ]


def test_wikiextractor_keeps_a_first_line_that_is_not_the_title(tmp_path: Path) -> None:
    (found,) = read(write(tmp_path / "w", '<doc id="1" url="u" title="T">\nText of it.\n</doc>\n'))
    assert found.text == "Text of it."


def test_wikiextractor_damage_is_told_and_the_rest_kept(tmp_path: Path) -> None:
    doc = '<doc id="{0}" url="u" title="T">\nT\n\nText {0}.\n</doc>\n'
    unclosed = '<doc id="2" url="u" title="T">\nT\n\nlost\n'
    path = write(
        tmp_path / "w",
        doc.format(1) + "stray\nstray\n" + unclosed + doc.format(3) + '<doc id="4" title="T">\nT\n'
        "</doc>\n" + doc.format(5) + "</doc>\n" + unclosed,
    )
    found = read(path)
    assert texts(found) == ["Text 1.", "Text 3.", "Text 5."]
    assert rejects(found, tmp_path) == [
        ("w:6", "text outside <doc …> and </doc>"),
        ("w:8", "<doc …> without </doc>"),
        ("w:17", "a document without text"),
        ("w:26", "<doc …> without </doc>"),
    ]


def test_jsonl_fields(tmp_path: Path) -> None:
    rows = [{"text": "One.", "body": "Eins."}, {"id": "b", "text": "Two.\n", "body": "Zwei."}]
    path = write(tmp_path / "a", "".join(json.dumps(row) + "\r\n" for row in rows) + "\n\n")
    found = read(path)
    assert [(item.id, item.text, item.format) for item in found] == [
        ("1", "One.", "jsonl"),
        ("b", "Two.", "jsonl"),
    ]
    assert texts(read(path, text_field="body")) == ["Eins.", "Zwei."]


def test_jsonl_damage_is_told_line_by_line(tmp_path: Path) -> None:
    lines = [
        b'{"text": "good"}',
        b'{"text": "cut',
        b'{"txt": "other"}',
        b'["text"]',
        b'{"text": 5}',
        b'{"text": "a\\u0000b"}',
        b'{"text": "caf\xe9"}',
        b'{"text": "a\x00b"}',
        b'{"text": " "}',
        b'{"text": ' + b"[" * 100_000 + b"}",
        b'{"text": "good too"}',
    ]
    found = read(write(tmp_path / "a.jsonl", b"\n".join(lines)))
    assert texts(found) == ["good", "good too"]
    assert rejects(found, tmp_path) == [
        ("a.jsonl:2", "not JSON"),
        ("a.jsonl:3", "no text in field 'text'"),
        ("a.jsonl:4", "no text in field 'text'"),
        ("a.jsonl:5", "field 'text' holds no text"),
        ("a.jsonl:6", "a NUL byte"),
        ("a.jsonl:7", "not UTF-8"),
        ("a.jsonl:8", "a NUL byte"),
        ("a.jsonl:9", "a document without text"),
        ("a.jsonl:10", "not JSON"),
    ]


def test_lone_surrogates_are_repaired_and_lost_characters_kept(tmp_path: Path) -> None:
    lines = ['{"text": "a\\ud800b"}', '{"text": "\\ud83d\\ude00"}', '{"text": "c\ufffdd"}']
    lines.append('{"text": "e\ufffdf\\ud800g"}')
    found = read(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert texts(found) == ["a\ufffdb", "\U0001f600", "c\ufffdd", "e\ufffdf\ufffdg"]
    kept = "a character lost before (U+FFFD) is kept"
    assert [item.notes for item in found] == [
        ("half of a surrogate pair became U+FFFD",),
        (),
        (kept,),
        ("half of a surrogate pair became U+FFFD", kept),
    ]


# Bad input


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("empty.txt", b"", "an empty file"),
        ("blank.txt", b" \n\r\n\t", "no text in it"),
        ("rubbish.txt", bytes(range(256)) * 40, "binary data, not text"),
        ("rubbish.jsonl", bytes(range(256)) * 40, "binary data, not text"),
        ("nul.txt", b"good\nbad \x00 one\n", "a NUL byte"),
        ("nuls.txt", b"\x00" * 5000, "binary data, not text"),
        ("latin1.txt", "one\nein Caf\u00e9\n".encode("latin-1"), "not UTF-8"),
        ("cyrillic.txt", "Война и мир. ".encode("cp1251") * 9, "not UTF-8"),
        ("utf16.txt", "Some text".encode("utf-16"), "UTF-16, and UTF-8 is needed"),
        ("surrogate.txt", b"a \xed\xa0\x80 b", "not UTF-8"),
        ("fake.gz", b"plain text\n", "not compressed as its name says"),
        ("fake.txt.xz", b"plain text\n", "not compressed as its name says"),
        ("fake.tar", b"plain text\n", "the archive is damaged"),
        ("fake.tar.gz", gzip.compress(b"plain text\n"), "the archive is damaged"),
        ("cut.txt.gz", gzip.compress(b"some text\n" * 99)[:-9], CUT),
        ("cut.txt.xz", lzma.compress(b"some text\n" * 99)[:-9], CUT),
        ("page.html", b"<!DOCTYPE html><p>Text", "HTML or XML, which is not read"),
        ("dump.xml", b'<mediawiki xmlns="x">', "a MediaWiki dump, which is not read"),
        ("list.json", b'[\n{"text": "a"}]', "JSON that is not one object a line"),
        ("a.zip", b"PK\x03\x04" + bytes(2000), "a zip archive, which is not read"),
        ("a.gz", gzip.compress(gzip.compress(os.urandom(5000))), "binary data, not text"),
    ],
)  # fmt: skip
def test_one_bad_file_beside_good_ones(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    write(tmp_path / "0.txt", "good")
    write(tmp_path / name, content)
    write(tmp_path / "z.txt", "good too")
    found = read(tmp_path)
    assert texts(found) == ["good", "good too"]
    ((place, reason),) = rejects(found, tmp_path)
    assert place.partition(":")[0] == name
    assert reason == kind


def test_the_line_of_wrong_bytes_is_told(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.txt", "one\n\nein Caf\u00e9\n".encode("latin-1")))
    assert found[0].source == f"{tmp_path}/a.txt:3"
    assert "byte 0xe9; if it is Latin-1, iconv" in found[0].reason
    path = write(tmp_path / "b.txt", b"A.\n\nB\nb\x00\n\nC\xff.\n\nD.\n")
    found = read(path, "paragraphs")
    assert texts(found) == ["A.", "D."]
    assert rejects(found, tmp_path) == [("b.txt:4", "a NUL byte"), ("b.txt:6", "not UTF-8")]


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_documents_before_the_damage_are_kept(tmp_path: Path, suffix: str, damage: str) -> None:
    rows = [json.dumps({"text": f"{number} {os.urandom(50).hex()}"}) for number in range(8_000)]
    packed = PACKERS[suffix]("\n".join(rows).encode())
    half = len(packed) // 2
    tail = b"" if damage == "cut" else bytes(99) + packed[half + 99 :]
    found = read(write(tmp_path / f"a.jsonl{suffix}", packed[:half] + tail))
    good = texts(found)
    assert 2_000 < len(good) < 8_000
    # gzip has one checksum, at its end: what lies behind the damage may look like text.
    sure = len(good) if damage == "cut" else min(len(good), 3_500)
    assert good[:sure] == [json.loads(row)["text"] for row in rows[:sure]]
    if damage == "cut":
        assert rejects(found, tmp_path) == [
            (f"a.jsonl{suffix}:{len(good)}", "the compressed file is damaged or cut short")
        ]
    assert isinstance(found[-1], Reject)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_compressed_files_one_after_another(tmp_path: Path, suffix: str) -> None:
    pack = PACKERS[suffix]
    padding = bytes(8) if suffix == ".xz" else b""
    path = write(
        tmp_path / f"a.jsonl{suffix}", pack(b'{"text": "A"}\n') + padding + pack(b'{"text": "B"}')
    )
    assert texts(read(path)) == ["A", "B"]


def test_compression_is_seen_whatever_the_name(tmp_path: Path) -> None:
    assert texts(read(write(tmp_path / "wiki_00", lzma.compress(WIKI.encode()))))[1:] == ["Text."]


def test_a_part_is_not_judged_by_its_head(tmp_path: Path) -> None:
    """Rubbish where a part happens to begin costs the documents that it damaged, no others."""
    rows = [b'{"text": "good"}'] * 6_000
    rubbish = [b'{"text": "' + bytes(range(128, 256)) * 9 + b'"}'] * 60
    path = write(tmp_path / "a.jsonl", b"\n".join([*rows, *rubbish, *rows]))
    sources = find_sources([str(path)], part_bytes=6_000 * 17)
    assert len(sources) == 3 and rubbish[0] in path.read_bytes()[sources[1].start :][:2_000]
    found = [item for source in sources for item in read_documents(source)]
    assert texts(found) == ["good"] * 12_000
    assert Counter(item.kind for item in found if isinstance(item, Reject)) == {"not UTF-8": 60}


def test_what_disappears_or_shrinks_is_a_reject(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a line"}\n' * 1000)
    sources = find_sources([str(path)], part_bytes=5000)
    assert len(sources) > 2
    path.write_bytes(path.read_bytes()[:6000])
    found = [item for source in sources for item in read_documents(source)]
    assert isinstance(found[-1], Reject) and found[-1].kind == "the file is cut short"
    path.unlink()
    assert [item.kind for source in sources for item in read_documents(source)] == [
        "cannot be read"
    ] * len(sources)


def test_closed_files_are_rejects(tmp_path: Path, monkeypatch) -> None:
    """Root may read everything, so the refusal is simulated."""
    write(tmp_path / "a.txt", "good")
    closed = write(tmp_path / "b.txt", "closed")
    real = open

    def refuse(path, *args, **kwargs):
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refuse)
    found = read(tmp_path)
    assert texts(found) == ["good"]
    assert found[1] == Reject(str(closed), "cannot be read (Permission denied)", 0)


# Length and memory


@pytest.mark.parametrize("format", ["text", "markdown", "gutenberg", "paragraphs", "jsonl"])
def test_documents_that_are_too_long_are_rejects(tmp_path: Path, format: str) -> None:
    long = '{"text": "' + "x" * 2000 + '"}'
    short = '{"text": "short"}'
    whole = format not in ("paragraphs", "jsonl")
    path = write(tmp_path / "a", long if whole else f"{short}\n\n{long}\n\n{short}\n")
    found = read(path, format, max_document_bytes=1000)
    assert len(texts(found)) == (0 if whole else 2)
    ((place, reason),) = rejects(found, tmp_path)
    assert reason == "longer than a document may be"
    assert place == ("a:1" if whole else "a:3")
    assert len(texts(read(path, format, max_document_bytes=3000))) == (1 if whole else 3)


def test_wikiextractor_documents_that_are_too_long_are_rejects(tmp_path: Path) -> None:
    doc = '<doc id="{}" url="u" title="T">\nT\n\n{}\n</doc>\n'
    path = write(tmp_path / "w", doc.format(1, "x\n" * 900) + doc.format(2, "Text."))
    found = read(path, max_document_bytes=1000)
    assert texts(found) == ["Text."]
    assert rejects(found, tmp_path) == [("w:1", "longer than a document may be")]


def test_one_line_of_60_megabytes(tmp_path: Path) -> None:
    text = b"word " * 12_000_000
    (found,) = read(write(tmp_path / "a.txt", text))
    assert isinstance(found, Document)
    assert found.text == text.decode().strip()
    assert found.end == len(text)
    (found,) = read(write(tmp_path / "a.jsonl", b'{"text": "' + text + b'"}'))
    assert isinstance(found, Document) and len(found.text) == len(text) - 1
    (found,) = read(write(tmp_path / "a.txt", text * 2), "text")
    assert found.reason == "longer than a document may be (67,108,864 bytes)"


@pytest.mark.parametrize("suffix", PACKERS)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str) -> None:
    rows = b'{"text": "' + b"some words " * 90 + b'"}\n'
    path = write(tmp_path / f"a.jsonl{suffix}", PACKERS[suffix](rows * 15_000))
    (source,) = find_sources([str(path)])
    tracemalloc.start()
    try:
        assert sum(isinstance(item, Document) for item in read_documents(source)) == 15_000
        assert tracemalloc.get_traced_memory()[1] < 16_000_000  # 8 MB of it for xz
    finally:
        tracemalloc.stop()


def test_bombs_are_ended(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(document_streams, "RATIO_FROM", 1 << 22)
    bomb = gzip.compress(b'{"text": "good"}\n' + b"a" * 10_000_000)
    assert len(bomb) < 20_000
    found = read(write(tmp_path / "a.jsonl.gz", bomb))
    assert texts(found) == ["good"]
    assert rejects(found, tmp_path)[-1][1] == "a decompression bomb"


def test_xz_that_wants_too_much_memory_is_a_reject(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(document_streams, "XZ_MEMORY", 1 << 20)
    found = read(write(tmp_path / "a.xz", lzma.compress(b"text", preset=9)))
    assert found[0].kind == "xz that takes too much memory to read"


# Progress, hashes


@pytest.mark.parametrize("suffix", PACKERS)
def test_end_grows_to_the_size_on_disk(tmp_path: Path, suffix: str) -> None:
    rows = "".join(json.dumps({"text": os.urandom(500).hex()}) + "\n" for _ in range(2000))
    path = write(tmp_path / f"a.jsonl{suffix}", PACKERS[suffix](rows.encode()))
    (source,) = find_sources([str(path)])
    ends = [item.end for item in read_documents(source)]
    assert ends == sorted(ends)
    assert 0 < ends[0] < ends[-1] / 2
    assert ends[-1] == source.bytes == path.stat().st_size


def test_what_is_yielded_can_be_sent_to_another_process(tmp_path: Path) -> None:
    path = write(tmp_path / "w", WIKI + "stray")
    (source,) = find_sources([str(path)])
    found = list(read_documents(pickle.loads(pickle.dumps(source))))
    assert pickle.loads(pickle.dumps(found)) == found
    assert len(found) == 3


def test_document_hash_sees_words_and_nothing_else() -> None:
    assert document_hash("a b\nc") == document_hash(" a  b\u00a0c\n")
    assert document_hash("a b") != document_hash("ab")
    assert len(document_hash("\ud800")) == 16


def test_held_out_share() -> None:
    digests = [document_hash(str(number)) for number in range(20_000)]
    small, large = (
        {digest for digest in digests if is_held_out(digest, share)} for share in (0.01, 0.1)
    )
    assert 140 < len(small) < 260 and 1850 < len(large) < 2150
    assert small < large
    assert not any(is_held_out(digest, 0.0) for digest in digests)
    assert all(is_held_out(digest, 1.0) for digest in digests)


@pytest.mark.property
@given(
    st.binary(max_size=300),
    st.sampled_from(["auto", "text", "paragraphs", "wikiextractor", "jsonl", "gutenberg"]),
)
def test_no_bytes_raise(tmp_path_factory, raw: bytes, format: str) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(raw)
    found = read(path, format)
    assert found
    for text in texts(found):
        assert text and text == text.strip() and "\0" not in text and "\r" not in text
        text.encode()


# Real text


def test_sample(data_dir: Path) -> None:
    folder = data_dir / "corpora" / "sample"
    wiki = read(folder / "wiki_00")
    assert len(texts(wiki)) == len(wiki) == 67
    assert all(item.format == "wikiextractor" for item in wiki)
    books = read(folder / "*.md")
    assert [item.format for item in books] == ["gutenberg"] * 3
    assert all(not item.text.startswith(("#", "---")) for item in books)
    assert sum("_" in text for text in texts(books)) == 0


def test_held_out_archive(data_dir: Path) -> None:
    found = read(data_dir / "corpora" / "heldout.tar.xz")
    assert Counter(item.format for item in found) == {"wikiextractor": 156, "gutenberg": 7}
    words = Counter()
    for item in found:
        words[item.format] += len(item.text.split())
    # The counts of the files are 374,936 (with titles and tags) and 374,063 (with heads).
    assert 370_000 < words["wikiextractor"] < 374_936
    assert 373_000 < words["gutenberg"] < 374_063
