"""What becomes of a run when its environment goes wrong: every fault on every path.

    python benchmarks/fault_matrix.py                # all cells in an env runner's own process, and 365 through Ray
    python benchmarks/fault_matrix.py --cells 8760   # and every cell through Ray: days
    python benchmarks/fault_matrix.py --write        # only writes the tables into docs/faults.md, between its markers

The faults are those of tests/rollouts/faulty_env.py. Cells that were run are in fault_matrix.jsonl, and are not run
again. Those through Ray are drawn with a seed, so that the first n are the same everywhere. The first 365 have each
fault with each algorithm and env runner once, with two env runners; the first 73 each fault once.
"""

import argparse
import itertools
import json
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.rollouts import faulty_env  # noqa: E402

DOCUMENT = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- fault_matrix.py: begin -->\n", "<!-- fault_matrix.py: end -->\n"
SECONDS = 150  # for one cell through Ray
TIMEOUT = 4  # sample_timeout_s
FAULTS = faulty_env.FAULTS
TIMES = (1, None)  # once, and always
ALONE = [
    ("alone", fault, path, worker, restart, times)
    for path, fault, worker, restart, times in itertools.product(
        ("batched", "episodes", "vector"),
        (f for f in FAULTS if f not in faulty_env.DEADLY),
        (0, 1),
        ("off", "on"),
        TIMES,
    )
]
SAMPLING = [("PPO", "batched"), ("PPO", "single_agent"), ("A2C", "batched"), ("A2C", "single_agent")]
SAMPLING += [("APPO", "single_agent")]  # which cannot sample batched, and is refused
THROUGH_RAY = [
    (command, fault, *sampling, runners, restart, times)
    for command, fault, sampling, runners, restart, times in itertools.product(
        ("rllib train", "algo.train()"), FAULTS, SAMPLING, (0, 1, 2), ("off", "on"), TIMES
    )
]


def drawn(number, seed=0):
    """The first cells through Ray: with two env runners each fault on each way of sampling once, then all others."""
    shuffled = list(THROUGH_RAY)
    random.Random(seed).shuffle(shuffled)
    first = {}
    for cell in shuffled:
        _, fault, algorithm, sampling, runners, _, _ = cell
        if runners == 2:
            first.setdefault((fault, algorithm, sampling), cell)
    # Each fault on some way of sampling, then each on the next.
    begins = [first[(fault, *SAMPLING[(turn + i) % 5])] for turn in range(5) for i, fault in enumerate(FAULTS)]
    return list(dict.fromkeys([*begins, *shuffled]))[:number]


# --- one cell -----------------------------------------------------------------------------------------------------


def settings(restart):
    """RLlib's fault settings, all off or all on."""
    return {"restart_failed_env_runners": restart == "on", "restart_failed_sub_environments": restart == "on"}


def goes_on(lines, steps, episodes):
    """The outcome of a run that went on."""
    return {"goes on": list(lines), "steps": int(steps), "episodes": int(episodes)}


def alone(fault, path, worker, restart, times):
    """An env runner in this process, as that of the driver (worker 0) or as a remote one."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune.registry import register_env

    from rllib_stpn.models import recurrent_spec
    from rllib_stpn.rollouts import EpisodeEnvRunner, use_batched_rollouts
    from rllib_stpn.rollouts.episode_runner import EPISODES_DROPPED, STEPS_DROPPED

    register_env("faulty", faulty_env.make_faulty)
    with tempfile.TemporaryDirectory() as ledger:
        config = (
            PPOConfig()
            .environment("faulty", env_config={"fault": fault, "times": times, "ledger": ledger})
            .env_runners(num_envs_per_env_runner=3, rollout_fragment_length=10, num_env_runners=0)
            .env_runners(gym_env_vectorize_mode="vector_entry_point" if path == "vector" else "sync")
            .rl_module(rl_module_spec=recurrent_spec("mlp", hidden_size=4))
            .training(train_batch_size=30, minibatch_size=30)
            .fault_tolerance(**settings(restart))
        )
        if path == "episodes":
            config.env_runners(env_runner_cls=EpisodeEnvRunner)
        else:
            use_batched_rollouts(config)
        heard = _Heard()
        logger = logging.getLogger("ray.rllib")
        logger.propagate, logger.handlers = False, [heard]  # in place of the terminal
        try:
            runner = config.env_runner_cls(config=config, worker_index=worker, num_workers=worker)
            for _ in range(3):
                for sample in _arrived(runner.sample()):
                    len(sample)
            metrics = runner.get_metrics()
            survived = runner.take_survived()
            runner.stop()
        except Exception as error:
            return {"ends": f"{type(error).__name__}: {error}"}
        lost = [metrics[name].peek() if name in metrics else 0 for name in (STEPS_DROPPED, EPISODES_DROPPED)]
        return goes_on(survived or heard.lines, *lost)


class _Heard(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        if record.name == "ray.rllib" and "Deprecation" not in record.getMessage():
            self.lines.append(record.getMessage())


def _arrived(samples):
    import pickle

    return pickle.loads(pickle.dumps(samples))


def experiment(fault, algorithm, sampling, runners, restart, times, ledger):
    """A small run's settings, as in a YAML file."""
    size = 20 * max(runners, 1)
    config = {
        "env": "tests.rollouts.faulty_env.FaultyEnv",
        "env_config": {"fault": fault, "worker": min(runners, 1), "times": times, "ledger": ledger},
        "env_runner_cls": sampling,
        "num_env_runners": runners,
        "num_envs_per_env_runner": 2,
        "rollout_fragment_length": 10,
        "sample_timeout_s": TIMEOUT,
        "train_batch_size": size,
        "min_time_s_per_iteration": 1 if algorithm == "APPO" else 0,
        "model": {"fcnet_hiddens": [4]},
        **settings(restart),
    }
    if algorithm == "PPO":
        config |= {"minibatch_size": size, "num_epochs": 1}
    if algorithm == "APPO":
        config["num_learners"] = 0
    return {"run": algorithm, "stop": {"training_iteration": 6}, "config": config}


def rllib_train(*cell):
    """The command, as a user gives it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ledger").mkdir()
        file = Path(folder) / "faulty.yaml"
        file.write_text(json.dumps({"faulty": experiment(*cell, ledger=str(Path(folder) / "ledger"))}))
        command = [sys.executable, "-m", "rllib_stpn.cli.main", "train", "-f", file, "--storage-path", folder]
        try:
            done = subprocess.run(
                [*map(str, command), "--ray-num-cpus", "4"], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired as error:
            said = [line for line in (error.stdout or b"").decode().splitlines() if line.startswith("note: ")]
            return {"waits": said}
        if done.returncode:
            last = [line for line in done.stderr.splitlines() if line.startswith("rllib: error: ")]
            return {
                "ends": (last or done.stderr.strip().splitlines() or ["nothing"])[-1].removeprefix("rllib: error: ")
            }
        said = [line.removeprefix("note: ") for line in done.stdout.splitlines() if line.startswith("note: ")]
        results = sorted(Path(folder).rglob("result.json"))
        last = json.loads(results[0].read_text().splitlines()[-1]) if results else {}
        return goes_on(said, *(last.get(f"num_{what}_dropped_lifetime") or 0 for what in ("env_steps", "episodes")))


def algo_train(*cell):
    """The same config without the command, in a process of its own: some faults end it."""
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--one", json.dumps(cell)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        told = re.findall(r"env runner \d+ has made no step.*", (error.stderr or b"").decode())
        return {"waits": told[:1]}
    found = [line for line in done.stdout.splitlines() if line.startswith("OUTCOME ")]
    if not found:
        return {"ends": f"the process is gone, with status {done.returncode}"}
    return json.loads(found[-1].removeprefix("OUTCOME "))


def one(cell):
    """Runs one cell of ``algo.train()`` here, and prints its outcome."""
    import ray

    from rllib_stpn.experiments.building import build_config
    from rllib_stpn.rollouts import telling_failures

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as ledger:
        given = experiment(*cell, ledger=ledger)
        lines, steps, episodes = [], 0, 0
        algorithm = None
        try:
            config = build_config(given["run"], {**given["config"], "env": faulty_env.FaultyEnv})
            algorithm = telling_failures(config).build_algo()
            for _ in range(6):
                result = algorithm.train()
                lines += result.get("survived") or []
                steps, episodes = (result[f"num_{what}_dropped_lifetime"] for what in ("env_steps", "episodes"))
            algorithm.stop()
            outcome = goes_on(lines, steps, episodes)
        except Exception as error:
            told = str(error).strip().splitlines() or [""]
            outcome = {
                "ends": f"{type(error).__name__}: {told[-1] if 'Remote' in told[0] or 'ray::' in told[0] else told[0]}"
            }
        print(f"OUTCOME {json.dumps(outcome)}", flush=True)
        os._exit(0)


def run(cell):
    """The outcome of a cell."""
    kind, *rest = cell
    return {"alone": alone, "rllib train": rllib_train, "algo.train()": algo_train}[kind](*rest)


# --- the tables ---------------------------------------------------------------------------------------------------


def in_brief(outcome):
    """The outcome without its sentence."""
    if "ends" in outcome:
        return "ends"
    if "waits" in outcome:
        return "waits"
    if not outcome["steps"] and not outcome["episodes"]:
        return "goes on" if not outcome["goes on"] else "goes on, nothing dropped"
    return f"goes on; {outcome['steps']} steps, {outcome['episodes']} episodes dropped"


def sentence(outcome):
    """What was said."""
    said = outcome.get("ends") or " / ".join(outcome.get("goes on") or outcome.get("waits") or [])
    said = said.replace(f"{ROOT}/", "")
    said = re.sub(r"^\w+Error: (?=.*\benvironments? )", "", said)
    said = re.sub(r" \(traceback: .*?\)$", "", said)
    return re.sub(r"pid \d+.*? on [\d.]+", "pid ...", said).replace("|", "\\|")


def table(header, rows):
    """Lines of a table in Markdown."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def of_alone(done):
    """One row a fault: what is said, and what becomes of the runner."""
    # With restarts off, once is as good as always.
    ways = [(w, r, t) for w in (0, 1) for r, t in (("off", None), ("on", 1), ("on", None))]
    names = [f"{'remote' if w else 'local'}, {r}{', once' if t else ''}" for w, r, t in ways]
    rows = []
    for fault in (f for f in FAULTS if f not in faulty_env.DEADLY):
        cells = {way: done.get(("alone", fault, "batched", *way)) for way in ways}
        said = cells[0, "off", None]
        text = "" if said is None else sentence(said)
        rows.append([f"`{fault}`", text, *("-" if each is None else in_brief(each) for each in cells.values())])
    return table(["fault", "what is said", *names], rows)


def of_ray(done):
    """One row a cell."""
    rows = []
    for cell in sorted((c for c in done if c[0] != "alone"), key=lambda c: (FAULTS.index(c[1]), *map(str, c))):
        command, fault, algorithm, sampling, runners, restart, times = cell
        outcome = done[cell]
        path = f"{algorithm}, {sampling}, {runners} runners, {restart}, {'once' if times else 'always'}"
        rows.append([f"`{fault}`", f"`{command}`", path, in_brief(outcome), sentence(outcome)])
    return table(["fault", "command", "path", "outcome", "what is said"], rows)


def write(done):
    """Puts the tables into the document."""
    by_itself = [cell for cell in done if cell[0] == "alone"]
    through_ray = [cell for cell in done if cell[0] != "alone"]
    lines = [
        f"{len(by_itself):,} of {len(ALONE):,} cells of env runners by themselves were run, the table has those of "
        "batched sampling:",
        "",
        *of_alone(done),
        "",
        f"{len(through_ray):,} of {len(THROUGH_RAY):,} cells through Ray were run:",
        "",
        *of_ray(done),
        "",
    ]
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}")


def main():
    """Runs what was not run yet, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cells", type=int, default=len(FAULTS) * len(SAMPLING), help="how many cells through Ray; 365"
    )
    parser.add_argument("--done", type=Path, default=Path("fault_matrix.jsonl"), help="where outcomes are kept")
    parser.add_argument("--write", action="store_true", help="only write docs/faults.md")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(json.loads(args.one))
    done = {}
    if args.done.exists():
        done = {tuple(each["cell"]): each["outcome"] for each in map(json.loads, args.done.read_text().splitlines())}
    cells = [*drawn(args.cells), *ALONE]
    begun = time.monotonic()
    for number, cell in enumerate(cells):
        if cell in done or args.write:
            continue
        done[cell] = run(cell)
        with args.done.open("a") as file:
            file.write(json.dumps({"cell": cell, "outcome": done[cell]}) + "\n")
        if cell[0] != "alone" or number % 100 == 0:
            told = f"{in_brief(done[cell])}: {sentence(done[cell])}"[:150]
            print(f"{number + 1}/{len(cells)} {time.monotonic() - begun:.0f} s {cell}: {told}", flush=True)
    print(f"{len(done)} of {len(ALONE) + len(THROUGH_RAY)} cells were run")
    write(done)


if __name__ == "__main__":
    main()
