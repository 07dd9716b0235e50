"""What every layer promises, run over all of them."""

import copy
import pickle

import numpy as np
import pytest
import torch

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import LAYERS, make_layer

B, T, D, H = 3, 7, 5, 4

CASES = {
    "stpn": ("stpn", {}),
    "stpn-post": ("stpn", {"normalize": "post", "clamp": 1.0}),
    "stpn-feedforward": ("stpn", {"recurrent": False, "normalize": None, "clamp": 0.1}),
    "stpn-scalar": ("stpn", {"per_synapse": False}),
    "stpn-reference": ("stpn", {"implementation": "reference"}),
    "rnn": ("rnn", {}),
    "rnn-single": ("rnn", {"bias": "single"}),
    "lstm": ("lstm", {}),
    "lstm-single": ("lstm", {"bias": "single"}),
    "gru": ("gru", {}),
    "gru-single": ("gru", {"bias": "single"}),
    "mlp": ("mlp", {}),
    "fast_weights": ("fast_weights", {}),
    "fast_weights-3": ("fast_weights", {"inner_steps": 3, "decay": 0.8, "rate": 0.3}),
    "plastic_rnn": ("plastic_rnn", {}),
    "plastic_rnn-decaying": ("plastic_rnn", {"rule": "decaying"}),
    "plastic_rnn-oja": ("plastic_rnn", {"rule": "oja"}),
    "modulated_plastic_rnn": ("modulated_plastic_rnn", {}),
    "retroactive_plastic_rnn": ("retroactive_plastic_rnn", {}),
    "plastic_lstm": ("plastic_lstm", {}),
    "plastic_lstm-retroactive": ("plastic_lstm", {"modulation": "retroactive", "alpha": "unit"}),
    "plastic_lstm-unmodulated": ("plastic_lstm", {"modulation": None}),
    "hebbff": ("hebbff", {}),
    "stack-stpn": ("stpn", {"num_layers": 2, "normalize": "post"}),
    "stack-plastic_lstm": ("plastic_lstm", {"num_layers": 3, "input_projection": 6, "layer_norm": True}),
    "stack-mlp": ("mlp", {"num_layers": 2, "layer_norm": True}),
    "projection": ("hebbff", {"input_projection": 6}),
    "layer_norm": ("lstm", {"layer_norm": True}),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


@pytest.fixture
def layer(case):
    torch.manual_seed(0)
    name, options = case
    layer = make_layer(name, input_size=D, hidden_size=H, **options)
    for key, parameter in layer.named_parameters():
        if key.endswith("weight_gamma"):
            parameter.data *= 400  # at its initial scale plasticity is invisible
    return layer


@pytest.fixture
def inputs():
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(1))


def some_state(layer, batch_size=B):
    generator = torch.Generator().manual_seed(2)
    state = layer.initial_state(batch_size)
    return {k: torch.randn(v.shape, generator=generator) * 0.3 for k, v in state.items()}


def assert_same(actual, expected, tolerance=1e-5):
    """Sums in another order differ by some 1e-7, which a layer normalisation divides by the deviation of its inputs."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_every_name_is_covered():
    assert {name for name, _ in CASES.values()} == set(LAYERS)


def test_shapes(layer, inputs):
    outputs, state, energy = layer(inputs, return_energy=True)
    assert outputs.shape == (B, T, layer.output_size) == (B, T, H)
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in layer.initial_state(B).items()}
    assert energy.shape[:2] == (B, T)
    assert (energy >= 0).all()
    assert not energy.requires_grad


def test_initial_state_is_zero_and_the_default(layer, inputs):
    state = layer.initial_state(B)
    assert all((leaf == 0).all() and leaf.dtype == torch.float32 for leaf in state.values())
    assert_same(layer(inputs, state), layer(inputs))


def test_a_sequence_equals_its_single_steps(layer, inputs):
    state = some_state(layer)
    expected = layer(inputs, state, return_energy=True)
    outputs, energies = [], []
    for t in range(T):
        output, state, energy = layer(inputs[:, t : t + 1], state, return_energy=True)
        outputs.append(output)
        energies.append(energy)
    assert_same((torch.cat(outputs, 1), state, torch.cat(energies, 1)), expected)


def test_a_split_sequence_equals_the_whole(layer, inputs):
    state = some_state(layer)
    expected = layer(inputs, state)
    first, middle = layer(inputs[:, :3], state)
    second, last = layer(inputs[:, 3:], middle)
    assert_same((torch.cat([first, second], 1), last), expected)


def test_a_state_survives_numpy(layer, inputs):
    expected = layer(inputs)
    _, middle = layer(inputs[:, :3])
    arrays = {key: leaf.detach().numpy().copy() for key, leaf in middle.items()}
    second, last = layer(inputs[:, 3:], {key: torch.from_numpy(array) for key, array in arrays.items()})
    assert all(array.dtype == np.float32 for array in arrays.values())
    assert_same((second, last), (expected[0][:, 3:], expected[1]))


def test_steps_behind_the_end_change_nothing_before_it(layer, inputs):
    """What stands in for lengths: outputs and gradients of the steps that count do not see those behind them."""

    def results(inputs):
        state = {key: leaf.requires_grad_() for key, leaf in some_state(layer).items()}
        inputs = inputs.clone().requires_grad_()
        outputs = layer(inputs, state)[0][:, :4]
        wanted = [*layer.parameters(), *state.values()]
        gradients = torch.autograd.grad(outputs.exp().sum(), [inputs, *wanted], allow_unused=True)
        return outputs, gradients[0][:, :4], gradients[1:], gradients[0][:, 4:]

    padded = torch.cat([inputs[:, :4], torch.zeros(B, 3, D)], 1)
    *found, behind = results(padded)
    *expected, _ = results(inputs[:, :4])
    assert_same(found, expected, 1e-5)
    assert (behind == 0).all()


def test_gradcheck(case):
    torch.manual_seed(0)
    name, options = case
    layer = make_layer(name, input_size=3, hidden_size=2, **options).double()
    state = {key: 0.3 * torch.randn_like(leaf) for key, leaf in layer.initial_state(2).items()}
    keys = list(state)
    is_first = torch.tensor([[False, False, True], [False, False, False]])

    def run(inputs, *leaves):
        outputs, last = layer(inputs, dict(zip(keys, leaves, strict=True)), is_first)
        return outputs, *(last[key] for key in keys)

    given = [torch.randn(2, 3, 3, dtype=torch.float64), *state.values()]
    assert torch.autograd.gradcheck(run, [tensor.requires_grad_() for tensor in given])


def test_gradients_pass_through_a_handed_over_state(layer, inputs):
    def gradients(loss):
        return torch.autograd.grad(loss, list(layer.parameters()), allow_unused=True)

    _, middle = layer(inputs[:, :3])
    expected = gradients(layer(inputs)[0][:, 3:].exp().sum())
    assert_same(gradients(layer(inputs[:, 3:], middle)[0].exp().sum()), expected, 1e-5)


def test_the_state_takes_part_in_no_gradient_that_it_does_not_ask_for(layer, inputs):
    """As a state that was recorded, and one that was learned: all other gradients are the same."""
    found = []
    for asks in (False, True):
        state = {key: value.requires_grad_(asks) for key, value in some_state(layer).items()}
        outputs, _ = layer(inputs, state)
        others = [*layer.parameters(), *(state.values() if asks else ())]
        gradients = torch.autograd.grad(outputs.square().sum(), others, allow_unused=True, materialize_grads=True)
        found.append(gradients[: len(list(layer.parameters()))])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("steps", [1, T])
def test_outputs_may_be_changed_in_place_without_changing_the_state(layer, inputs, steps):
    """As a head does that begins with ``ReLU(inplace=True)``."""
    with torch.no_grad():
        outputs, state = layer(inputs[:, :steps], some_state(layer))
        before = {key: value.clone() for key, value in state.items()}
        outputs.fill_(7.0)
    torch.testing.assert_close(state, before, rtol=0, atol=0)


def test_a_batch_may_be_empty(layer, inputs):
    outputs, state = layer(inputs[:0].requires_grad_(), layer.initial_state(0))
    assert outputs.shape == (0, T, layer.output_size)
    sum([outputs.sum(), *(value.sum() for value in state.values())]).backward()
    assert all(p.grad is None or not p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_others_does_not_matter(layer, inputs, dtype):
    expected = layer(inputs, some_state(layer))[0]
    state = some_state(layer)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        outputs, _ = layer(inputs.requires_grad_(), state)
        outputs.sum().backward()
    finally:
        torch.set_default_dtype(before)
    assert outputs.dtype == inputs.grad.dtype == torch.float32
    assert_same(outputs, expected)


def test_gradients_of_second_order_are_right_or_refused(layer, inputs):
    """As a gradient penalty takes them, where the first gradient does not depend on a gradient itself."""

    def penalty(layer, inputs):
        inputs = inputs.detach().requires_grad_()
        outputs, _ = layer(inputs)
        weights = torch.arange(outputs.numel(), dtype=outputs.dtype).sin().view_as(outputs)
        (gradient,) = torch.autograd.grad((outputs * weights).sum(), inputs, create_graph=True)
        return torch.autograd.grad(
            gradient.square().sum(), list(layer.parameters()), allow_unused=True, materialize_grads=True
        )

    expected = penalty(copy.deepcopy(layer).double(), inputs.double())
    try:
        found = penalty(layer, inputs)
    except RuntimeError as error:
        assert "no gradients of second order" in str(error)
        return
    largest = max(float(exact.abs().max()) for exact in expected)
    for each, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(each.double(), exact, rtol=1e-3, atol=1e-3 * largest)


def test_it_learns_under_autocast(layer, inputs):
    def gradients(lower):
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            _, state = layer(inputs)
            outputs, _ = layer(inputs, state)
            loss = outputs.float().square().sum()
        found = torch.autograd.grad(loss, list(layer.parameters()), allow_unused=True, materialize_grads=True)
        return torch.cat([each.flatten() for each in found]).double()

    found, expected = gradients(True), gradients(False)
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.98


@pytest.mark.parametrize("first", [0, 1, 4, 6])
def test_is_first_equals_separate_sequences(layer, inputs, first):
    state = some_state(layer)
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[1, first] = True
    outputs, last, energy = layer(inputs, state, is_first, return_energy=True)
    for b in range(B):
        own = {k: v[b : b + 1] for k, v in state.items()}
        if b != 1:
            expected = layer(inputs[b : b + 1], own, return_energy=True)
        else:
            expected = layer(inputs[b : b + 1, first:], return_energy=True)
            if first:
                before = layer(inputs[b : b + 1, :first], own, return_energy=True)
                expected = tuple(
                    last if isinstance(last, dict) else torch.cat([start, last], 1)
                    for start, last in zip(before, expected, strict=True)
                )
        found = (outputs[b : b + 1], {k: v[b : b + 1] for k, v in last.items()}, energy[b : b + 1])
        assert_same(found, expected)


def test_no_gradient_passes_a_reset(layer, inputs):
    inputs.requires_grad_()
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[:, 3] = True
    outputs, _ = layer(inputs, is_first=is_first)
    (gradient,) = torch.autograd.grad(outputs[:, 3:].exp().sum(), inputs)
    assert (gradient[:, :3] == 0).all()
    assert (gradient[:, 3] != 0).all()


def test_the_given_state_is_not_changed(layer, inputs):
    state = some_state(layer)
    before = {k: v.clone() for k, v in state.items()}
    layer(inputs, state, is_first=torch.ones(B, T, dtype=torch.bool))
    assert all(torch.equal(state[k], before[k]) for k in before)


def test_inference_equals_training(layer, inputs):
    expected = layer(inputs, some_state(layer))
    with torch.no_grad():
        assert_same(layer(inputs, some_state(layer)), expected, 1e-6)


def test_it_learns_after_inference_mode(layer):
    inputs = torch.randn(B, 13, D)  # a length of its own: nothing that other tests made is used again
    with torch.inference_mode():
        layer(inputs)
    layer(inputs)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters() if parameter.numel() > H)


def test_the_layout_in_memory_does_not_matter(layer):
    state = some_state(layer, 16)  # so many that the small STPN goes by lanes
    inputs = torch.randn(T, 16, D).transpose(0, 1)
    strided = {key: leaf.transpose(0, -1).contiguous().transpose(0, -1) for key, leaf in state.items()}
    found = []
    for x, leaves in ((inputs, strided), (inputs.contiguous(), state)):
        given = [x.detach().requires_grad_(), *(leaf.requires_grad_() for leaf in leaves.values())]
        outputs, after = layer(given[0], dict(zip(leaves, given[1:], strict=True)))
        loss = outputs.square().sum() + sum(leaf.square().sum() for leaf in after.values())
        found.append((outputs, torch.autograd.grad(loss, [*given, *layer.parameters()], allow_unused=True)))
    assert_same(*found, tolerance=1e-4)


def test_every_parameter_learns(layer, inputs):
    outputs, _ = layer(inputs)
    outputs.exp().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_copies_pickles_and_checkpoints_compute_the_same(case, layer, inputs):
    expected = layer(inputs)
    name, options = case
    restored = make_layer(name, input_size=D, hidden_size=H, **options)
    restored.load_state_dict(layer.state_dict())
    for other in (restored, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_same(other(inputs), expected, 1e-6)


@pytest.mark.parametrize("sizes", [(0, 4), (5, 0), (5, -1), (5, 2.0), (5, "4"), (True, 4)], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_sizes_are_positive_integers(name, sizes):
    with pytest.raises(UsageError, match=f"{name}: (input|hidden)_size: got .*, allowed is a whole number"):
        make_layer(name, input_size=sizes[0], hidden_size=sizes[1])


@pytest.mark.parametrize("shape", [(B, T, D + 1), (B, D), (B, 0, D)], ids=str)
def test_inputs_of_the_wrong_shape_are_refused(layer, shape):
    with pytest.raises(UsageError, match=rf"inputs: got shape .*allowed is \[B, T, {D}\]"):
        layer(torch.zeros(shape))


def test_a_state_that_does_not_fit_is_refused(layer, inputs):
    if not layer.initial_state(1):
        pytest.skip("no state")
    for state in (layer.initial_state(B + 1), {}, tuple(layer.initial_state(B).values()), torch.zeros(B, H)):
        with pytest.raises(UsageError, match="state: got .*allowed is a dict of shapes"):
            layer(inputs, state)


@pytest.mark.parametrize("mask", [torch.zeros(B, T), torch.zeros(T, B, dtype=torch.bool)], ids=["float", "time_first"])
def test_a_mask_that_does_not_fit_is_refused(layer, inputs, mask):
    with pytest.raises(UsageError, match="is_first: got"):
        layer(inputs, is_first=mask)
