"""Layers against numbers computed with the published implementations (``tests/data/published_cells.npz``)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rllib_stpn.layers import make_layer

DATA = np.load(Path(__file__).parents[1] / "data" / "published_cells.npz")

STPN_CASES = {
    "stpn_recurrent_norm_pre": {"normalize": "pre"},
    "stpn_recurrent_norm_post_clamp": {"normalize": "post", "clamp": 0.05},
    "stpn_recurrent_scalar_norm_pre": {"normalize": "pre", "per_synapse": False},
    "stpn_recurrent_nonorm_clamp": {"normalize": None, "clamp": 0.1},
    "stpn_feedforward_nonorm_clamp": {"normalize": None, "clamp": 0.1, "recurrent": False},
}


def published(case):
    return {k.removeprefix(f"{case}/"): torch.from_numpy(DATA[k]) for k in DATA.files if k.startswith(f"{case}/")}


def check(layer, data, parameters, state_keys):
    """``parameters``: our name -> published name."""
    layer.load_state_dict({ours: data[f"param.{theirs}"] for ours, theirs in parameters.items()})
    inputs = data["inputs"].requires_grad_()
    outputs, state, energy = layer(inputs, return_energy=True)
    (outputs * data["hidden_cotangent"]).sum().backward()
    found = {"hidden": outputs, "energy": energy, "grad_inputs": inputs.grad}
    found |= {f"final_state_{i}": state[key] for i, key in enumerate(state_keys)}
    found |= {f"grad.{theirs}": getattr(layer, ours).grad for ours, theirs in parameters.items()}
    for name, value in found.items():
        torch.testing.assert_close(value, data[name], rtol=2e-5, atol=5e-6, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize("case", STPN_CASES)
def test_stpn(case, implementation):
    data = published(case)
    layer = make_layer("stpn", input_size=5, hidden_size=4, implementation=implementation, **STPN_CASES[case])
    check(layer, data, {name: name for name in layer.state_dict()}, layer.state_shapes())


def test_lstm():
    layer = make_layer("lstm", input_size=5, hidden_size=4)
    check(layer, published("baseline_lstm"), {name: f"lstm.{name}" for name in layer.state_dict()}, ("h", "c"))
