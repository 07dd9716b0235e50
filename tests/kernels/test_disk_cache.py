"""Compiled kernels on disk: never older than their sources, and kept wherever something can be written."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rllib_stpn
from rllib_stpn.kernels import disk_cache

PACKAGE = Path(rllib_stpn.__file__).parent
HELPER = """
from rllib_stpn.kernels.simd.compiling import compiled_part

@compiled_part
def changed(value):
    return value + 1
"""
KERNEL = """
from rllib_stpn.kernels.helper import changed
from rllib_stpn.kernels.simd.compiling import compiled

@compiled("fi")
def kernel(values, n):
    for i in range(n):
        values[i] = changed(values[i])
"""
PROGRAM = """
import numpy as np
from rllib_stpn.kernels import disk_cache
from rllib_stpn.kernels.kernel import kernel
values = np.zeros(3, np.float32)
kernel(values, 3)
print(values.sum(), sum(kernel.stats.cache_misses.values()), disk_cache.directory())
"""


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the package that a test may change, with a kernel that compiles in a moment."""
    own = tmp_path / "rllib_stpn"
    shutil.copytree(PACKAGE / "kernels", own / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for file in PACKAGE.glob("*.py"):
        shutil.copy(file, own)
    (own / "__init__.py").write_text("", encoding="utf-8")
    (own / "kernels/helper.py").write_text(HELPER, encoding="utf-8")
    (own / "kernels/kernel.py").write_text(KERNEL, encoding="utf-8")
    return own


def start(copy: Path, **environment: str) -> subprocess.Popen:
    """Runs the kernel in a process of its own."""
    names = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "PYTHONWARNINGS")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=kept | {"PYTHONPATH": str(copy.parent)} | environment,
        cwd=copy.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen) -> tuple[float, int, str, str]:
    """The sum of what the kernel wrote, how often it was compiled, where it is kept, and what was said."""
    out, told = process.communicate()
    assert process.returncode == 0, told
    total, compiled, place = out.split(maxsplit=2)
    return float(total), int(compiled), place.strip(), told


def run(copy: Path, **environment: str) -> tuple[float, int, str, str]:
    return end(start(copy, **environment))


def kept(directory: Path | str) -> dict[Path, int]:
    """When each compiled function under a directory was written."""
    return {file: file.stat().st_mtime_ns for file in Path(directory).rglob("*.nbc")}


def test_a_change_in_a_helper_reaches_the_kernels_that_call_it(copy):
    total, compiled, place, told = run(copy)
    assert (total, compiled, told) == (3, 1, "") and Path(place).is_relative_to(copy)
    assert run(copy) == (3, 0, place, "")  # taken from the disk

    untouched = (copy / "kernels/kernel.py").stat().st_mtime_ns
    (copy / "kernels/helper.py").write_text(HELPER.replace("value + 1", "value + 2"), encoding="utf-8")
    total, compiled, other, _ = run(copy)
    assert (total, compiled) == (6, 1) and other != place
    assert (copy / "kernels/kernel.py").stat().st_mtime_ns == untouched


def test_sources_in_packages_below_count_and_so_does_where_they_are(copy, monkeypatch):
    monkeypatch.setattr(disk_cache, "_SOURCES", copy / "kernels")
    versions = [disk_cache.version()]
    inner = copy / "kernels/inner/deep"
    inner.mkdir(parents=True)
    for text in ("x = 1", "x = 2"):
        (inner / "helpers.py").write_text(text, encoding="utf-8")
        versions.append(disk_cache.version())
    inner.rename(copy / "kernels/inner/moved")
    versions.append(disk_cache.version())
    assert len(set(versions)) == 4


def test_files_that_were_cut_short_are_written_anew(copy):
    _, _, place, _ = run(copy)
    for file in kept(place):
        file.write_bytes(file.read_bytes()[:100])
    total, _, _, told = run(copy)
    assert total == 3 and "compiled anew" in told
    assert run(copy)[3] == "" and all(file.stat().st_size > 100 for file in kept(place))


def test_processes_that_start_together_compile_once(copy):
    together = [start(copy) for _ in range(3)]
    assert sorted(end(process)[1] for process in together) == [0, 0, 1]


def test_a_lock_that_is_not_given_back_holds_nobody_up_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "_PATIENCE", 0.1)
    with disk_cache.alone(tmp_path, "kernel"), disk_cache.alone(tmp_path, "kernel"):
        pass


def test_where_nothing_can_be_locked_it_goes_on(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with disk_cache.alone(tmp_path / "file", "kernel"):
        pass


def test_where_neither_the_package_nor_home_can_be_written_it_is_a_temporary_directory_said_once(copy, tmp_path):
    # A file where a directory has to be: not even root can write below it.
    (copy / "kernels/__pycache__").write_text("", encoding="utf-8")
    (tmp_path / "tmp").mkdir()
    environment = {"HOME": os.devnull, "TMPDIR": str(tmp_path / "tmp")}
    total, compiled, place, told = run(copy, **environment)
    assert (total, compiled) == (3, 1) and Path(place).is_relative_to(tmp_path / "tmp")
    assert told.count("compiled kernels can be kept neither in") == 1 and place.rpartition("/")[0] in told
    assert run(copy, **environment) == (3, 0, place, "")  # another process shares it


@pytest.fixture
def directory():
    """The function, without what it found before for this process, nor afterwards what it found for the test."""
    disk_cache.directory.cache_clear()
    yield disk_cache.directory
    disk_cache.directory.cache_clear()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Nothing but the temporary directory can be written to."""
    monkeypatch.setattr(disk_cache.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.devnull)
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    return tmp_path


def test_the_temporary_directory_is_the_users_own(directory, temporary):
    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR names another"):
        place = directory().parent
    assert place.parent == temporary and place.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("fault", ["a file", "a link", "others can write"])
def test_a_temporary_directory_that_others_could_fill_is_not_used(directory, temporary, tmp_path_factory, fault):
    place = temporary / f"rllib-stpn-{os.getuid()}"
    if fault == "a file":
        place.write_text("", encoding="utf-8")
    elif fault == "a link":
        place.symlink_to(tmp_path_factory.mktemp("elsewhere"))
    else:
        place.mkdir()
        place.chmod(0o777)
    with pytest.warns(UserWarning, match="every process compiles them anew"):
        assert directory() is None


def test_what_numba_is_told_to_use_comes_first_and_what_is_long_unused_goes(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    for name, days in (("compiled-old", 31), ("compiled-recent", 29), ("another", 31)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kernel.nbc").write_text("", encoding="utf-8")
        os.utime(tmp_path / name, (0, time.time() - days * 24 * 3600))
    own = directory()
    assert own.parent == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {"another", "compiled-recent", own.name}


def test_numbas_setting_is_as_before_after_a_compilation(tmp_path):
    from numba import config

    before = config.CACHE_DIR
    with disk_cache.used_by_numba(tmp_path):
        assert str(tmp_path) == config.CACHE_DIR
    assert before == config.CACHE_DIR
