"""docs/your_layer.md, as it is printed: its files, its commands and its code, in the order of the page."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rllib_stpn.layers import LayerError, check_layer
from tests.test_docs import PAGES, blocks

BLOCKS = list(blocks(PAGES["docs/your_layer.md"].read_text()))
FILES = {name[1]: text for _, text in BLOCKS if (name := re.match(r"# (\w+\.\w+)\n", text))}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """The page's modules."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_layers", "my_rules"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_layer_is_short_and_right(modules):
    import my_layers
    import my_rules

    assert len(FILES["my_layers.py"].splitlines()) <= 40
    check_layer(my_layers.Leaky(5, 4))
    check_layer(my_rules.CovarianceRule(5, 4))


def test_the_fault_is_told_as_the_page_prints_it(modules):
    import my_layers

    class Leaky(my_layers.Leaky):
        def step(self, *args):
            output, state, energy = super().step(*args)
            return output, {"v": state["v"].detach()}, energy

    (printed,) = re.findall(r"^    (Leaky: .*)$", PAGES["docs/your_layer.md"].read_text(), re.MULTILINE)
    with pytest.raises(LayerError) as raised:
        check_layer(Leaky(5, 4))
    number = r"-?\d[\d.e-]*"
    assert re.sub(number, "#", str(raised.value)) == re.sub(number, "#", printed)


@pytest.mark.slow
def test_the_page_runs_as_it_is_printed(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    environment |= {"HOME": str(tmp_path), "RAY_worker_niceness": "0"}
    printed = []
    for kind, text in BLOCKS:
        name = re.match(r"# (\w+\.\w+)\n", text)
        if name:
            (tmp_path / name[1]).write_text(text)
        if kind == "command":
            words = [sys.executable, "-m", "rllib_stpn.cli.main", *shlex.split(text)[1:]]
            words = [re.sub("^~", str(tmp_path), word) for word in words]
        elif kind == "python":
            script = tmp_path / (name[1] if name else "block.py")
            script.write_text(text)
            words = [sys.executable, script.name]
        else:
            continue
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        print(text, done.stdout, done.stderr, sep="\n")
        assert done.returncode == 0
        printed.append(done.stdout)
    assert "folded" not in "".join(printed)
    assert re.search(r"energy +\d.* per step", "".join(printed))
    (results,) = Path(tmp_path, "ray_results/leaky").glob("*/result.json")
    last = json.loads(results.read_text().splitlines()[-1])
    assert last["fault_tolerance"]["num_healthy_workers"] == 2
    assert last["env_runners"]["energy"]["layers"]["Leaky"] > 0
    assert "| my_layers.Leaky | leaky |" in (tmp_path / "report/report.md").read_text()
