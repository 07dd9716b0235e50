"""Layers that loop over steps in torch: backward in chunks of time keeps memory bounded and changes no number."""

import subprocess
import sys

import pytest
import torch

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
        lengths.append(arguments[4].shape[1])  # of the chunk's inputs
        return apply(*arguments)

    monkeypatch.setattr(recomputed.Recomputed, "apply", counted)
    monkeypatch.setattr(recomputed, "GRAPH_BYTES", 1)
    steps = 100
    stepper(torch.randn(B, steps, D))
    assert sum(lengths) == steps
    assert len(lengths) + stepper.graph_tensors * max(lengths) < 2.5 * (stepper.graph_tensors * steps) ** 0.5


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
