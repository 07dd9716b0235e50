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


PLASTIC = {"weight_x": "i2h.weight", "bias": "i2h.bias", "weight_h": "w", "weight_alpha": "alpha"}
MODULATOR = {"weight_m": "h2DA.weight", "bias_m": "h2DA.bias"}

# case: layer, our parameters by their published names, published order of the state's leaves (None: not ours)
RIVALS = {
    "hebbff": (
        "hebbff",
        {"weight": "weight", "bias": "bias", "lambda_logit": "_weight_lambda", "log_eta": "_weight_gamma"},
        ("A",),
    ),
    "fast_weights_s1": (
        "fast_weights",
        {
            "weight": "weight",
            "bias": "bias",
            "layer_norm_gain": "layer_norm.weight",
            "layer_norm_bias": "layer_norm.bias",
        },
        ("h", "A"),
    ),
    "backprop_plastic": ("plastic_rnn", PLASTIC | {"eta": "eta"}, ("h", "Hebb")),
    "backprop_modplast": ("modulated_plastic_rnn", PLASTIC | MODULATOR, ("h", "Hebb")),
    "backprop_modul": ("retroactive_plastic_rnn", PLASTIC | MODULATOR | {"eta": "etaet"}, ("h", None, "E", "P")),
}


def check(layer, data, parameters, state_keys):
    """``parameters``: our name -> published name."""
    shapes = {name: parameter.shape for name, parameter in layer.named_parameters()}
    assert parameters.keys() == shapes.keys()
    layer.load_state_dict({ours: data[f"param.{theirs}"].view(shapes[ours]) for ours, theirs in parameters.items()})
    inputs = data["inputs"].requires_grad_()
    outputs, state, energy = layer(inputs, return_energy=True)
    (outputs * data["hidden_cotangent"]).sum().backward()
    found = {"hidden": outputs, "grad_inputs": inputs.grad}
    found |= {"energy": energy} if "energy" in data else {}
    found |= {f"final_state_{i}": state[key] for i, key in enumerate(state_keys) if key is not None}
    for ours, theirs in parameters.items():
        found[f"grad.{theirs}"] = getattr(layer, ours).grad.view_as(data[f"grad.{theirs}"])
    for name, value in found.items():
        expected = data[name].to(value.dtype)
        torch.testing.assert_close(value, expected, rtol=2e-5, atol=5e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_every_published_case_is_covered():
    assert {key.partition("/")[0] for key in DATA.files} == {*STPN_CASES, *RIVALS, "baseline_rnn", "baseline_lstm"}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize("case", STPN_CASES)
def test_stpn(case, implementation):
    data = published(case)
    layer = make_layer("stpn", input_size=5, hidden_size=4, implementation=implementation, **STPN_CASES[case])
    check(layer, data, {name: name for name in layer.state_dict()}, layer.state_shapes())


def test_lstm():
    layer = make_layer("lstm", input_size=5, hidden_size=4)
    check(layer, published("baseline_lstm"), {name: f"lstm.{name}" for name in layer.state_dict()}, ("h", "c"))


def test_rnn():
    layer = make_layer("rnn", input_size=5, hidden_size=4, bias="single")
    names = {"weight_ih": "i2h.weight", "bias_ih": "i2h.bias", "weight_hh": "w"}
    check(layer, published("baseline_rnn"), names, ("h",))


@pytest.mark.parametrize("case", RIVALS)
def test_rivals(case):
    name, parameters, state_keys = RIVALS[case]
    check(make_layer(name, input_size=5, hidden_size=4), published(case), parameters, state_keys)
