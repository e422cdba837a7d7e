"""What a gradient keeps of the network: the same numbers whether activations are kept or computed again, and their bytes."""

import numpy as np
import pytest
import torch

from sigmatune import load
from sigmatune.core.guidance import Guided
from sigmatune.core.wrappers import Counted
from sigmatune.schedules import build
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, Workbench
from sigmatune.tuning import gradient as by_gradient
from sigmatune.tuning.activations import activation_bytes
from sigmatune.tuning.parameters import Freedom, Parameters

CALLS, ROWS = 3, 4
SETTINGS = TuningSettings(tuning=ROWS, validation=8, held_out=8, micro_batch=ROWS, reference_steps=8)


class Net(torch.nn.Module):
    """Some layers of tanh on 48 numbers, between two linear ones."""

    def __init__(self, layers, scale=0.1):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.layers, self.scale = torch.nn.Linear(48, 48, bias=False), layers, scale
        with torch.no_grad():
            self.first.weight.copy_(0.1 * torch.randn(48, 48, generator=generator))

    def forward(self, x, sigma):
        h = self.first(x.flatten(1) / (1 + sigma.view(-1, 1)))
        for _ in range(self.layers):
            h = torch.tanh(h)
        return (self.scale * h).view_as(x)


def model(layers=2, **options):
    return load(Net(layers, **options).eval(), shape=(3, 4, 4), sigma_min=0.01, sigma_max=50.0)


def objective(counted=None, **options):
    bench = Workbench(counted or model(), SETTINGS)
    start = build("karras", CALLS, bench.model.path)
    parameters = Parameters(start, "dpmpp2m", (0.01, 50.0), Freedom(coefficients=True))
    return by_gradient._Objective(bench, parameters)


def test_keeping_and_recomputing_give_the_same_gradient(monkeypatch):
    kept = objective()
    monkeypatch.setattr(by_gradient, "KEPT", 0)
    again = objective()
    assert kept.model.kept
    assert not again.model.kept
    x = 0.05 * np.random.default_rng(0).normal(size=kept.size)
    (value, slope), (same, too) = kept(x), again(x)
    assert value == same
    assert np.array_equal(slope, too)
    assert np.abs(slope).max() > 0


@pytest.mark.parametrize(("limit", "forward", "price"), [(2**29, 1, 3), (0, 2, 4)], ids=["kept", "recomputed"])
def test_the_price_is_what_is_computed(monkeypatch, limit, forward, price):
    """Forward once, or twice where activations were discarded; backward counts as two."""
    monkeypatch.setattr(by_gradient, "KEPT", limit)
    counted = Counted(model())
    descent = objective(counted)
    descent.bench.check()
    descent(np.zeros(descent.size))  # also the reference
    before, paid = counted.calls, descent.bench.spent("gradient")
    descent(np.full(descent.size, 1e-3))
    assert counted.calls - before == forward * CALLS
    assert descent.bench.spent("gradient") - paid == price * CALLS * ROWS


def test_bytes_are_those_of_the_activations():
    """One more tanh keeps one more output, of 48 numbers of 4 bytes; weights are not counted."""
    sizes = [activation_bytes(model(layers), 0, 1.0) for layers in (1, 2, 7)]
    assert sizes[1] - sizes[0] == 48 * 4
    assert sizes[2] - sizes[1] == 5 * 48 * 4
    assert sizes[0] < 48 * 48 * 4  # the weights alone would be more


def test_the_limit_is_on_all_calls_and_rows(monkeypatch):
    each = activation_bytes(model(), 0, 0.01)
    for limit, kept in ((CALLS * ROWS * each, True), (CALLS * ROWS * each - 1, False)):
        monkeypatch.setattr(by_gradient, "KEPT", limit)
        assert objective().model.kept == kept


@pytest.mark.parametrize("limit", [2**29, 0], ids=["kept", "recomputed"])
def test_nan_ends_the_search(monkeypatch, limit):
    monkeypatch.setattr(by_gradient, "KEPT", limit)
    descent = objective()
    descent.model.inner = model(scale=float("nan"))
    with pytest.raises(SigmaTuneError, match="NaN"):
        descent._measured(np.zeros(descent.size))


def test_the_costliest_call_counts(monkeypatch):
    """Guidance on an interval calls two networks there, and one elsewhere."""
    guided = Guided(model(), model(), 3.0, (0.5, 20.0))
    inside, outside = (activation_bytes(guided, 0, level) for level in (3.0, 0.01))
    assert inside > 1.9 * outside
    for limit, kept in ((CALLS * ROWS * inside, True), (CALLS * ROWS * inside - 1, False)):
        monkeypatch.setattr(by_gradient, "KEPT", limit)
        descent = objective(guided)
        assert descent.model.kept == kept
