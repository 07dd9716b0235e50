"""The STPN op: the fused kernel against the plain reference, and the reference against finite differences."""

import itertools
import subprocess
import sys

import pytest
import torch

from rllib_stpn.errors import UsageError
from rllib_stpn.kernels import num_threads, overwriting_states, recomputed, torch_on_one_thread
from rllib_stpn.kernels.laid_out import weights_unchanged
from rllib_stpn.kernels.stpn import stpn
from tests.clear_of_clamps import clear_of_clamps

NAMES = ("inputs", "h", "F", "weight", "bias", "weight_lambda", "weight_gamma")

RULES = [
    pytest.param(
        {"normalize": normalize, "clamp": clamp, "recurrent": recurrent},
        id=f"{normalize or 'plain'}-{'clamp' if clamp else 'free'}-{'recurrent' if recurrent else 'feedforward'}",
    )
    for normalize, clamp, recurrent in itertools.product(("pre", "post", None), (None, 0.2), (True, False))
]


def arguments(
    B, T, input_size, H, *, recurrent=True, start=False, scalar=False, plasticity=0.2, dtype=torch.float32, seed=0
):
    """Tensors by name, with enough plasticity for it to matter."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return torch.randn(*shape, generator=generator, dtype=dtype) * scale

    D = input_size + H if recurrent else input_size
    plastic = (1,) if scalar else (H, D)
    return {
        "inputs": normal(B, T, input_size),
        "h": normal(B, H, scale=0.5) if start and recurrent else None,
        "F": normal(B, H, D, scale=0.1) if start else None,
        "weight": normal(H, D, scale=0.3),
        "bias": normal(H, scale=0.1),
        "weight_lambda": torch.rand(*plastic, generator=generator, dtype=dtype),
        "weight_gamma": normal(*plastic, scale=plasticity),
    }


def some_resets(B, T, seed=0):
    mask = torch.rand(B, T, generator=torch.Generator().manual_seed(seed)) < 0.3
    mask[0, 0] = True
    mask[-1, T // 2] = True
    return mask


def run(tensors, *, final_state=True, return_energy=True, **options):
    """Outputs, final state, energy and the gradients of all tensors, by name."""
    tensors = {k: None if t is None else t.clone().requires_grad_() for k, t in tensors.items()}
    outputs, h, F, energy = stpn(*tensors.values(), return_energy=return_energy, **options)
    generator = torch.Generator().manual_seed(1)

    def weighted(t):
        return (t * torch.randn(t.shape, generator=generator).to(t.dtype)).sum()

    loss = weighted(outputs)
    if final_state:
        loss = loss + weighted(F) + (weighted(h) if h is not None else 0)
    given = {k: t for k, t in tensors.items() if t is not None}
    gradients = torch.autograd.grad(loss, list(given.values()))
    results = {"outputs": outputs, "F": F}
    if return_energy:
        results["energy"] = energy
    if h is not None:
        results["h"] = h
    results |= {f"d{k}": g for k, g in zip(given, gradients, strict=True)}
    return {k: t.detach() for k, t in results.items()}


def drawn(*shape, rule, is_first=None, **options):
    """``arguments`` of which no synapse comes near the clamp, in float64; ``rule`` and ``is_first`` as for ``stpn``."""

    def draw(seed):
        return arguments(*shape, recurrent=rule["recurrent"], seed=seed, **options)

    return clear_of_clamps(draw, lambda tensors: stpn(*in_double(tensors).values(), is_first=is_first, **rule))


def in_double(tensors):
    return {k: None if t is None else t.double() for k, t in tensors.items()}


def exactly(tensors, **options):
    """What ``run`` gives in float64, where a sum in another order is the same."""
    return run(in_double(tensors), implementation="reference", **options)


def relative_errors(actual, expected):
    """The largest error of each tensor, relative to its largest element, by name."""
    assert actual.keys() == expected.keys()
    assert {k: t.shape for k, t in actual.items()} == {k: t.shape for k, t in expected.items()}
    return {k: ((t - expected[k]).abs().max() / (expected[k].abs().max() + 1e-6)).item() for k, t in actual.items()}


def assert_near(actual, expected, tolerance):
    """Every tensor within `tolerance` of its largest element; NaN is never near anything."""
    for name, error in relative_errors(actual, expected).items():
        assert error <= tolerance, f"{name}: relative error {error:.1e}"  # False for NaN


def assert_near_exact(tensors, tolerance=2e-5, **options):
    """The fused kernel within `tolerance` of float64, or of what plain torch rounds: a small norm enlarges rounding."""
    exact = exactly(tensors, **options)
    rounding = relative_errors(run(tensors, implementation="reference", **options), exact)
    for name, error in relative_errors(run(tensors, implementation="fused", **options), exact).items():
        allowed = tolerance + 5 * rounding[name]
        assert error <= allowed, f"{name}: relative error {error:.1e}, plain torch has {rounding[name]:.1e}"


@pytest.mark.parametrize("start", [False, True], ids=["zero_start", "given_start"])
@pytest.mark.parametrize("resets", [False, True], ids=["no_resets", "resets"])
@pytest.mark.parametrize("rule", RULES)
def test_fused_matches_reference_with_every_gradient(rule, resets, start):
    is_first = some_resets(3, 7) if resets else None
    tensors = drawn(3, 7, 5, 4, rule=rule, is_first=is_first, start=start)
    assert_near_exact(tensors, is_first=is_first, **rule)


@pytest.mark.parametrize(
    ("B", "T", "input_size", "H", "plasticity"),
    [
        pytest.param(*shape, id="B{}-T{}-I{}-H{}".format(*shape))
        for shape in [
            (1, 1, 1, 1, 0.5),
            (2, 1, 13, 3, 0.5),  # width exactly one vector
            (9, 4, 15, 17, 0.3),  # rows and samples beyond one block
            (5, 23, 70, 19, 0.05),
            (3, 31, 300, 33, 0.01),  # replayed in segments, several tiles
            (2, 6, 1030, 5, 0.01),
        ]
    ],
)
@pytest.mark.parametrize("normalize", ["pre", "post", None])
def test_fused_matches_reference_at_odd_sizes(B, T, input_size, H, plasticity, normalize):
    rule, is_first = {"normalize": normalize, "clamp": 0.3, "recurrent": True}, some_resets(B, T)
    tensors = drawn(B, T, input_size, H, rule=rule, is_first=is_first, start=True, plasticity=plasticity)
    assert_near_exact(tensors, 5e-5, is_first=is_first, **rule)


@pytest.mark.parametrize("rule", RULES)
def test_fused_matches_reference_with_scalar_plasticity(rule):
    tensors = drawn(3, 7, 5, 4, rule=rule, scalar=True)
    fused, expected = run(tensors, implementation="fused", **rule), exactly(tensors, **rule)
    one_each = {k: tensors[k].expand_as(tensors["weight"]) for k in ("weight_lambda", "weight_gamma")}
    summands = exactly(tensors | one_each, **rule)
    for name in ("dweight_lambda", "dweight_gamma"):  # a sum over all synapses, most of which may cancel
        error = (fused.pop(name) - expected.pop(name)).abs() / summands[name].abs().sum()
        assert error <= 2e-5, f"{name}: relative error {error.item():.1e}"
    assert_near(fused, expected, 2e-5)


@pytest.mark.parametrize("normalize", ["pre", "post", None])
def test_fused_gradients_without_a_gradient_of_the_final_state(normalize):
    tensors = arguments(3, 7, 5, 4, start=True)
    rule = {"normalize": normalize, "clamp": None, "recurrent": True, "final_state": False}
    assert_near_exact(tensors, **rule)


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_gradient_of_the_final_state_alone(implementation):
    tensors = {k: t.requires_grad_() for k, t in arguments(2, 3, 5, 4, start=True).items()}
    _, _, F, _ = stpn(*tensors.values(), normalize="post", clamp=None, recurrent=True, implementation=implementation)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(F.square().sum(), list(tensors.values())))


@pytest.mark.parametrize("resets", [False, True], ids=["no_resets", "resets"])
@pytest.mark.parametrize("rule", RULES)
def test_reference_gradients_match_finite_differences(rule, resets):
    is_first = torch.tensor([[False, True, False], [False, False, False]]) if resets else None
    tensors = drawn(2, 3, 2, 2, rule=rule, is_first=is_first, start=True, dtype=torch.float64)
    given = {k: t.requires_grad_() for k, t in tensors.items() if t is not None}

    def function(*values):
        complete = dict.fromkeys(NAMES) | dict(zip(given, values, strict=True))
        outputs, _, F, _ = stpn(*complete.values(), is_first=is_first, **rule)
        return outputs, F

    assert torch.autograd.gradcheck(function, tuple(given.values()))


@pytest.mark.parametrize("normalize", ["pre", "post", None])
def test_reference_recomputed_in_chunks_is_the_same(normalize, monkeypatch):
    tensors = arguments(2, 7, 5, 4, start=True, dtype=torch.float64)
    rule = {"normalize": normalize, "clamp": 0.3, "recurrent": True, "is_first": some_resets(2, 7)}
    expected = run(tensors, **rule)
    chunks = []
    apply = recomputed.Recomputed.apply
    monkeypatch.setattr(recomputed.Recomputed, "apply", lambda *args: chunks.append(args[6].shape[1]) or apply(*args))
    monkeypatch.setattr(recomputed, "GRAPH_BYTES", 3 * 8 * (tensors["F"].numel() + tensors["h"].numel()) * 8)
    assert_near(run(tensors, **rule), expected, 1e-12)
    assert chunks == [3, 3, 1]


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize("rule", RULES)
def test_a_reset_starts_a_new_sequence(rule, implementation):
    tensors = arguments(2, 7, 5, 4, recurrent=rule["recurrent"], start=True)
    is_first = torch.zeros(2, 7, dtype=torch.bool)
    is_first[:, 3] = True
    options = {**rule, "implementation": implementation}
    outputs, _, F, _ = stpn(*tensors.values(), is_first=is_first, **options)
    before, *_ = stpn(*(tensors | {"inputs": tensors["inputs"][:, :3]}).values(), **options)
    after, _, last, _ = stpn(
        *(tensors | {"inputs": tensors["inputs"][:, 3:], "h": None, "F": None}).values(), **options
    )
    assert_near({"before": outputs[:, :3], "after": outputs[:, 3:]}, {"before": before, "after": after}, 1e-6)
    assert_near({"F": F}, {"F": last}, 1e-6)


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_a_reset_clears_a_state_of_nan(implementation):
    tensors = arguments(2, 3, 5, 4, start=True)
    tensors["F"].fill_(float("nan"))
    tensors["h"].fill_(float("nan"))
    is_first = torch.tensor([[True, False, False], [False, False, False]])
    outputs, *_ = stpn(
        *tensors.values(),
        normalize="pre",
        clamp=1.0,
        recurrent=True,
        is_first=is_first,
        implementation=implementation,
    )
    assert outputs[0].isfinite().all()
    assert outputs[1].isnan().all()


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize("rule", RULES)
def test_nan_input_gives_nan_outputs_from_there_on(rule, implementation):
    tensors = arguments(2, 5, 5, 4, recurrent=rule["recurrent"])
    tensors["inputs"][1, 2, 3] = float("nan")
    outputs, _, F, _ = stpn(*tensors.values(), implementation=implementation, **rule)
    assert outputs[1, 2:].isnan().all()
    assert F[1].isnan().any()
    assert outputs[0].isfinite().all()
    assert outputs[1, :2].isfinite().all()


@pytest.mark.parametrize("rule", RULES)
def test_fused_inference_equals_training(rule):
    tensors = arguments(3, 7, 5, 4, recurrent=rule["recurrent"], start=True)
    training = run(tensors, implementation="fused", **rule)
    with torch.no_grad():
        outputs, _, F, energy = stpn(*tensors.values(), return_energy=True, implementation="fused", **rule)
    assert torch.equal(outputs, training["outputs"])
    assert torch.equal(F, training["F"])
    assert torch.equal(energy, training["energy"])


@pytest.mark.parametrize("trace_bytes", [0, 2**30], ids=["segments", "whole"])
@pytest.mark.parametrize("resets", [False, True], ids=["no_resets", "resets"])
@pytest.mark.parametrize(("B", "T"), [(1, 1), (4, 2), (3, 9), (2, 10)])
@pytest.mark.parametrize("rule", RULES)
def test_two_steps_back_in_one_pass_match_the_reference(rule, B, T, resets, trace_bytes, monkeypatch):
    from rllib_stpn.kernels.stpn.columns import autograd

    monkeypatch.setattr(autograd, "SAMPLE_BYTES", 0)  # as if the layer were large
    monkeypatch.setattr(autograd, "TRACE_BYTES", trace_bytes)
    is_first = some_resets(B, T) if resets else None
    # Previous outputs begin in the middle of a vector.
    tensors = drawn(B, T, 21, 18, rule=rule, is_first=is_first, start=True, plasticity=0.05)
    assert_near_exact(tensors, is_first=is_first, **rule)


@pytest.mark.parametrize("energy", [False, True], ids=["no_energy", "energy"])
@pytest.mark.parametrize("rule", RULES)
def test_a_single_step_is_the_same_by_a_few_rows_at_a_time(rule, energy, monkeypatch):
    from rllib_stpn.kernels.stpn.columns import autograd

    is_first = some_resets(5, 1)
    tensors = arguments(5, 1, 301, 35, recurrent=rule["recurrent"], start=True)
    options = {"is_first": is_first, "return_energy": energy, "implementation": "fused", **rule}
    expected = run(tensors, **options)
    monkeypatch.setattr(autograd, "WEIGHT_BYTES", 0)
    assert_near(run(tensors, **options), expected, 0.0)
    with torch.no_grad(), overwriting_states(True):
        outputs, _, F, spent = stpn(*tensors.values(), **options)
    assert F.data_ptr() == tensors["F"].data_ptr()
    assert torch.equal(outputs, expected["outputs"]) and torch.equal(F, expected["F"])
    assert not energy or torch.equal(spent, expected["energy"])


def test_fused_leaves_its_arguments_alone():
    tensors = arguments(3, 4, 12, 4, start=True)
    copies = {k: t.clone() for k, t in tensors.items()}
    run(tensors, normalize="post", clamp=0.1, recurrent=True, implementation="fused")
    assert all(torch.equal(tensors[k], copies[k]) for k in NAMES)


@pytest.mark.parametrize("hidden_size", [1, 3, 20])
def test_a_later_call_does_not_change_results(hidden_size):
    tensors = arguments(3, 4, 5, hidden_size)
    earlier = run(tensors, normalize="pre", clamp=None, recurrent=True, implementation="fused")
    copies = {key: value.clone() for key, value in earlier.items()}
    run(arguments(3, 4, 5, hidden_size, plasticity=3.0), normalize="pre", clamp=None, recurrent=True)
    assert_near(earlier, copies, 0.0)


def test_fused_takes_strided_tensors():
    tensors = arguments(3, 4, 5, 4, start=True)
    strided = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in tensors.items()}
    rule = {"normalize": "pre", "clamp": None, "recurrent": True, "implementation": "fused"}
    assert_near(run(strided, **rule), run(tensors, **rule), 0.0)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_thread_count_does_not_change_results(threads):
    rule = {"normalize": "post", "clamp": 0.5, "recurrent": True}
    tensors = drawn(7, 9, 20, 11, rule=rule, start=True, plasticity=0.1)
    rule["implementation"] = "fused"
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        single = run(tensors, **rule)
        torch.set_num_threads(threads)
        assert num_threads() == threads
        several, again = run(tensors, **rule), run(tensors, **rule)
    finally:
        torch.set_num_threads(before)
    assert_near(several, single, 1e-6)
    assert_near(several, again, 0.0)


def test_kernels_keep_their_threads_where_torch_has_one():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(ZeroDivisionError), torch_on_one_thread():
            assert (torch.get_num_threads(), num_threads()) == (1, 3)
            with torch_on_one_thread():
                assert (torch.get_num_threads(), num_threads()) == (1, 3)
            assert (torch.get_num_threads(), num_threads()) == (1, 3)
            _ = 1 / 0
        assert (torch.get_num_threads(), num_threads()) == (3, 3)
    finally:
        torch.set_num_threads(before)


def test_auto_runs_the_reference_where_the_kernel_cannot():
    tensors = arguments(2, 3, 5, 4, dtype=torch.float64)
    outputs, *_ = stpn(*tensors.values(), normalize="pre", clamp=None, recurrent=True)
    assert outputs.dtype == torch.float64


def test_runs_without_numba_and_after_a_fork():
    program = """
import sys, warnings
import rllib_stpn.layers, torch
assert "numba" not in sys.modules and "ray" not in sys.modules
layer = rllib_stpn.layers.STPN(5, 4)
if sys.argv[1] == "without_numba":
    sys.modules["numba"] = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer(torch.zeros(2, 3, 5))[0].sum().backward()
    assert "numba" in str(caught[0].message), caught
else:
    import os
    torch.set_num_threads(2)
    layer(torch.zeros(2, 3, 5))
    child = os.fork()
    if child == 0:
        layer(torch.zeros(2, 3, 5))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    for case in ("without_numba", "fork"):
        subprocess.run([sys.executable, "-c", program, case], check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"normalize": "sideways"}, "normalize: got 'sideways', allowed are 'pre'", id="normalize"),
        pytest.param({"implementation": "fast"}, "implementation: got 'fast'", id="implementation"),
        pytest.param({"F": torch.zeros(2, 4, 8)}, r"F: got \(2, 4, 8\), allowed are \(2, 4, 9\)", id="F"),
        pytest.param({"h": torch.zeros(3, 4)}, r"h: got \(3, 4\)", id="h"),
        pytest.param({"inputs": torch.zeros(2, 3, 6)}, r"weight: got \(4, 9\)", id="input_size"),
        pytest.param({"inputs": torch.zeros(2, 0, 5)}, "at least one step", id="no_steps"),
        pytest.param({"is_first": torch.zeros(3, 2, dtype=torch.bool)}, "is_first", id="mask_shape"),
        pytest.param({"is_first": torch.zeros(2, 3)}, "is_first: got torch.float32", id="mask_dtype"),
        pytest.param({"weight_lambda": torch.zeros(4)}, "weight_lambda", id="lambda"),
        pytest.param({"recurrent": False}, r"weight: got \(4, 9\), allowed are \(4, 5\)", id="recurrent"),
    ],
)
def test_bad_arguments_are_named(change, message):
    options = {"normalize": "pre", "clamp": None, "recurrent": True}
    with pytest.raises(UsageError, match=message):
        stpn(**{**arguments(2, 3, 5, 4), **options, **change})


def test_fused_refuses_float64():
    tensors = arguments(2, 3, 5, 4, dtype=torch.float64)
    with pytest.raises(UsageError, match="float64"):
        stpn(*tensors.values(), normalize="pre", clamp=None, recurrent=True, implementation="fused")


@pytest.mark.parametrize("start", [False, True], ids=["zero_start", "given_start"])
@pytest.mark.parametrize("resets", [False, True], ids=["no_resets", "resets"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("B", "T", "input_size", "H"),
    [
        pytest.param(*shape, id="B{}-T{}-I{}-H{}".format(*shape))
        for shape in [(8, 4, 13, 3), (19, 7, 5, 4), (32, 9, 37, 11)]
    ],
)
def test_small_layers_match_the_reference_side_by_side_in_lanes(B, T, input_size, H, rule, resets, start):
    from rllib_stpn.kernels.stpn.fused import fits_lanes

    is_first = some_resets(B, T) if resets else None
    tensors = drawn(B, T, input_size, H, rule=rule, is_first=is_first, start=start)
    assert fits_lanes(tensors["inputs"], tensors["weight"])
    options = {"is_first": is_first, "return_energy": False, **rule}
    assert_near_exact(tensors, 5e-5, **options)


def test_lanes_without_a_sample_leave_no_trace_of_an_earlier_call():
    rule = {"normalize": "pre", "clamp": None, "recurrent": True, "return_energy": False, "implementation": "fused"}
    tensors = arguments(19, 7, 5, 4)
    expected = run(tensors, **rule)
    loud = {k: None if t is None else 100 * t for k, t in arguments(32, 7, 5, 4, start=True).items()}
    loud["inputs"][:] = float("nan")
    run(loud, **rule)
    assert_near(run(tensors, **rule), expected, tolerance=1e-7)


@pytest.mark.parametrize("input_size", [12, 7, 20])  # rows of one vector, of less, and of one and a half
def test_an_old_state_is_written_over_only_with_leave(input_size):
    tensors = arguments(3, 2, input_size, 4, start=True)
    rule = {"normalize": "pre", "clamp": None, "recurrent": True, "implementation": "fused"}
    before = tensors["F"].clone()
    with torch.no_grad():
        outputs, _, F, _ = stpn(*tensors.values(), **rule)
        assert torch.equal(tensors["F"], before)
        with overwriting_states():
            again, _, in_place, _ = stpn(*tensors.values(), **rule)
    assert in_place.data_ptr() == tensors["F"].data_ptr()
    assert torch.equal(again, outputs)
    assert torch.equal(in_place, F)
    with overwriting_states():  # gradients need the old one
        tensors["F"].copy_(before)
        weight = tensors["weight"].requires_grad_()
        stpn(*tensors.values(), **rule)
    assert torch.equal(tensors["F"], before)
    assert weight.requires_grad


@pytest.mark.parametrize("normalize", ["pre", "post", None])
def test_weights_are_laid_out_once_where_they_stay_the_same_and_anew_where_they_changed(normalize):
    tensors = arguments(3, 1, 7, 4, start=True)
    rule = {"normalize": normalize, "clamp": 1.0, "recurrent": True, "implementation": "fused"}

    def results():
        return [result for result in stpn(*tensors.values(), **rule) if result is not None]

    def assert_equal(found, expected):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    with torch.no_grad():
        first = results()
        with weights_unchanged():
            assert_equal(results(), first)
            assert_equal(results(), first)
            for name in ("weight", "bias", "weight_lambda", "weight_gamma"):
                tensors[name].mul_(1.5)
                changed = results()
                with weights_unchanged():
                    assert_equal(changed, results())
                tensors[name] = tensors[name] * 0.5  # another tensor
                changed = results()
                with weights_unchanged():
                    assert_equal(changed, results())
        tensors["weight"].data.mul_(2.0)  # out of torch's sight
        after = results()
    assert not torch.equal(after[0], changed[0])
    _, _, expected, _ = stpn(*tensors.values(), **{**rule, "implementation": "reference"})
    torch.testing.assert_close(after[-1], expected, rtol=0, atol=1e-5)
