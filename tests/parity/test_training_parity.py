"""Fine-tuning against PyTorch, update by update: same start, same batches, dropout off.

What a table of means over seeds cannot show: optimizer, clipping, decay, schedule, packing and the
gradient are the reference's, so that only what is drawn (order, heads, dropout) tells runs apart.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from gptbert.models.dropout import step_key
from gptbert.models.heads import SequenceClassifier
from gptbert.models.parameters import describe
from gptbert.models.presets import Compute
from gptbert.tasks.classification import TextObjective
from gptbert.training.optimizer import make_optimizer
from gptbert.training.schedules import make_schedule
from gptbert.training.sharding import make_layout
from gptbert.training.step import Training, jit_update
from gptbert.weights.huggingface import read_bert
from tests import reference
from tests.parity import test_bert_parity as models

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test-parity)")

pytestmark = [pytest.mark.parity, pytest.mark.torch]

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "bert" / "reference_recipe.py"
UPDATES, TOTAL = 24, 40  # the warm-up ends after 4


@pytest.fixture(scope="module")
def recipe():
    """Google's recipe, written out for PyTorch in the experiment that compares both sides."""
    spec = importlib.util.spec_from_file_location("reference_recipe", EXPERIMENT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference_recipe"] = module
    spec.loader.exec_module(module)
    return module


def theirs(model, batches: list[dict], recipe) -> tuple[list[float], dict]:
    """Losses of the updates, and the parameters after them by name."""
    optimizer, losses = recipe.ReleasedAdam(model.named_parameters()), []
    for step, batch in enumerate(batches):
        loss = model(**{name: torch.from_numpy(array) for name, array in batch.items()}).loss
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(step, TOTAL)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses, {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def ours(weights, batches: list[dict], layout: str, peak: float) -> tuple[list[float], dict]:
    classes = len(weights.parameters["classifier/bias"])
    graph, _ = describe(lambda rngs: SequenceClassifier(weights.config, Compute(), classes, rngs))
    training = Training(
        graph,
        TextObjective(regression=classes == 1),
        make_optimizer("bert_adam"),
        make_layout(devices=jax.devices()[:1]),
        dropout=False,
    )
    schedule, losses = make_schedule("bert", peak, int(0.1 * TOTAL), TOTAL), []
    state = training.initial_state(jax.tree.map(jax.numpy.asarray, dict(weights.parameters)))
    update = jit_update(training, state)
    for step, batch in enumerate(batches):
        placed = reference.lay_out(reference.as_features(**batch), layout)
        state, scalars = update(state, placed, np.float32(schedule(step)), step_key(0, step))
        losses.append(float(scalars["loss"]))
    return losses, jax.device_get(state.parameters)


@pytest.mark.parametrize("layout", reference.LAYOUTS)
@pytest.mark.parametrize("shape", ["erf", "tanh, a score"])
def test_every_update_is_the_references(tmp_path, recipe, shape, layout):
    model = models.random_model(models.SHAPES[shape])
    model.save_pretrained(tmp_path)
    weights = read_bert(tmp_path)
    batch = models.random_batch(model.config)
    order = np.random.default_rng(1)
    batches = []
    for _ in range(UPDATES):  # other words and labels every time, of the same lengths
        tokens = order.integers(1, model.config.vocab_size, batch["input_ids"].shape)
        labels = order.permutation(batch["labels"])
        batches.append(batch | {"input_ids": tokens * batch["attention_mask"], "labels": labels})
    wanted, after = theirs(model.double().eval(), batches, recipe)
    losses, parameters = ours(weights, batches, layout, recipe.PEAK_RATE)
    assert losses == pytest.approx(wanted, rel=1e-5)
    assert abs(wanted[-1] - wanted[0]) > 1e-3, "nothing was learnt"
    expected = reference.gradients_by_path(weights.config, after)
    for path, start in weights.parameters.items():
        moved, right = parameters[path] - start, expected[path] - start
        assert np.abs(right).max() > 1e-5, path
        assert np.abs(moved - right).max() <= 1e-2 * np.abs(right).max(), path
