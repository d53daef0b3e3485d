"""What Linux tells of the processor, and what is said where it tells nothing."""

from __future__ import annotations

import os

from gptbert.processor import described, processor

XEON = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Processor
cpu cores\t: 2
flags\t\t: fpu avx512f amx_bf16
vmx flags\t: vnmi

processor\t: 1
vendor_id\t: GenuineIntel
"""
GRAVITON = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd\n"


def test_name_vendor_and_features() -> None:
    found = described(XEON, "x86_64", 2)
    assert str(found) == "Intel(R) Xeon(R) Processor, 2 cores"
    assert found.vendor == "GenuineIntel"
    assert found.features == {"fpu", "avx512f", "amx_bf16"}


def test_the_architecture_where_no_name_is_told() -> None:
    for text in (GRAVITON, "", "model name\t:\n"):
        found = described(text, "aarch64", 1)
        assert str(found) == "aarch64, 1 core"
        assert (found.vendor, found.features) == ("", frozenset())


def test_this_machine() -> None:
    here = processor()
    assert here.name and here.cores == os.cpu_count()
