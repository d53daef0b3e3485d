"""The processor that this process runs on, as far as the operating system tells."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import re
from pathlib import Path

_TOLD = Path("/proc/cpuinfo")


@dataclasses.dataclass(frozen=True)
class Processor:
    """What results name, and what decides which programs are fast.

    Attributes:
      name: Of the model, "Intel(R) Xeon(R) Processor"; the architecture where none is told.
      cores: Those of the machine.
      vendor: "GenuineIntel", "AuthenticAMD"; empty where Linux does not tell.
      features: Flags such as "avx512f" and "amx_bf16"; likewise.
    """

    name: str
    cores: int
    vendor: str = ""
    features: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.name}, {self.cores} core{'s' * (self.cores != 1)}"


@functools.cache
def processor() -> Processor:
    """The processor of this machine."""
    text = _TOLD.read_text(errors="replace") if _TOLD.exists() else ""
    return described(text, platform.processor() or platform.machine(), os.cpu_count() or 1)


def described(cpuinfo: str, otherwise: str, cores: int) -> Processor:
    """Reads Linux's /proc/cpuinfo; `otherwise` is the name where that has none."""
    found = {
        key: match[1].strip()
        for key in ("model name", "vendor_id", "flags")
        if (match := re.search(rf"^{key}[ \t]*:(.*)$", cpuinfo, re.MULTILINE))
    }
    return Processor(
        name=found.get("model name") or otherwise,
        cores=cores,
        vendor=found.get("vendor_id", ""),
        features=frozenset(found.get("flags", "").split()),
    )
