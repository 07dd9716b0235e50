import torch

from rllib_stpn.kernels.synaptic_energy import only_sums, synaptic_energy


def test_energy_is_conductance_times_squared_voltage():
    efficacy = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    assert synaptic_energy(efficacy, torch.tensor([[2.0, -1.0]])).tolist() == [[6.0, 3.0]]


def test_energy_of_one_efficacy_per_sample():
    efficacy = torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]])
    assert synaptic_energy(efficacy, torch.tensor([[2.0, -1.0], [2.0, 7.0]])).tolist() == [[6.0], [2.0]]


def test_energy_is_a_measurement_without_gradient():
    efficacy = torch.ones(2, 3, requires_grad=True)
    assert not synaptic_energy(efficacy, torch.ones(4, 3, requires_grad=True)).requires_grad


def test_only_the_sum_over_units_is_right_where_no_more_is_wanted():
    efficacy, presynaptic = torch.randn(4, 3), torch.randn(2, 5, 3)
    with only_sums():
        summed = synaptic_energy(efficacy, presynaptic)
    expected = synaptic_energy(efficacy, presynaptic)
    assert summed.shape == expected.shape
    torch.testing.assert_close(summed.sum(-1), expected.sum(-1))
    assert not torch.allclose(summed, expected)
