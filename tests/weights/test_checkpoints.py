"""What is saved comes back bit for bit; what does not fit, or not on the disk, is told by name."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gptbert.errors import UserError
from gptbert.weights import checkpoints, manifest
from gptbert.weights.checkpoints import Checkpoints


class State(NamedTuple):
    step: Any
    params: dict[str, Any]
    optimizer_state: Any


def make_state(seed: int = 0) -> State:
    rng = np.random.default_rng(seed)
    params = {
        "bert/layers/0/up/kernel": jnp.asarray(rng.standard_normal((6, 8), dtype=np.float32)),
        "bert/layers/0/up/bias": jnp.asarray(rng.standard_normal(8), dtype=jnp.bfloat16),
    }
    optimizer = optax.adamw(1e-3)
    return State(jnp.int32(seed), params, optimizer.init(params))


def abstract(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def same_bits(tree: Any, other: Any) -> bool:
    leaves, structure = jax.tree.flatten(tree)
    others, other_structure = jax.tree.flatten(other)
    return structure == other_structure and all(
        a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(leaves, others, strict=True)
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "uint32", "bool"])
def test_every_bit_comes_back(tmp_path: Path, dtype: str) -> None:
    bits = np.random.default_rng(0).integers(0, 256, 4 * 35, dtype=np.uint8)
    if dtype == "bool":
        bits &= 1
    array = jnp.asarray(bits.view(jnp.dtype(dtype))[:35].reshape(5, 7))  # NaNs and denormals too
    state = {"a/b": array, "a/scalar": array[0, 0]}
    saved = Checkpoints(tmp_path)
    saved.save(1, state, {})
    restored = saved.restore(abstract(state))
    assert restored is not None and same_bits(restored.state, state)
    plain = saved.restore_arrays(1)
    assert plain["a/b"].tobytes() == np.asarray(array).tobytes()
    assert plain["a/b"].dtype == array.dtype


def test_optimizer_states_and_info_come_back(tmp_path: Path) -> None:
    saved, state = Checkpoints(tmp_path), make_state(3)
    info = {"epoch": 2, "metrics": {"accuracy": 0.8515625, "loss": float("inf")}, "seen": (1, 2)}
    saved.save(7, state, info)
    restored = saved.restore(abstract(make_state(0)))
    assert restored is not None and same_bits(restored.state, state)
    assert type(restored.state.optimizer_state[0]) is optax.ScaleByAdamState
    assert (restored.step, restored.rejected) == (7, {})
    assert restored.info == saved.info(7) == {**info, "seen": [1, 2]}


def test_numbers_and_numpy_arrays_keep_their_kind(tmp_path: Path) -> None:
    state = {"n": 12, "flag": True, "rate": 0.1, "rows": np.arange(3, dtype=np.int64)}
    saved = Checkpoints(tmp_path)
    saved.save(0, state, {})
    restored = saved.restore({"n": 0, "flag": False, "rate": 0.0, "rows": np.zeros(3, np.int64)})
    assert restored is not None
    rows = restored.state.pop("rows")
    assert restored.state == {"n": 12, "flag": True, "rate": 0.1}
    assert [type(value) for value in restored.state.values()] == [bool, int, float]
    assert isinstance(rows, np.ndarray) and rows.tolist() == [0, 1, 2]


def test_nothing_saved_is_none_and_touches_nothing(tmp_path: Path) -> None:
    saved = Checkpoints(tmp_path / "none")
    assert saved.restore({"a": 0}) is None
    assert (saved.latest_step(), saved.steps(), saved.find()) == (None, [], (None, {}))
    saved.clean()
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="no checkpoint in .*none"):
        saved.restore_arrays()


def test_relative_folders_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Checkpoints(Path("run/checkpoints")).save(5, {"a": 1}, {})
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [5]


@pytest.mark.parametrize("folder", ["gs://bucket/run", Path("gs://bucket/run")])
def test_object_store_paths_stay_urls(folder: str | Path) -> None:
    assert os.fspath(Checkpoints(folder).folder) == "gs://bucket/run"


def test_a_step_can_be_chosen(tmp_path: Path) -> None:
    saved = Checkpoints(tmp_path)
    saved.save(1, {"a": 10}, {"epoch": 1})
    saved.save(2, {"a": 20}, {"epoch": 2})
    restored = saved.restore({"a": 0}, step=1)
    assert restored is not None and (restored.state, restored.info) == ({"a": 10}, {"epoch": 1})
    with pytest.raises(UserError, match=r"no checkpoint of step 3 in .*: found \[1, 2\]"):
        saved.restore({"a": 0}, step=3)
    with pytest.raises(UserError, match=r"missing; committed steps: \[1, 2\]"):
        saved.info(3)


def test_arrays_under_a_prefix(tmp_path: Path) -> None:
    saved, state = Checkpoints(tmp_path), make_state(1)
    saved.save(1, state, {})
    params = saved.restore_arrays(prefix="params/")
    assert same_bits(params, jax.tree.map(np.asarray, state.params))
    assert all(type(array) is np.ndarray for array in params.values())
    with pytest.raises(UserError, match=r"no array under 'parms/' \(did you mean 'params/'\?\)"):
        saved.restore_arrays(prefix="parms/")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"a/kernel": jnp.zeros((2, 4))}, r"has 'a/kernel' as float32\[2, 3\], expected float32"),
        ({"a/kernel": jnp.zeros((2, 3), jnp.bfloat16)}, r"float32\[2, 3\], expected bfloat16\[2"),
        ({"a/kernels": jnp.zeros(2)}, r"lacks 'a/kernels', expected as float32\[2\] \(did you me"),
        ({"a/bias": None}, r"has 'a/bias' as int32\[3\], expected no such array"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    state = {"a/kernel": jnp.zeros((2, 3)), "a/bias": jnp.zeros(3, jnp.int32)}
    saved = Checkpoints(tmp_path)
    saved.save(4, state, {})
    with pytest.raises(UserError, match=r"the checkpoint of step 4 in .* " + told):
        saved.restore(abstract({**state, **change}))


def test_only_the_newest_and_the_protected_remain(tmp_path: Path) -> None:
    saved = Checkpoints(tmp_path, keep=2)
    kept = []
    for step, best in [(1, 1), (2, 1), (3, 1), (4, 3), (5, 3), (6, 3)]:
        saved.save(step, {"a": step}, {}, keep_also={best})
        kept.append(saved.steps())
    assert kept == [[1], [1, 2], [1, 2, 3], [3, 4], [3, 4, 5], [3, 5, 6]]
    assert sorted(os.listdir(tmp_path)) == ["00000003", "00000005", "00000006"]
    with pytest.raises(UserError, match="0 checkpoints to keep"):
        Checkpoints(tmp_path, keep=0)


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    for name in ("notes", "12.old"):
        (tmp_path / name).mkdir()
    (tmp_path / "00000009").write_text("a file")
    saved = Checkpoints(tmp_path, keep=1)
    saved.save(1, {"a": 1}, {})
    saved.save(2, {"a": 2}, {})
    assert sorted(os.listdir(tmp_path)) == ["00000002", "00000009", "12.old", "notes"]
    assert saved.steps() == [2]


def test_the_same_step_again_is_left_as_it_is(tmp_path: Path) -> None:
    saved = Checkpoints(tmp_path)
    saved.save(1, {"a": 1}, {"try": 1})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    saved.save(1, {"a": 2}, {"try": 2})
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_info_that_is_not_json_fails_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Checkpoints(tmp_path).save(1, {"a": 1}, {"loss": jnp.float32(1)})
    with pytest.raises(ValueError, match="same path"):
        Checkpoints(tmp_path).save(1, {"a/b": 1, "a": {"b": 2}}, {})
    assert os.listdir(tmp_path) == []


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
QUOTA = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
ORBAX_FULL = ValueError("RESOURCE_EXHAUSTED: Failed to write 7630848 bytes: " + FULL.strerror)

ORBAX_LARGE = ValueError("OUT_OF_RANGE: Failed to write: " + os.strerror(errno.EFBIG))
IS_FULL = r"the disk is full: 1,\d+,\d+ bytes needed .* free by now at .*make room, then"


def raising(error: BaseException) -> Any:
    def fail(*arguments: Any, **named: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("room", "name", "error", "told"),
    [
        (checkpoints, "_write_arrays", FULL, IS_FULL),
        (checkpoints, "_write_arrays", QUOTA, r"the disk quota is used up: 1,\d+,\d+ bytes"),
        (checkpoints, "_write_arrays", ORBAX_FULL, IS_FULL),
        (checkpoints, "_write_arrays", ORBAX_LARGE, r"larger than it may be .*; raise the limit"),
        (manifest, "_put", FULL, IS_FULL),
        (manifest.os, "replace", FULL, IS_FULL),
    ],
)
def test_a_disk_that_fills_up(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: Any,
    name: str,
    error: BaseException,
    told: str,
) -> None:
    saved = Checkpoints(tmp_path, keep=1)
    saved.save(1, {"a": 1}, {})
    with monkeypatch.context() as patch:
        patch.setattr(room, name, raising(error))
        with pytest.raises(UserError, match=told) as caught:
            saved.save(2, {"a": 2}, {})
        assert "good checkpoint is step 1; " in str(caught.value)
    assert os.listdir(tmp_path) == ["00000001"] and saved.verify(1) == []
    saved.save(2, {"a": 2}, {})  # there is room again
    assert saved.steps() == [2] and saved.verify(2) == []


def test_the_space_is_looked_at_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=4_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(checkpoints, "_write_arrays", raising(AssertionError("was written")))
    told = r"disk is full: 5,048,576 bytes .* 4,000,000 free at .*; no checkpoint before it"
    with pytest.raises(UserError, match=told):
        Checkpoints(tmp_path).save(1, {"a": np.zeros(1_000_000, np.float32)}, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()])
def test_other_failures_leave_nothing_and_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(manifest, "_put", raising(error))
    with pytest.raises(type(error)):
        Checkpoints(tmp_path).save(1, {"a": 1}, {})
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the checkpoint .*file/checkpoints/00000001"):
        Checkpoints(tmp_path / "file" / "checkpoints").save(1, {"a": 1}, {})


def test_orbax_writes_no_log_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="absl"):
        saved = Checkpoints(tmp_path)
        saved.save(1, make_state(), {})
        saved.restore(abstract(make_state()))
    assert [record for record in caplog.records if "orbax" in record.pathname] == []


SMALL = """
    import os, resource, subprocess, sys
    import jax.numpy as jnp
    import numpy as np
    from gptbert.errors import UserError
    from gptbert.weights import checkpoints
    folder, options, largest = sys.argv[1:]
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest), int(largest)))
    saved = checkpoints.Checkpoints(folder, keep=1)
    saved.save(1, {"a": np.zeros(50_000, np.float32)}, {})
    checkpoints._SPARE_BYTES = -10**8  # so that the disk itself has to object
    try:
        saved.save(2, {str(n): jnp.ones(100_000) for n in range(30)}, {})
    except UserError as error:
        print(error)
    assert os.listdir(folder) == ["00000001"] and saved.verify(1) == []
"""


@pytest.mark.parametrize(
    ("options", "largest", "told"),
    [
        ("size=8m", -1, "the disk is full: "),
        ("size=100m,nr_inodes=18", -1, "the disk is full (it has bytes left, but no inode"),
        ("size=100m,nr_inodes=24", -1, "the disk is full (it has bytes left, but no inode"),
        ("size=100m", 2_000_000, "a file would be larger than it may be"),
    ],
)
def test_a_disk_that_really_takes_no_more(
    tmp_path: Path, options: str, largest: int, told: str
) -> None:
    """One sentence, nothing of what Orbax's other thirty writes met."""
    unshare = ["unshare", "--map-root-user", "--mount"]
    try:
        probe = [*unshare, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
        subprocess.run(probe, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small disk can be mounted here (needs user namespaces)")
    script = [sys.executable, "-c", textwrap.dedent(SMALL), str(tmp_path), options, str(largest)]
    done = subprocess.run([*unshare, *script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(told) and "good checkpoint is step 1;" in done.stdout
    assert done.stdout.count("\n") == 1 and done.stderr == ""
