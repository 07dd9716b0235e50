"""Sequences in which many samples reset at many steps: the same as single steps, however the calls are cut."""

import pytest
import torch

from rllib_stpn.layers import make_layer

T = 23


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_many_resets_equal_single_steps(name, share):
    layer = make_layer(name, input_size=3, hidden_size=5).double()
    inputs = torch.randn(130, T, 3, dtype=torch.double)  # more samples than the single-step functions take
    is_first = torch.rand(130, T) < share
    is_first[:T] |= torch.eye(T, dtype=torch.bool)  # at every step one at least
    start = {key: torch.randn(130, *shape, dtype=torch.double) for key, shape in layer.state_shapes().items()}
    start = {key: leaf.masked_fill(is_first[:, :1], torch.nan).requires_grad_() for key, leaf in start.items()}
    weights = torch.randn(130, T, 5, dtype=torch.double)

    def gradients(outputs, state):
        loss = (outputs * weights).sum() + sum(leaf.square().sum() for leaf in state.values())
        return torch.autograd.grad(loss, [*layer.parameters(), *start.values()])

    outputs, state, energy = layer(inputs, start, is_first=is_first, return_energy=True)
    whole = gradients(outputs, state)
    steps, running = [], start
    for t in range(T):
        *step, running_energy = layer(
            inputs[:, t : t + 1], running, is_first=is_first[:, t : t + 1], return_energy=True
        )
        steps.append((step[0], running_energy))
        running = step[1]
    singly = torch.cat([output for output, _ in steps], 1)
    torch.testing.assert_close(outputs, singly)
    torch.testing.assert_close(energy, torch.cat([each for _, each in steps], 1))
    for key, leaf in running.items():
        torch.testing.assert_close(state[key], leaf)
    for one, other in zip(whole, gradients(singly, running), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_a_single_step_of_few_samples_equals_that_of_many(name):
    layer = make_layer(name, input_size=3, hidden_size=5).double()
    inputs = torch.randn(200, 1, 3, dtype=torch.double)
    state = {key: torch.randn(200, *shape, dtype=torch.double) for key, shape in layer.state_shapes().items()}
    many, after = layer(inputs, state)
    few, after_few = layer(inputs[:7], {key: leaf[:7] for key, leaf in state.items()})
    torch.testing.assert_close(few, many[:7])
    for key, leaf in after_few.items():
        torch.testing.assert_close(leaf, after[key][:7])
