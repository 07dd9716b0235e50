"""Threads, and what is left of them in a forked process."""

import os
import subprocess
import sys

import pytest
import torch

from rllib_stpn.kernels import overwriting_states, threads
from rllib_stpn.kernels.availability import numba_is_installed
from rllib_stpn.kernels.plastic import autograd as plastic
from rllib_stpn.kernels.stpn.columns import autograd as columns
from rllib_stpn.kernels.stpn.samples import autograd as samples
from rllib_stpn.layers import make_layer

FORKED = """
import os, signal, torch
from rllib_stpn.layers import LAYERS, make_layer

torch.set_num_threads(2)
for name in LAYERS:
    layer = make_layer(name, input_size=17, hidden_size=32)
    inputs = torch.randn(256, 3, 17)
    layer(inputs)[0].sum().backward()
    torch.randn(600, 600) @ torch.randn(600, 600)
    child = os.fork()
    if child == 0:
        signal.alarm(120)  # ends a child that waits for threads that it does not have
        layer(inputs)[0].sum().backward()
        torch.randn(600, 600) @ torch.randn(600, 600)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_every_layer_goes_on_in_a_forked_process():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- subnormal numbers ------------------------------------------------------------------------------------------------

SMALLEST_NORMAL = torch.finfo(torch.float32).tiny

can_flush = pytest.mark.skipif(
    not (torch.set_flush_denormal(False) and numba_is_installed()),
    reason="this processor has no mode for it, or no numba",
)


@can_flush
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("batch, hidden_size", [(4, 12), (40, 12), (4, 70)], ids=["few", "lanes", "columns"])
@pytest.mark.parametrize(
    "name", ["stpn", "fast_weights", "plastic_rnn", "modulated_plastic_rnn", "retroactive_plastic_rnn"]
)
def test_a_trace_that_has_decayed_becomes_zero(name, batch, hidden_size, count, monkeypatch):
    monkeypatch.setattr(threads, "num_threads", lambda: count)
    for ops in (columns, samples, plastic):
        monkeypatch.setattr(ops, "THREAD_WORK", 0)
    torch.manual_seed(0)
    layer = make_layer(name, input_size=20, hidden_size=hidden_size)
    state = {leaf: 1e-38 * torch.rand(value.shape) for leaf, value in layer.initial_state(batch).items()}
    inputs = torch.zeros(batch, 5, 20)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(0.5)
        for overwrite in (False, True):
            with overwriting_states(overwrite):
                after = layer(inputs[:, :1], state)[1]
            assert not any(_has_subnormals(leaf) for leaf in after.values())
    inputs.requires_grad_()
    outputs, after = layer(inputs, state)
    (1e-36 * outputs.sum()).backward()
    assert not any(_has_subnormals(leaf.detach()) for leaf in after.values())
    if name == "stpn":  # the others' gradients go through matrix products of torch's
        assert not any(_has_subnormals(each.grad) for each in (inputs, *layer.parameters()))


@can_flush
@pytest.mark.parametrize("was_so", [False, True])
def test_the_mode_of_the_thread_is_as_before(was_so):
    torch.set_flush_denormal(was_so)
    try:
        threads.run_slices([lambda: None])
        assert (float("5e-324") * float("1") == 0.0) == was_so
        with pytest.raises(ZeroDivisionError):
            threads.run_slices([lambda: 1 / 0, lambda: None])
        assert (float("5e-324") * float("1") == 0.0) == was_so
    finally:
        torch.set_flush_denormal(False)


def _has_subnormals(values: torch.Tensor) -> bool:
    return bool(((values != 0) & (values.abs() < SMALLEST_NORMAL)).any())
