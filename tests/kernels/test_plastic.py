"""The layers with Hebbian plasticity: the fused loops against the layers' own steps in torch."""

import copy
import subprocess
import sys

import pytest
import torch

from rllib_stpn.kernels import overwriting_states
from rllib_stpn.kernels.hebbff import CHUNK
from rllib_stpn.kernels.hebbff import autograd as hebbff_autograd
from rllib_stpn.kernels.plastic import autograd as plastic_autograd
from rllib_stpn.layers import Layer, make_layer, plastic_layer
from tests.clear_of_clamps import clear_of_clamps

RULES = {
    "fast_weights": ("fast_weights", {"decay": 0.8, "rate": 0.3}),
    "additive": ("plastic_rnn", {"rule": "additive"}),
    "decaying": ("plastic_rnn", {"rule": "decaying"}),
    "oja": ("plastic_rnn", {"rule": "oja"}),
    "modulated": ("modulated_plastic_rnn", {}),
    "retroactive": ("retroactive_plastic_rnn", {}),
    "hebbff": ("hebbff", {}),
}


@pytest.fixture(params=RULES.values(), ids=RULES.keys())
def rule(request):
    return request.param


def made(rule, input_size, hidden_size):
    """A layer with enough plasticity for it to matter, and for some of it to be clamped."""
    torch.manual_seed(0)
    name, options = rule
    layer = make_layer(name, input_size=input_size, hidden_size=hidden_size, **options)
    with torch.no_grad():
        for key, parameter in layer.named_parameters():
            if key in ("weight_h", "weight_alpha"):
                parameter.normal_(0.0, 0.5 * hidden_size**-0.5)
            elif key == "eta":
                parameter.fill_(0.4)
            elif key == "log_eta":
                parameter.fill_(-2.0)
            elif key == "lambda_logit":
                parameter.fill_(1.0)
            elif key.startswith("layer_norm"):
                parameter.add_(0.3 * torch.randn(hidden_size))
    return layer


def some_state(layer, batch, scale=0.5):
    return {key: scale * torch.randn_like(leaf) for key, leaf in layer.initial_state(batch).items()}


def some_resets(batch, steps):
    mask = torch.rand(batch, steps, generator=torch.Generator().manual_seed(0)) < 0.3
    mask[0, 0] = True
    mask[-1, steps // 2] = True
    return mask


def results(run, layer, inputs, state, *, is_first=None, final_state=True, loss=1):
    """Outputs, final state, energy and all gradients, by name; ``loss`` seeds the weights of the loss, a sum."""
    given = {"inputs": inputs} | {f"start {key}": leaf for key, leaf in (state or {}).items()}
    given = {key: tensor.clone().requires_grad_() for key, tensor in given.items()}
    inputs, *leaves = given.values()
    state = None if state is None else dict(zip(state, leaves, strict=True))
    outputs, last, _ = run(inputs, state, is_first, False)
    generator = torch.Generator().manual_seed(loss)

    def weighted(tensor):
        return (tensor * torch.randn(tensor.shape, generator=generator).to(tensor.dtype)).sum()

    total = weighted(outputs) + (sum(weighted(leaf) for leaf in last.values()) if final_state else 0)
    given |= dict(layer.named_parameters())
    gradients = torch.autograd.grad(total, list(given.values()), allow_unused=True, materialize_grads=True)
    found = {"outputs": outputs, **{f"last {key}": leaf for key, leaf in last.items()}}
    found["energy"] = run(inputs, state, is_first, True)[2]
    found |= {f"d {key}": gradient for key, gradient in zip(given, gradients, strict=True)}
    return {key: tensor.detach() for key, tensor in found.items()}


def compare(layer, batch, steps, **options):
    """Fused loops in float32 against steps in float64, next to which float32 steps are as far off."""
    for key, (error, rounding) in errors(layer, batch, steps, **options).items():
        assert error < 1e-5 + 3 * rounding, f"{key}: {error:.1e}, steps in float32: {rounding:.1e}"
        assert error < (1e-4 if key.startswith("d ") else 1e-5), f"{key}: {error:.1e}"


def errors(layer, batch, steps, *, start=True, scale=0.5, is_first=None, **options):
    """How far the fused loops in float32 are from steps in float64, and how far steps in float32 are, by name."""
    double = copy.deepcopy(layer).double()

    def draw(seed):
        torch.manual_seed(seed)
        return torch.randn(batch, steps, layer.input_size), some_state(layer, batch, scale) if start else None

    inputs, state = clear_of_clamps(draw, lambda drawn: double.run_steps(*_double(*drawn), is_first, False))
    options["is_first"] = is_first
    exact = results(double.run_steps, double, *_double(inputs, state), **options)
    plain = results(layer.run_steps, layer, inputs, state, **options)
    fused = results(layer.run, layer, inputs, state, **options)
    assert fused.keys() == exact.keys()
    losses = [
        exact,
        *(results(double.run_steps, double, *_double(inputs, state), loss=n, **options) for n in (2, 3, 4, 5)),
    ]
    found_errors = {}
    for key, expected in exact.items():
        assert fused[key].dtype == torch.float32
        size = expected.norm() + 1e-5
        if (
            expected.numel() == 1
        ):  # With one loss its gradient, a single sum, may cancel: its size is that with several.
            size = torch.stack([each[key] for each in losses]).square().mean().sqrt() + 1e-5
        error, rounding = ((found[key] - expected).norm() / size for found in (fused, plain))
        found_errors[key] = error, rounding
    return found_errors


def _double(inputs, state):
    return inputs.double(), None if state is None else {key: leaf.double() for key, leaf in state.items()}


@pytest.mark.parametrize("resets", [False, True], ids=["no_resets", "resets"])
@pytest.mark.parametrize("start", [False, True], ids=["zero_state", "some_state"])
@pytest.mark.parametrize("final_state", [False, True], ids=["outputs_only", "final_state"])
def test_fused_matches_steps(rule, start, resets, final_state):
    is_first = some_resets(18, 6) if resets else None
    compare(made(rule, 5, 7), 18, 6, start=start, is_first=is_first, final_state=final_state)


@pytest.mark.parametrize(
    ("B", "T", "input_size", "H"),
    [
        pytest.param(*shape, id="B{}-T{}-I{}-H{}".format(*shape))
        for shape in [(1, 1, 1, 1), (3, 1, 2, 6), (16, 4, 16, 16), (33, 5, 3, 20), (2, 11, 19, 4)]
    ],
)
def test_fused_matches_steps_at_odd_sizes(rule, B, T, input_size, H):
    compare(made(rule, input_size, H), B, T, is_first=some_resets(B, T))


@pytest.mark.parametrize("resets", [False, True], ids=["no_resets", "resets"])
@pytest.mark.parametrize("start", [False, True], ids=["zero_state", "some_state"])
def test_hebbff_over_several_chunks(start, resets):
    steps = 2 * CHUNK + 3
    is_first = some_resets(18, steps) if resets else None
    compare(made(RULES["hebbff"], 5, 7), 18, steps, start=start, is_first=is_first)


@pytest.mark.parametrize("final_state", [False, True], ids=["outputs_only", "final_state"])
def test_segments_change_nothing(rule, final_state, monkeypatch):
    layer = made(rule, 5, 7)
    arguments = torch.randn(18, 11, 5), some_state(layer, 18)
    options = {"is_first": some_resets(18, 11), "final_state": final_state}
    expected = results(layer.run, layer, *arguments, **options)
    monkeypatch.setattr(plastic_autograd, "TRACE_BYTES", 0)
    actual = results(layer.run, layer, *arguments, **options)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [2, 3])
def test_thread_count_does_not_change_results(rule, threads, monkeypatch):
    for module in (plastic_autograd, hebbff_autograd):
        monkeypatch.setattr(module, "THREAD_WORK", 0)
    layer = made(rule, 5, 7)
    arguments = torch.randn(50, 6, 5), some_state(layer, 50)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        single = results(layer.run, layer, *arguments)
        torch.set_num_threads(threads)
        several, again = (results(layer.run, layer, *arguments) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(several, single, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(again[key], several[key]) for key in several)


def test_inference_equals_training_and_leaves_its_arguments_alone(rule):
    layer = made(rule, 5, 7)
    inputs, state = torch.randn(18, 3, 5), some_state(layer, 18)
    kept = {key: leaf.clone() for key, leaf in state.items()}
    outputs, last = layer(inputs, state)
    with torch.no_grad():
        silent, after = layer(inputs, state)
    assert outputs.requires_grad and not silent.requires_grad
    assert torch.equal(outputs, silent)
    assert all(torch.equal(last[key], after[key]) and torch.equal(state[key], kept[key]) for key in kept)


def test_states_may_be_written_over(rule):
    layer = made(rule, 5, 7)
    inputs, state = torch.randn(18, 1, 5), some_state(layer, 18)
    with torch.no_grad():
        expected, after = layer(inputs, state)
        with overwriting_states():
            outputs, last = layer(inputs, state)
    assert torch.equal(outputs, expected)
    for key, leaf in last.items():
        assert torch.equal(leaf, after[key])
        assert key == "h" or leaf.data_ptr() == state[key].data_ptr()


def test_gradient_of_the_final_state_alone(rule):
    layer = made(rule, 5, 7)
    inputs = torch.randn(3, 4, 5)
    for run in _both(layer):
        *_, plastic_part = run(inputs, some_state(layer, 3), None, False)[1].values()
        assert torch.autograd.grad(plastic_part.square().sum(), layer.bias, allow_unused=True)[0].abs().sum() > 0


def test_a_reset_clears_a_state_of_nan(rule):
    layer = made(rule, 5, 7)
    state = {key: torch.full_like(leaf, torch.nan) for key, leaf in layer.initial_state(2).items()}
    outputs, last = layer(torch.randn(2, 3, 5), state, is_first=torch.tensor([[True, False, False], [False] * 3]))
    assert outputs[0].isfinite().all() and all(leaf[0].isfinite().all() for leaf in last.values())
    assert outputs[1].isnan().all()


def test_nan_input_stays_with_its_sample_from_there_on(rule):
    layer = made(rule, 5, 7)
    inputs = torch.randn(2, 5, 5)
    inputs[1, 2, 3] = torch.nan
    outputs, last = layer(inputs)
    assert outputs[1, 2:].isnan().all() and outputs[1, :2].isfinite().all()
    assert outputs[0].isfinite().all() and all(leaf[0].isfinite().all() for leaf in last.values())


def test_strided_tensors(rule):
    layer = made(rule, 5, 7)
    inputs, state = torch.randn(18, 4, 5), some_state(layer, 18)
    expected = results(layer.run, layer, inputs, state)
    strided = copy.deepcopy(layer)
    for parameter in strided.parameters():
        parameter.data = _strided(parameter.data)
    turned = {key: _strided(leaf) for key, leaf in state.items()}
    actual = results(strided.run, strided, _strided(inputs), turned)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)  # the drive's product rounds differently


def test_gradients_that_are_expanded(rule):
    layer = made(rule, 5, 7)
    inputs = torch.randn(18, 4, 5)
    found = [torch.autograd.grad(run(inputs, None, None, False)[0].sum(), layer.bias) for run in _both(layer)]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def _both(layer):
    return layer.run, layer.run_steps


def _strided(tensor):
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


def test_clamped_synapses_pass_gradients_as_torch_does():
    layer = made(RULES["additive"], 5, 7)
    layer.eta.data.fill_(3.0)
    compare(layer, 18, 4, scale=2.0)  # beyond the clamp at the start, which does not hold yet
    state = some_state(layer, 18, scale=2.0)
    *_, Hebb = layer(torch.randn(18, 4, 5), state)[1].values()
    assert 0.1 < (Hebb.abs() == 1).float().mean() < 0.9


def test_what_does_not_fit_takes_the_steps(rule, monkeypatch):
    taken, run_steps = [], Layer.run_steps
    monkeypatch.setattr(Layer, "run_steps", lambda *args: taken.append(1) or run_steps(*args))
    layer = made(rule, 5, 7)
    layer(torch.randn(2, 3, 5))
    assert not taken
    layer.double()(torch.randn(2, 3, 5, dtype=torch.float64))
    assert taken.pop()
    layer.to("meta")(torch.randn(2, 3, 5, device="meta", dtype=torch.float64))
    assert taken.pop()


def test_several_inner_steps_take_the_steps(monkeypatch):
    monkeypatch.setattr(plastic_layer, "plastic", None)
    outputs, _ = make_layer("fast_weights", input_size=5, hidden_size=7, inner_steps=2)(torch.randn(2, 3, 5))
    assert outputs.shape == (2, 3, 7)


def test_without_numba_the_steps_are_taken_and_said_so():
    program = """
import sys, warnings
sys.modules["numba"] = None
import torch
from rllib_stpn.layers import make_layer
layer = make_layer("plastic_rnn", input_size=5, hidden_size=7)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        outputs, _ = layer(torch.randn(2, 3, 5))
assert outputs.shape == (2, 3, 7)
assert [str(w.message) for w in caught if "numba" in str(w.message)].__len__() == 1, caught
"""
    subprocess.run([sys.executable, "-c", program], check=True)
