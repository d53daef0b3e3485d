"""Every damaged file is noticed and named, and the last good checkpoint is used instead."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.weights import manifest
from gptbert.weights.checkpoints import Checkpoints, Restored

TARGET = {
    "params/kernel": jax.ShapeDtypeStruct((40, 50), jnp.float32),
    "step": jax.ShapeDtypeStruct((), jnp.int32),
}


def state_of(step: int) -> dict[str, jax.Array]:
    kernel = np.random.default_rng(step).standard_normal((40, 50), dtype=np.float32)
    return {"params/kernel": jnp.asarray(kernel), "step": jnp.int32(step)}


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    """Steps 10 and 20, both good."""
    checkpoints = Checkpoints(tmp_path)
    for step in (10, 20):
        checkpoints.save(step, state_of(step), {"epoch": step // 10, "loss": 0.5})
    return checkpoints


def newest(saved: Checkpoints) -> Restored:
    restored = saved.restore(TARGET)
    assert restored is not None
    expected = state_of(restored.step)
    assert all(np.array_equal(restored.state[name], expected[name]) for name in expected)
    return restored


def files_of(saved: Checkpoints, step: int) -> dict[str, Path]:
    folder = Path(saved.folder) / f"{step:08d}"
    return {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_flipped_bit_in_any_file(saved: Checkpoints) -> None:
    rng = np.random.default_rng(0)
    files = files_of(saved, 20)
    assert len(files) > 5 and "manifest.json" in files
    for name, path in files.items():
        content = path.read_bytes()
        places = {0, len(content) // 2, len(content) - 1, *rng.integers(0, len(content), 3)}
        for place in places:
            flipped = bytearray(content)
            flipped[place] ^= 1 << rng.integers(8)
            path.write_bytes(flipped)
            (told,) = saved.verify(20)
            assert told.startswith(name + " ("), (name, place)
        restored = newest(saved)
        assert (restored.step, restored.rejected) == (10, {20: [told]})
        path.write_bytes(content)
    assert newest(saved).step == 20


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "garbage": lambda path: path.write_bytes(b"\xff\x00[" * 50),
    "nested garbage": lambda path: path.write_bytes(b"[" * 100_000),
    "another JSON": lambda path: path.write_text(json.dumps({"format": 1})),
    "a list": lambda path: path.write_text("[1]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_files_cut_emptied_overwritten(saved: Checkpoints, damage: Callable) -> None:
    for name, path in files_of(saved, 20).items():
        content = path.read_bytes()
        damage(path)
        restored = newest(saved)
        assert restored.step == 10
        (told,) = restored.rejected[20]
        assert told.startswith(name + " ("), name
        path.write_bytes(content)
    assert newest(saved).step == 20


def test_deleted_files(saved: Checkpoints) -> None:
    for name, path in files_of(saved, 20).items():
        content = path.read_bytes()
        path.unlink()
        restored = newest(saved)
        assert restored.step == 10
        no_longer_committed = name == "manifest.json"
        assert restored.rejected == ({} if no_longer_committed else {20: [f"{name} (missing)"]})
        path.write_bytes(content)
    written = sorted(name for name in files_of(saved, 20) if name.startswith("state/"))
    shutil.rmtree(Path(saved.folder) / "00000020" / "state")
    assert sorted(saved.verify(20)) == [f"{name} (missing)" for name in written]
    assert newest(saved).step == 10


def test_unreadable_files_are_damaged_files(
    saved: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, path = list(files_of(saved, 20).items())[1]
    sizes = {str(file): file.stat().st_size for file in files_of(saved, 20).values()}
    path.unlink()
    path.mkdir()
    monkeypatch.setattr("gptbert.weights.manifest._size", lambda path: sizes[str(path)])
    assert saved.verify(20) == [f"{name} (Is a directory)"]


def test_a_manifest_of_another_step_or_format(saved: Checkpoints) -> None:
    shutil.copytree(Path(saved.folder) / "00000020", Path(saved.folder) / "00000030")
    assert saved.verify(30) == ["manifest.json (it is of step 20)"]
    assert newest(saved).step == 20
    path = Path(saved.folder) / "00000020" / "manifest.json"
    content = {**json.loads(path.read_text()), "format": 2}
    del content["sha256"]
    path.write_text(manifest._sealed(content))
    assert saved.verify(20) == ["manifest.json (format 2, this version reads format 1)"]
    assert newest(saved).step == 10


def test_all_damaged_is_an_error_that_names_them(saved: Checkpoints) -> None:
    (Path(saved.folder) / "00000010" / "manifest.json").write_text("{")
    shutil.rmtree(Path(saved.folder) / "00000020" / "state")
    with pytest.raises(UserError) as raised:
        saved.restore(TARGET)
    told = str(raised.value)
    assert "step 10: manifest.json (cut or garbled)" in told
    assert "step 20: state/_CHECKPOINT_METADATA (missing)" in told and "more;" in told
    for read in (lambda: saved.restore(TARGET, step=20), lambda: saved.restore_arrays(20)):
        with pytest.raises(
            UserError, match=r"of step 20 in .* is damaged: state.*good steps: none$"
        ):
            read()
    with pytest.raises(UserError, match=r"manifest.json: cut or garbled"):
        saved.info(10)


def test_a_damaged_step_is_written_again(saved: Checkpoints) -> None:
    (Path(saved.folder) / "00000020" / "state" / "_METADATA").write_text("{")
    assert newest(saved).step == 10
    saved.save(20, state_of(20), {"epoch": 2})
    assert newest(saved).rejected == {} and newest(saved).step == 20


def test_a_damaged_step_takes_no_place_among_those_kept(saved: Checkpoints) -> None:
    (Path(saved.folder) / "00000020" / "state" / "_METADATA").write_text("{")
    assert newest(saved).step == 10
    saved.save(15, state_of(15), {})
    assert saved.steps() == [10, 15, 20]
    saved.save(25, state_of(25), {})
    assert saved.steps() == [15, 25]
