"""What is installed: every module and every tuned example, from a wheel, from a source archive and from a checkout."""

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
