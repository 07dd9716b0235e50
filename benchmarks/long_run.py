"""What a long run gathers: memory, threads, files and time per iteration, early in it and at its end.

    python benchmarks/long_run.py --iterations 2000     # the figures of docs/reliability.md: about a quarter of an hour
    python benchmarks/long_run.py                       # 200 iterations

A tiny PPO is trained by `rllib train`, once without env runners of their own and once with two. All of its processes
are looked at from outside after a tenth of the iterations and just before the end.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LATEST = 0.98  # of the iterations, where the last look is
CONFIG = {
    "train_batch_size": 64,
    "minibatch_size": 64,
    "num_epochs": 1,
    "lr": 0.0003,
    "seed": 0,
    "model": {"custom_model": "stpn", "custom_model_config": {"hidden_size": 8}, "max_seq_len": 16},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--env-runners", type=int, nargs="+", default=[0, 2])
    args = parser.parse_args()
    for runners in args.env_runners:
        with tempfile.TemporaryDirectory() as storage:
            early, late, seconds, sizes = run(args.iterations, runners, Path(storage))
        print(f"\n{runners} env runners, {args.iterations:,} iterations | early | late | change")
        for name in early:
            change = (late[name] - early[name]) / early[name] if early[name] else 0.0
            print(f"{name} | {early[name]:,.1f} | {late[name]:,.1f} | {change:+.1%}")
        first, last = seconds
        print(f"ms per iteration, median | {first * 1e3:,.1f} | {last * 1e3:,.1f} | {last / first - 1:+.1%}")
        for name, size in sizes.items():
            print(f"bytes per iteration, {name} | {size / args.iterations:,.0f}")


def run(iterations, runners, storage):
    command = [sys.executable, "-m", "rllib_stpn.cli.main", "train", "--run", "PPO", "--env", "CartPole-v1"]
    command += ["--config", json.dumps({"num_env_runners": runners, **CONFIG}), "-n", "long"]
    command += ["--stop", json.dumps({"training_iteration": iterations}), "--storage-path", str(storage)]
    command += ["--checkpoint-freq", "50", "--keep-checkpoints-num", "2", "--ray-num-cpus", str(runners + 1)]
    printed = storage / "printed.txt"
    looks = {}
    with printed.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        while process.poll() is None:
            done = iterations_done(storage)
            for name, at in (("early", 0.1), ("late", LATEST)):
                if name not in looks and done >= at * iterations:
                    looks[name] = look(process.pid)
                    print(f"{done:,} iterations of {iterations:,}", flush=True)
            time.sleep(0.2)
    if process.returncode:
        sys.exit(printed.read_text())
    (trial,) = (path for path in (storage / "long").iterdir() if path.is_dir())
    with (trial / "progress.csv").open(newline="") as file:
        times = [float(row["time_total_s"]) for row in csv.DictReader(file)]
    taken = [after - before for before, after in zip(times, times[1:], strict=False)]
    part = max(1, iterations // 10)
    files = {name: sum(each.stat().st_size for each in trial.glob(name)) for name in ("progress.csv", "events.out*")}
    files["result.json"] = (trial / "result.json").stat().st_size
    files["terminal"] = printed.stat().st_size
    seconds = (statistics.median(taken[part : 2 * part]), statistics.median(taken[-part:]))
    return looks["early"], looks["late"], seconds, files


def iterations_done(storage):
    files = list(storage.glob("long/*/progress.csv"))
    return files[0].read_bytes().count(b"\n") - 1 if files else 0


def look(pid):
    """What the processes below one hold, by what they are."""
    found = {"memory of the command, MB": 0.0, "memory of the trial, MB": 0.0, "memory of env runners, MB": 0.0}
    found |= {"memory of Ray's own processes, MB": 0.0, "threads": 0, "open files": 0}
    for each in (pid, *below(pid)):
        try:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{each}/status").read_text().splitlines())
            title = Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            files = len(os.listdir(f"/proc/{each}/fd"))
        except OSError:
            continue  # it has ended
        what = "the command" if each == pid else "Ray's own processes"
        if "PPO" in title and title.startswith("ray::"):
            what = "the trial"
        elif title.startswith("ray::") and "EnvRunner" in title:
            what = "env runners"
        found[f"memory of {what}, MB"] += int(status.get("VmRSS", "0 kB").split()[0]) / 1024
        found["threads"] += int(status["Threads"])
        found["open files"] += files
    shm = sum(file.stat().st_blocks * 512 for file in Path("/dev/shm").rglob("*") if file.is_file())
    found["/dev/shm, MB"] = shm / 2**20
    return found


def below(pid):
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            yield from below(int(child))


if __name__ == "__main__":
    main()
