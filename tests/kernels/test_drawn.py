"""Kernels against plain torch with shapes, rules, masks and strides that nobody thought of."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rllib_stpn.kernels.stpn import stpn
from tests.kernels.test_plastic import RULES, errors, made
from tests.kernels.test_stpn import drawn, in_double

EXAMPLES = {"fast": 10, "slow": 500}
#: Nothing here is bounded by the clock, and no example is remembered from another machine.
UNBOUNDED = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(params=[pytest.param("fast"), pytest.param("slow", marks=pytest.mark.slow)])
def examples(request):
    return settings(max_examples=EXAMPLES[request.param], derandomize=request.param == "fast", **UNBOUNDED)


#: What makes a tensor with other strides of the same numbers.
STRIDES = {
    "one piece": lambda tensor: tensor,
    "transposed": lambda tensor: tensor.transpose(0, -1).contiguous().transpose(0, -1),
    "every second": lambda tensor: torch.stack([tensor, torch.full_like(tensor, torch.nan)], -1)[..., 0],
    "not from the beginning": lambda tensor: torch.cat([tensor.new_zeros(3), tensor.flatten()])[3:].view(tensor.shape),
    "reversed in memory": lambda tensor: tensor.flip(0).contiguous().flip(0),
}


@st.composite
def masks(draw, batch, steps):
    """Where episodes begin: None, nowhere, everywhere, or anywhere."""
    kind = draw(st.sampled_from(["none", "nowhere", "everywhere", "anywhere"]))
    if kind == "none":
        return None
    if kind == "anywhere":
        bits = draw(st.lists(st.booleans(), min_size=batch * steps, max_size=batch * steps))
        return torch.tensor(bits).view(batch, steps)
    return torch.full((batch, steps), kind == "everywhere")


@st.composite
def stpn_cases(draw):
    batch, steps = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    rule = {
        "normalize": draw(st.sampled_from(["pre", "post", None])),
        "clamp": draw(st.sampled_from([None, 0.2, 1.0])),
        "recurrent": draw(st.booleans()),
    }
    is_first = draw(masks(batch, steps))
    shape = (batch, steps, draw(st.integers(1, 40)), draw(st.integers(1, 18)))
    options = {"start": draw(st.booleans()), "scalar": draw(st.booleans()), "plasticity": draw(st.floats(0.0, 0.1))}
    strides = draw(st.lists(st.sampled_from(list(STRIDES)), min_size=7, max_size=7))
    loss = {"final_state": draw(st.booleans()), "energy": draw(st.booleans()), "outputs": draw(st.booleans())}
    return shape, rule, is_first, options, strides, loss


def results(tensors, strides, loss, **options):
    """Outputs, final state, energy and the gradients of all tensors, each handed over with these strides."""
    leaves = {name: None if t is None else t.clone().requires_grad_() for name, t in tensors.items()}
    handed = [
        None if leaf is None else STRIDES[stride](leaf) for leaf, stride in zip(leaves.values(), strides, strict=True)
    ]
    outputs, h, F, energy = stpn(*handed, return_energy=loss["energy"], **options)
    generator = torch.Generator().manual_seed(1)

    def weighted(tensor):
        return (tensor * torch.randn(tensor.shape, generator=generator).to(tensor.dtype)).sum()

    total = weighted(outputs) if loss["outputs"] or not loss["final_state"] else 0
    if loss["final_state"]:
        total = total + weighted(F) + (0 if h is None else weighted(h))
    given = {name: leaf for name, leaf in leaves.items() if leaf is not None}
    gradients = torch.autograd.grad(total, list(given.values()), allow_unused=True, materialize_grads=True)
    found = {"outputs": outputs, "h": h, "F": F, "energy": energy}
    found |= {f"d {name}": gradient for name, gradient in zip(given, gradients, strict=True)}
    return {name: tensor.detach() for name, tensor in found.items() if tensor is not None}


def test_stpn_is_the_reference(examples):
    @examples
    @given(case=stpn_cases())
    def check(case):
        shape, rule, is_first, options, strides, loss = case
        tensors = drawn(*shape, rule=rule, is_first=is_first, **options)
        given = {"is_first": is_first, **rule}
        plainly = ["one piece"] * len(strides)
        exact = results(in_double(tensors), plainly, loss, implementation="reference", **given)
        plain = results(tensors, plainly, loss, implementation="reference", **given)
        fused = results(tensors, strides, loss, implementation="fused", **given)
        assert fused.keys() == exact.keys()
        for name, expected in exact.items():
            assert fused[name].shape == expected.shape and fused[name].dtype == torch.float32, name
            # Sums that cancel, as those of a normalised synapse that is alone, are as large as what they are sums of.
            terms = exact["d bias"].abs().max() if name.startswith("d ") else 0
            size = torch.maximum(expected.abs().max(), torch.as_tensor(terms + 1e-4))
            error, rounding = ((found[name] - expected).abs().max() / size for found in (fused, plain))
            assert error <= 3e-5 + 5 * rounding, f"{name}: {error:.1e}, steps in float32: {rounding:.1e}"

    check()


def test_the_loops_of_plastic_layers_are_their_steps(examples):
    @examples
    @given(data=st.data())
    def check(data):
        rule = RULES[data.draw(st.sampled_from(list(RULES)))]
        batch, steps = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 9))
        layer = made(rule, data.draw(st.integers(1, 21)), data.draw(st.integers(1, 21)))
        is_first = data.draw(masks(batch, steps))
        options = {"start": data.draw(st.booleans()), "final_state": data.draw(st.booleans())}
        found = errors(layer, batch, steps, is_first=is_first, **options)
        # A layer norm of two neurons divides by their difference: what rounds, rounds everywhere.
        most = max(rounding for _, rounding in found.values())
        for key, (error, _) in found.items():
            assert error < 1e-5 + 5 * most, f"{key}: {error:.1e}, steps in float32: {most:.1e}"

    check()
