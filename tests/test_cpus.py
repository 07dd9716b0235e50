"""CPUs that a process may use: by affinity, and by the quotas of its cgroups."""

import os

import pytest

from rllib_stpn import cpus
from rllib_stpn.cli.ray_session import Machine
from rllib_stpn.kernels import num_threads

V1 = "30 20 0:1 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "31 20 0:2 {top} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
V2 = "32 20 0:3 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"


def tree(root, mounts: list[str], groups: list[str], quotas: dict[str, str]):
    """A file system of this process's cgroups; quotas are by directory, "max 100000" or "200000 100000"."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(groups) + "\n", encoding="utf-8")
    begin = "22 1 8:1 / / rw - ext4 /dev/sda1 rw"
    (root / "proc/self/mountinfo").write_text("\n".join([begin, *mounts]) + "\n", encoding="utf-8")
    for directory, text in quotas.items():
        path = root / "sys/fs/cgroup" / directory
        path.mkdir(parents=True, exist_ok=True)
        if "cpuacct" in directory:
            for name, value in zip(("cpu.cfs_quota_us", "cpu.cfs_period_us"), text.split(), strict=True):
                (path / name).write_text(value + "\n", encoding="utf-8")
        else:
            (path / "cpu.max").write_text(text + "\n", encoding="utf-8")
    return root


CASES = {
    "v2": ([V2], ["0::/"], {"": "250000 100000"}, 2.5),
    "v2 without a limit": ([V2], ["0::/"], {"": "max 100000"}, None),
    "v2 nested, the smallest is above": (
        [V2],
        ["0::/pod/box/part"],
        {"pod": "100000 50000", "pod/box": "max 100000", "pod/box/part": "300000 100000"},
        2,
    ),
    "v2 nested, the smallest is the process's own": (
        [V2],
        ["0::/a/b"],
        {"a": "800000 100000", "a/b": "5000 10000"},
        0.5,
    ),
    "v1": ([V1_MEMORY, V1], ["4:memory:/x", "3:cpu,cpuacct:/"], {"cpu,cpuacct": "400000 100000"}, 4),
    "v1 without a limit": ([V1], ["3:cpu,cpuacct:/"], {"cpu,cpuacct": "-1 100000"}, None),
    "v1 nested": (
        [V1],
        ["3:cpu,cpuacct:/docker/box"],
        {"cpu,cpuacct": "-1 100000", "cpu,cpuacct/docker": "300000 100000", "cpu,cpuacct/docker/box": "-1 100000"},
        3,
    ),
    "v1 in a container, where the mount is its own part of the host's": (
        [V1.replace("{top}", "/docker/box")],
        ["3:cpu,cpuacct:/docker/box/job"],
        {"cpu,cpuacct": "300000 100000", "cpu,cpuacct/job": "150000 100000"},
        1.5,
    ),
    "in a container that shows the path outside of it": (
        [V2.replace("{top}", "/../..")],
        ["0::/../../other"],
        {"": "200000 100000"},
        2,
    ),
    "both versions": (
        [V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"), V1],
        ["3:cpu,cpuacct:/", "0::/"],
        {"cpu,cpuacct": "600000 100000", "unified": "500000 100000"},
        5,
    ),
    "a controller that is mounted by another's name": ([V1_MEMORY], ["3:cpu,cpuacct:/"], {"memory": "1 1"}, None),
    "not as Linux writes it": (["nonsense"], ["nonsense"], {}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_smallest_quota_up_the_tree_counts(tmp_path, case):
    mounts, groups, quotas, expected = CASES[case]
    root = tree(tmp_path, [mount.replace("{top}", "/") for mount in mounts], groups, quotas)
    assert cpus.cpu_quota(root) == expected


def test_without_proc_there_is_no_quota(tmp_path):
    assert cpus.cpu_quota(tmp_path) is None


@pytest.fixture
def quota(tmp_path, monkeypatch):
    """Sets the quota of this process, by a file system of its own."""
    read = cpus.cpu_quota

    def quota(text: str) -> None:
        root = tree(tmp_path, [V2.replace("{top}", "/")], ["0::/"], {"": text})
        monkeypatch.setattr(cpus, "cpu_quota", lambda: read(root))
        cpus.allowed_by_quota.cache_clear()

    yield quota
    monkeypatch.undo()
    cpus.allowed_by_quota.cache_clear()


@pytest.mark.parametrize("text", ["100000 100000", "190000 100000", "1000 100000"])
def test_ray_and_the_kernels_take_the_whole_cpus_of_the_quota_and_at_least_one(quota, text):
    quota(text)
    assert (cpus.available_cpus(), Machine().cpus_before_start(), num_threads()) == (1, 1, 1)


def test_a_quota_above_the_machine_changes_nothing(quota):
    before = cpus.available_cpus(), num_threads()
    quota("100000000 100000")
    assert (cpus.available_cpus(), num_threads()) == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds processes")
def test_a_process_bound_to_one_cpu_has_one():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert Machine().cpus_before_start() == 1
    finally:
        os.sched_setaffinity(0, before)
