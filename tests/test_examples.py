"""The scripts in ``examples``, run as a user runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parents[1] / "examples"
SCRIPTS = [
    pytest.param(script, marks=pytest.mark.slow if script.stem == "old_stack" else ())
    for script in sorted(set(DIRECTORY.glob("*.py")) - {DIRECTORY / "sweep.py", DIRECTORY / "serve.py"})
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_trains_and_prints_returns(script, tmp_path):
    run = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    printed = re.findall(r"^ *(\d+) steps: return (\d+\.\d)$", run.stdout, re.M)
    steps = [int(count) for count, _ in printed]
    assert len(steps) >= 3
    assert steps == sorted(set(steps))
    assert all(float(mean) > 0 for _, mean in printed)


@pytest.mark.slow
def test_the_sweep_prints_a_return_for_each_layer(tmp_path):
    script = [sys.executable, DIRECTORY / "sweep.py", "1"]
    env = {**os.environ, "HOME": str(tmp_path)}
    run = subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    assert re.findall(r"^(\w+): return \d+\.\d$", run.stdout, re.M) == ["stpn", "lstm", "mlp"]


@pytest.mark.slow
def test_the_served_agent_keeps_a_state_for_each_session(tmp_path):
    pytest.importorskip("starlette", reason="Ray Serve's own dependencies")
    script = [sys.executable, DIRECTORY / "serve.py"]
    run = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    first, second = re.search(r"^returns (\d+) and (\d+)$", run.stdout, re.M).groups()
    assert int(first) + int(second) > 20
