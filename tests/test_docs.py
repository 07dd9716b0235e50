"""The pages under ``docs`` and the README: every command and every block of Python in them is run, in their order."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rllib_stpn.cli.main import _parser, main
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.searches import merge
from rllib_stpn.experiments.validation import check

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": ROOT / "README.md"} | {f"docs/{path.name}": path for path in sorted(ROOT.glob("docs/*.md"))}
#: Commands that are not run, by how they begin, and why.
NOT_RUN = {
    "pytest -m slow": "`make slow` runs these tests",
    "tensorboard": "it serves until it is stopped",
    "rllib train -f mine.yaml --track": "it wants accounts of other services",
}
#: What makes trainings and measurements short, in place of the settings they have; commands keep all others.
SHORT_STOP = {"training_iteration": 1}
SHORT = {
    "art_stpn": {"task_config": {"train_size": 1000, "validation_size": 100, "test_size": 100}},
    "lm_lstm": {"task_config": {"bptt": 5}},
    "maze_stpn": {"num_env_runners": 2, "num_envs_per_env_runner": 4, "train_batch_size": 1600},
    "pong_stpn": {"num_env_runners": 4, "rollout_fragment_length": 10, "train_batch_size": 40},
    "sweep_maze": {
        "num_envs_per_env_runner": 4,
        "train_batch_size": 800,
        "seed": 0,
        "model": {"grid_search": [{"custom_model": "rnn", "custom_model_config": {"hidden_size": 8}}]},
    },
    "CartPole-v1": {"train_batch_size": 160, "minibatch_size": 80},
    "echo_env:Echo-v0": {"train_batch_size": 128, "minibatch_size": 64, "num_env_runners": 0},
}
SHORT_SCRIPTS = {
    "benchmarks/env_speed.py": ["--envs", "2", "--seconds", "0.01", "stpn_envs:stpn/CueReward-v0"],
    "examples/sweep.py": ["1"],
}
#: Quick ones; `pytest -m slow` has the others.
FAST = ("docs/layers.md", "docs/environments.md", "docs/learning.md", "docs/results.md")
#: Pages whose commands need Ray to start where the reader stands, as it finds the reader's modules and texts there.
IN_PROCESSES_OF_THEIR_OWN = ("docs/your_environment.md", "docs/supervised.md")
#: What a reader has before.
FILES = {
    "mine.yaml": "mine: {run: PPO, env: CartPole-v1, config: {num_env_runners: 0, train_batch_size: 64, "
    "minibatch_size: 64, num_epochs: 1, "
    "model: {custom_model: stpn, custom_model_config: {hidden_size: 4}, max_seq_len: 8}}}",
    "mine.py": "from ray.rllib.algorithms.ppo import PPOConfig\n"
    "config = PPOConfig().environment('CartPole-v1').env_runners(num_env_runners=0)\n"
    "config.training(train_batch_size=64, minibatch_size=64, num_epochs=1)\n"
    "from rllib_stpn import recurrent_spec\n"
    "config.rl_module(rl_module_spec=recurrent_spec('stpn', hidden_size=4, max_seq_len=8))\n",
    **{f"ptb.{part}.txt": "the cat sat on the mat and\n" * 40 for part in ("train", "valid", "test")},
}
LINKS = {name: ROOT / name for name in ("tuned_examples", "examples", "benchmarks", "results")}
LINKS["ray_results/inverted_pendulum_stpnf"] = ROOT / "tests/report/data/inverted_pendulum_stpnf"
#: Variables of blocks that have some of these words in them.
GIVEN = {
    "layer(inputs": "import torch; inputs = torch.zeros(2, 3, 17); is_first = new = torch.zeros(2, 3) > 0",
    'load("~/ray_results/pong_stpn")': "import numpy, rllib_stpn; state, is_first = None, None\n"
    "observations = numpy.zeros((2, 84, 84, 1), numpy.uint8)",
    "load(checkpoint)  # data": "from rllib_stpn.agents.checkpoints import find_checkpoint\n"
    "checkpoint = find_checkpoint('~/ray_results/art_stpn')",
}
PROGRAMS = ("rllib", "make", "python", "pytest", "pip", "ray", "tensorboard")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Python, YAML and commands of a page: ``("python", code)``, ``("yaml", text)``, ``("command", line)``."""
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```$|\Z", text, re.MULTILINE | re.DOTALL):
        if language:
            yield language, code
        else:
            yield from (("command", command) for command in commands(code))
    for code in re.findall(r"^    (\S.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE):
        yield from (("command", command) for command in commands(code))


def commands(code: str) -> Iterator[str]:
    """Command lines, each with those that it goes on in; what else stands there is output or mathematics."""
    lines = iter(code.splitlines())
    for line in lines:
        if line.split(" ")[0] in PROGRAMS:
            while line.count("'") % 2 or line.endswith("\\"):
                line = line.removesuffix("\\") + "\n" + next(lines)
            yield line


def shortened(words: list[str]) -> list[str]:
    """A training's arguments, to end after an iteration of a smaller size, with one sample of each point of a grid."""
    if words[0] != "train" and words[:2] != ["example", "run"]:
        return words
    if "--resume" in words and "-f" not in words:  # it goes on with its own settings
        return [*words, "--stop", json.dumps(SHORT_STOP)]
    given = json.loads(words[words.index("--config") + 1]) if "--config" in words else {}
    sizes = [SHORT[Path(word).stem] for word in words if Path(word).stem in SHORT]
    sizes += [SHORT[word] for word in words if word in SHORT]
    config = merge(given, sizes[0]) if sizes else given
    return [*words, "--stop", json.dumps(SHORT_STOP), "--config", json.dumps(config), "--num-samples", "1"]


@pytest.fixture
def reader(tmp_path, monkeypatch, ray_session):
    """Runs a page's commands and code as a reader does who stands in a directory with the files that it speaks of."""
    import ray

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for name, target in LINKS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(target)
    cluster = ray.get_runtime_context().gcs_address
    variables: dict = {}

    def command(line: str, in_its_own_process: bool) -> None:
        words = [os.path.expanduser(word) for word in shlex.split(line, comments=True)]
        words = [word.replace("10.0.0.1:6379", cluster).replace("/shared/", f"{tmp_path}/shared/") for word in words]
        if words[0] == "make":
            makefile = (ROOT / "Makefile").read_text()
            assert words[1] in re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
            for name in (word.partition("=")[0] for word in words[2:]):
                assert re.search(rf"^{name} \?=", makefile, re.MULTILINE), name
        elif words[0] == "python":
            done = subprocess.run([sys.executable, *words[1:], *SHORT_SCRIPTS.get(words[1], ())], timeout=300)
            assert done.returncode == 0
        elif in_its_own_process:
            done = subprocess.run([sys.executable, "-m", "rllib_stpn.cli.main", *shortened(words[1:])], timeout=300)
            assert done.returncode == 0
        else:
            assert words[0] == "rllib"
            assert main(shortened(words[1:])) == 0

    def python(code: str) -> None:
        for words, given in GIVEN.items():
            if words in code:
                exec(given, variables)
        exec(compile(code, "page", "exec"), variables)

    def read(page: str) -> None:
        for kind, text in blocks(PAGES[page].read_text()):
            print(f"--- {kind}: {text}")
            own_file = re.match(r"# (\w+\.(?:py|yaml))\n", text)
            if own_file:
                (tmp_path / own_file[1]).write_text(text)
            elif kind == "python":
                python(text)
            elif kind == "command" and not text.startswith(tuple(NOT_RUN)):
                command(text, page in IN_PROCESSES_OF_THEIR_OWN)

    return read


#: tests/cli/test_your_layer.py runs it as it stands.
RUN_ELSEWHERE = ("docs/your_layer.md",)
RUN = [
    pytest.param(page, marks=() if page in FAST else pytest.mark.slow) for page in PAGES if page not in RUN_ELSEWHERE
]


@pytest.mark.parametrize("page", RUN)
def test_commands_and_code_of_the_page_run(reader, page):
    reader(page)


@pytest.mark.parametrize("page", PAGES)
def test_files_of_the_page_are_right(page, tmp_path):
    """Every experiment passes the checks of `rllib train`; other YAML is a part of one."""
    for kind, text in blocks(PAGES[page].read_text()):
        if kind == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
            (tmp_path / name[1]).write_text(text)  # found, as it stands beside the page's YAML
        elif kind == "yaml":
            tree = yaml.safe_load(text)
            if any("run" in block for block in tree.values()):
                (tmp_path / "page.yaml").write_text(text)
                for experiment in load(tmp_path / "page.yaml"):
                    assert check(experiment).notes == ()
            else:
                assert set(tree) <= {"model"}


def test_every_command_is_found_and_has_options_that_are_there():
    found = [text for page in PAGES.values() for kind, text in blocks(page.read_text()) if kind == "command"]
    assert len(found) >= 30
    assert all(any(text.startswith(start) for text in found) for start in NOT_RUN)
    for text in found:
        if text.startswith("rllib "):
            _parser().parse_args(shlex.split(text, comments=True)[1:])
    begun = {text.split("\n")[0] for text in found}
    assert begun >= {line for page in PAGES.values() for line in page.read_text().splitlines() if line[:6] == "rllib "}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", PAGES[page].read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, section = target.partition("#")
        file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert file.exists(), target
        if section:
            headings = re.findall(r"^#+ (.*)$", file.read_text().lower(), re.MULTILINE)
            assert section in [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings], target
    for name in re.findall(r"`((?:tuned_examples|examples|benchmarks|tests|results)/[\w./*]*)`", text):
        assert list(ROOT.glob(name)), name
