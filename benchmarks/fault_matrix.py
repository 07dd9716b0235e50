"""What becomes of a run when its environment goes wrong: every fault on every path.

    python benchmarks/fault_matrix.py                # all cells in an env runner's own process, and 365 through Ray
    python benchmarks/fault_matrix.py --cells 8760   # and every cell through Ray: days
    python benchmarks/fault_matrix.py --write        # only writes the tables into docs/faults.md, between its markers

The faults are those of tests/rollouts/faulty_env.py. Cells that were run are in fault_matrix.jsonl, and are not run
again. Those through Ray are drawn with a seed, so that the first n are the same everywhere. The first 365 have each
fault with each algorithm and env runner once, with two env runners; the first 73 each fault once.
"""

import argparse
import collections
import contextlib
import functools
import gc
import itertools
import json
import logging
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.rollouts import faulty_env  # noqa: E402

DOCUMENT = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- fault_matrix.py: begin -->\n", "<!-- fault_matrix.py: end -->\n"
SECONDS = 600  # for one cell through Ray, on a machine under load
TIMEOUT = 20  # sample_timeout_s
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


def rllib_train(*cell, folder):
    """The command, as a user gives it."""
    from rllib_stpn.cli.main import main

    file = folder / "faulty.yaml"
    file.write_text(json.dumps({"faulty": experiment(*cell, ledger=str(folder / "ledger"))}))
    out, err = folder / "out", folder / "err"
    with (
        out.open("w") as to_out,
        err.open("w") as to_err,
        contextlib.redirect_stdout(to_out),
        contextlib.redirect_stderr(to_err),
    ):
        status = main(["train", "-f", str(file), "--storage-path", str(folder), "--ray-num-cpus", "4"])
    if status:
        errors = err.read_text().strip().splitlines()
        last = [line for line in errors if line.startswith("rllib: error: ")]
        return {"ends": (last or errors or ["nothing"])[-1].removeprefix("rllib: error: ")}
    results = sorted(folder.rglob("result.json"))
    last = json.loads(results[0].read_text().splitlines()[-1]) if results else {}
    return goes_on(
        notes(folder), *(last.get(f"num_{what}_dropped_lifetime") or 0 for what in ("env_steps", "episodes"))
    )


def notes(folder):
    """What the command has told."""
    out = folder / "out"
    lines = out.read_text().splitlines() if out.exists() else []
    return [line.removeprefix("note: ") for line in lines if line.startswith("note: ")]


def algo_train(*cell, folder):
    """The same config without the command."""
    from rllib_stpn.experiments.building import build_config
    from rllib_stpn.rollouts import telling_failures

    given = experiment(*cell, ledger=str(folder / "ledger"))
    lines, steps, episodes = [], 0, 0
    try:
        config = build_config(given["run"], {**given["config"], "env": faulty_env.FaultyEnv})
        algorithm = telling_failures(config).build_algo()
        for _ in range(6):
            result = algorithm.train()
            lines += result.get("survived") or []
            steps, episodes = (result[f"num_{what}_dropped_lifetime"] for what in ("env_steps", "episodes"))
        algorithm.stop()
    except Exception as error:
        told = str(error).strip().splitlines() or [""]
        told = told[-1] if "Remote" in told[0] or "ray::" in told[0] else told[0]
        return {"ends": f"{type(error).__name__}: {told}"}
    return goes_on(lines, steps, episodes)


def serve():
    """Runs the cells that come in, one after the other, with one Ray."""
    import ray

    ray.init(num_cpus=64, include_dashboard=False, log_to_driver=False)  # those of cells that ended are still counted
    print("READY", flush=True)
    for line in sys.stdin:
        (kind, *cell), folder = json.loads(line)
        run_here = {"rllib train": rllib_train, "algo.train()": algo_train}[kind]
        outcome = run_here(*cell, folder=Path(folder))
        gc.collect()
        print(f"OUTCOME {json.dumps(outcome)}", flush=True)


class Server:
    """A process that runs cells through Ray. Some of them end it, or never end: then the next one has another."""

    process = None

    def run(self, cell):
        """The outcome of a cell."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-u", __file__, "--serve"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            begin = list(itertools.takewhile(lambda line: line != "READY\n", self.process.stdout))
            if self.process.poll() is not None:
                sys.exit("".join(begin))  # Ray did not start
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "ledger").mkdir()
            print(json.dumps([cell, folder]), file=self.process.stdin, flush=True)
            timer = threading.Timer(SECONDS, self.process.kill)
            timer.start()
            said = []
            for line in self.process.stdout:
                said.append(line)
                if line.startswith("OUTCOME "):
                    timer.cancel()
                    return json.loads(line.removeprefix("OUTCOME "))
            in_time = timer.is_alive()
            timer.cancel()
            status, self.process = self.process.wait(), None
            if in_time:
                return {"ends": f"the process is gone, with status {status}"}
            waits = re.findall(r"env runner \d+ has made no step.*", "".join(said))
            return {"waits": notes(Path(folder)) or waits[-1:]}


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
    said = re.sub(r"[\w./]+/(?=tests/rollouts/)", "", said)
    said = re.sub(r"^\w+Error: (?=.*\benvironments? )", "", said)
    said = re.sub(r" \(traceback: .*?\)$", "", said)
    return re.sub(r"pid \d+.*? on [\d.]+", "pid ...", said).replace("|", "\\|")


def kind(said):
    """A sentence without what differs between faults of one kind: the value and the place."""
    said = re.sub(r" \(environment .*|,? at step \d.*", "", said)
    return re.sub(r"(reward|info|terminated|truncated|the type|the shape) .*?(?=, (?:which|where)|$)", r"\1 ...", said)


def kinds(done):
    """Faults of which the same is said, by what is said where restarts are off; the deadly ones each by itself."""
    found = {}
    for fault in FAULTS:
        off = done.get(("alone", fault, "batched", 0, "off", None))
        of = kind(sentence(off)).replace("terminated", "truncated") if off else None
        found.setdefault(of or fault, []).append(fault)
    return list(found.values())


def named(faults):
    """Such as ```nan`, `inf` @ `terminated`, `truncated```."""
    wheres = {}
    for fault in faults:
        what, where = fault.split("@")
        wheres.setdefault(where, []).append(f"`{what}`")
    merged = {}
    for where, whats in wheres.items():
        merged.setdefault(", ".join(whats), []).append(f"`{where}`")
    return "; ".join(f"{whats} @ {', '.join(places)}" for whats, places in merged.items())


def table(header, rows):
    """Lines of a table in Markdown."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def of_alone(done):
    """One row for faults of which the same is said and becomes: the sentence of one of them, and what becomes."""
    # With restarts off, once is as good as always.
    ways = [(w, r, t) for w in (0, 1) for r, t in (("off", None), ("on", 1), ("on", None))]
    names = [f"{'remote' if w else 'local'}, {r}{', once' if t else ''}" for w, r, t in ways]
    rows = []
    for faults in kinds(done):
        alike = {}
        for fault in (f for f in faults if f not in faulty_env.DEADLY):
            cells = [done.get(("alone", fault, "batched", *way)) for way in ways]
            alike.setdefault(tuple("-" if each is None else in_brief(each) for each in cells), []).append(fault)
        for outcomes, same in alike.items():
            said = done.get(("alone", same[0], "batched", 0, "off", None))
            rows.append([named(same), sentence(said) if said else "", *outcomes])
    return table(["fault", "what is said, of the first", *names], rows)


SETTINGS = {"off": ("off",), "on, once": ("on", 1), "on": ("on", None)}


def of_ray(done):
    """One row for faults of which the same is said: how many cells ended and went on; then the cells that differ."""
    rows, others = [], []
    run = {cell[1] for cell in done if cell[0] != "alone"}
    for faults in ([fault for fault in faults if fault in run] for faults in kinds(done)):
        if not faults:
            continue
        said, columns = {}, []
        for settings_ in SETTINGS.values():
            cells = [c for c in done if c[0] != "alone" and c[1] in faults and c[-2:][: len(settings_)] == settings_]
            outcomes = {cell: in_brief(done[cell]).partition(";")[0] for cell in cells}
            counted = collections.Counter(outcomes.values()).most_common()
            columns.append(", ".join(f"{outcome}: {count}" for outcome, count in counted) or "-")
            others += [cell for cell, outcome in outcomes.items() if outcome != counted[0][0]]
            said |= {cell: sentence(done[cell]) for cell in cells}
        rows.append([named(faults), next(filter(None, said.values()), ""), *columns])
    yield from table(["fault", "what is said, of one", *SETTINGS], rows)
    if others:
        yield ""
        yield "The cells that went otherwise than most of their row:"
        yield ""
        yield from table(["fault", "cell", "outcome", "what is said"], map(functools.partial(row_of, done), others))


def row_of(done, cell):
    command, fault, algorithm, sampling, runners, restart, times = cell
    path = f"`{command}`, {algorithm}, {sampling}, {runners} runners, {restart}, {'once' if times else 'always'}"
    return [f"`{fault}`", path, in_brief(done[cell]), sentence(done[cell])]


def write(done):
    """Puts the tables into the document."""
    by_itself = [cell for cell in done if cell[0] == "alone"]
    through_ray = [cell for cell in done if cell[0] != "alone"]
    sample = [cell for cell in drawn(len(FAULTS) * len(SAMPLING)) if cell in done]
    lines = [
        "## An env runner by itself",
        "",
        f"{len(by_itself):,} of {len(ALONE):,} cells were run, the table has those of batched sampling:",
        "",
        *of_alone(done),
        "",
        "## Through Ray",
        "",
        f"{len(through_ray):,} of {len(THROUGH_RAY):,} cells were run. Among them are {len(sample)} of the "
        f"{len(FAULTS) * len(SAMPLING)} that have each fault with two env runners on each way of sampling: PPO and "
        "A2C, batched and with RLlib's env runner, and APPO; with `rllib train` or `algo.train()`, restarts off or "
        "on, once or always, as drawn. A row counts the cells of its faults:",
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
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    done = {}
    if args.done.exists():
        done = {tuple(each["cell"]): each["outcome"] for each in map(json.loads, args.done.read_text().splitlines())}
    cells = [*sorted(drawn(args.cells), key=lambda cell: cell[1].startswith("hangs")), *ALONE]  # minutes each: last
    begun = time.monotonic()
    server = Server()
    for number, cell in enumerate(cells):
        if cell in done or args.write:
            continue
        done[cell] = alone(*cell[1:]) if cell[0] == "alone" else server.run(cell)
        with args.done.open("a") as file:
            file.write(json.dumps({"cell": cell, "outcome": done[cell]}) + "\n")
        if cell[0] != "alone" or number % 100 == 0:
            told = f"{in_brief(done[cell])}: {sentence(done[cell])}"[:150]
            print(f"{number + 1}/{len(cells)} {time.monotonic() - begun:.0f} s {cell}: {told}", flush=True)
    print(f"{len(done)} of {len(ALONE) + len(THROUGH_RAY)} cells were run")
    write(done)


if __name__ == "__main__":
    main()
