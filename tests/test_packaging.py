"""What is installed: every module and every tuned example, from a wheel, from a source archive and from a checkout."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from rllib_stpn.cli.main import main
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import examples

ROOT = Path(__file__).parents[1]
EXAMPLES = {f"rllib_stpn/tuned_examples/{file.name}" for file in (ROOT / "tuned_examples").glob("*.yaml")}
MODULES = {
    str(file.relative_to(top))
    for top, package in ((ROOT, "rllib_stpn"), (ROOT / "envs", "stpn_envs"))
    for file in (top / package).rglob("*.py")
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The files that are built from, without a link among them."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("rllib_stpn", "envs", "tuned_examples"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    assert not [path for path in copy.rglob("*") if path.is_symlink()]
    return copy


def build(what: str, source: Path, out: Path) -> Path:
    """Builds a "wheel" or an "sdist" with the interpreter's own setuptools, as pip does without isolation."""
    program = f"from setuptools import build_meta; build_meta.build_{what}({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", program], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> Path:
    pytest.importorskip("setuptools", "77", reason="what builds the package")
    return build("wheel", checkout, tmp_path_factory.mktemp("wheel"))


def test_a_wheel_has_every_module_and_every_example(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.partition("/")[0].endswith(".dist-info")}
    assert EXAMPLES and names >= EXAMPLES
    assert {name for name in names if name.endswith(".py")} == MODULES


def test_a_wheel_has_the_pretrained_agents_and_marks_its_types(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {f"rllib_stpn/pretrained/{file.name}" for file in (ROOT / "rllib_stpn/pretrained").glob("*.safetensors")}
    assert files and names >= files | {"rllib_stpn/py.typed"}


def test_an_installed_wheel_finds_its_examples(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from rllib_stpn.cli.main import main\nmain(['example', 'list'])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = {f"rllib_stpn/tuned_examples/{line.split()[0]}.yaml" for line in done.stdout.splitlines()}
    assert listed == EXAMPLES


def test_a_source_archive_builds_the_same_wheel(checkout, wheel, tmp_path):
    (tmp_path / "sdist").mkdir()
    (tmp_path / "wheel").mkdir()
    archive = build("sdist", checkout, tmp_path / "sdist")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = build("wheel", source, tmp_path / "wheel")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


def test_a_checkout_finds_the_examples_beside_the_package():
    assert examples.directory() == ROOT / "tuned_examples"


def test_an_installation_without_examples_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(examples, "_PACKAGE", tmp_path / "rllib_stpn")
    assert main(["example", "list"]) == 2
    assert "this installation has no examples" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no examples"):
        examples.find("art_stpn")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
@pytest.mark.parametrize("index", ["", "https://example.org/cpu"])
def test_make_takes_the_cpu_build_of_torch_first(tmp_path, index):
    command = ["make", "-n", f"VENV={tmp_path}", f"TORCH_INDEX={index}", f"{tmp_path}/.ready-tools"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    subprocess.run(["sh", "-n"], input=told, text=True, check=True)  # commands that a shell can read
    installed = re.findall(r" -m pip install .*constraints.txt (.*?)(?: 2>.*)?$", told, re.MULTILINE)
    of_torch = [f"--index-url {index} --retries 0 --timeout 15 torch"] if index else []
    assert installed == [*of_torch, "-e .", "-e '.[dev]'"]


@pytest.mark.slow
def test_a_wheel_in_an_empty_environment_works_outside_of_the_repository(wheel, tmp_path):
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def run(*command):
        done = subprocess.run(command, cwd=elsewhere, env=env, capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    run(sys.executable, "-m", "venv", environment)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    run(programs / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    rllib = programs / "rllib"
    assert run(rllib, "--version").startswith("rllib-stpn ")
    assert "maze_stpn_ppo" in run(rllib, "example", "list")
    told = run(rllib, "evaluate", "--pretrained", "maze_stpn", "--episodes", "2", "--video", "maze.gif")
    assert "trained by  rllib train -f tuned_examples/maze_stpn_ppo.yaml" in told
    assert (elsewhere / "maze.gif").stat().st_size > 10_000
    program = "import rllib_stpn; print(rllib_stpn.__file__, rllib_stpn.load('retrieval_stpn'))"
    assert str(environment) in run(programs / "python", "-c", program)
    short = ["--stop", '{"training_iteration": 1}', "--config", '{"train_batch_size": 128, "minibatch_size": 64}']
    run(rllib, "train", "--run", "PPO", "--env", "CartPole-v1", *short, "--storage-path", "results")
    run(rllib, "report", "results", "--out", "report")
