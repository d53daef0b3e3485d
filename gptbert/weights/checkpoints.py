"""Checkpoints of a run: whole or absent, checked before they are believed, the last good one wins.

    <folder>/<step, 8 digits>/state/...       the arrays, written by Orbax
    <folder>/<step, 8 digits>/manifest.json   written last: the commit mark

The manifest holds every file's size and SHA-256, every array's shape and dtype, and the caller's
`info`. A step folder without one is what a killed save left; it is never read. Nothing relies on
renaming folders, so the same order of writes holds on object stores.

Orbax alone restores a flipped bit silently and converts dtypes silently; both end in words here.
Every call to Orbax in this project is in this file, and is made with flat dictionaries only.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from gptbert import disk
from gptbert.errors import UserError, nearest
from gptbert.weights.manifest import (
    MANIFEST,
    describe,
    differences,
    is_local,
    read_manifest,
    require_same,
    write_manifest,
)

_STATE = "state"
_FILE_BYTES = 32 << 20  # several files rather than one of 2 GB, so that they are hashed in parallel
_SPARE_BYTES = 1 << 20  # Orbax's own metadata and the manifest
_LATE_LOOKS = 50  # at a failed save, 0.1 s apart, for what is written after its end

# Orbax logs each phase of each save, and tracebacks of what it then raises anyway.
_ORBAX_FOLDER = os.path.dirname(ocp.__file__)
logging.getLogger("absl").addFilter(lambda record: not record.pathname.startswith(_ORBAX_FOLDER))


@dataclass(frozen=True)
class Restored:
    """What `Checkpoints.restore` found; `rejected` maps newer, damaged steps to what is wrong."""

    step: int
    state: Any
    info: dict[str, Any]
    rejected: dict[int, list[str]]


class Checkpoints:
    """The checkpoints in one folder, local or on an object store (`gs://...`).

    One run writes (`save`, `clean`); others may read meanwhile. The processes of one job call
    `save` and `restore` together, on a folder that all of them see.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 2) -> None:
        """Touches nothing yet; `keep` is how many of the newest steps survive a save."""
        if keep < 1:
            raise UserError(f"{keep} checkpoints to keep: expected at least 1")
        self.folder = _absolute(folder)
        self.keep = keep
        self._damaged: set[int] = set()

    def steps(self) -> list[int]:
        """The committed steps in ascending order, whether or not their files are still good."""
        return [step for step, folder in self._step_folders() if (folder / MANIFEST).exists()]

    def latest_step(self) -> int | None:
        """The newest committed step; `find` gives the newest good one."""
        return max(self.steps(), default=None)

    def good_steps(self) -> list[int]:
        """The committed steps whose checksums hold, in ascending order; reads all files."""
        return [step for step in self.steps() if not self.verify(step)]

    def info(self, step: int) -> dict[str, Any]:
        """The `info` given to `save`; UserError if there is no such step or its manifest is bad."""
        return self._manifest(step)["info"]

    def save(
        self, step: int, state: Any, info: Mapping[str, Any], *, keep_also: Collection[int] = ()
    ) -> None:
        """Writes and commits `state`, any tree of arrays and numbers; returns when it is on disk.

        Of the steps up to this one the `keep` newest and those of `keep_also` then remain. A whole
        checkpoint of the same step is left as it is, a damaged one is written again. A disk
        without the space ends in UserError; whatever fails, the partial folder is removed.
        """
        info = json.loads(json.dumps(dict(info)))  # as a reader will get it; fails before writing
        arrays = {name: _as_array(leaf) for name, leaf in _flatten(state)[0].items()}
        if step not in self.steps() or self.verify(step):
            self._write(step, arrays, info)
        if _leads():
            self._prune(step, keep_also)

    def verify(self, step: int) -> list[str]:
        """The damaged files of a step, each with what is wrong in parentheses; empty if good."""
        folder = self._step_folder(step)
        try:
            damaged = differences(folder, read_manifest(folder, step)["files"])
        except ValueError as error:
            damaged = [f"{MANIFEST} ({error})"]
        (self._damaged.add if damaged else self._damaged.discard)(step)
        return damaged

    def find(self, step: int | None = None) -> tuple[int | None, dict[int, list[str]]]:
        """The newest step whose checksums hold, and the damaged ones that were passed over.

        With `step`, that one or UserError. None if there is no checkpoint at all; UserError if
        there are some and all are damaged.
        """
        committed = self.steps()
        if step is not None and step not in committed:
            raise UserError(f"no checkpoint of step {step} in {self.folder}: found {committed}")
        rejected: dict[int, list[str]] = {}
        for candidate in reversed(committed) if step is None else [step]:
            damaged = self.verify(candidate)
            if not damaged:
                return candidate, rejected
            rejected[candidate] = damaged
        if step is not None:
            raise UserError(_one_damaged(self.folder, step, rejected[step], self.good_steps()))
        if rejected:
            raise UserError(_all_damaged(self.folder, rejected))
        return None, {}

    def restore(self, target: Any, step: int | None = None) -> Restored | None:
        """Reads the newest good step (or `step`) into the form of `target`; None without any.

        Leaves of `target`: ShapeDtypeStruct or jax.Array, restored with their sharding whatever
        the devices at the time of the save, on the first device if they have none; numpy
        arrays and Python numbers, restored as such. An array that is missing, left over, or of
        another shape or dtype is a UserError that names it. Damaged steps as in `find`.
        """
        found, rejected = self.find(step)
        if found is None:
            return None
        manifest = self._manifest(found)
        leaves, structure = _flatten(target)
        where = f"the checkpoint of step {found} in {self.folder}"
        require_same(manifest["arrays"], describe(leaves), where)
        read = _read(self._step_folder(found), {k: _reading(leaf) for k, leaf in leaves.items()})
        values = [_in_kind(read[name], leaf) for name, leaf in leaves.items()]
        state = jax.tree_util.tree_unflatten(structure, values)
        return Restored(found, state, manifest["info"], rejected)

    def restore_arrays(self, step: int | None = None, prefix: str = "") -> dict[str, np.ndarray]:
        """The arrays whose path begins with `prefix`, as numpy arrays by the rest of their path.

        Needs no target and none of the devices of the save, and reads nothing else. UserError
        if there is no good checkpoint or no such array.
        """
        found, _ = self.find(step)
        if found is None:
            raise UserError(f"no checkpoint in {self.folder}: expected folders like 00001000")
        known = self._manifest(found)["arrays"]
        names = [name for name in known if name.startswith(prefix)]
        if not names:
            raise UserError(
                f"the checkpoint of step {found} in {self.folder} has no array under "
                f"{prefix!r}{nearest(prefix, {name.split('/')[0] + '/' for name in known})}"
            )
        as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        read = _read(self._step_folder(found), dict.fromkeys(names, as_numpy))
        return {name.removeprefix(prefix): np.asarray(read[name]) for name in names}

    def clean(self) -> None:
        """Removes what killed saves left: for the writing run, at its start (each save does it)."""
        for _, folder in self._step_folders():
            if not (folder / MANIFEST).exists():
                folder.rmtree(missing_ok=True)

    def _step_folder(self, step: int) -> epath.Path:
        return self.folder / f"{step:08d}"

    def _step_folders(self) -> list[tuple[int, epath.Path]]:
        if not self.folder.is_dir():
            return []
        numbers = {int(child.name) for child in self.folder.iterdir() if child.name.isdecimal()}
        pairs = ((step, self._step_folder(step)) for step in sorted(numbers))
        return [(step, folder) for step, folder in pairs if folder.is_dir()]

    def _manifest(self, step: int) -> dict[str, Any]:
        folder = self._step_folder(step)
        try:
            return read_manifest(folder, step)
        except ValueError as error:
            found = f"committed steps: {self.steps()}"
            raise UserError(f"{folder / MANIFEST}: {error}; {found}") from None

    def _write(self, step: int, arrays: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        needed = sum(array.nbytes for array in arrays.values()) + _SPARE_BYTES
        folder = self._step_folder(step)
        try:
            if _leads():
                self._make_room(step, needed)
            _wait_for_all(f"checkpoint {step} begins")
            _write_arrays(folder, arrays)
            if _leads():
                write_manifest(folder, step, info, describe(arrays))
            _wait_for_all(f"checkpoint {step} is committed")
        except BaseException as error:
            refusal = disk.refusal(error, self.folder) if is_local(self.folder) else None
            if _leads():
                self._remove_patiently(step)
            if refusal:
                raise UserError(self._disk_full(refusal, needed)) from error
            if isinstance(error, OSError):
                raise UserError(f"cannot write the checkpoint {folder}: {error}") from error
            raise
        self._damaged.discard(step)

    def _make_room(self, step: int, needed: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove(step)
        self.clean()
        if is_local(self.folder) and disk.free_bytes(self.folder) < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _disk_full(self, refusal: disk.Refusal, needed: int) -> str:
        room = refusal.told(needed, "a checkpoint", self.folder)
        good = [step for step in self.steps() if step not in self._damaged]
        last = f"the last good checkpoint is step {good[-1]}" if good else "no checkpoint before it"
        return f"{room}; {last}; {refusal.help}, then start the same command again"

    def _remove(self, step: int) -> None:
        """The manifest goes first: a kill in between leaves an orphan, never half a checkpoint."""
        (self._step_folder(step) / MANIFEST).unlink(missing_ok=True)
        self._step_folder(step).rmtree(missing_ok=True)

    def _remove_patiently(self, step: int) -> None:
        """Removes a failed save, whose last writes may still be under way below Orbax.

        A file that appears meanwhile makes a removal fail, or brings the folder back.
        """
        for _ in range(_LATE_LOOKS):
            with contextlib.suppress(OSError):
                self._remove(step)
            time.sleep(0.1)
            if not self._step_folder(step).exists():
                return

    def _prune(self, step: int, keep_also: Collection[int]) -> None:
        """A damaged step takes no place among the newest; those after `step` are left alone."""
        past = [other for other in self.steps() if other <= step]
        newest = [other for other in past if other not in self._damaged][-self.keep :]
        for other in past:
            if other not in newest and other not in keep_also:
                self._remove(other)


def _told(damaged: list[str]) -> str:
    more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
    return ", ".join(damaged[:3]) + more


def _one_damaged(folder: epath.Path, step: int, damaged: list[str], good: list[int]) -> str:
    others = ", ".join(map(str, good)) or "none"
    way = " (`--step`; `gptbert export --step=N` makes weights of one)" if good else ""
    return (
        f"the checkpoint of step {step} in {folder} is damaged: {_told(damaged)}; "
        f"bring back a copy, or use another one; good steps: {others}{way}"
    )


def _all_damaged(folder: epath.Path, rejected: Mapping[int, list[str]]) -> str:
    each = "; ".join(f"step {step}: {_told(damaged)}" for step, damaged in rejected.items())
    return (
        f"no good checkpoint in {folder}: {each}; "
        "delete what is damaged to start afresh, or bring back a copy"
    )


def _flatten(tree: Any) -> tuple[dict[str, Any], Any]:
    """A flat dictionary `params/bert/layers/0/up/kernel` -> leaf, in the order of the tree."""
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree)
    flat = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in pairs}
    if len(flat) != len(pairs):
        raise ValueError("two arrays of this state have the same path")
    return flat, structure


def _as_array(leaf: Any) -> Any:
    """Python and numpy scalars become arrays: Orbax keeps their value but forgets their dtype."""
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def _reading(leaf: Any) -> ocp.RestoreArgs:
    if not isinstance(leaf, (jax.ShapeDtypeStruct, jax.Array)):
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(
        restore_type=jax.Array,
        sharding=leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0]),
        global_shape=leaf.shape,
        dtype=leaf.dtype,
    )


def _in_kind(value: Any, leaf: Any) -> Any:
    if isinstance(leaf, (bool, int, float)):
        return type(leaf)(value)
    return np.asarray(value) if isinstance(leaf, (np.ndarray, np.generic)) else value


def _orbax() -> ocp.Checkpointer:
    """Uncompressed: numbers that look random do not compress, and trying takes time."""
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False))


def _write_arrays(folder: epath.Path, arrays: Mapping[str, Any]) -> None:
    content = ocp.args.PyTreeSave(dict(arrays), ocdbt_target_data_file_size=_FILE_BYTES)
    with _patient_loops(), _orbax() as orbax:
        orbax.save(folder / _STATE, args=content)


class _PatientLoop(asyncio.SelectorEventLoop):
    """An event loop that closes when its last task is done."""

    def close(self) -> None:
        while not self.is_closed() and (left := asyncio.all_tasks(self)):
            self.run_until_complete(asyncio.wait(left))
            for task in left:
                if not task.cancelled():
                    task.exception()  # else it is printed as one that nobody asked for
        super().close()


@contextlib.contextmanager
def _patient_loops() -> Iterator[None]:
    """At the first array that cannot be written Orbax closes its loop under all the others.

    They would go on to write where the folder is being removed, and print a traceback each.
    """
    usual = asyncio.new_event_loop
    asyncio.new_event_loop = _PatientLoop
    try:
        yield
    finally:
        asyncio.new_event_loop = usual


def _read(folder: epath.Path, reading: Mapping[str, ocp.RestoreArgs]) -> dict[str, Any]:
    wanted = ocp.args.PyTreeRestore(
        item=dict.fromkeys(reading, 0), restore_args=dict(reading), partial_restore=True
    )
    with _orbax() as orbax:
        return orbax.restore(folder / _STATE, args=wanted)


def _leads() -> bool:
    return jax.process_index() == 0


def _wait_for_all(label: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(label)


def _absolute(folder: str | os.PathLike[str]) -> epath.Path:
    """Orbax refuses relative paths late; pathlib turns `gs://bucket` into `gs:/bucket`."""
    text = re.sub(r"^(gs|s3):/+", r"\1://", os.fspath(folder))
    return epath.Path(text if "://" in text else os.path.abspath(text))
