"""Tensors in safetensors files: one `model.safetensors`, or shards named by an index.

A file is 8 bytes of header length (little-endian), a JSON header and the data. The library checks
that the header describes exactly the bytes that are there; what can go wrong before that is told
here in words. Nothing is read into memory before these checks hold, and then tensor by tensor.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 (comes with jax; makes BF16 a type of NumPy, as the library needs)
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gptbert.errors import UserError, shown

FILE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
MAX_INDEX_BYTES = 100_000_000
MAX_NAME_BYTES = 255  # of a file, on the file systems in use
_FLOATS = ("F64", "F32", "F16", "BF16")
_PICKLE_NAMES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin")


class TensorFiles:
    """The tensors of some safetensors files, read when asked for.

    Attributes:
      shapes: Name -> shape as stored.
      files: Name -> the file that holds it.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.files: dict[str, Path] = {}
        self._handles: dict[Path, Any] = {}
        for path in paths:
            self._add(path)

    def _add(self, path: Path) -> None:
        handle = self._handles[path] = _open(path)
        for name in handle.keys():  # noqa: SIM118 (the handle is no mapping)
            if name in self.files:
                raise UserError(
                    f"tensor {name!r} is in {self.files[name]} and again in {path}; expected every "
                    "tensor once"
                )
            self.files[name] = path
            self.shapes[name] = tuple(handle.get_slice(name).get_shape())

    def read(self, name: str) -> np.ndarray:
        """The tensor as float32, in its stored shape; raises UserError if it holds none or NaN."""
        path = self.files[name]
        handle = self._handles[path]
        dtype = handle.get_slice(name).get_dtype()
        if dtype not in _FLOATS:
            raise UserError(
                f"{path}: tensor {name!r} is of type {dtype}; expected one of {', '.join(_FLOATS)} "
                "(quantised weights are not supported)"
            )
        try:
            tensor: np.ndarray = handle.get_tensor(name).astype(np.float32, copy=False)
        except (SafetensorError, OSError, TypeError) as error:
            raise UserError(f"{path}: tensor {name!r} cannot be read: {error}") from None
        if bad := tensor.size - int(np.count_nonzero(np.isfinite(tensor))):
            raise UserError(
                f"{path}: {bad:,} of {tensor.size:,} numbers of tensor {name!r} are not finite; "
                "the weights are damaged or their training went astray"
            )
        return tensor


def open_tensors(folder: str | os.PathLike[str]) -> TensorFiles:
    """Opens the weights of a Hugging Face folder; only headers are read.

    `model.safetensors` goes before an index, as in transformers.

    Raises:
      UserError: No weights, only pickled ones, a damaged file, an index that names missing files,
        files elsewhere, or tensors that are not in the file named.
    """
    folder = Path(folder)
    if (folder / FILE_NAME).exists():
        return TensorFiles([folder / FILE_NAME])
    if not (folder / INDEX_NAME).exists():
        raise UserError(_no_weights(folder))
    index = _read_index(folder)
    names = sorted(set(index.values()))
    if missing := [name for name in names if not os.path.isfile(folder / name)]:
        raise UserError(
            f"{folder / INDEX_NAME} names {len(names)} files, of which these are missing beside "
            f"it: {', '.join(missing)}; fetch the whole folder again"
        )
    tensors = TensorFiles([folder / name for name in names])
    for name, file in index.items():
        if tensors.files.get(name) != folder / file:
            raise UserError(
                f"{folder / INDEX_NAME} says that tensor {name!r} is in {file}, where it is not; "
                "index and shards are of different models"
            )
    return tensors


def write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]) -> None:
    """Writes one file, whole or not at all, in the arrays' own dtypes and with usual permissions.

    Raises:
      UserError: The file system refuses (full, read-only).
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    # The library writes the bytes of a transposed array in the wrong order, without a word.
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    try:
        # Made first because the library would make it readable by its owner alone; older loaders
        # of transformers require the `format`.
        partial.touch()
        mode = partial.stat().st_mode
        save_file(contiguous, partial, metadata={"format": "pt"})
        partial.chmod(mode)
        os.replace(partial, path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot write {path}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _open(path: Path) -> Any:
    """The library's handle of one file, after checks that speak clearly."""
    _check_sizes(path)
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file: {error}; fetch or export it again"
        ) from None


def _check_sizes(path: Path) -> None:
    """Compares header length, header and file size with each other."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise UserError(_bad_header(path, size, length))
            header = file.read(length)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    end = _data_end(path, header)
    if size != 8 + length + end:
        what = "is cut off" if size < 8 + length + end else "has bytes that belong to no tensor"
        raise UserError(
            f"{path} {what}: it has {size:,} bytes where its header describes "
            f"{8 + length + end:,}; fetch or export it again"
        )


def _bad_header(path: Path, size: int, length: int) -> str:
    if size < 8:
        return f"{path} is cut off: it has {size} bytes, less than any safetensors file"
    if 0 < length <= MAX_HEADER_BYTES:
        return (
            f"{path} is cut off or no safetensors file: its header should have {length:,} bytes, "
            f"the file has {size:,}"
        )
    return (
        f"{path} is no safetensors file: its first 8 bytes give a header of {length:,} bytes; "
        f"expected at most {MAX_HEADER_BYTES:,} (a pointer of git-lfs or a web page saved under "
        "this name looks like this)"
    )


def _data_end(path: Path, header: bytes) -> int:
    """Where the last tensor ends, in bytes from the end of the header."""
    try:
        entries = json.loads(header)
        return max(
            (int(e["data_offsets"][1]) for name, e in entries.items() if name != "__metadata__"),
            default=0,
        )
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        raise UserError(
            f"{path} is damaged or no safetensors file: its header does not list tensors; fetch "
            "or export it again"
        ) from None


def _read_index(folder: Path) -> dict[str, str]:
    """Tensor name -> shard, every shard a plain name of a file in the folder."""
    path = folder / INDEX_NAME
    try:
        if (size := path.stat().st_size) > MAX_INDEX_BYTES:
            raise UserError(f"{path} has {size:,} bytes; expected at most {MAX_INDEX_BYTES:,}")
        index = json.loads(path.read_bytes())["weight_map"]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UserError(f"{path} is no index with a 'weight_map': {error!r}") from None
    if not isinstance(index, dict) or not index:
        raise UserError(f"{path}: 'weight_map' is empty or no object; expected tensor -> file")
    for file in index.values():
        if not isinstance(file, str) or not _is_plain(file):
            raise UserError(
                f"{path} names the file {shown(file)}; expected safetensors files beside the "
                "index, none outside of its folder"
            )
    return index


def _is_plain(name: str) -> bool:
    is_short = len(name.encode(errors="surrogatepass")) <= MAX_NAME_BYTES
    return is_short and name.endswith(".safetensors") and not set(name) & set("/\\:\0")


def _no_weights(folder: Path) -> str:
    looked = f"looked for {folder / FILE_NAME} and {folder / INDEX_NAME}"
    pickles = [name for name in _PICKLE_NAMES if (folder / name).exists()]
    if not pickles:
        there = sorted(path.name for path in folder.iterdir())
        held = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "") if there else "nothing"
        return f"no weights in {folder}: {looked}, and the folder holds {held}"
    return (
        f"{folder} has its weights only as {pickles[0]}, a pickle, which can run any code when it "
        f"is read and is therefore never read here ({looked}); if you trust its source, convert it "
        f"where PyTorch is installed: {convert_command(folder)}"
    )


def convert_command(folder: Path) -> str:
    """A shell command that makes a model.safetensors of a pytorch_model.bin or its shards."""
    return (
        f"cd '{folder}' && python -c \"import glob, torch; "
        "from safetensors.torch import save_file; "
        "files = [torch.load(f, map_location='cpu', weights_only=True) "
        "for f in glob.glob('pytorch_model*.bin')]; "
        "save_file({k: v.clone().contiguous() for f in files for k, v in f.items()}, "
        "'model.safetensors', {'format': 'pt'})\""
    )
