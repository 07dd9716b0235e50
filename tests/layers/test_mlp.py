import torch

from rllib_stpn.layers import MLP


def test_computes_tanh_of_an_affine_map():
    layer = MLP(5, 4)
    x = torch.randn(3, 7, 5)
    outputs, state, energy = layer(x, return_energy=True)
    torch.testing.assert_close(outputs, torch.tanh(x @ layer.weight.T + layer.bias))
    torch.testing.assert_close(energy, (x[:, :, None] ** 2 * layer.weight.abs()).sum(-1).detach())
    assert state == {}
