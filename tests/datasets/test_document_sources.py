"""Sources: what patterns name, in which order, cut into which parts; fingerprints; refusals."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.datasets.documents import Document, Reject, find_sources, read_documents
from gptbert.errors import UserError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.txt", "sub/c.md", "sub/deep/d.txt", "sub/deep/[1].txt", "Z.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Text of {name}.")
    return tmp_path


def names(root: Path, *patterns: str) -> list[str]:
    sources = find_sources([str(root / pattern) for pattern in patterns])
    assert not [source for source in sources if source.problem]
    return [source.name.removeprefix(f"{root}/") for source in sources]


ALL = ["Z.txt", "a.txt", "b.txt", "sub/c.md", "sub/deep/[1].txt", "sub/deep/d.txt"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["a.txt"], ["a.txt"]),
        (["."], ALL),
        (["**"], ALL),
        (["**/*"], ALL),
        (["**/**/*.*"], ALL),
        (["*.txt"], ["Z.txt", "a.txt", "b.txt"]),
        (["[ab].txt"], ["a.txt", "b.txt"]),
        (["**/*.txt"], ["Z.txt", "a.txt", "b.txt", "sub/deep/[1].txt", "sub/deep/d.txt"]),
        (["s*/**/d.*"], ["sub/deep/d.txt"]),
        (["sub/**/c.md"], ["sub/c.md"]),
        (["s?b"], ["sub/c.md", "sub/deep/[1].txt", "sub/deep/d.txt"]),
        (["sub/deep/[1].txt"], ["sub/deep/[1].txt"]),
        (["b.txt", "*.txt", "./a.txt", "sub/../a.txt"], ["Z.txt", "a.txt", "b.txt"]),
    ],
)
def test_patterns(tree: Path, patterns: list[str], expected: list[str]) -> None:
    assert names(tree, *patterns) == expected


def test_relative_patterns(tree: Path, monkeypatch) -> None:
    monkeypatch.chdir(tree)
    assert [source.name for source in find_sources(["**/*.md", "a.txt", "./b*"])] == [
        "a.txt",
        "b.txt",
        "sub/c.md",
    ]
    assert len(find_sources(["."])) == len(find_sources(["**"])) == len(ALL)
    monkeypatch.setenv("HOME", str(tree))
    assert find_sources(["~/a.txt"])[0].name == str(tree / "a.txt")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a.tx", r"a\.tx: no such file, folder or match \(did you mean 'a\.txt'\?\)"),
        ("sup/*.txt", r"sup/\*\.txt: no such .* \(did you mean 'sub'\?\)"),
        ("sub/*.jsonl", r"\(.*sub holds c\.md, deep\)"),
        ("sub/deep/**/*.gz", r"\(.*sub/deep holds \[1\]\.txt, d\.txt\)"),
    ],
)
def test_patterns_that_name_nothing_are_refused(tree: Path, pattern: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_sources([str(tree / "a.txt"), str(tree / pattern)])


def test_other_refusals(tree: Path) -> None:
    with pytest.raises(UserError, match=r"unknown format 'markdwn' \(did you mean 'markdown'\?\)"):
        find_sources([str(tree)], "markdwn")
    with pytest.raises(UserError, match="no input; name files"):
        find_sources([])
    with pytest.raises(UserError, match="an input without a name; expected a file"):
        find_sources([str(tree), ""])
    with pytest.raises(UserError, match="gs://bucket/x: raw text is read from local files"):
        find_sources(["gs://bucket/x"])
    with pytest.raises(UserError, match="at least 1 byte; found 0"):
        find_sources([str(tree)], max_document_bytes=0)


def problems(root: Path, *patterns: str) -> dict[str, str]:
    found = find_sources([str(root / pattern) for pattern in patterns])
    told = {}
    for source in found:
        if source.problem:
            assert len(source.fingerprint()) == 64
            (reject,) = read_documents(source)
            assert isinstance(reject, Reject) and reject.reason == source.problem
            told[source.name.removeprefix(f"{root}/")] = reject.kind
    return told


def test_what_cannot_be_read_is_counted(tree: Path) -> None:
    (tree / "sub" / "loop").symlink_to(tree)
    (tree / "sub" / "self").symlink_to(tree / "sub" / "self")
    (tree / "sub" / "lost").symlink_to(tree / "nowhere")
    (tree / ".hidden").write_text("x")
    (tree / "sub" / ".git").mkdir()
    os.mkfifo(tree / "pipe")
    expected = {
        ".hidden": "a hidden file or folder",
        "pipe": "not a file",
        "sub/.git": "a hidden file or folder",
        "sub/loop": "a link that leads back to a folder above it",
        "sub/lost": "a link to nothing",
        "sub/self": "a link to nothing",
    }
    assert problems(tree, ".") == expected
    assert problems(tree, "**") == problems(tree, "**/*") == expected
    assert problems(tree, "sub/lo?t") == {"sub/lost": "a link to nothing"}
    texts = [
        item.text
        for source in find_sources([str(tree)])
        for item in read_documents(source)
        if isinstance(item, Document)
    ]
    assert len(texts) == len(set(texts)) == len(ALL)


def test_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "empty" / "below").mkdir(parents=True)
    (tmp_path / "a.txt").write_text("x")
    assert problems(tmp_path, "empty") == {"empty": "an empty folder"}
    assert problems(tmp_path, "*") == {"empty": "an empty folder"}
    assert problems(tmp_path, ".") == {}


def test_closed_folders_are_counted(tree: Path, monkeypatch) -> None:
    """Root may list everything, so the refusal is simulated."""
    real = os.listdir

    def refuse(folder):
        if str(folder).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "listdir", refuse)
    assert problems(tree, ".") == {"sub/deep": "cannot be read"}
    assert problems(tree, "**/*.txt") == {"sub/deep": "cannot be read"}


def test_a_file_with_several_names_is_read_once(tree: Path) -> None:
    (tree / "link.txt").symlink_to(tree / "a.txt")
    (tree / "folder").symlink_to(tree / "sub")
    found = names(tree, ".")
    assert "a.txt" in found and "link.txt" not in found
    assert "folder/c.md" in found and "sub/c.md" not in found
    assert len(found) == len(ALL)


def test_a_hidden_link_does_not_hide_what_it_leads_to(tree: Path) -> None:
    (tree / ".latest").symlink_to("a.txt")
    found = {source.name: source.problem for source in find_sources([str(tree)])}
    assert found[f"{tree}/.latest"].startswith("a hidden file or folder")
    assert found[f"{tree}/a.txt"] == ""
    assert len(found) == len(ALL) + 1


def test_a_hidden_file_that_is_named_is_read_whatever_the_order(tree: Path) -> None:
    (tree / ".h.txt").write_text("Text of it.")
    patterns = [str(tree / ".h.txt"), str(tree)]
    assert find_sources(patterns) == find_sources(patterns[::-1])
    assert names(tree, ".h.txt", ".") == [".h.txt", *ALL]


def test_globs_through_broken_links_find_nothing(tree: Path) -> None:
    (tree / "lost").symlink_to(tree / "nowhere")
    for pattern in ("lost/**/*.txt", "lost/*.txt", "a.txt/**/x", "a.txt/*"):
        with pytest.raises(UserError, match="no such file, folder or match"):
            find_sources([str(tree / pattern)])


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path) -> None:
    for name in (b"caf\xe9.txt", b"line\nbreak.txt"):
        path = os.path.join(os.fsencode(tmp_path), name)
        with open(path, "wb") as file:
            file.write(b"\x00" if b"\n" in name else b"Text.")
    first, second = (next(iter(read_documents(s))) for s in find_sources([str(tmp_path)]))
    assert isinstance(first, Document) and first.source == f"{tmp_path}/caf\\udce9.txt"
    assert first.id == "caf\\udce9.txt"
    assert isinstance(second, Reject) and second.source == f"{tmp_path}/line\\nbreak.txt:1"


# Parts


def wiki(number: int, lines: int) -> str:
    return (
        f'<doc id="{number}" url="u" title="T">\nT\n\n' + f"Line {number}.\n" * lines + "</doc>\n"
    )


FILES = {
    "wikiextractor": lambda sizes: "".join(wiki(n, 1 + s) for n, s in enumerate(sizes)),
    "jsonl": lambda sizes: "".join(
        json.dumps({"text": f"{n} " * s}) + "\n" for n, s in sizes_(sizes)
    ),
    "paragraphs": lambda sizes: "\n\r\n".join(f"Line {n}.\n" * s for n, s in sizes_(sizes)),
}


def sizes_(sizes: list[int]) -> list[tuple[int, int]]:
    return [(number, 1 + size) for number, size in enumerate(sizes)]


def contents(path: Path, format: str, part_bytes: int) -> list[tuple[str, ...]]:
    sources = find_sources([str(path)], format, part_bytes=part_bytes)
    found = [item for source in sources for item in read_documents(source)]
    assert sum(source.bytes for source in sources) == path.stat().st_size
    assert len({source.name for source in sources}) == len(sources)
    assert len({(item.source, item.id) for item in found}) == len(found)
    return [item.text for item in found]


@pytest.mark.property
@pytest.mark.parametrize("format", FILES)
@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=30), part=st.integers(1, 400))
@settings(max_examples=60)
def test_parts_hold_the_same_documents(
    tmp_path_factory, format: str, sizes: list[int], part: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"{format}.parts"
    path.write_text(FILES[format](sizes))
    whole = contents(path, format, 1 << 30)
    assert len(whole) == len(sizes)
    assert contents(path, format, part) == whole


def test_large_files_are_cut_where_documents_begin(tmp_path: Path) -> None:
    path = tmp_path / "wiki_00"
    path.write_text("".join(wiki(number, 20) for number in range(100)))
    sources = find_sources([str(path)], part_bytes=3000)
    assert 5 < len(sources) < 12
    assert sources[1].name == f"{path}[{sources[1].start}:{sources[1].start + sources[1].bytes}]"
    for source in sources:
        assert path.read_bytes()[source.start :].startswith(b"<doc ")
        (*_, last) = read_documents(source)
        assert last.end == source.bytes
        assert source.options.format == last.format == "wikiextractor"


def test_archives_are_never_cut(tmp_path: Path) -> None:
    path = tmp_path / "no_suffix"
    inside = tmp_path / "wiki_00"
    inside.write_text("".join(wiki(number, 20) for number in range(300)))
    with tarfile.open(path, "w") as archive:
        archive.add(inside, "wiki_00")
    (source,) = find_sources([str(path)], part_bytes=3000)
    assert len(list(read_documents(source))) == 300


@pytest.mark.parametrize("format", ["text", "markdown", "gutenberg"])
def test_files_of_one_document_stay_whole(tmp_path: Path, format: str) -> None:
    path = tmp_path / "a"
    path.write_text("Words.\n\n" * 1000)
    (source,) = find_sources([str(path)], format, part_bytes=100)
    assert not source.is_part and source.name == str(path)
    assert len(list(read_documents(source))) == 1


def test_lines_of_rejects_in_parts_count_from_the_part(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' * 20 + "bad\n")
    *_, last = find_sources([str(path)], part_bytes=100)
    *_, reject = read_documents(last)
    assert isinstance(reject, Reject)
    line = int(reject.source.rpartition(":")[2])
    assert path.read_bytes()[last.start :].split(b"\n")[line - 1] == b"bad"


# Fingerprints


def fingerprint(path: Path, **options) -> str:
    return find_sources([str(path)], **options)[0].fingerprint()


@pytest.mark.parametrize("size", [1000, 3 << 20])
def test_fingerprint_notices_changes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * size)
    before = fingerprint(path)
    assert before == fingerprint(path)
    assert before != fingerprint(path, format="paragraphs")
    assert before != fingerprint(path, max_document_bytes=500)
    seen = {before}
    for content in (b"a" * (size + 1), b"b" + b"a" * (size - 1), b"a" * (size - 1) + b"b"):
        path.write_bytes(content)
        seen.add(fingerprint(path))
    assert len(seen) == 4


def test_fingerprint_of_a_small_file_is_that_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("text")
    before = fingerprint(path)
    os.utime(path, (1, 1))
    assert fingerprint(path) == before
    path.write_text("tExt")
    assert fingerprint(path) != before


def test_fingerprint_of_a_file_that_went_away(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("text")
    (source,) = find_sources([str(path)])
    before = source.fingerprint()
    path.unlink()
    assert len(source.fingerprint()) == 64 and source.fingerprint() != before
