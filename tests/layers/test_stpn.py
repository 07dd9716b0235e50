import pytest
import torch

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import STPN


def parameters(layer):
    return sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize(
    ("input_size", "hidden_size", "outputs", "options", "expected"),
    [
        pytest.param(37, 11, 37, {}, 2039, id="retrieval"),
        pytest.param(37, 20, 37, {"per_synapse": False}, 1939, id="retrieval-scalar"),
        pytest.param(37, 13, 37, {"recurrent": False}, 1974, id="retrieval-feedforward"),
        pytest.param(17, 55, 5, {}, 12215, id="maze"),
        pytest.param(17, 30, 5, {}, 4415, id="maze-small"),
        pytest.param(17, 55, 5, {"per_synapse": False}, 4297, id="maze-scalar"),
        pytest.param(17, 76, 5, {"recurrent": False}, 4337, id="maze-feedforward"),
        pytest.param(2592, 64, 0, {}, 510016, id="pong-core"),
    ],
)
def test_parameter_counts(input_size, hidden_size, outputs, options, expected):
    assert parameters(STPN(input_size, hidden_size, **options)) + outputs * (hidden_size + 1) == expected


@pytest.mark.parametrize(("recurrent", "k"), [(True, 0.1), (False, 0.25)])
def test_initial_ranges(recurrent, k):
    torch.manual_seed(0)
    layer = STPN(16, 100, recurrent=recurrent)

    def span(parameter):
        return parameter.min().item(), parameter.max().item()

    assert span(layer.weight) == pytest.approx((-k, k), rel=0.02)
    assert span(layer.bias) == pytest.approx((-k, k), rel=0.2)
    assert span(layer.weight_gamma) == pytest.approx((-0.001 * k, 0.001 * k), rel=0.02)
    assert span(layer.weight_lambda) == pytest.approx((0, 1), abs=0.02)


def test_gamma_init_scale():
    assert STPN(16, 100, gamma_init_scale=0.03).weight_gamma.abs().max().item() == pytest.approx(0.003, rel=0.02)


def test_state_of_the_feedforward_layer_is_F_alone():
    assert {k: v.shape for k, v in STPN(5, 4, recurrent=False).initial_state(3).items()} == {"F": (3, 4, 5)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "sideways"}, "stpn: normalize: got 'sideways', allowed are 'pre', 'post', None"),
        ({"clamp": 0}, "stpn: clamp: got 0, allowed is a number greater than 0"),
        ({"clamp": "1"}, "stpn: clamp: got '1'"),
        ({"clamp": float("nan")}, "stpn: clamp: got nan"),
        ({"clamp": True}, "stpn: clamp: got True"),
        ({"recurrent": "false"}, "stpn: recurrent: got 'false', allowed are True, False"),
        ({"per_synapse": 1}, "stpn: per_synapse: got 1"),
        ({"gamma_init_scale": -1}, "stpn: gamma_init_scale: got -1"),
        ({"implementation": "cuda"}, "stpn: implementation: got 'cuda'"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_bad_options(options, message):
    with pytest.raises(UsageError, match=message):
        STPN(5, 4, **options)
