"""The process is set up before JAX: fewer page faults, nothing overridden, a switch to leave it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gptbert import runtime

# Allocates and frees what a training step does; prints the page faults of the last rounds.
PROGRAM = """
import resource, sys
from gptbert import runtime
runtime.prepare()
import jax, jax.numpy as jnp
f = jax.jit(lambda x: [jnp.sin(x + k) for k in range(6)])
x = jnp.ones((2560, 4096))
for _ in range(12):
    jax.block_until_ready(f(x))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    jax.block_until_ready(f(x))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(jax.config.jax_compilation_cache_dir)
"""


def run(**environment):
    inherited = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**inherited, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    faults, cache = done.stdout.split("\n")[:2]
    return int(faults), cache


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_tuned_allocator_spares_page_faults(tmp_path):
    plain, _ = run(GPTBERT_COMPILATION_CACHE=str(tmp_path), GPTBERT_ALLOCATOR="0")
    # Six results of 40 MiB (more than glibc ever keeps by itself), four times: 245,760 pages of 4
    # KiB when each is fetched anew.
    assert plain > 100_000
    # On a busy machine buffers are given back late now and then, and the heap grows once more.
    tuned = (run(GPTBERT_COMPILATION_CACHE=str(tmp_path))[0] for _ in range(5))
    assert any(faults < plain / 10 for faults in tuned)


BOUND = """
import ctypes, sys
from gptbert import runtime

class Info(ctypes.Structure):  # struct mallinfo2
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "mapped", "usmblks", "fsmblks", "used", "free", "top"
    )]

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.mallinfo2.restype = ctypes.c_void_p, Info
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
mapped = libc.mallinfo2().mapped  # by Python, before anything was said
runtime.tune_allocator()
first = libc.malloc(3 << 30)  # three gibibytes that nobody touches, more than any threshold of int
in_heap, before = libc.mallinfo2().mapped == mapped, libc.mallinfo2().arena
libc.free(first)
print(in_heap, libc.mallinfo2().arena == before)
print(runtime.bound_heap(most=1 << 60), runtime.bound_heap(most=0), runtime.bound_heap(most=0))
hole, too_large = libc.malloc(2 << 30), libc.malloc(2 << 30)
print((libc.mallinfo2().mapped - mapped) >> 30, libc.mallinfo2().arena == before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_the_heap_keeps_its_memory_until_it_is_bounded():
    done = subprocess.run([sys.executable, "-c", BOUND], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True True", "False True False", "2 True"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_that_of_the_process_and_the_machine():
    assert 10 << 20 < runtime.resident_bytes() < runtime.memory_limit() < 1 << 50


def test_compilation_cache_is_where_the_user_says(tmp_path):
    assert run(GPTBERT_COMPILATION_CACHE=str(tmp_path / "xla"))[1] == str(tmp_path / "xla")
    assert run(GPTBERT_COMPILATION_CACHE="0")[1] == "None"
    own = str(tmp_path / "own")
    assert run(JAX_COMPILATION_CACHE_DIR=own, GPTBERT_COMPILATION_CACHE="0")[1] == own


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    for name in ("JAX_COMPILATION_CACHE_DIR", "GPTBERT_COMPILATION_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    runtime._set_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_sigterm_is_noticed_and_the_handler_given_back():
    import signal

    from gptbert.runtime import stop_on_sigterm

    before = signal.getsignal(signal.SIGTERM)
    with stop_on_sigterm() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        with stop_on_sigterm() as within:
            assert within is stop, "what was asked for before is not forgotten"
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
