import pytest
import torch
from torch.nn.utils import prune

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import LAYERS, LSTM, STPN, Stack, make_layer

B, T, D, H = 3, 5, 6, 4


def parameters(layer):
    return sum(p.numel() for p in layer.parameters())


def test_nothing_around_is_the_layer_itself():
    options = {"num_layers": 1, "input_projection": None, "layer_norm": False}
    assert type(make_layer("stpn", input_size=D, hidden_size=H, **options)) is STPN


def test_computes_projection_layers_and_normalisation_in_turn():
    options = {"num_layers": 2, "input_projection": 7, "layer_norm": True}
    stack = make_layer("lstm", input_size=D, hidden_size=H, bias="single", **options)
    assert isinstance(stack, Stack)
    stack.layer_norm.weight.data.uniform_(0.5, 2)
    inputs, is_first = torch.randn(B, T, D), torch.rand(B, T) < 0.3
    first, second = stack.layers
    assert (first.input_size, first.bias, second.input_size) == (7, "single", H)

    projected = inputs @ stack.projection.weight.T + stack.projection.bias
    outputs, state_0, energy_0 = first(projected, is_first=is_first, return_energy=True)
    outputs, state_1, energy_1 = second(outputs, is_first=is_first, return_energy=True)
    centred = outputs - outputs.mean(-1, keepdim=True)
    normal = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    state = {"0.h": state_0["h"], "0.c": state_0["c"], "1.h": state_1["h"], "1.c": state_1["c"]}
    expected = normal * stack.layer_norm.weight + stack.layer_norm.bias, state, torch.cat([energy_0, energy_1], 2)
    torch.testing.assert_close(stack(inputs, is_first=is_first, return_energy=True), expected)


@pytest.mark.parametrize("return_energy", [False, True])
@pytest.mark.parametrize("given", [False, True], ids=["from_zero", "going_on"])
@pytest.mark.parametrize("name", LAYERS)
def test_hooks_of_each_layer_are_called(name, given, return_energy):
    stack = make_layer(name, input_size=D, hidden_size=H, num_layers=2)
    outputs = []
    for layer in stack.layers:
        layer.register_forward_hook(lambda module, arguments, results: outputs.append(results[0]))
    stack.layers[0].register_forward_hook(lambda module, arguments, results: (0 * results[0], *results[1:]))
    inputs = torch.randn(B, T, D)
    found, *_ = stack(inputs, stack.initial_state(B) if given else None, return_energy=return_energy)
    assert len(outputs) == 2
    torch.testing.assert_close(found, outputs[1])
    torch.testing.assert_close(found, stack.layers[1](torch.zeros(B, T, H))[0])


def test_a_pruned_layer_trains():
    stack = make_layer("stpn", input_size=D, hidden_size=H, num_layers=2)
    first = stack.layers[0]
    prune.random_unstructured(first, "weight", amount=0.5)
    inputs, optimizer = torch.randn(B, T, D), torch.optim.SGD(stack.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        stack(inputs)[0].square().sum().backward()
        optimizer.step()
    stack(inputs)
    torch.testing.assert_close(first.weight, first.weight_orig * first.weight_mask)


def test_one_layer_keeps_the_names_of_its_state():
    stack = make_layer("lstm", input_size=D, hidden_size=H, layer_norm=True)
    assert stack.state_shapes() == LSTM(D, H).state_shapes()


@pytest.mark.parametrize("name", LAYERS)
def test_num_parameters_takes_the_closest_size(name):
    torch.manual_seed(0)
    layer = make_layer(name, input_size=17, num_parameters=4000)
    distances = {
        size: abs(parameters(make_layer(name, input_size=17, hidden_size=size)) - 4000)
        for size in (layer.hidden_size - 1, layer.hidden_size, layer.hidden_size + 1)
    }
    assert min(distances, key=distances.get) == layer.hidden_size
    torch.manual_seed(0)
    alone = make_layer(name, input_size=17, hidden_size=layer.hidden_size)
    torch.testing.assert_close(layer.state_dict(), alone.state_dict(), rtol=0, atol=0)  # the search draws nothing


@pytest.mark.parametrize(("num_parameters", "hidden_size"), [(1, 1), (6, 1), (9, 1), (10, 2), (12, 2)])
def test_num_parameters_at_the_smallest_sizes(num_parameters, hidden_size):
    layer = make_layer("mlp", input_size=5, num_parameters=num_parameters)  # 6 parameters per unit
    assert layer.hidden_size == hidden_size


def test_num_parameters_counts_what_stands_around():
    options = {"num_layers": 2, "input_projection": 8, "layer_norm": True}
    layer = make_layer("gru", input_size=100, num_parameters=20000, **options)
    assert abs(parameters(layer) - 20000) < 700
    assert parameters(layer.projection) == 808


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 4, "num_layers": 0}, "stpn: num_layers: got 0, allowed is a whole number of at least 1"),
        ({"hidden_size": 4, "input_projection": 0}, "stpn: input_projection: got 0"),
        ({"hidden_size": 4, "input_projection": True}, "stpn: input_projection: got True"),
        ({"hidden_size": 4, "layer_norm": 1.0}, "stpn: layer_norm: got 1.0, allowed is true or false"),
        ({"hidden_size": 4, "num_parameters": 100}, "stpn: hidden_size, num_parameters: got 4, 100, allowed is one"),
        ({}, "stpn: hidden_size, num_parameters: got None, None, allowed is one"),
        ({"num_parameters": 0}, "stpn: num_parameters: got 0, allowed is a whole number"),
        ({"num_parameters": 1e4}, "stpn: num_parameters: got 10000.0"),
        ({"num_parameters": 100, "num_layers": 2, "clamp": -1}, "stpn: clamp: got -1"),
    ],
    ids=str,
)
def test_bad_options(options, message):
    with pytest.raises(UsageError, match=message):
        make_layer("stpn", input_size=5, **options)
