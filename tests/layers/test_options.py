"""Options outside what a layer takes, and where its parameters start."""

import math

import pytest
import torch

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import make_layer


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rnn", {"bias": None}, "rnn: bias: got None, allowed are 'double', 'single'"),
        ("gru", {"bias": "none"}, "gru: bias: got 'none', allowed are 'double', 'single'"),
        ("fast_weights", {"inner_steps": 0}, "inner_steps: got 0, allowed is a whole number of at least 1"),
        ("fast_weights", {"inner_steps": 1.0}, "fast_weights: inner_steps: got 1.0"),
        ("fast_weights", {"decay": -0.1}, "fast_weights: decay: got -0.1, allowed is a number greater than 0"),
        ("fast_weights", {"rate": "0.5"}, "fast_weights: rate: got '0.5'"),
        ("plastic_rnn", {"rule": "hebb"}, "plastic_rnn: rule: got 'hebb', allowed are 'additive', 'decaying', 'oja'"),
        ("plastic_lstm", {"modulation": "none"}, "modulation: got 'none', allowed are 'simple', 'retroactive', None"),
        ("plastic_lstm", {"alpha": 0.01}, "plastic_lstm: alpha: got 0.01, allowed are 'synapse', 'unit'"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_bad_options(name, options, message):
    with pytest.raises(UsageError, match=message):
        make_layer(name, input_size=5, hidden_size=4, **options)


def span(parameter):
    return parameter.min().item(), parameter.max().item()


def near(low, high):
    return pytest.approx((low, high), abs=0.06 * (high - low))


@pytest.mark.parametrize("name", ["plastic_rnn", "modulated_plastic_rnn", "retroactive_plastic_rnn"])
def test_plastic_networks_start_as_published(name):
    torch.manual_seed(0)
    layer = make_layer(name, input_size=16, hidden_size=100)
    assert span(layer.weight_h) == near(0, 0.01)
    assert span(layer.weight_alpha) == near(0, 0.01)
    assert span(layer.weight_x) == near(-0.25, 0.25)
    assert span(layer.bias) == near(-0.25, 0.25)
    if name != "plastic_rnn":
        assert span(layer.weight_m) == near(-0.1, 0.1)
    if name != "modulated_plastic_rnn":
        assert layer.eta.item() == pytest.approx(0.01)


def test_plastic_lstm_starts_as_an_lstm_with_little_plasticity():
    torch.manual_seed(0)
    layer = make_layer("plastic_lstm", input_size=16, hidden_size=100, alpha="unit")
    assert all(span(p) == near(-0.1, 0.1) for p in (layer.weight_x, layer.weight_h, layer.bias, layer.weight_m))
    assert layer.weight_alpha.shape == (100, 1)
    assert span(layer.weight_alpha) == near(0, 0.01)
    assert span(layer.weight_fan) == near(-1, 1)


def test_fast_weights_start_with_a_neutral_normalisation():
    torch.manual_seed(0)
    layer = make_layer("fast_weights", input_size=16, hidden_size=100)
    assert span(layer.weight) == near(-0.1, 0.1)
    assert (layer.layer_norm_gain == 1).all()
    assert (layer.layer_norm_bias == 0).all()


def test_hebbff_starts_with_slow_forgetting_and_anti_hebbian():
    torch.manual_seed(0)
    layer = make_layer("hebbff", input_size=16, hidden_size=100)
    assert torch.sigmoid(layer.lambda_logit).item() == pytest.approx(0.99)
    assert -math.exp(layer.log_eta.item()) == pytest.approx(-5 / 16)
    assert span(layer.weight) == near(-0.25, 0.25)


def test_plastic_lstm_without_plasticity_is_an_lstm():
    plastic = make_layer("plastic_lstm", input_size=5, hidden_size=4)
    lstm = make_layer("lstm", input_size=5, hidden_size=4, bias="single")
    plastic.weight_alpha.data.zero_()
    names = {"weight_ih": "weight_x", "weight_hh": "weight_h", "bias_ih": "bias"}
    lstm.load_state_dict({theirs: plastic.state_dict()[ours] for theirs, ours in names.items()})
    inputs = torch.randn(3, 7, 5)
    torch.testing.assert_close(plastic(inputs)[0], lstm(inputs)[0])
