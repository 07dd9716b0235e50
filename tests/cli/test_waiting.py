"""Trials that ask for what is not there."""

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
    group = placement_group(asked)
    lines = 0
    try:
        for _ in range(10_000):
            waiting.on_step_begin(0, [trial])
            lines += capsys.readouterr().out.count(
                "a trial asks for 2 CPUs, 1 seat; Ray has 4 CPUs (4 free), 0 seat (0 free)"
            )
            if lines == 2:
                break
        assert lines == 2
        assert waiting._next - waiting._since > 2 * 0.01
        trial.status = "RUNNING"
        waiting.on_step_begin(0, [trial])
        assert waiting._since is None
    finally:
        remove_placement_group(group)
