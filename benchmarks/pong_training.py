"""Steps per second and memory of a whole training on Pong, through the command line.

    python benchmarks/pong_training.py                    # STPN, 64,000 steps, about two minutes
    python benchmarks/pong_training.py --layer lstm --json

Steps per second are the median over iterations, the first two left out: they compile the kernel and start the
emulators. Memory is the largest sum of the resident sizes of the command and all its processes, Ray's own included
(pages that processes share count for each); Linux only.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def resident_mib(root: int) -> float:
    """Resident size of a process and its descendants."""
    parents, sizes = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":" in line)
        except OSError:  # ended meanwhile
            continue
        parents[int(fields["Pid"])] = int(fields["PPid"])
        sizes[int(fields["Pid"])] = int(fields.get("VmRSS", "0 kB").split()[0]) / 1024
    family = {root}
    while True:
        children = {pid for pid, parent in parents.items() if parent in family} - family
        if not children:
            return sum(sizes.get(pid, 0.0) for pid in family)
        family |= children


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layer", choices=["stpn", "lstm"], default="stpn")
    parser.add_argument("--steps", type=int, default=64_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as storage:
        command = [sys.executable, "-m", "rllib_stpn.cli.main", "train"]
        command += ["-f", str(ROOT / "tuned_examples" / f"pong_{arguments.layer}.yaml")]
        command += [
            "--stop",
            json.dumps({"num_env_steps_sampled_lifetime": arguments.steps}),
            "--storage-path",
            storage,
        ]
        started, peak = time.perf_counter(), 0.0
        process = subprocess.Popen(command, stdout=sys.stderr)
        while process.poll() is None:
            peak = max(peak, resident_mib(process.pid))
            time.sleep(0.5)
        if process.returncode:
            sys.exit(process.returncode)
        (results,) = Path(storage).glob("*/*/result.json")
        rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    steps = [row["num_env_steps_sampled_lifetime"] for row in rows]
    rates = [
        (after - before) / row["time_this_iter_s"]
        for before, after, row in zip(steps, steps[1:], rows[1:], strict=False)
    ][1:]
    result = {
        "layer": arguments.layer,
        "steps": int(steps[-1]),
        "steps_per_second": round(statistics.median(rates)),
        "slowest_iteration": round(min(rates)),
        "seconds_in_all": round(time.perf_counter() - started, 1),
        "peak_resident_mib": round(peak),
    }
    print(json.dumps(result) if arguments.json else "\n".join(f"{k:18} {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
