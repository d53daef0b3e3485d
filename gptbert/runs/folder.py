"""A run is a folder: what it was told, what it did, what came out.

    config.json       the resolved config, fingerprints of data, tokenizer and weights
    run.json          command, versions, commit, devices
    model.json        shape, classes and pooling: what is needed to use the checkpoints
    tokenizer/        as Hugging Face loaders read it
    metrics.jsonl     scalars by step (and tensorboard/)
    checkpoints/      whole or absent
    predictions/      dev and test, test in the benchmark's submission format
    results.json      written last, when everything in it is true

The same command again resumes, says that the run is finished, or refuses by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import json
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from gptbert.errors import UserError
from gptbert.locking import hold

# Where things lie; what lies there is compared by fingerprints.
_PLACES = frozenset(
    [
        "data_dir",
        "init_from",
        "tokenizer",
        "train_file",
        "eval_file",
        "corpus",
        "held_out_corpus",
    ]
)
# Fields that may differ when a run is continued: they say how it is computed, not what.
_FREE_FIELDS = _PLACES | frozenset(
    [
        "checkpoint_every",
        "keep",
        "lean_vocabulary",
        "log_every",
        "accumulate",
        "scan_layers",
        "remat",
        "mesh",
    ]
)


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths of one run; makes nothing by itself."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder; raises UserError if it is missing or damaged."""
        path = self.path / name
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{self.path} is not a run folder: {name} is missing there; "
                "expected the --workdir of a `gptbert finetune`"
            ) from None
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON ({error}); it was damaged") from None
        if not isinstance(found, dict):
            raise UserError(f"{path} holds {found!r:.40}, expected an object; it was damaged")
        return found

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a JSON file of the folder, whole or not at all."""
        write_json(self.path / name, value)

    @contextlib.contextmanager
    def lock(self, *, holds: Collection[str] = ("config.json",)) -> Iterator[None]:
        """Holds the folder for this job.

        Args:
          holds: Names (with `*`) of which one at least is in a folder that was begun.

        Raises:
          UserError: Another process holds it, or it is a folder of something else.
        """
        if not leads():
            yield
            return
        if (self.path / "config.json").exists():
            self._begun()  # else not even the lock is left in a folder of something else
        self._check_begun(holds)
        with hold(self.path, "--workdir"):
            yield

    def claim(
        self,
        config: Mapping[str, Any],
        fingerprints: Mapping[str, str],
        places: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Writes config.json, or compares with the one that is there and refuses by name.

        Every process of a job calls it; the first one writes.

        Args:
          config: Resolved.
          fingerprints: SHA-256 (hex) of what else decides what the run gives.
          places: Where some of that lies, for the message.

        Raises:
          UserError: The folder holds another run, or the processes were told different things.
        """
        _require_agreement({"workdir": str(self.path), **config, **fingerprints})
        if not leads():
            return
        record = {"config": dict(config), "fingerprints": dict(fingerprints)}
        if not (self.path / "config.json").exists():
            self.write("config.json", record)
            return
        before = self._begun()
        stages = [
            "fine-tuning" if "task" in of else "pre-training" for of in (before["config"], config)
        ]
        if stages[0] != stages[1]:
            raise UserError(
                f"{self.path} holds a run of {stages[0]}, this is one of {stages[1]}; "
                "use another --workdir"
            )
        changed = [
            f"config.{name} was {before['config'].get(name)!r} and is now {config.get(name)!r}"
            for name in sorted(before["config"].keys() | config.keys())
            if name not in _FREE_FIELDS
            and before["config"].get(name) != json.loads(json.dumps(config.get(name)))
        ] + [
            f"the {name}{f' ({places[name]})' if name in places else ''} changed "
            f"(SHA-256 {str(before['fingerprints'].get(name, 'none'))[:12]} then, "
            f"{fingerprints.get(name, 'none')[:12]} now)"
            for name in sorted(before["fingerprints"].keys() | fingerprints.keys())
            if fingerprints.get(name) != before["fingerprints"].get(name)
        ]
        if changed:
            raise UserError(
                f"{self.path} holds another run: {'; '.join(changed)}. "
                "Use another --workdir, or the command that began this run"
            )

    def _check_begun(self, holds: Collection[str]) -> None:
        """Refuses a folder with things in it of which none is a run's; logs may lie there."""
        names = sorted(os.listdir(self.path)) if self.path.is_dir() else []
        others = [
            name
            for name in names
            if not name.startswith(".") and not name.endswith((".log", ".out", ".err", ".partial"))
        ]
        if others and not any(fnmatch.fnmatch(name, one) for name in names for one in holds):
            shown = ", ".join(others[:4]) + (", …" if len(others) > 4 else "")
            raise UserError(
                f"--workdir={self.path} is not empty (it holds {shown}) and holds no run; expected "
                "an empty or new folder, or that of a run"
            )

    def _begun(self) -> dict[str, Any]:
        """The config.json that a run left here."""
        before = self.read("config.json")
        parts = [before.get(name) for name in ("config", "fingerprints")]
        if len(before) != 2 or not all(isinstance(part, dict) for part in parts):
            raise UserError(
                f"--workdir={self.path} holds a config.json of something else (weights?); expected "
                "an empty or new folder, or that of a run"
            )
        return before


def leads() -> bool:
    """Whether this process writes what a job writes once: the only one, or the first of several."""
    import jax

    return jax.process_index() == 0


def _require_agreement(told: Mapping[str, Any]) -> None:
    """Refuses, by name, a job whose processes were told different things."""
    import jax

    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    names = sorted(told.keys() - _PLACES)
    digests = [zlib.crc32(f"{name}={json.dumps(told[name])}".encode()) for name in names]
    # A field that some have and others have not moves all that follow: gathered in a fixed shape.
    all_names = zlib.crc32(repr(names).encode())
    gather = multihost_utils.process_allgather
    if len(set(gather(np.array([all_names], np.uint32)).ravel().tolist())) > 1:
        different = ["the fields of the config"]
    else:
        found = np.asarray(gather(np.array(digests, np.uint32)))
        different = [
            name for name, column in zip(names, found.T, strict=True) if len(set(column)) > 1
        ]
    if different:
        raise UserError(
            f"the processes of this job were told different things ({', '.join(different)}); "
            "expected the same command for each, but for --process"
        )


def wait_for_all(label: str) -> None:
    """Returns when every process of the job has come here."""
    import jax

    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(label)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON beside `path` first and moves it there, so that it is never half-written.

    Raises:
      UserError: It cannot be written, or the disk is full.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(value, indent=1, sort_keys=False) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
