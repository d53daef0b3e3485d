"""TFRecord's framing: checksums by their published value, and every kind of damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbert.datasets.tfrecord import frame_record, masked_crc32c, read_tfrecord
from gptbert.errors import UserError


def _crc32c(data: bytes) -> int:
    """CRC-32C bit by bit, as its definition reads."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_published_check_value() -> None:
    # The check value of CRC-32C in every catalogue of checksums, and RFC 3720's 32 zero bytes.
    expected = [_masked(0xE3069283), _masked(0x8A9136AA), _masked(0)]
    assert masked_crc32c([b"123456789", bytes(32), b""]).tolist() == expected


@pytest.mark.property
@given(st.lists(st.binary(max_size=40)))
def test_all_at_once_equals_bit_by_bit(blobs: list[bytes]) -> None:
    assert masked_crc32c(blobs).tolist() == [_masked(_crc32c(blob)) for blob in blobs]


def test_records_come_back_as_written(tmp_path: Path) -> None:
    records = [b"", b"one", bytes(range(256)) * 5, b"two"]
    path = tmp_path / "records"
    path.write_bytes(b"".join(map(frame_record, records)))
    assert read_tfrecord(path) == records
    path.write_bytes(b"")
    assert read_tfrecord(path) == []


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "records"
    content = frame_record(b"first") + frame_record(b"second")
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{path}: record [01] is (damaged|cut)"):
            read_tfrecord(path)


def test_any_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "records"
    content = frame_record(b"first") + frame_record(b"second")
    whole = len(frame_record(b"first"))
    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        if length == whole:
            assert read_tfrecord(path) == [b"first"]  # the caller compares the number of records
        else:
            with pytest.raises(UserError, match=r"record [01] is (damaged or )?cut short"):
                read_tfrecord(path)


def test_a_false_length_takes_no_memory(tmp_path: Path) -> None:
    length = struct.pack("<Q", 1 << 60)
    crc = struct.pack("<I", int(masked_crc32c([length])[0]))
    path = tmp_path / "records"
    path.write_bytes(length + crc + b"short")
    with pytest.raises(UserError, match=rf"it claims {1 << 60} bytes, the file has 5 left"):
        read_tfrecord(path)


def test_many_records_are_fast_enough_to_check() -> None:
    blobs = [bytes([number % 256]) * (number % 300) for number in range(20000)]
    checksums = masked_crc32c(blobs)
    picked = np.arange(0, 20000, 1999)
    assert checksums[picked].tolist() == [_masked(_crc32c(blobs[number])) for number in picked]
