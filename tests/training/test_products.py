"""The library that multiplies on a CPU: which one is chosen, and that it computes the same."""

import json
import os
import subprocess
import sys

import jaxlib
import pytest

from gptbert.processor import Processor
from gptbert.training import products
from gptbert.training.products import MANY_TOKENS, WORTHWHILE, choose_products

# A process each: oneDNN reads its precision once. Three updates of a small model.
PROGRAM = """
import hashlib, json, sys
import jax, numpy as np
from gptbert.models.dropout import step_key
from gptbert.models.presets import BertConfig, Compute
from gptbert.training.products import choose_products
from gptbert.training.step import jit_update
from tests import tiny
# XLA hands no small products to oneDNN.
CONFIG = BertConfig(layers=1, width=256, heads=4, inner=1024, vocabulary=101, positions=77)
found = choose_products(sys.argv[1])
fixed, parameters = tiny.training(config=CONFIG, compute=Compute(found.arrays))
state, batch = fixed.initial_state(parameters), tiny.packed(tiny.features(64))
step = jit_update(fixed, state)
compiled = found.compile(step.lower(state, batch, np.float32(0), step_key(0, 0)))
losses, norms = [], []
for number in range(3):
    state, scalars = compiled(state, batch, np.float32(1e-3), step_key(0, number))
    losses.append(float(scalars["loss"]))
    norms.append(float(scalars["gradient_norm"]))
digest = hashlib.sha256()
for path in sorted(state.parameters):
    digest.update(np.asarray(state.parameters[path]).tobytes())
print(json.dumps({"products": str(found), "losses": losses, "norms": norms,
                  "digest": digest.hexdigest(), "onednn": "onednn" in compiled.as_text()}))
"""


def run(dtype: str, switch: str, program: str = PROGRAM) -> dict:
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", products._PRECISION)}
    done = subprocess.run(
        [sys.executable, "-c", program, dtype],
        env={**kept, "JAX_PLATFORMS": "cpu", "GPTBERT_ONEDNN": switch},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def require(*features: str, vendor: str = "") -> None:
    """Skips where the version of XLA or the processor lacks what the choice asks for."""
    if not jaxlib.__version__.startswith(products._TRIED):
        pytest.skip(f"oneDNN is not used under jaxlib {jaxlib.__version__}, which was not tried")
    here = products.processor()
    if (vendor and vendor != here.vendor) or not set(features) & here.features:
        pytest.skip(f"this processor is none of {vendor or 'any vendor'} with {features}")


@pytest.fixture
def fast_processor(monkeypatch):
    """A process on an Intel processor with AMX in which nothing was chosen yet."""
    monkeypatch.delenv("GPTBERT_ONEDNN", raising=False)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.delenv(products._PRECISION, raising=False)
    monkeypatch.setattr(products, "_chosen", set())
    here = Processor("Xeon", 2, "GenuineIntel", frozenset({"avx512f", "amx_bf16"}))
    monkeypatch.setattr(products, "processor", lambda: here)
    monkeypatch.setattr(products, "_is_known", lambda: True)


@pytest.mark.parametrize(
    ("flops", "tokens"), [(0.0, 0.0), (WORTHWHILE, MANY_TOKENS - 1), (WORTHWHILE / 2, 1e6)]
)
def test_short_runs_and_small_steps_keep_xla_and_the_cache(fast_processor, flops, tokens):
    found = choose_products("float32", flops, tokens)
    assert (str(found), found.arrays) == ("XLA, float32", "float32")
    assert products._PRECISION not in os.environ


def test_long_runs_of_large_steps_multiply_faster(fast_processor):
    found = choose_products("float32", WORTHWHILE, MANY_TOKENS)
    assert (str(found), found.arrays) == ("oneDNN, float32", "float32")
    assert os.environ[products._PRECISION] == "STRICT", "factors of float32 must never be rounded"


def test_bfloat16_keeps_arrays_in_float32(fast_processor):
    found = choose_products("bfloat16")
    assert (found.library, found.precision, found.arrays) == ("oneDNN", "bfloat16", "float32")
    assert os.environ[products._PRECISION] == "BF16"


def test_the_first_precision_of_a_process_holds(fast_processor):
    assert choose_products("bfloat16").library == "oneDNN"
    # Factors of a float32 run must never be rounded.
    assert choose_products("float32", 1e20, 1e6).library == "XLA"
    assert choose_products("bfloat16").library == "oneDNN"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("GPTBERT_ONEDNN", "0"), ("XLA_FLAGS", "--xla_cpu_use_onednn=false")],
)
def test_what_the_user_has_set_is_never_overridden(fast_processor, monkeypatch, name, value, dtype):
    monkeypatch.setenv(name, value)
    assert choose_products(dtype, 1e20, 1e6).library == "XLA"
    assert os.environ[name] == value


@pytest.mark.parametrize(("dtype", "other"), [("float32", "BF16"), ("bfloat16", "STRICT")])
def test_a_precision_that_the_user_has_set_holds(fast_processor, monkeypatch, dtype, other):
    monkeypatch.setenv(products._PRECISION, other)
    assert choose_products(dtype, 1e20, 1e6).library == "XLA"
    assert os.environ[products._PRECISION] == other


@pytest.mark.parametrize(
    ("vendor", "features"),
    [("", ()), ("GenuineIntel", ("avx2",)), ("AuthenticAMD", ("avx512f",))],
)
def test_other_processors_get_xla(fast_processor, monkeypatch, vendor, features):
    here = Processor("", 1, vendor, frozenset(features))
    monkeypatch.setattr(products, "processor", lambda: here)
    assert str(choose_products("float32", 1e20, 1e6)) == "XLA, float32"
    found = choose_products("bfloat16")
    assert (str(found), found.arrays) == ("XLA, bfloat16", "bfloat16")


def test_programs_that_onednn_may_refuse_are_told_by_their_text():
    fusion = "  %onednn_fusion.1 = f32[2]{0} fusion(%a), kind=kCustom, calls=%fused.1\n"
    product = "  ROOT %dot.1 = f32[2]{0} dot(%p, %p)\n}\n"
    added = "  %dot.1 = f32[2]{0} dot(%p, %p)\n  ROOT %add.1 = f32[2]{0} add(%dot.1, %p)\n}\n"
    scaled = (
        "  %multiply.1 = f32[2]{0} multiply(%p, %p)\n  ROOT %dot.1 = f32[2]{0} dot(%p, %p)\n}\n"
    )
    computation = "%fused.1 (p: f32[2]) -> f32[2] {\n  %p = f32[2]{0} parameter(0)\n"
    entry = "\nENTRY %main (a: f32[2]) -> f32[2] {\n"
    assert products.is_safe(computation + product + entry + fusion)
    assert not products.is_safe(computation + scaled + entry + fusion)
    assert not products.is_safe(computation + added + entry + fusion)
    assert products.is_safe(computation + scaled + entry), "nothing there is oneDNN's"


# Two updates of each model, with sizes whose products XLA does hand over, the vocabulary's too. Of
# each tensor's first gradient (its share in the first moments) norm and projection on noise.
MODELS = """
import dataclasses, json, sys
import numpy as np
from gptbert.models.dropout import step_key
from gptbert.models.presets import Compute
from gptbert.training.products import choose_products
from gptbert.training.step import jit_update
from tests import tiny_pretraining as tiny
found = choose_products(sys.argv[1])
losses, told, used = {}, {}, set()
for name, scan, remat in (("BERT", False, False), ("BERT", True, True), ("GPT", False, True),
                          ("GPT-2", False, False), ("GPT-2", True, False)):
    config, objective = tiny.MODELS[name]
    sizes = {"width": 256, "inner": 1024, "vocabulary": 4099}
    tiny.MODELS[name] = dataclasses.replace(config, **sizes), objective
    fixed, parameters = tiny.training(name, compute=Compute(found.arrays, scan, remat))
    state, batch = fixed.initial_state(parameters), tiny.batch(name)
    compiled = found.compile(jit_update(fixed, state).lower(
        state, batch, np.float32(0), step_key(0, 0)))
    used.add(str(found.of(compiled)))
    state, _ = compiled(state, batch, np.float32(1e-5), step_key(0, 0))
    moments = [s for s in state.optimizer_state if hasattr(s, "first")][0].first
    for number, (path, value) in enumerate(sorted(moments.items())):
        noise = np.random.default_rng(number).standard_normal(value.shape)
        both = np.linalg.norm(value), (np.asarray(value) * noise).sum()
        told[f"{name} {scan} {remat} {path}"] = [float(each) for each in both]
    state, scalars = compiled(state, batch, np.float32(1e-5), step_key(0, 1))
    losses[f"{name} {scan} {remat}"] = float(scalars["loss"])
print(json.dumps({"losses": losses, "told": told, "products": sorted(used)}))
"""


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 5e-2)])
def test_every_model_is_trained_with_onednn(dtype, tolerance):
    if dtype == "float32":
        require("avx512f", vendor="GenuineIntel")
    else:
        require("amx_bf16", "avx512_bf16")
    plain, found = run("float32", "0", MODELS), run(dtype, "1", MODELS)
    assert plain.pop("products") == ["XLA, float32"]
    assert f"oneDNN, {dtype}" in found.pop("products"), "every model was compiled without"
    assert found["losses"] == pytest.approx(plain["losses"], rel=tolerance)
    assert found["told"].keys() == plain["told"].keys()
    for path, (norm, projection) in plain["told"].items():
        assert found["told"][path] == pytest.approx(
            [norm, projection], abs=tolerance * norm, rel=0
        ), path


def test_float32_products_agree_and_repeat_their_bits():
    require("avx512f", vendor="GenuineIntel")
    plain, found, again = run("float32", "0"), run("float32", "1"), run("float32", "1")
    assert not plain["onednn"]
    assert found["onednn"], "nothing was multiplied by oneDNN"
    assert found["losses"] == pytest.approx(plain["losses"], rel=1e-5)
    assert found["norms"] == pytest.approx(plain["norms"], rel=1e-4)
    assert found == again


def test_bfloat16_products_round_factors_only():
    require("amx_bf16", "avx512_bf16")
    plain, found, again = run("float32", "0"), run("bfloat16", "1"), run("bfloat16", "1")
    assert found["onednn"], "nothing was multiplied by oneDNN"
    assert found["losses"] == pytest.approx(plain["losses"], rel=2e-2)
    assert found["losses"] != pytest.approx(plain["losses"], rel=1e-6), "nothing was rounded"
    assert found == again
