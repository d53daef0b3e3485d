"""TFRecord files without TensorFlow: framing and checksums.

A record is its length (8 bytes, little endian), the masked CRC-32C of those 8 bytes (4 bytes), the
data, and the masked CRC-32C of the data (4 bytes). A length is believed only after its checksum
and only up to the end of the file, so that a damaged file cannot ask for memory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gptbert.errors import UserError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, bits reversed
_MASK_DELTA = 0xA282EAD8


def read_tfrecord(path: Path) -> list[bytes]:
    """Returns the records of an uncompressed TFRecord file.

    Raises:
      UserError: a checksum is wrong or the file ends inside a record; names file and record.
    """
    content = path.read_bytes()
    headers: list[bytes] = []
    records: list[bytes] = []
    stored: list[tuple[int, int]] = []
    position = 0
    while position < len(content):
        header, record, checksums = _frame(content, position, f"{path}: record {len(records)}")
        headers.append(header)
        records.append(record)
        stored.append(checksums)
        position += _HEADER.size + len(record) + _FOOTER.size
    expected = np.array(stored, np.uint32).reshape(-1, 2)
    for blobs, column in ((headers, 0), (records, 1)):
        wrong = np.flatnonzero(masked_crc32c(blobs) != expected[:, column])
        if wrong.size:
            raise UserError(f"{path}: record {wrong[0]} is damaged (its checksum does not hold)")
    return records


def frame_record(record: bytes) -> bytes:
    """One record as it stands in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    crc = [_FOOTER.pack(int(value)) for value in masked_crc32c([length, record])]
    return length + crc[0] + record + crc[1]


def masked_crc32c(blobs: Sequence[bytes]) -> np.ndarray:
    """TFRecord's masked CRC-32C of each blob, uint32 [len(blobs)].

    The loop runs over byte positions and does all blobs at once: records are short and many.
    """
    lengths = np.array([len(blob) for blob in blobs], np.int64)
    order = np.argsort(-lengths, kind="stable")
    starts = (np.cumsum(lengths) - lengths)[order]
    lengths = lengths[order]
    data = np.frombuffer(b"".join(blobs), np.uint8)
    crc = np.full(len(blobs), 0xFFFFFFFF, np.uint32)
    active = len(blobs)
    for offset in range(int(lengths[0]) if active else 0):
        while lengths[active - 1] <= offset:
            active -= 1
        low = (crc[:active] ^ data[starts[:active] + offset]) & 0xFF
        crc[:active] = _TABLE[low] ^ (crc[:active] >> 8)
    crc ^= np.uint32(0xFFFFFFFF)
    masked = np.empty_like(crc)
    masked[order] = ((crc >> 15) | (crc << 17)) + np.uint32(_MASK_DELTA)
    return masked


def _frame(content: bytes, position: int, where: str) -> tuple[bytes, bytes, tuple[int, int]]:
    """Cuts one frame: the bytes of the length, the data, and both stored checksums."""
    start = position + _HEADER.size
    if start > len(content):
        raise UserError(f"{where} is cut short (the file ends in its header)")
    length, header_crc = _HEADER.unpack_from(content, position)
    end = start + length
    if end + _FOOTER.size > len(content):
        raise UserError(
            f"{where} is damaged or cut short (it claims {length} bytes, the file has "
            f"{len(content) - start} left)"
        )
    (record_crc,) = _FOOTER.unpack_from(content, end)
    return content[position : position + 8], content[start:end], (header_crc, record_crc)


def _make_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_CASTAGNOLI), table >> 1)
    return table.astype(np.uint32)


_TABLE = _make_table()
