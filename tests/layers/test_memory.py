"""Layers that loop over steps in torch: backward in chunks of time keeps memory bounded and changes no number."""

import subprocess
import sys

import pytest
import torch
from torch.nn.utils import prune

from rllib_stpn.kernels import recomputed
from rllib_stpn.layers import LAYERS, Layer, make_layer

B, T, D, H = 4, 6, 24, 32

CASES = {
    "fast_weights": ("fast_weights", {}),
    "fast_weights-3": ("fast_weights", {"inner_steps": 3}),
    "plastic_rnn-additive": ("plastic_rnn", {"rule": "additive"}),
    "plastic_rnn-decaying": ("plastic_rnn", {"rule": "decaying"}),
    "plastic_rnn-oja": ("plastic_rnn", {"rule": "oja"}),
    "modulated_plastic_rnn": ("modulated_plastic_rnn", {}),
    "retroactive_plastic_rnn": ("retroactive_plastic_rnn", {}),
    "plastic_lstm-simple": ("plastic_lstm", {}),
    "plastic_lstm-retroactive": ("plastic_lstm", {"modulation": "retroactive"}),
    "plastic_lstm-unmodulated": ("plastic_lstm", {"modulation": None}),
    "hebbff": ("hebbff", {}),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def stepper(request, monkeypatch):
    torch.manual_seed(0)
    name, options = request.param
    monkeypatch.setattr(LAYERS[name], "run", Layer.run_steps)  # no fused loops
    return make_layer(name, input_size=D, hidden_size=H, **options)


class Kept:
    """Counts the bytes that autograd keeps while it is active, each storage once and parameters not at all."""

    def __init__(self, parameters):
        self.storages = {}
        self._free = {p.untyped_storage().data_ptr() for p in parameters}

    def __enter__(self):
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error):
        self._hooks.__exit__(*error)

    def _pack(self, tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._free:
            self.storages[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address comes twice
        return tensor

    @property
    def bytes(self):
        return sum(size for size, _ in self.storages.values())


def state_bytes(stepper):
    return sum(leaf.numel() * leaf.element_size() for leaf in stepper.initial_state(B).values())


def test_every_looping_layer_is_covered():
    looping = {name for name, kind in LAYERS.items() if kind.step is not Layer.step}
    assert {name for name, _ in CASES.values()} == looping


def test_a_step_keeps_what_the_layer_says(stepper):
    def kept(steps):
        inputs = torch.randn(B, steps, D)
        with Kept([*stepper.parameters(), inputs]) as counted:
            stepper(inputs)
        return counted.bytes

    per_step = (kept(2 * T) - kept(T)) / T / state_bytes(stepper)
    assert stepper.graph_tensors / 2 < per_step < stepper.graph_tensors


@pytest.mark.parametrize("length", [1, 4])
def test_chunks_change_nothing(stepper, length, monkeypatch):
    stepper.double()
    inputs = torch.randn(B, T, D, dtype=torch.float64, requires_grad=True)
    state = {key: torch.randn_like(leaf).requires_grad_() for key, leaf in stepper.initial_state(B).items()}
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[1, 2] = is_first[2, 4] = True

    def run():
        outputs, last, energy = stepper(inputs, state, is_first, return_energy=True)
        loss = outputs.square().sum() + sum(leaf.square().sum() for leaf in last.values())
        return outputs, last, energy, torch.autograd.grad(loss, [inputs, *state.values(), *stepper.parameters()])

    expected = run()
    monkeypatch.setattr(recomputed, "GRAPH_BYTES", length * stepper.graph_tensors * state_bytes(stepper))
    torch.testing.assert_close(run(), expected)


def test_chunks_keep_little(stepper, monkeypatch):
    inputs = torch.randn(B, 32, D)

    def kept():
        with Kept([*stepper.parameters(), inputs]) as counted:
            stepper(inputs)
        return counted.bytes

    whole = kept()
    monkeypatch.setattr(recomputed, "GRAPH_BYTES", 8 * stepper.graph_tensors * state_bytes(stepper))
    assert kept() < whole / 3


def test_huge_states_are_kept_as_seldom_as_the_graph_allows(stepper, monkeypatch):
    lengths = []

    apply = recomputed.Recomputed.apply

    def counted(*arguments):
        lengths.append(arguments[6].shape[1])  # of the chunk's inputs
        return apply(*arguments)

    monkeypatch.setattr(recomputed.Recomputed, "apply", counted)
    monkeypatch.setattr(recomputed, "GRAPH_BYTES", 1)
    steps = 100
    stepper(torch.randn(B, steps, D))
    assert sum(lengths) == steps
    assert len(lengths) + stepper.graph_tensors * max(lengths) < 2.5 * (stepper.graph_tensors * steps) ** 0.5


def in_chunks(function, monkeypatch):
    """What a function returns with the whole graph, and in chunks of one step."""
    expected = function()
    monkeypatch.setattr(recomputed, "GRAPH_BYTES", 1)
    monkeypatch.setattr(recomputed.math, "isqrt", lambda steps: 1)
    return expected, function()


def test_chunks_find_the_parameters_of_a_functional_call(stepper, monkeypatch):
    stepper.double()
    inputs = torch.randn(B, T, D, dtype=torch.float64)
    given = {name: (2 * p.detach()).requires_grad_() for name, p in stepper.named_parameters()}

    def gradients():
        outputs, _ = torch.func.functional_call(stepper, given, (inputs,))
        return torch.autograd.grad(outputs.square().sum(), list(given.values()))

    expected, found = in_chunks(gradients, monkeypatch)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["plastic_rnn", "plastic_lstm", "fast_weights"])
def test_gradients_of_gradients_in_chunks(name, monkeypatch):
    monkeypatch.setattr(LAYERS[name], "run", Layer.run_steps)
    torch.manual_seed(0)
    layer = make_layer(name, input_size=3, hidden_size=4).double()
    inputs, weight = torch.randn(B, T, 3, dtype=torch.float64), torch.randn(B, T, 4, dtype=torch.float64)

    def second():
        loss = (layer(inputs)[0] * weight).sum()  # the gradient of a sum depends on no tensor that needs one
        first = torch.autograd.grad(loss, list(layer.parameters()), create_graph=True)
        penalty = sum(gradient.square().sum() for gradient in first)
        return first, torch.autograd.grad(loss + penalty, list(layer.parameters()))

    expected, found = in_chunks(second, monkeypatch)
    torch.testing.assert_close(found, expected)


class Dropping(Layer):
    """Drops units in its step, keeps a running mean and has a number that may change."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight = torch.nn.Parameter(torch.randn(hidden_size, input_size))
        self.scale = 1.5
        self.register_buffer("mean", torch.zeros(hidden_size))

    def state_shapes(self):
        return {"h": (self.hidden_size,)}

    def step(self, x, drive, state, return_energy):
        h = torch.tanh(torch.nn.functional.linear(x, self.weight) + self.scale * state["h"] - self.mean)
        self.mean.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
        self.last = h = torch.nn.functional.dropout(h, 0.5, self.training)
        return h, {"h": h}, None


def test_chunks_do_not_go_back_into_earlier_calls(monkeypatch):
    layer = Dropping(D, H)  # which keeps the last outputs, with their graph

    def gradient():
        torch.manual_seed(7)
        layer.mean.zero_()
        return torch.autograd.grad(layer(torch.ones(B, T, D))[0].sum(), layer.weight)

    expected, found = in_chunks(gradient, monkeypatch)
    torch.testing.assert_close((found, gradient()), (expected, expected))


@pytest.mark.parametrize("change", [{}, {"scale": 0.0}, {"training": False}], ids=str)
def test_chunks_run_again_as_they_ran(change, monkeypatch):
    inputs = torch.randn(B, T, D)
    torch.manual_seed(0)
    weight = torch.randn(H, D)

    def run():
        torch.manual_seed(7)
        layer = Dropping(D, H)
        layer.weight.data.copy_(weight)
        outputs, _ = layer(inputs)
        vars(layer).update(change)  # after forward
        gradient = torch.autograd.grad(outputs.square().sum(), layer.weight)
        return outputs, gradient, layer.mean, torch.rand(3), {key: getattr(layer, key) for key in change}

    expected, found = in_chunks(run, monkeypatch)
    torch.testing.assert_close(found, expected)
    assert found[-1] == change


def test_chunks_run_again_under_autocast(monkeypatch):
    torch.manual_seed(0)
    layer = make_layer("stpn", input_size=D, hidden_size=H, implementation="reference", input_projection=D)
    inputs = torch.randn(B, T, D)

    def gradients():
        with torch.autocast("cpu", torch.bfloat16):
            outputs, _ = layer(inputs)
            loss = outputs.float().square().sum()
        return torch.autograd.grad(loss, list(layer.parameters()))

    expected, found = in_chunks(gradients, monkeypatch)
    torch.testing.assert_close(found, expected)


def test_chunks_find_pruned_weights(monkeypatch):
    torch.manual_seed(0)
    layer = make_layer("plastic_lstm", input_size=D, hidden_size=H).double()
    prune.random_unstructured(layer, "weight_h", amount=0.5)
    inputs = torch.randn(B, T, D, dtype=torch.float64)

    def gradients():
        return torch.autograd.grad(layer(inputs)[0].square().sum(), list(layer.parameters()))

    expected, found = in_chunks(gradients, monkeypatch)
    torch.testing.assert_close(found, expected)


PEAK = """
import resource
import torch
from rllib_stpn.kernels import recomputed
from rllib_stpn.layers import Layer, make_layer

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

torch.set_num_threads(1)
recomputed.GRAPH_BYTES = 16 * 2**20
plastic = make_layer("modulated_plastic_rnn", input_size=5, hidden_size=64)
type(plastic).run = Layer.run_steps  # no fused loops
plastic(torch.randn(2, 3, 5))[0].sum().backward()
inputs = torch.randn(64, 150, 5)
before = peak()
plastic(inputs)[0].square().sum().backward()
print(peak() - before)
"""


def test_the_peak_of_a_process_is_bounded():
    """Of the whole process, for what is set free may yet stay with the heap."""
    state = 64 * 64 * 64 * 4
    whole = 3 * 150 * state
    rise = int(subprocess.run([sys.executable, "-c", PEAK], capture_output=True, check=True, text=True).stdout)
    assert rise < whole / 3
