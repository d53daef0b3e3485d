"""SIGKILL at any moment of a save leaves whole checkpoints only; other devices can read them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.weights.checkpoints import Checkpoints

SHAPE = (700, 800)
TARGET = {
    "step": jax.ShapeDtypeStruct((), jnp.int32),
    **{f"params/{i}": jax.ShapeDtypeStruct(SHAPE, jnp.float32) for i in range(3)},
}

# Imports JAX and Orbax once, then forks (before any backend starts) one saving process a line.
SAVING = """
    import os, signal, sys
    import numpy as np
    import jax.numpy as jnp
    from etils import epath
    from gptbert.weights import checkpoints, manifest
    from gptbert.weights.checkpoints import Checkpoints

    def die(*arguments, **named):
        os.kill(os.getpid(), signal.SIGKILL)

    def die_in(place):
        if place == "after the arrays":
            checkpoints.write_manifest = die
        elif place == "before the manifest appears":
            manifest.os.replace = die
        elif place == "while an old step is removed":
            prune = Checkpoints._prune

            def prune_and_die(*arguments):
                type(epath.Path()).rmtree = die
                prune(*arguments)

            Checkpoints._prune = prune_and_die

    def save_for_ever(folder, place):
        saved = Checkpoints(folder, keep=2)
        saved.clean()
        step = 1 + (saved.latest_step() or 0)
        print(os.getpid(), flush=True)
        while True:
            rng = np.random.default_rng(step)
            arrays = {f"params/{i}": rng.random((700, 800), np.float32) for i in range(3)}
            if step > 2:
                die_in(place)
            state = {name: jnp.asarray(array) for name, array in arrays.items()}
            saved.save(step, {**state, "step": jnp.int32(step)}, {})
            print("saved", flush=True)
            step += 1

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            signal.alarm(60)  # whatever goes wrong, it ends
            try:
                save_for_ever(*line.rstrip().split("|"))
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        print(signal.Signals(os.WTERMSIG(status)).name, flush=True)
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path), **more}


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SAVING)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, env=environment()
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def save_until_killed(
    server: subprocess.Popen[str], folder: Path, place: str, saves: float | None = None
) -> None:
    """Runs a saving process until it kills itself at `place`, or is killed after `saves` saves."""
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(f"{folder}|{place}\n")
    server.stdin.flush()
    pid, since, seconds = int(server.stdout.readline()), time.monotonic(), 0.2
    if saves is not None:
        for _ in range(int(saves)):
            assert server.stdout.readline() == "saved\n"
            seconds, since = time.monotonic() - since, time.monotonic()
        time.sleep(saves % 1 * seconds)
        os.kill(pid, signal.SIGKILL)
    while (line := server.stdout.readline().strip()) == "saved":
        pass
    assert line == "SIGKILL"


def require_whole(folder: Path) -> int:
    """Every committed step is good, the newest comes back, a start removes orphans; the step."""
    saved = Checkpoints(folder)
    assert [saved.verify(step) for step in saved.steps()] == [[]] * len(saved.steps())
    restored = saved.restore(TARGET)
    assert (restored is None) == (saved.steps() == [])
    saved.clean()
    assert len(os.listdir(folder)) == len(saved.steps())
    if restored is None:
        return 0
    rng = np.random.default_rng(restored.step)
    assert restored.state["step"] == restored.step
    for i in range(3):
        assert np.array_equal(restored.state[f"params/{i}"], rng.random(SHAPE, np.float32))
    return restored.step


def test_killed_at_random_moments(tmp_path: Path, server: subprocess.Popen[str]) -> None:
    reached = [0]
    for _ in range(8):
        saves = random.uniform(0, 3)
        save_until_killed(server, tmp_path, "anywhere", saves)
        reached.append(require_whole(tmp_path))
        assert reached[-1] >= reached[-2] + int(saves)


@pytest.mark.parametrize(
    ("place", "left"),
    [
        ("after the arrays", 2),
        ("before the manifest appears", 2),
        ("while an old step is removed", 3),
    ],
)
def test_killed_in_the_worst_places(
    tmp_path: Path, server: subprocess.Popen[str], place: str, left: int
) -> None:
    save_until_killed(server, tmp_path, place)
    saved = Checkpoints(tmp_path)
    orphans = {int(name) for name in os.listdir(tmp_path)} - set(saved.steps())
    assert len(orphans) == 1
    assert require_whole(tmp_path) == left
    saved.save(9, {"a": 1}, {})
    assert len(saved.steps()) == len(os.listdir(tmp_path)) == 2


ON_EIGHT_DEVICES = """
    import sys
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import NamedSharding, PartitionSpec as P
    from gptbert.weights.checkpoints import Checkpoints
    assert jax.device_count() == 8
    saved = Checkpoints(sys.argv[1])

    def target(data, tensor):
        mesh = jax.make_mesh((data, tensor), ("data", "tensor"))
        specs = {"kernel": P("data", "tensor"), "bias": P("tensor"), "step": P()}
        shapes = {"kernel": (16, 24), "bias": (24,), "step": ()}
        dtypes = {"kernel": "float32", "bias": "bfloat16", "step": "int32"}
        shardings = {k: NamedSharding(mesh, spec) for k, spec in specs.items()}
        return {k: jax.ShapeDtypeStruct(shapes[k], dtypes[k], sharding=shardings[k]) for k in specs}

    state = saved.restore(target(2, 4)).state
    assert all(state[name].sharding == wanted.sharding for name, wanted in target(2, 4).items())
    assert state["kernel"].addressable_shards[0].data.shape == (8, 6)
    saved.save(2, jax.tree.map(lambda x: x + 1, state), {})
    again = saved.restore(target(4, 2))
    assert again.step == 2 and again.state["kernel"].addressable_shards[0].data.shape == (4, 12)
"""


def test_other_numbers_of_devices(tmp_path: Path) -> None:
    state = {
        "kernel": jnp.arange(16 * 24, dtype=jnp.float32).reshape(16, 24),
        "bias": jnp.arange(24, dtype=jnp.bfloat16),
        "step": jnp.int32(1),
    }
    saved = Checkpoints(tmp_path)
    saved.save(1, state, {})
    command = [sys.executable, "-c", textwrap.dedent(ON_EIGHT_DEVICES), str(tmp_path)]
    eight = environment(XLA_FLAGS="--xla_force_host_platform_device_count=8")
    done = subprocess.run(command, env=eight, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = {name: np.asarray(array + 1) for name, array in state.items()}
    target = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in state.items()}
    restored = saved.restore(target)
    assert restored is not None and restored.step == 2
    plain = saved.restore_arrays(2)
    for name, array in expected.items():
        assert restored.state[name].devices() == {jax.local_devices()[0]}
        assert np.array_equal(restored.state[name], array) and np.array_equal(plain[name], array)
        assert plain[name].dtype == array.dtype
