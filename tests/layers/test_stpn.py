import pytest
import torch

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import STPN


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
        ({"recurrent": "false"}, "stpn: recurrent: got 'false', allowed is true or false"),
        ({"per_synapse": 1}, "stpn: per_synapse: got 1"),
        ({"gamma_init_scale": -1}, "stpn: gamma_init_scale: got -1"),
        ({"implementation": "cuda"}, "stpn: implementation: got 'cuda'"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_bad_options(options, message):
    with pytest.raises(UsageError, match=message):
        STPN(5, 4, **options)
