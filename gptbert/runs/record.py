"""What a result says of where it comes from: command, time, versions, commit, devices."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from gptbert.processor import processor


def run_record() -> dict[str, Any]:
    """Command, time, versions, commit and devices of this process."""
    return {
        "command": shlex.join(["gptbert", *sys.argv[1:]]),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git_commit": git_commit(),
        "device_kind": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "processor": str(processor()),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {"python": sys.version.split()[0]}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def git_commit() -> str | None:
    """The commit of this code base, with `+changes` if files differ; None outside of a checkout.

    An installed copy may lie within somebody else's repository, which does not track it.
    """
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if dirty else "")
    except (OSError, subprocess.SubprocessError):
        return None
