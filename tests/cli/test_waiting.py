"""Trials that ask for what is not there."""

import re
import time
from types import SimpleNamespace

from ray.tune import PlacementGroupFactory
from ray.util import placement_group, remove_placement_group

from rllib_stpn.cli.waiting import Waiting


def test_a_trial_that_cannot_be_placed_says_what_it_waits_for_in_growing_intervals(ray_session, capsys):
    asked = [{"CPU": 1.0}, {"CPU": 1.0, "seat": 1.0}]
    trial = SimpleNamespace(
        status="PENDING", PENDING="PENDING", RUNNING="RUNNING", placement_group_factory=PlacementGroupFactory(asked)
    )
    waiting = Waiting(first=0.01)
    started = time.monotonic()
    group = placement_group(asked)
    # How many are free depends on what an earlier test's actors have given back by now.
    line = re.compile(r"a trial asks for 2 CPUs, 1 seat; Ray has 4 CPUs \([\d.]+ free\), 0 seat \(0 free\)")
    lines = 0
    try:
        while lines < 2 and time.monotonic() - started < 60:  # Ray takes its time to note that nothing fits.
            waiting.on_step_begin(0, [trial])
            lines += len(line.findall(capsys.readouterr().out))
            time.sleep(0.001)
        assert lines == 2
        assert waiting._next - waiting._since > 2 * 0.01
        trial.status = "RUNNING"
        waiting.on_step_begin(0, [trial])
        assert waiting._since is None
    finally:
        remove_placement_group(group)
