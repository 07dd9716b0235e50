"""Convolutions of a fragment of Pong, all frames at once and in pieces.

    python benchmarks/convolutions.py            # a table, half a minute
    python benchmarks/convolutions.py --json

Forward and backward of the convolutions of tuned_examples/pong_stpn.yaml over 3,200 frames. Times are medians of runs
in turn. Each way runs in a process of its own, since what malloc keeps from one would serve the other; memory is how
far the largest resident size rises from before the first run.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns

from rllib_stpn import recurrent_spec
from rllib_stpn.kernels import num_threads
from rllib_stpn.models.encoder import encoders

FRAMES, ROUNDS = 3200, 3
PIECES = {"all at once": 0, "pieces": None, "128 frames": 128}  # frames in one; None: as the encoder chooses


def peak_mib() -> float:
    """The largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(at_once: int | None) -> dict:
    """Milliseconds and MiB, in this process."""
    torch.manual_seed(0)
    spec = recurrent_spec(
        "mlp",
        hidden_size=1,
        conv_filters=[[16, 8, 4, "valid"], [32, 4, 2, "valid"]],
        conv_activation="relu",
        head_fcnet_hiddens=[],
    )
    spec.observation_space = gym.spaces.Box(0, 255, (84, 84, 1), np.uint8)
    spec.action_space = gym.spaces.Discrete(6)
    (encoder,) = encoders(spec.build()).values()
    if at_once is not None:
        encoder._at_once = at_once
    observations = torch.randint(0, 256, (FRAMES, 84, 84, 1), dtype=torch.uint8)
    before, times = peak_mib(), []
    for _ in range(8):
        begun = time.perf_counter()
        outputs = encoder({Columns.OBS: observations})["encoder_out"]
        middle = time.perf_counter()
        outputs.sum().backward()
        times.append((middle - begun, time.perf_counter() - middle))
    forward, backward = (1e3 * statistics.median(each) for each in zip(*times[2:], strict=True))
    return {"forward_ms": forward, "backward_ms": backward, "mib": peak_mib() - before}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=PIECES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(PIECES[arguments.one])))
        return
    results = {name: [] for name in PIECES}
    for _ in range(ROUNDS):
        for name, found in results.items():
            done = subprocess.run([sys.executable, __file__, "--one", name], check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    for name, found in results.items():
        middle = {key: round(statistics.median(each[key] for each in found)) for key in found[0]}
        if arguments.json:
            print(json.dumps({"way": name, "threads": num_threads(), **middle}))
        else:
            times = f"forward {middle['forward_ms']:4} ms   backward {middle['backward_ms']:4} ms"
            print(f"{name:12} {times}   {middle['mib']:4} MiB")


if __name__ == "__main__":
    main()
