"""What a result says of where it comes from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gptbert.runs import record


def test_the_commit_is_ours_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed copy lies in somebody's project, whose commits are not those of this code."""
    copy = tmp_path / "project" / ".venv" / "record.py"
    copy.parent.mkdir(parents=True)
    shutil.copy(record.__file__, copy)

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=n", "-c", "user.email=e"]
        folder = ["-C", str(tmp_path / "project")]
        subprocess.run(["git", *folder, *who, *arguments], check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "theirs")
    monkeypatch.setattr(record, "__file__", str(copy))
    assert record.git_commit() is None
    git("add", "--force", ".")
    git("commit", "-m", "ours")
    found = record.git_commit()
    assert found is not None and len(found) == 40
