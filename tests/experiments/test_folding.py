"""Fitting settings to a machine. No Ray."""

from types import SimpleNamespace

import pytest

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.folding import fold
from rllib_stpn.experiments.resources import Cluster

DEFAULTS = SimpleNamespace(
    num_env_runners=2,
    num_envs_per_env_runner=1,
    num_cpus_per_env_runner=1,
    evaluation_interval=None,
    evaluation_num_env_runners=0,
    num_learners=0,
    num_gpus_per_learner=0,
    num_cpus_per_learner="auto",
    num_cpus_for_main_process=1,
)
CLUSTER = {"num_env_runners": 64, "rollout_fragment_length": 50, "train_batch_size": 3200}


def test_what_does_not_fit_becomes_environments_of_the_trial_which_gets_all_cpus():
    folded, notes = fold(CLUSTER, DEFAULTS, Cluster([2]))
    assert folded == {
        "num_env_runners": 0,
        "num_envs_per_env_runner": 64,
        "_folded_env_runners": 64,
        "rollout_fragment_length": 50,
        "train_batch_size": 3200,
        "num_cpus_for_main_process": 2,
    }
    assert len(notes) == 1
    assert "64 env runners x 1 -> 64 environments" in notes[0]
    assert CLUSTER["num_env_runners"] == 64


def test_runners_times_environments():
    folded, _ = fold({"num_env_runners": 3, "num_envs_per_env_runner": 5}, DEFAULTS, Cluster([2]))
    assert folded["num_envs_per_env_runner"] == 15


def test_how_much_one_result_takes_of_an_algorithm_without_rounds():
    asynchronous = SimpleNamespace(**vars(DEFAULTS), broadcast_interval=1, rollout_fragment_length=50)
    given = {"num_env_runners": 16, "num_envs_per_env_runner": 32, "rollout_fragment_length": 512}
    assert "a result takes 262,144 steps at least" in fold(given, asynchronous, Cluster([2]))[1][0]
    assert "a result takes 3,200 steps at least" in fold({"num_env_runners": 64}, asynchronous, Cluster([2]))[1][0]
    assert "same batch" in fold(given, DEFAULTS, Cluster([2]))[1][0]


@pytest.mark.parametrize("alone", [True, False])
def test_a_cpu_is_left_for_reading_recorded_data(alone):
    for given in ("/data", ["/data/a"], {"grid_search": ["/data/a", "/data/b"]}):
        folded, _ = fold({"input_": given, "num_env_runners": 0}, DEFAULTS, Cluster([4]), alone=alone)
        assert folded["num_cpus_for_main_process"] == 3
    folded, _ = fold({"input_": "sampler", "num_env_runners": 0}, DEFAULTS, Cluster([4]))
    assert folded["num_cpus_for_main_process"] == 4
    with pytest.raises(UsageError, match="got one CPU, and reading recorded data takes one beside the trial's"):
        fold({"input_": "/data", "num_env_runners": 0}, DEFAULTS, Cluster([1]))


def test_what_fits_stays_and_the_trial_gets_the_rest():
    folded, notes = fold({"num_env_runners": 3}, DEFAULTS, Cluster([8]))
    assert folded == {"num_env_runners": 3, "num_cpus_for_main_process": 5}
    assert notes == []


def test_the_rest_is_not_given_to_one_of_several_trials():
    folded, _ = fold({"num_env_runners": 3}, DEFAULTS, Cluster([8]), alone=False)
    assert folded == {"num_env_runners": 3}


def test_cpus_that_the_user_gave_the_main_process_stay():
    folded, _ = fold({"num_env_runners": 1, "num_cpus_for_main_process": 2}, DEFAULTS, Cluster([8]))
    assert folded["num_cpus_for_main_process"] == 2


def test_the_algorithms_default_runners_are_folded_too():
    folded, notes = fold({}, DEFAULTS, Cluster([2]))
    assert (folded["num_env_runners"], folded["num_envs_per_env_runner"]) == (0, 2)
    assert notes


def test_a_main_process_larger_than_the_machine_shrinks():
    folded, _ = fold({"num_env_runners": 0, "num_cpus_for_main_process": 16}, DEFAULTS, Cluster([4]))
    assert folded["num_cpus_for_main_process"] == 4


def test_strict_refuses():
    with pytest.raises(UsageError, match="65 CPUs, there are 2"):
        fold(CLUSTER, DEFAULTS, Cluster([2]), strict=True)
    assert fold({"num_env_runners": 1}, DEFAULTS, Cluster([2]), strict=True) == ({"num_env_runners": 1}, [])


def test_env_runners_spread_over_the_machines_of_a_cluster():
    assert fold(CLUSTER, DEFAULTS, Cluster([32] * 4), alone=False) == (CLUSTER, [])
    assert fold(CLUSTER, DEFAULTS, Cluster([32] * 4), strict=True) == (CLUSTER, [])
    folded, (note,) = fold(CLUSTER, DEFAULTS, Cluster([16, 16]))
    assert (folded["num_env_runners"], folded["num_cpus_for_main_process"]) == (0, 16)  # one process, one machine
    assert "65 CPUs asked for, there are 32, at most 16 on one machine" in note


def test_a_sweep_over_environments_is_folded_point_by_point():
    asked = {"num_env_runners": 8, "num_envs_per_env_runner": {"grid_search": [1, 2]}}
    folded, notes = fold(asked, DEFAULTS, Cluster([4]))
    assert folded["num_envs_per_env_runner"] == {"grid_search": [8, 16]}
    assert "8 or 16 environments" in notes[0]


def test_a_sweep_over_runners_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="num_env_runners: got a search up to 8"):
        fold({"num_env_runners": {"grid_search": [1, 8]}}, DEFAULTS, Cluster([4]))
    fits = {"num_env_runners": {"grid_search": [1, 2]}}
    assert fold(fits, DEFAULTS, Cluster([4]), alone=False) == (fits, [])


def test_evaluation_keeps_its_environments_and_is_folded_if_it_must():
    asked = {"num_env_runners": 8, "evaluation_interval": 5, "evaluation_num_env_runners": 1}
    folded, _ = fold(asked, DEFAULTS, Cluster([4]))
    assert folded["evaluation_config"] == {"num_envs_per_env_runner": 1}
    assert folded["evaluation_num_env_runners"] == 1
    assert folded["num_cpus_for_main_process"] == 3
    folded, notes = fold(asked, DEFAULTS, Cluster([1]))
    assert folded["evaluation_num_env_runners"] == 0
    assert len(notes) == 2


def test_learners_are_folded_with_their_batches():
    folded, notes = fold(
        {"num_env_runners": 0, "num_learners": 4, "train_batch_size_per_learner": 100, "minibatch_size": 10},
        DEFAULTS,
        Cluster([2]),
    )
    assert folded["num_learners"] == 0
    assert (folded["train_batch_size_per_learner"], folded["minibatch_size"]) == (400, 40)
    assert "num_learners 4 -> 0" in notes[0]


def test_gpus_that_are_not_there_are_not_asked_for():
    folded, notes = fold({"num_env_runners": 0, "num_gpus_per_learner": 1}, DEFAULTS, Cluster([2]))
    assert folded["num_gpus_per_learner"] == 0
    assert notes[0] == "num_gpus_per_learner 1 -> 0: 1 asked for, there are 0"


@pytest.mark.parametrize(
    ("learners", "gpus", "fits"),
    [(0, 2, False), (2, 1, True), (3, 1, False), (1, 1, True), (4, 0.5, True), (3, 0.6, False), (2, 0.6, True)],
)
def test_gpus_of_a_learner_are_on_one_machine(learners, gpus, fits):
    asked = {"num_env_runners": 0, "num_learners": learners, "num_gpus_per_learner": gpus}
    folded, notes = fold(asked, DEFAULTS, Cluster([4, 4], [1, 1]), alone=False)
    assert folded["num_gpus_per_learner"] == (gpus if fits else 0)
    assert len(notes) == (not fits)
    if not fits:
        assert notes[0].endswith("there are 2, at most 1 on one machine")
        with pytest.raises(UsageError, match="asks for .* GPUs, there are 2, at most 1 on one machine"):
            fold(asked, DEFAULTS, Cluster([4, 4], [1, 1]), strict=True)


def test_a_learner_in_the_trials_own_process_has_its_gpu_on_the_machine_of_its_cpus():
    asked = {"num_env_runners": 100, "num_gpus_per_learner": 1}
    folded, _ = fold(asked, DEFAULTS, Cluster([64, 8], [0, 1]))
    assert (folded["num_env_runners"], folded["num_cpus_for_main_process"]) == (0, 8)
    assert folded["num_gpus_per_learner"] == 1
    with pytest.raises(UsageError, match="asks for 9 CPUs"):
        fold({"num_env_runners": 0, "num_cpus_for_main_process": 9} | {"num_gpus_per_learner": 1}, DEFAULTS,
             Cluster([64, 8], [0, 1]), strict=True)  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_env_runners": 0, "num_cpus_for_main_process": 4}, {"num_env_runners": 0}),
        ({"num_env_runners": 1, "num_cpus_per_env_runner": 3}, {"num_env_runners": 0}),
        ({"num_env_runners": 0, "num_learners": 1, "num_cpus_per_learner": 3}, {"num_learners": 0}),
        ({"num_env_runners": 2, "num_cpus_for_main_process": 4}, {"num_env_runners": 2}),
    ],
)
def test_no_process_is_larger_than_a_machine_of_the_cluster(settings, expected):
    folded, _ = fold(settings, DEFAULTS, Cluster([2, 2]), alone=False)
    assert {key: folded[key] for key in expected} == expected and folded["num_cpus_for_main_process"] <= 2
    with pytest.raises(UsageError, match="there are 8, at most 2 on one machine"):
        fold(settings, DEFAULTS, Cluster([2] * 4), strict=True)


def test_parts_of_gpus_are_folded_where_there_are_none_and_kept_where_there_is_room():
    settings = {"num_env_runners": 2, "num_gpus_per_env_runner": 0.25, "num_gpus_per_learner": 0.5}
    folded, notes = fold(settings, DEFAULTS, Cluster([4]))
    assert (folded["num_gpus_per_env_runner"], folded["num_gpus_per_learner"]) == (0, 0)
    assert "num_gpus_per_env_runner 0.25 -> 0: 1 asked for, there are 0" in notes
    assert fold(settings, DEFAULTS, Cluster([4], [1]), alone=False) == (settings, [])
    folded, notes = fold({"num_gpus": 0.3, "num_env_runners": 0}, DEFAULTS, Cluster([4]))
    assert folded["num_gpus"] == 0 and notes == ["num_gpus 0.3 -> 0: 0.3 asked for, there are 0"]
    with pytest.raises(UsageError, match="a trial asks for 1 GPUs, there are 0"):
        fold(settings, DEFAULTS, Cluster([4]), strict=True)
