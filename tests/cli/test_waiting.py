"""Trials that ask for what is not there."""

from types import SimpleNamespace

import pytest
from ray.tune import PlacementGroupFactory
from ray.util import placement_group, remove_placement_group

from rllib_stpn.cli.waiting import Waiting
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.resources import Cluster, in_words, refuse_what_never_comes


@pytest.mark.parametrize(
    ("settings", "room", "told"),
    [
        ({"num_gpus_per_env_runner": 1}, Cluster([8]), r"asks for 2 GPUs \(num_gpus_per_env_runner 1\), there are 0"),
        (
            {"num_gpus_per_env_runner": {"grid_search": [0, 0.75]}},
            Cluster([8], [1]),
            r"asks for 1.5 GPUs .*there are 1;",
        ),
        (
            {"custom_resources_per_env_runner": {"seat": 0.5}},
            Cluster([8]),
            r"asks for 1 seat \(custom_resources_per_env",
        ),
        ({"num_cpus_per_env_runner": 4}, Cluster([8]), r"asks for 9 CPUs \(num_cpus_per_env_runner 4\), there are 8"),
    ],
)
def test_what_the_only_machine_lacks_is_refused(settings, room, told):
    experiment = Experiment("a.yaml: a", "a", "PPO", {"env": "CartPole-v1", "num_env_runners": 2, **settings})
    with pytest.raises(UsageError, match=f"^a.yaml: a: a trial {told}"):
        refuse_what_never_comes(experiment, room)


@pytest.mark.parametrize("run", ["PPO", "Supervised"])
def test_what_it_has_is_not(run):
    config = {"task": "associative_retrieval"} if run == "Supervised" else {"env": "CartPole-v1", "num_env_runners": 7}
    refuse_what_never_comes(Experiment("a", "a", run, config), Cluster([8]))


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


def test_resources_in_words():
    assert in_words({"CPU": 1, "GPU": 0.5, "seat": 2}) == "1 CPU, 0.5 GPUs, 2 seat"
