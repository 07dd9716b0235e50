"""What subnormal numbers cost the plastic layers, were they not taken for zero.

    python benchmarks/subnormals.py            # a table, half a minute
    python benchmarks/subnormals.py --json

A layer first reads steps in which all inputs are there, then as many in which half of them are zero, as a feature is
that a ReLU has shut. Their traces decay in these, from step to step, through floats below 1.2e-38. Times are medians
of forward and backward over the second half, with these numbers and with zero in their place, in turn.
"""

import argparse
import contextlib
import json
import statistics
import time

import torch

from rllib_stpn.kernels import threads
from rllib_stpn.layers import make_layer

SHAPES = {
    "pong": ("stpn", {"input_size": 2592, "hidden_size": 64, "normalize": "pre"}, 64, 50),
    "maze": ("stpn", {"input_size": 17, "hidden_size": 55, "normalize": "pre"}, 64, 50),
    "plastic": ("plastic_rnn", {"input_size": 17, "hidden_size": 55}, 64, 50),
}
REPEATS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    as_zero = threads.subnormals_are_zero
    for shape, (name, options, batch, steps) in SHAPES.items():
        torch.manual_seed(0)
        layer = make_layer(name, **options)
        inputs = torch.rand(batch, steps, options["input_size"])
        with torch.no_grad():
            state = layer(inputs, None)[1]
        inputs[:, :, ::2] = 0.0
        inputs.requires_grad_()
        times = {"kept": [], "as zero": []}
        for _ in range(REPEATS):
            for how, mode in (("kept", contextlib.nullcontext), ("as zero", as_zero)):
                threads.subnormals_are_zero = mode
                begun = time.perf_counter()
                layer(inputs, state)[0].sum().backward()
                times[how].append(1e3 * (time.perf_counter() - begun))
        kept, zero = (statistics.median(times[how][1:]) for how in times)
        if arguments.json:
            print(json.dumps({"shape": shape, "kept_ms": round(kept, 2), "as_zero_ms": round(zero, 2)}))
        else:
            print(f"{shape:8} kept {kept:8.2f} ms   as zero {zero:8.2f} ms   {kept / zero:.2f} times as long")


if __name__ == "__main__":
    main()
