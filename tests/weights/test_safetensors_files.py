import errno
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from gptbert.errors import UserError
from gptbert.weights import safetensors_files
from gptbert.weights.safetensors_files import open_tensors, write_safetensors


def write_index(folder, weight_map):
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def raw(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def refused(folder, *words):
    with pytest.raises(UserError) as error:
        open_tensors(folder)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_transposed_arrays_come_back_in_place(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_safetensors(tmp_path / "model.safetensors", {"t": x.T, "x": x, "part": x[:, 1:3]})
    tensors = open_tensors(tmp_path)
    assert tensors.shapes == {"t": (4, 3), "x": (3, 4), "part": (3, 2)}
    for name, expected in {"t": x.T, "x": x, "part": x[:, 1:3]}.items():
        np.testing.assert_array_equal(tensors.read(name), expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.float32])
def test_every_float_type_becomes_float32(tmp_path, dtype):
    x = np.array([[1.5, -2.25], [0.0, 96.0]], dtype)
    write_safetensors(tmp_path / "model.safetensors", {"x": x})
    read = open_tensors(tmp_path).read("x")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, x.astype(np.float32))


ALONE = """
import sys
from gptbert.weights.safetensors_files import open_tensors
assert "jax" not in sys.modules
print(open_tensors(sys.argv[1]).read("x").tolist())
"""


def test_half_precision_of_google_is_read_without_jax(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"x": np.ones(2, ml_dtypes.bfloat16)})
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, tmp_path], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "[1.0, 1.0]\n", done.stderr


@pytest.mark.parametrize("dtype", [np.int8, np.int64])
def test_integers_are_no_weights(tmp_path, dtype):
    write_safetensors(tmp_path / "model.safetensors", {"x": np.zeros(3, dtype)})
    with pytest.raises(UserError, match=r"tensor 'x' is of type I\d+; expected one of F64, F32"):
        open_tensors(tmp_path).read("x")


def test_written_files_are_marked_and_readable_by_others(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"x": np.zeros(3, np.float32)})
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"format": "pt"}
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "plain"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"x": np.ones(3, np.float32)})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors_files, "save_file", full)
    with pytest.raises(UserError, match=r"cannot write .*model\.safetensors: .*No space left"):
        write_safetensors(path, {"x": np.zeros(3, np.float32)})
    np.testing.assert_array_equal(open_tensors(tmp_path).read("x"), [1, 1, 1])
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_every_cut_is_noticed(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"x": np.ones((5, 7), np.float32)})
    whole = path.read_bytes()
    for size in (0, 5, 8, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(tmp_path, str(path), "cut off", str(size))
    path.write_bytes(
        raw(b'{"x": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}', bytes(8))
    )
    refused(tmp_path, str(path), "cut off")
    path.write_bytes(whole + b"more")
    refused(tmp_path, str(path), "belong to no tensor")


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n",
        b"<!DOCTYPE html><html></html>",
        struct.pack("<Q", 10**18) + b"{}",
        struct.pack("<Q", 99_000_000) + b"{}",
        raw(b"not JSON"),
        raw(b"[1, 2]"),
        raw(b'{"x": 3}'),
        raw(b'{"x": {"data_offsets": [0]}}'),
        raw(b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e999]}}'),
        raw(b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, NaN]}}'),
        raw(b"[" * 5000),
        raw(b'{"x": {"dtype": "F32", "shape": [9999999999], "data_offsets": [0, 8]}}', bytes(8)),
        raw(b'{"x": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}', bytes(8)),
        raw(b'{"x": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}}', bytes(8)),
        raw(
            b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},'
            b' "y": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
            bytes(8),
        ),
    ],
)
def test_garbage_is_refused_by_name(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    refused(tmp_path, str(path), "safetensors file")


def test_shards_are_joined(tmp_path):
    write_safetensors(tmp_path / "model-1.safetensors", {"a": np.ones(2, np.float32)})
    write_safetensors(tmp_path / "model-2.safetensors", {"b": np.zeros(3, np.float32)})
    write_index(tmp_path, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    tensors = open_tensors(tmp_path)
    assert tensors.shapes == {"a": (2,), "b": (3,)}
    np.testing.assert_array_equal(tensors.read("b"), [0, 0, 0])


def test_shards_that_are_missing_are_named(tmp_path):
    write_safetensors(tmp_path / "model-1.safetensors", {"a": np.ones(2, np.float32)})
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-3.safetensors"}
    write_index(tmp_path, shards)
    refused(tmp_path, "index.json", "model-2.safetensors, model-3.safetensors", "missing")


def test_index_and_shards_of_different_models(tmp_path):
    write_safetensors(tmp_path / "model-1.safetensors", {"a": np.ones(2, np.float32)})
    write_index(tmp_path, {"b": "model-1.safetensors"})
    refused(tmp_path, "tensor 'b'", "model-1.safetensors", "different models")


def test_a_tensor_in_two_shards(tmp_path):
    for name in ("m1.safetensors", "m2.safetensors"):
        write_safetensors(tmp_path / name, {"a": np.ones(2, np.float32)})
    write_index(tmp_path, {"a": "m1.safetensors", "b": "m2.safetensors"})
    refused(tmp_path, "'a'", "m1.safetensors", "m2.safetensors", "once")


@pytest.mark.parametrize(
    "name",
    [
        "../out.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "..\\x.safetensors",
        "x.bin",
        3,
    ],
)
def test_an_index_never_leaves_its_folder(tmp_path, name):
    folder = tmp_path / "weights"
    folder.mkdir()
    write_safetensors(tmp_path / "out.safetensors", {"a": np.ones(2, np.float32)})
    write_index(folder, {"a": name})
    refused(folder, "index.json", repr(name), "none outside of its folder")


def test_an_index_with_an_endless_name(tmp_path):
    write_index(tmp_path, {"a": "a" * 5000 + ".safetensors"})
    refused(tmp_path, "index.json", "names the file 'aaaa", "...aaaa", "beside the index")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}']
)
def test_a_broken_index(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    refused(tmp_path, "model.safetensors.index.json", "weight_map")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_pickles_are_explained_and_not_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch unpickled'\ntR.")
    refused(tmp_path, name, "never read", "if you trust", "save_file", "weights_only=True")


def test_no_weights_says_where_it_looked(tmp_path):
    (tmp_path / "tf_model.h5").touch()
    refused(tmp_path, "model.safetensors", "index.json", "tf_model.h5")
