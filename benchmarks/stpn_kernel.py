"""Speed, memory and accuracy of the fused STPN kernel beside plain torch and torch's LSTM.

    python benchmarks/stpn_kernel.py            # a table, about a minute
    python benchmarks/stpn_kernel.py --large    # with Pong at batch 64; plain torch takes over 15 GB there
    python benchmarks/stpn_kernel.py --json     # one JSON object per line and shape

Times are medians of alternating runs of forward and backward, side by side in this process; a run of less than
50 ms is repeated until it has lasted that long. "plain" is the
published way to compute: one autograd graph over an einsum and a norm per step. "lstm" is ``torch.nn.LSTM`` with
about as many parameters. Peaks are workspace: the rise of the peak resident size over one call in a fresh process,
less outputs, final state and gradients, which any implementation returns. The gradient error is the distance between
the fused and the plain gradient over the length of the plain one, the largest over all gradients.

Last come single steps without gradients, as rollouts take them: weights laid out at every call, and once.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from rllib_stpn.kernels import num_threads, overwriting_states, torch_on_one_thread
from rllib_stpn.kernels.laid_out import weights_unchanged
from rllib_stpn.kernels.stpn import stpn
from rllib_stpn.kernels.stpn.reference import stpn_step
from rllib_stpn.layers import STPN

MIB = 2**20


@dataclass(frozen=True)
class Shape:
    name: str
    batch: int
    steps: int
    input_size: int
    hidden_size: int
    normalize: str
    clamp: float | None
    lstm_size: int
    ratio_target: int = 0
    lstm_target: float = 0.0


SHAPES = [
    Shape("retrieval", 128, 9, 37, 11, "pre", None, 9, ratio_target=14, lstm_target=1.5),
    Shape("maze", 512, 50, 17, 55, "post", 1.0, 47, ratio_target=20, lstm_target=3),
    Shape("pong, batch 16", 16, 50, 2592, 64, "pre", None, 48, ratio_target=20, lstm_target=5),
]
LARGE = Shape("pong, batch 64", 64, 50, 2592, 64, "pre", None, 48, ratio_target=80, lstm_target=5)


class Problem:
    """Inputs, parameters and a gradient of the outputs; each method is one forward and backward."""

    def __init__(self, shape: Shape):
        torch.manual_seed(0)
        self.shape = shape
        H, D = shape.hidden_size, shape.input_size + shape.hidden_size
        k = H**-0.5
        self.inputs = torch.randn(shape.batch, shape.steps, shape.input_size, requires_grad=True)
        self.parameters = [
            torch.empty(H, D).uniform_(-k, k).requires_grad_(),
            torch.empty(H).uniform_(-k, k).requires_grad_(),
            torch.rand(H, D).requires_grad_(),
            torch.empty(H, D).uniform_(-0.001 * k, 0.001 * k).requires_grad_(),
        ]
        self.gradient = torch.randn(shape.batch, shape.steps, H)
        self.core = torch.nn.LSTM(shape.input_size, shape.lstm_size, batch_first=True)

    def fused(self):
        outputs, h, F, _ = stpn(
            self.inputs,
            None,
            None,
            *self.parameters,
            normalize=self.shape.normalize,
            clamp=self.shape.clamp,
            recurrent=True,
            implementation="fused",
        )
        gradients = torch.autograd.grad(outputs, [self.inputs, *self.parameters], self.gradient)
        return outputs, F, gradients

    def plain(self):
        shape = self.shape
        h = self.inputs.new_zeros(shape.batch, shape.hidden_size)
        F = self.inputs.new_zeros(shape.batch, shape.hidden_size, shape.input_size + shape.hidden_size)
        outputs = []
        for t in range(shape.steps):
            h, F, _ = stpn_step(self.inputs[:, t], h, F, *self.parameters, normalize=shape.normalize, clamp=shape.clamp)
            outputs.append(h)
        together = torch.stack(outputs, 1)
        gradients = torch.autograd.grad(together, [self.inputs, *self.parameters], self.gradient)
        return together, F, gradients

    def lstm(self):
        outputs, _ = self.core(self.inputs)
        gradient = self.gradient[:, :, : self.shape.lstm_size]
        return outputs, torch.autograd.grad(outputs, [self.inputs, *self.core.parameters()], gradient)


BURST = 0.05  # seconds; shorter runs are repeated until they fill it, as in training, where the caches are warm


def milliseconds(run) -> float:
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < BURST:
        run()
        calls += 1
    return 1e3 * (time.perf_counter() - start) / calls


def measure(shape: Shape, pairs: int) -> dict:
    problem = Problem(shape)
    expected, actual = problem.plain()[2], problem.fused()[2]  # the first calls also warm up
    error = max(((a - e).norm() / e.norm()).item() for a, e in zip(actual, expected, strict=True))
    del expected, actual
    problem.lstm()
    times: dict[str, list[float]] = {"plain": [], "fused": [], "lstm": []}
    for _ in range(pairs):
        for name, taken in times.items():
            taken.append(milliseconds(getattr(problem, name)))
    median = {name: statistics.median(taken) for name, taken in times.items()}
    return {
        "shape": [shape.batch, shape.steps, shape.input_size, shape.hidden_size],
        "plain_ms": round(median["plain"], 3),
        "fused_ms": round(median["fused"], 3),
        "lstm_ms": round(median["lstm"], 3),
        "ratio": round(median["plain"] / median["fused"], 2),
        "pairs": pairs,
        "plain_peak_mib": round(peak_in_fresh_process(shape, "plain"), 1),
        "fused_peak_mib": round(peak_in_fresh_process(shape, "fused"), 1),
        "max_rel_grad_error": float(f"{error:.2e}"),
    }


def measure_large(pairs: int) -> dict:
    """As ``measure``, but the plain run's gigabytes are paid once, after everything else."""
    problem = Problem(LARGE)
    actual = problem.fused()[2]
    problem.lstm()
    times = [(milliseconds(problem.fused), milliseconds(problem.lstm)) for _ in range(pairs)]
    fused, lstm = (statistics.median(column) for column in zip(*times, strict=True))
    peak = peak_in_fresh_process(LARGE, "fused")
    with Peak() as plain:
        start = time.perf_counter()
        results = problem.plain()
        taken = 1e3 * (time.perf_counter() - start)
    error = max(((a - e).norm() / e.norm()).item() for a, e in zip(actual, results[2], strict=True))
    return {
        "shape": [LARGE.batch, LARGE.steps, LARGE.input_size, LARGE.hidden_size],
        "plain_ms": round(taken, 3),
        "fused_ms": round(fused, 3),
        "lstm_ms": round(lstm, 3),
        "ratio": round(taken / fused, 2),
        "pairs": pairs,
        "plain_runs": 1,
        "plain_peak_mib": round((plain.rise - size(results)) / MIB, 1),
        "fused_peak_mib": round(peak, 1),
        "max_rel_grad_error": float(f"{error:.2e}"),
    }


def measure_steps(batch: int, pairs: int) -> dict:
    """Microseconds of a step of the maze's layer with weights laid out at each call, and once, alternating."""
    layer = STPN(17, 55, normalize=None, clamp=1.0)
    inputs, state = torch.randn(batch, 1, 17), layer.initial_state(batch)
    times: dict[str, list[float]] = {"each": [], "once": []}
    with torch.no_grad(), overwriting_states(), torch_on_one_thread():
        for _ in range(pairs):
            for name, taken in times.items():
                with weights_unchanged() if name == "once" else contextlib.nullcontext():
                    taken.append(1e3 * milliseconds(lambda: layer(inputs, state)))
    return {"batch": batch, **{f"laid_out_{name}_us": round(statistics.median(t), 1) for name, t in times.items()}}


class Peak:
    """Rise of the peak resident size in bytes over a ``with`` block."""

    def __enter__(self):
        self.before, _ = self._sizes()
        # On Linux the peak starts again from here; elsewhere that of the whole process stands in.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        return self

    def __exit__(self, *_):
        _, peak = self._sizes()
        self.rise = max(0, peak - self.before)

    @staticmethod
    def _sizes():
        try:
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            lines = dict(line.split(":", 1) for line in status.splitlines())
        except OSError:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            return peak, peak
        return tuple(1024 * int(lines[key].split()[0]) for key in ("VmRSS", "VmHWM"))


def size(results) -> int:
    """Bytes of all tensors in nested tuples."""
    if isinstance(results, torch.Tensor):
        return results.numel() * results.element_size()
    return sum(size(item) for item in results)


def peak_in_fresh_process(shape: Shape, implementation: str) -> float:
    command = [sys.executable, __file__, "--peak", shape.name, implementation]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(name: str, implementation: str) -> None:
    shape = next(s for s in (*SHAPES, LARGE) if s.name == name)
    warm_up = Shape("", 2 * num_threads(), 2, 3, 2, shape.normalize, shape.clamp, 2)
    getattr(Problem(warm_up), implementation)()
    run = getattr(Problem(shape), implementation)
    with Peak() as peak:
        results = run()
    print((peak.rise - size(results)) / MIB)


def print_row(shape: Shape, row: dict) -> None:
    lstm = row["fused_ms"] / row["lstm_ms"]
    times = f"{row['plain_ms']:10.1f} {row['fused_ms']:9.2f} {row['lstm_ms']:9.2f}"
    targets = f"{row['ratio']:7.1f} (>= {shape.ratio_target:2d}) {lstm:6.1f} (<= {shape.lstm_target:3.1f})"
    peaks = f"{row['plain_peak_mib']:10.0f} {row['fused_peak_mib']:9.1f}"
    print(f"{shape.name:15s} {times} {targets} {peaks} {row['max_rel_grad_error']:10.1e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object per line and shape")
    parser.add_argument("--large", action="store_true", help="also Pong at batch 64; plain torch takes > 15 GB")
    parser.add_argument("--pairs", type=int, default=10, help="alternating runs per shape")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(*arguments.peak)
        return
    if not arguments.json:
        print(f"{num_threads()} threads, medians of {arguments.pairs} runs; ms and MiB; targets in parentheses")
        header = f"{'plain':>10s} {'fused':>9s} {'lstm':>9s} {'x plain':>15s} {'x lstm':>15s}"
        print(f"{'':15s} {header} {'plain peak':>10s} {'fused':>9s} {'grad error':>10s}", flush=True)
    for shape in SHAPES + [LARGE] * arguments.large:
        row = measure_large(arguments.pairs) if shape is LARGE else measure(shape, arguments.pairs)
        print(json.dumps(row), flush=True) if arguments.json else print_row(shape, row)
    for batch in (1, 64, 512):
        row = measure_steps(batch, arguments.pairs)
        told = f"step of {batch:3d} samples: {row['laid_out_each_us']:7.1f} us, "
        told += f"weights laid out once {row['laid_out_once_us']:7.1f} us"
        print(json.dumps(row) if arguments.json else told, flush=True)
    if arguments.large and not arguments.json:
        print("pong, batch 64: one plain run only, it takes half a minute and more than 15 GB")


if __name__ == "__main__":
    main()
