"""The part of the energy that some synapses spend, against sums over their columns."""

import pytest
import torch

from rllib_stpn.layers import LAYERS, make_layer

OPTIONS = {"stpn-post": ("stpn", {"normalize": "post", "clamp": 1.0}), "stpnf": ("stpn", {"recurrent": False})}
OPTIONS |= {name: (name, {}) for name in LAYERS}
OPTIONS |= {"inner-steps": ("fast_weights", {"inner_steps": 2}), "lstm-2": ("lstm", {"num_layers": 2})}
MEMORYLESS = ("stpnf", "mlp", "hebbff")  # no recurrent synapses


def with_memory(name, options, batch=3):
    """A layer, inputs of one step, and a state from steps before."""
    torch.manual_seed(0)
    layer = make_layer(name, input_size=5, hidden_size=4, **options)
    with torch.no_grad():
        for key, parameter in layer.named_parameters():
            if "gamma" in key or "alpha" in key:
                parameter.normal_()
    _, state = layer(torch.randn(batch, 6, 5))
    return layer, torch.randn(batch, 1, 5), {key: leaf.detach() for key, leaf in state.items()}


@pytest.mark.parametrize("case", OPTIONS)
def test_input_and_recurrent_synapses_add_up(case):
    layer, inputs, state = with_memory(*OPTIONS[case])
    total = layer(inputs, state, return_energy=True)[2]
    recurrent = layer.energy_without(inputs, state)
    assert total.shape == recurrent.shape
    alone = [total - layer.energy_without(inputs, state, [column]) for column in range(5)]
    if case == "lstm-2":  # columns are of the first layer, silence is of both
        total, recurrent, alone = total[..., :16], recurrent[..., :16], [each[..., :16] for each in alone]
    torch.testing.assert_close(sum(alone) + recurrent, total, rtol=1e-5, atol=1e-5)
    assert (recurrent.abs().max() < 1e-5) == (case in MEMORYLESS)
    assert all((each > 0).any() for each in alone)


def test_columns_of_stpn_are_those_of_its_effective_weights():
    layer, inputs, state = with_memory("stpn", {"normalize": "pre"})
    G = layer.weight + state["F"]  # [B, H, D]
    G = (G / G.norm(dim=2, keepdim=True)).abs()
    u = torch.cat([inputs[:, 0], state["h"]], 1) ** 2
    kept = [0, 1, 3, 5, 6, 7, 8]
    expected = torch.einsum("bhd,bd->bh", G[..., kept], u[:, kept])
    torch.testing.assert_close(layer.energy_without(inputs, state, [2, 4])[:, 0], expected, rtol=1e-5, atol=1e-6)
    expected = torch.einsum("bhd,bd->bh", G[..., 5:], u[:, 5:])
    torch.testing.assert_close(layer.energy_without(inputs, state)[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_the_second_layer_of_a_stack_keeps_its_real_inputs():
    stack, inputs, state = with_memory("lstm", {"num_layers": 2})
    first, second = stack.layers
    own = [{key[2:]: leaf for key, leaf in state.items() if key.startswith(f"{index}.")} for index in range(2)]
    outputs, _ = first(inputs, own[0])
    expected = torch.cat([first.energy_without(inputs, own[0]), second.energy_without(outputs, own[1])], 2)
    torch.testing.assert_close(stack.energy_without(inputs, state), expected)
    expected = second(outputs, own[1], return_energy=True)[2]
    torch.testing.assert_close(stack.energy_without(inputs, state, [1])[..., 16:], expected)


def test_the_state_stays_as_it_was():
    from rllib_stpn.kernels import overwriting_states

    layer, inputs, state = with_memory("stpn", {})
    before = {key: leaf.clone() for key, leaf in state.items()}
    with torch.no_grad(), overwriting_states():
        layer.energy_without(inputs, state, [0])
    assert all(torch.equal(before[key], leaf) for key, leaf in state.items())
