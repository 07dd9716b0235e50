"""Every layer and option against an independent computation in float64 (``oracle.py``)."""

import numpy as np
import pytest
import torch

from rllib_stpn.layers import LAYERS, make_layer
from tests.layers import oracle

B, T, D, H = 2, 6, 4, 3

CASES = {
    "stpn-pre-clamp": ("stpn", {"clamp": 0.5}),
    "stpn-post-scalar": ("stpn", {"normalize": "post", "per_synapse": False}),
    "stpn-feedforward": ("stpn", {"recurrent": False, "normalize": None}),
    "stpn-feedforward-pre": ("stpn", {"recurrent": False, "normalize": "pre"}),
    "stpn-feedforward-post-clamp": ("stpn", {"recurrent": False, "normalize": "post", "clamp": 0.5}),
    "rnn": ("rnn", {}),
    "rnn-single": ("rnn", {"bias": "single"}),
    "lstm": ("lstm", {}),
    "lstm-single": ("lstm", {"bias": "single"}),
    "gru": ("gru", {}),
    "gru-single": ("gru", {"bias": "single"}),
    "mlp": ("mlp", {}),
    "fast_weights": ("fast_weights", {}),
    "fast_weights-3": ("fast_weights", {"inner_steps": 3, "decay": 0.8, "rate": 0.3}),
    "plastic_rnn-additive": ("plastic_rnn", {"rule": "additive"}),
    "plastic_rnn-decaying": ("plastic_rnn", {"rule": "decaying"}),
    "plastic_rnn-oja": ("plastic_rnn", {"rule": "oja"}),
    "modulated_plastic_rnn": ("modulated_plastic_rnn", {}),
    "retroactive_plastic_rnn": ("retroactive_plastic_rnn", {}),
    **{
        f"plastic_lstm-{modulation}-{alpha}": ("plastic_lstm", {"modulation": modulation, "alpha": alpha})
        for modulation in ("simple", "retroactive", None)
        for alpha in ("synapse", "unit")
    },
    "hebbff": ("hebbff", {}),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    """A layer in float64 with parameters of a size at which everything matters, inputs, and a start state."""
    name, options = request.param
    generator = torch.Generator().manual_seed(0)
    layer = make_layer(name, input_size=D, hidden_size=H, **options).double()
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.7
    inputs = torch.randn(B, T, D, generator=generator, dtype=torch.float64)
    state = {
        key: torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        for key, leaf in layer.initial_state(B).items()
    }
    return name, options, layer, inputs, state


def ask_oracle(name, options, tensors):
    """The oracle's results, batched, for tensors named as in ``named_tensors``."""
    values = {key: tensor.detach().numpy() for key, tensor in tensors.items()}
    parts = {kind: {k.partition(".")[2]: v for k, v in values.items() if k.startswith(kind)} for kind in ("p.", "s.")}
    samples = [
        getattr(oracle, name)(parts["p."], values["inputs"][b], {k: v[b] for k, v in parts["s."].items()}, **options)
        for b in range(B)
    ]
    outputs, states, energies = zip(*samples, strict=True)
    state = {key: torch.from_numpy(np.stack([s[key] for s in states])) for key in states[0]}
    return torch.from_numpy(np.stack(outputs)), state, torch.from_numpy(np.stack(energies))


def named_tensors(layer, inputs, state):
    parameters = {f"p.{key}": parameter for key, parameter in layer.named_parameters()}
    return {"inputs": inputs, **parameters, **{f"s.{key}": leaf for key, leaf in state.items()}}


def loss(outputs, state):
    """A number in which every output and every final state has a weight of its own."""
    generator = torch.Generator().manual_seed(1)
    parts = [outputs, *(state[key] for key in sorted(state))]
    return sum((p * torch.randn(p.shape, generator=generator, dtype=p.dtype)).sum() for p in parts)


def test_every_layer_is_covered():
    assert {name for name, _ in CASES.values()} == set(LAYERS)


def test_outputs_state_and_energy(case):
    name, options, layer, inputs, state = case
    found = layer(inputs, state, return_energy=True)
    expected = ask_oracle(name, options, named_tensors(layer, inputs, state))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_every_gradient(case):
    """Along a random direction of each tensor, against the oracle's central difference."""
    name, options, layer, inputs, state = case
    tensors = named_tensors(layer, inputs, state)
    for tensor in tensors.values():
        tensor.requires_grad_()
    gradients = torch.autograd.grad(loss(*layer(inputs, state)), list(tensors.values()))
    generator = torch.Generator().manual_seed(2)
    for (key, tensor), gradient in zip(tensors.items(), gradients, strict=True):
        direction = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        ends = [
            loss(*ask_oracle(name, options, tensors | {key: tensor.detach() + sign * 1e-6 * direction})[:2])
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / 2e-6
        torch.testing.assert_close(
            (gradient * direction).sum(), slope, rtol=1e-6, atol=1e-7, msg=lambda m, key=key: f"{key}: {m}"
        )
