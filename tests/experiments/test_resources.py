"""What trials ask for, against what the machines have."""

import pytest

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.resources import Cluster, in_words, refuse_what_never_comes


@pytest.mark.parametrize(
    ("settings", "cluster", "told"),
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
def test_what_the_only_machine_lacks_is_refused(settings, cluster, told):
    experiment = Experiment("a.yaml: a", "a", "PPO", {"env": "CartPole-v1", "num_env_runners": 2, **settings})
    with pytest.raises(UsageError, match=f"^a.yaml: a: a trial {told}"):
        refuse_what_never_comes(experiment, cluster)


@pytest.mark.parametrize("run", ["PPO", "Supervised"])
def test_what_it_has_is_not(run):
    config = {"task": "associative_retrieval"} if run == "Supervised" else {"env": "CartPole-v1", "num_env_runners": 7}
    refuse_what_never_comes(Experiment("a", "a", run, config), Cluster([8]))


def test_resources_in_words():
    assert in_words({"CPU": 1, "GPU": 0.5, "seat": 2}) == "1 CPU, 0.5 GPUs, 2 seat"
