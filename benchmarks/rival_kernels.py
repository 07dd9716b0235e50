"""Speed and accuracy of the fused loops of the plastic layers that STPN is compared with, beside their loops in torch.

    python benchmarks/rival_kernels.py                        # one JSON object per line, layer and shape; minutes
    python benchmarks/rival_kernels.py --shape retrieval      # seconds

Times are medians of alternating runs of forward and backward, side by side in this process, each repeated until it has
lasted 50 ms; those of "step" are single steps without gradients, as in a rollout, which lets them write over the old
state. "plain" is one autograd graph over the layer's ``step``, however large. A gradient error is the distance from the
gradient of the layer's steps in float64 over the length of that, the largest over all gradients; "plain_rel_grad_error"
is what float32 rounding alone makes of it. Layers start with plastic parts that matter, as trained ones have them.
"""

import argparse
import copy
import json
import math
import statistics

import torch
from stpn_kernel import milliseconds

from rllib_stpn.kernels import overwriting_states, recomputed
from rllib_stpn.layers import Layer, make_layer

# layer, options, hidden sizes for the shapes
LAYERS = [
    ("fast_weights", {}, (20, 100)),
    ("plastic_rnn", {"rule": "additive"}, (20, 100)),
    ("plastic_rnn", {"rule": "decaying"}, (20, 100)),
    ("plastic_rnn", {"rule": "oja"}, (20, 100)),
    ("modulated_plastic_rnn", {}, (17, 73)),
    ("retroactive_plastic_rnn", {}, (17, 73)),
    ("hebbff", {}, (26, 181)),
]

# batch, steps, input features
SHAPES = {"retrieval": (128, 9, 37), "maze": (512, 50, 17)}


def made(name: str, options: dict, input_size: int, hidden_size: int) -> Layer:
    """A layer with recurrent weights and plasticity large enough to matter."""
    torch.manual_seed(0)
    made = make_layer(name, input_size=input_size, hidden_size=hidden_size, **options)
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if key in ("weight_h", "weight_alpha"):
                parameter.normal_(0.0, 0.5 * hidden_size**-0.5)
    return made


def measure(name: str, options: dict, shape: str, hidden_size: int, pairs: int) -> dict:
    batch, steps, input_size = SHAPES[shape]
    module = made(name, options, input_size, hidden_size)
    inputs = torch.randn(batch, steps, input_size, requires_grad=True)
    gradient = torch.randn(batch, steps, hidden_size)
    tensors = [inputs, *module.parameters()]
    state = module.initial_state(batch)
    graph_bytes = recomputed.GRAPH_BYTES

    def fused():
        outputs, _, _ = module.run(inputs, None, None, False)
        return torch.autograd.grad(outputs, tensors, gradient)

    def plain():
        outputs, _, _ = module.run_steps(inputs, None, None, False)
        return torch.autograd.grad(outputs, tensors, gradient)

    @torch.no_grad()
    def fused_step():
        with overwriting_states():
            module.run(inputs[:, :1], state, None, False)

    @torch.no_grad()
    def plain_step():
        with overwriting_states():
            module.run_steps(inputs[:, :1], state, None, False)

    double = copy.deepcopy(module).double()
    exact = inputs.detach().double().requires_grad_()
    outputs, _, _ = double.run(exact, None, None, False)
    expected = torch.autograd.grad(outputs, [exact, *double.parameters()], gradient.double())

    def error(actual) -> float:
        errors = [((a - e).norm() / e.norm()).item() for a, e in zip(actual, expected, strict=True)]
        return float(f"{max(errors):.2e}")

    recomputed.GRAPH_BYTES = math.inf  # plain keeps its whole graph
    fused_error, plain_error = error(fused()), error(plain())  # the first calls also warm up
    runs = {"plain": plain, "fused": fused, "plain_step": plain_step, "fused_step": fused_step}
    times: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(pairs):
        for key, run in runs.items():
            times[key].append(milliseconds(run))
    recomputed.GRAPH_BYTES = graph_bytes
    median = {key: statistics.median(taken) for key, taken in times.items()}
    return {
        "layer": name,
        **options,
        "shape": [batch, steps, input_size, hidden_size],
        "plain_ms": round(median["plain"], 3),
        "fused_ms": round(median["fused"], 3),
        "ratio": round(median["plain"] / median["fused"], 2),
        "plain_step_ms": round(median["plain_step"], 3),
        "fused_step_ms": round(median["fused_step"], 3),
        "pairs": pairs,
        "max_rel_grad_error": fused_error,
        "plain_rel_grad_error": plain_error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, help="only this one")
    parser.add_argument("--layer", choices=sorted({name for name, *_ in LAYERS}), help="only this one")
    parser.add_argument("--pairs", type=int, default=10, help="alternating runs per layer and shape")
    arguments = parser.parse_args()
    for index, shape in enumerate(SHAPES):
        for name, options, sizes in LAYERS:
            if arguments.shape in (None, shape) and arguments.layer in (None, name):
                print(json.dumps(measure(name, options, shape, sizes[index], arguments.pairs)), flush=True)


if __name__ == "__main__":
    main()
