import pytest
import torch

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import LSTM


def test_equals_torch_lstm():
    layer, torchs = LSTM(5, 4), torch.nn.LSTM(5, 4, batch_first=True)
    torchs.load_state_dict({f"{k}_l0": v for k, v in layer.state_dict().items()})
    inputs = torch.randn(3, 7, 5)
    outputs, state = layer(inputs)
    expected, (h, c) = torchs(inputs)
    torch.testing.assert_close((outputs, state["h"], state["c"]), (expected, h[0], c[0]))


def test_single_bias_equals_a_second_bias_of_zero():
    single, double = LSTM(5, 4, bias="single"), LSTM(5, 4)
    double.load_state_dict(single.state_dict() | {"bias_hh": torch.zeros(16)})
    inputs = torch.randn(3, 7, 5)
    torch.testing.assert_close(single(inputs), double(inputs))


def test_bad_bias():
    with pytest.raises(UsageError, match="lstm: bias: got 'none', allowed are 'double', 'single'"):
        LSTM(5, 4, bias="none")
