import torch

from rllib_stpn.kernels import energy


def test_energy_is_conductance_times_squared_voltage():
    efficacy = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    assert energy(efficacy, torch.tensor([[2.0, -1.0]])).tolist() == [[6.0, 3.0]]


def test_energy_of_one_efficacy_per_sample():
    efficacy = torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]])
    assert energy(efficacy, torch.tensor([[2.0, -1.0], [2.0, 7.0]])).tolist() == [[6.0], [2.0]]


def test_energy_is_a_measurement_without_gradient():
    efficacy = torch.ones(2, 3, requires_grad=True)
    assert not energy(efficacy, torch.ones(4, 3, requires_grad=True)).requires_grad
