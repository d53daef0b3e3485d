"""Members of a tar archive, one after another, as a stream: nothing is extracted to disk.

`tarfile` decodes the header blocks; the walk is ours, because `tarfile` takes a damaged header in
the middle of an archive, or a missing end, for its end without a word, keeps all members in
memory, and reads extended headers of any stated size at once.
"""

from __future__ import annotations

import dataclasses
import re
import tarfile
from collections.abc import Iterator

from gptbert.datasets.document_streams import ByteStream, Window
from gptbert.datasets.document_types import Unreadable, printable

BLOCK = tarfile.BLOCKSIZE
# Extended headers hold a name of at most some thousand bytes.
MAX_EXTENDED = 1 << 20
# Digits of the length of a record, and of the size of a member: Python converts a few thousand.
_LENGTH_DIGITS, _SIZE_DIGITS = 7, 20

_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_KINDS = {
    tarfile.LNKTYPE: "a hard link in an archive",
    tarfile.SYMTYPE: "a symbolic link in an archive",
    tarfile.CHRTYPE: "a device in an archive",
    tarfile.BLKTYPE: "a device in an archive",
    tarfile.FIFOTYPE: "a pipe in an archive",
    tarfile.GNUTYPE_SPARSE: "a sparse file in an archive",
}


@dataclasses.dataclass(frozen=True)
class Member:
    """A member of an archive that is a file, or something refused.

    Attributes:
      name: As the archive has it, control characters escaped.
      size: Its bytes.
      stream: Its bytes, valid until the next member is asked for.
      problem: Why it is not read; empty if it is.
    """

    name: str
    size: int
    stream: Window
    problem: str = ""


def is_tar(head: bytes) -> bool:
    """Whether the first block of a stream is a tar header (POSIX, GNU) with a right checksum."""
    if head[257:262] != b"ustar":
        return False
    try:
        tarfile.TarInfo.frombuf(head[:BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def tar_named(path: str) -> bool:
    """Whether a name is that of an archive, compressed or not."""
    name = path.lower().removesuffix(".gz").removesuffix(".xz")
    return name.endswith((".tar", ".tgz", ".txz"))


def read_members(archive: ByteStream) -> Iterator[Member]:
    """Yields the files of an archive in its order, and what is refused; folders are passed over.

    Raises:
      Unreadable: the archive is damaged, cut, or goes on after its end mark.
    """
    extended: dict[str, str] = {}
    while (block := archive.read(BLOCK)) != bytes(BLOCK):
        header = _header(block)
        data = Window(archive, header.size if _has_data(header) else 0)
        if header.type in _EXTENDED or header.type in _LONG:
            if header.type != tarfile.XGLTYPE:
                extended.update(_extended(header, data))
        else:
            size = int(extended.get("size", header.size)) if _has_data(header) else 0
            data = Window(archive, size)
            if header.type == tarfile.GNUTYPE_SPARSE:
                _skip_sparse_map(block, archive)
            if not header.isdir():
                name = extended.get("path", header.name)
                yield Member(printable(name), size, data, _problem(name, header, extended))
            extended = {}
        size = data.size
        data.skip()
        _read_exactly(archive, -size % BLOCK)
    _check_end(archive)


def _header(block: bytes) -> tarfile.TarInfo:
    if not block:
        raise Unreadable("the archive is cut short (it has no end mark)")
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise Unreadable(f"the archive is damaged ({error}); its rest was not read") from error
    if header.size < 0:
        raise Unreadable("the archive is damaged (a negative size); its rest was not read")
    return header


def _has_data(header: tarfile.TarInfo) -> bool:
    """Links, devices and folders have none, whatever size they state."""
    return header.type not in (*_KINDS, tarfile.DIRTYPE) or header.type == tarfile.GNUTYPE_SPARSE


def _extended(header: tarfile.TarInfo, data: Window) -> dict[str, str]:
    """The fields of a POSIX extended header, or the long name of a GNU one, as `path`."""
    if header.size > MAX_EXTENDED:
        raise Unreadable(f"the archive is damaged (a header of {header.size:,} bytes)")
    content = b"".join(iter(lambda: data.read(MAX_EXTENDED), b""))
    if header.type in _LONG:
        name = content.split(b"\0")[0].decode("utf-8", "surrogateescape")
        return {"path": name} if header.type == tarfile.GNUTYPE_LONGNAME else {}
    fields = dict(_records(content))
    size = fields.get("size", "0")
    if not (size.isascii() and size.isdecimal() and len(size) <= _SIZE_DIGITS):
        raise Unreadable("the archive is damaged (an extended header)")
    return fields


def _records(content: bytes) -> Iterator[tuple[str, str]]:
    """The fields of a POSIX extended header: `LENGTH KEY=VALUE`, a line feed, and the next one."""
    at = 0
    while at < len(content):
        blank = content.find(b" ", at, at + _LENGTH_DIGITS + 1)
        digits = content[at : max(at, blank)]
        end = at + int(digits) if digits.isdigit() else -1
        if not blank < end <= len(content):
            raise Unreadable("the archive is damaged (an extended header)")
        key, _, value = content[blank + 1 : end].removesuffix(b"\n").partition(b"=")
        yield key.decode("utf-8", "replace"), value.decode("utf-8", "surrogateescape")
        at = end


def _problem(name: str, header: tarfile.TarInfo, extended: dict[str, str]) -> str:
    if header.type in _KINDS:
        return _KINDS[header.type]
    if header.type not in tarfile.REGULAR_TYPES:
        return "an archive member of an unknown kind"
    if any(key.startswith("GNU.sparse") for key in extended):
        return _KINDS[tarfile.GNUTYPE_SPARSE]
    if name.startswith("/") or _DRIVE.match(name):
        return "an archive member with an absolute path"
    parts = name.replace("\\", "/").split("/")
    if ".." in parts:
        return "an archive member whose path leads out of the archive"
    if any(part.startswith(".") and part != "." for part in parts):
        return "a hidden file"
    return ""


def _skip_sparse_map(block: bytes, archive: ByteStream) -> None:
    """An old GNU sparse file's header goes on in further blocks while a flag says so."""
    more = block[482]
    while more:
        more = _read_exactly(archive, BLOCK)[504]


def _read_exactly(archive: ByteStream, size: int) -> bytes:
    data = archive.read(size)
    if len(data) < size:
        raise Unreadable("the archive is cut short (within a member)")
    return data


def _check_end(archive: ByteStream) -> None:
    """Reads on, so that a checksum after the archive is looked at; only zeros may follow."""
    while rest := archive.read(1 << 16):
        if rest.strip(b"\0"):
            raise Unreadable("the archive goes on after its end mark (the rest was not read)")
