"""A vocabulary small enough to read, with everything in it that the nasty texts need."""

from __future__ import annotations

import string
from pathlib import Path

import pytest

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def uncased_entries() -> list[str]:
    """Letters, digits, marks, and what the nasty texts hold (with final sigma, without U+E000)."""
    letters = string.ascii_lowercase + string.digits + "οδςσαß" + "がк가"
    words = ["un", "aff", "able", "##aff", "##able", "mask", "sep", "cls", "##ing", "play", "the"]
    marks = string.punctuation + "中国\U00020000\U0002b820\u2014\u00bf\u3002\u2019\u00ab"
    continued = [f"##{letter}" for letter in letters + "\u0903"]
    return [*SPECIALS, "[unused0]", *letters, *continued, *marks, *words]


@pytest.fixture(scope="session")
def cased_entries(uncased_entries: list[str]) -> list[str]:
    capitals = string.ascii_uppercase + "ΟΔΣİÉ"
    continued = [f"##{letter}" for letter in capitals + "é"]
    return [*uncased_entries, *capitals, *continued, "é", "The", "MASK"]


@pytest.fixture
def vocab_file(tmp_path: Path, uncased_entries: list[str]) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(uncased_entries) + "\n", encoding="utf-8")
    return path
