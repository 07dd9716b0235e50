"""Ctrl-C and SIGTERM at any moment: the run ends, with its status, in a plain line, and leaves no process behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rllib_stpn import manifest

SCRIPT = """
import subprocess, sys, threading, time
from rllib_stpn.cli.signals import Signals

signals = Signals()
with signals.listening():
    if {orderly}:
        with signals.ending_orderly():
            print("ready", flush=True)
            {busy}
    else:
        print("ready", flush=True)
        {busy}
"""
# A loop that swallows what is raised in it, one that a signal ends, and a call in C that nothing ends.
SWALLOWS = "exec('while True:\\n try: time.sleep(0.01)\\n except BaseException: pass')"
WAITS = "while signals.signal is None: time.sleep(0.01)"
STUCK = "import ctypes; lock = ctypes.create_string_buffer(64); c = ctypes.CDLL(None); " + "; ".join(
    ["c.pthread_mutex_lock(lock)"] * 2
)


@pytest.fixture
def python():
    """Starts a script, and waits until it is ready."""
    started = []

    def python(script):
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield python
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", [SWALLOWS, STUCK], ids=["swallows", "stuck"])
def test_a_signal_ends_the_process_at_once_where_nothing_is_to_be_saved(python, busy, number):
    process = python(SCRIPT.format(orderly=False, busy=busy))
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "rllib: interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", [SWALLOWS, STUCK], ids=["swallows", "stuck"])
def test_the_second_signal_ends_it_where_the_first_asks_to(python, busy, number):
    process = python(SCRIPT.format(orderly=True, busy=busy))
    process.send_signal(number)
    first = [process.stderr.readline(), process.stderr.readline()]
    assert first[0] == "\n" and first[1].startswith(f"{number.name}: stopping after this iteration")
    assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "rllib: aborted; checkpoints written before are whole\n")


AFTERWARDS = """
import os, signal
print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, threading.active_count())
again = Signals()
with again.listening(), again.ending_orderly():
    reads, writes = os.pipe()
    children = []
    for _ in range(2):
        children.append(os.fork())
        if not children[-1]:
            os.write(writes, b".")
            time.sleep(600)
        os.read(reads, 1)
    os.kill(children[0], signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]), again.signal)
os.kill(children[1], signal.SIGTERM)
"""


def test_what_listens_no_more_leaves_signals_as_they_were_and_a_fork_has_its_own(python):
    process = python(SCRIPT.format(orderly=True, busy=WAITS) + AFTERWARDS)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.splitlines() == ["True 1", "-15 None"]


BELOW = """
import os, subprocess, sys
below = subprocess.Popen(["sleep", "600"])
with open(sys.argv[1], "w") as file:
    print(os.getpid(), below.pid, file=file)
below.wait()
"""


def test_what_was_started_below_ends_too(python, tmp_path):
    """A process below a process, in a session of its own."""
    pids = tmp_path / "pids"
    (tmp_path / "below.py").write_text(BELOW)
    command = ["python", str(tmp_path / "below.py"), str(pids)]
    busy = f"import ray; subprocess.Popen({command}, executable=sys.executable, start_new_session=True); {SWALLOWS}"
    process = python(SCRIPT.format(orderly=False, busy=busy))
    while not (pids.exists() and pids.read_text().endswith("\n")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    process.communicate()
    deadline = time.monotonic() + 60  # a process that was killed takes its time to go
    while left := [pid for pid in pids.read_text().split() if _lives(int(pid))]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


ENVIRONMENT = """
import time, gymnasium, numpy as np
from pathlib import Path

class Slow(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, place, seconds):
        self.place = Path(place)
        if (self.place / "results").exists():
            (self.place / "constructing").touch()
            time.sleep(seconds)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        (self.place / "stepped").touch()
        time.sleep(0.02)
        return np.zeros(1, np.float32), 1.0, False, False, {}

gymnasium.register("Slow-v0", lambda **arguments: Slow(**arguments), disable_env_checker=True)
"""


def _below(place):
    """The command lines of the processes that a run in this place has started."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if f"PLACE_OF_A_TEST={place}".encode() in (process / "environ").read_bytes() and _lives(
                    int(process.name)
                ):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return found


MOMENTS = {
    "imports": lambda place, out: (place / "out").exists(),
    "Ray starts": lambda place, out: any("gcs_server" in each for each in _below(place)),
    "trial is placed": lambda place, out: "results in" in out,
    "environment is made": lambda place, out: (place / "constructing").exists(),
    "iteration": lambda place, out: (place / "stepped").exists(),
    "checkpoint": lambda place, out: any(place.glob("results/*/*/.checkpoint.part")),
    "Ray ends": lambda place, out: "stopped:" in out,
}
AT_ONCE = ("imports", "Ray starts", "Ray ends")


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("number", "to"),
    [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill), (signal.SIGTERM, os.killpg)],
    ids=lambda value: getattr(value, "name", None) or value.__name__,
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_signals_end_a_run_at_any_moment(
    write, in_shared_memory, tmp_path, monkeypatch, request, moment, number, to, times
):
    """To its process alone, or to its group, as Ctrl-C and ``timeout`` send them."""
    monkeypatch.setenv("PLACE_OF_A_TEST", str(tmp_path))
    write(ENVIRONMENT, "slow_env.py")
    shared = in_shared_memory()
    config = {"env_config": {"place": str(tmp_path), "seconds": 5 * (moment == "environment is made")}}
    config |= {"num_env_runners": 0, "train_batch_size": 32, "minibatch_size": 32, "num_epochs": 1}
    command = ["-m", "rllib_stpn", "train", "--run", "PPO", "--env", "slow_env:Slow-v0", "--config", json.dumps(config)]
    command += ["--stop", json.dumps({"training_iteration": 1 if moment == "Ray ends" else 1000})]
    command += ["--storage-path", str(tmp_path / "results"), "--checkpoint-freq", "1", "--ray-num-cpus", "2"]
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=out, stderr=err, cwd=tmp_path, start_new_session=True
        )
    if moment == "imports":
        time.sleep(1)
    request.addfinalizer(process.kill)
    while not MOMENTS[moment](tmp_path, (tmp_path / "out").read_text()):
        assert process.poll() is None, (tmp_path / "err").read_text()
        time.sleep(0.01)
    for _ in range(times):
        with contextlib.suppress(ProcessLookupError):
            to(process.pid, number)
        time.sleep(0.02)
    process.wait(timeout=300)
    lines = (tmp_path / "err").read_text().split("\n")
    told = [line.partition(":")[0] + ":" + line.partition(":")[2][:9] for line in lines if line]
    if moment in AT_ONCE:
        assert told == ["rllib: interrup"]
    else:
        assert told[0] == f"{number.name}: stopping"
        assert told[1:] in ([], ["rllib: aborted;"], ["rllib: interrup"])
    assert process.returncode == 128 + number
    for checkpoint in tmp_path.glob("results/*/*/checkpoint_*"):
        assert manifest.damage(checkpoint) is None
    deadline = time.monotonic() + 60
    while _below(tmp_path):
        assert time.monotonic() < deadline, _below(tmp_path)
        time.sleep(0.2)
    assert in_shared_memory() <= shared
