"""The last lines of a run."""

import pytest

from rllib_stpn.cli import outcome
from rllib_stpn.cli.progress import REINFORCEMENT, supervised
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.trial_result import TrialResult

SEARCH = {"env": "CartPole-v1", "lr": {"grid_search": [0.1, 0.2]}}


def experiment(**fields):
    given = {"where": "x", "name": "run", "algorithm": "PPO", "config": {"env": "CartPole-v1"}, "storage_path": "/out"}
    return Experiment(**(given | fields))


def ended(number, value, lr=0.1, seed=0, iterations=2, error=None):
    metrics = {
        "training_iteration": iterations,
        "num_env_steps_sampled_lifetime": 1000 * number,
        "time_total_s": 61,
        "env_runners": {"episode_return_mean": value},
    }
    settings = {"env": "CartPole-v1", "lr": lr, "seed": seed}
    checkpoint = f"/out/run/trial {number}/checkpoint_000000"
    stopped = None if error else "training_iteration 2 reached 2"
    return TrialResult(settings, metrics, f"/out/run/trial {number}", checkpoint, stopped, error, checkpoint)


@pytest.mark.parametrize(("iterations", "told"), [(1, "1 iteration, 1,000 env steps"), (2, "2 iterations, 1,000 env")])
def test_a_single_run_tells_its_return(capsys, iterations, told):
    outcome.tell(experiment(), [ended(1, 12.345, iterations=iterations)], REINFORCEMENT)
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith(f"PPO on CartPole-v1: {told}")
    assert ", return 12.35, 1:01; stopped: training_iteration 2 reached 2" in line


def test_supervised_training_tells_the_test_result(capsys):
    result = TrialResult({"task": "t"}, {"test_accuracy": 0.5}, "/out", "/c", "SIGINT", None)
    outcome.tell(experiment(algorithm="Supervised", config={"task": "t"}), [result], supervised("accuracy"))
    assert ", test accuracy 0.5000, " in capsys.readouterr().out


def test_the_best_kept_checkpoint_is_told_beside_the_last(capsys):
    best = TrialResult({"env": "x"}, {}, "/out", "/last", "SIGINT", None, best_checkpoint="/best", best_score=7.0)
    scored = experiment(checkpoint={"checkpoint_score_attribute": "evaluation/env_runners/episode_return_mean"})
    outcome.tell(scored, [best], REINFORCEMENT)
    out = capsys.readouterr().out
    assert "checkpoint  /last\nbest        /best (evaluation episode return 7)\n" in out
    assert "evaluate    rllib evaluate /best --episodes 20" in out


def test_a_sweep_ends_with_a_table_the_best_checkpoint_and_the_next_commands(capsys):
    sweep = experiment(config=SEARCH | {"seed": {"grid_search": [0, 1]}})
    values = {(0.1, 0): 10.0, (0.1, 1): 20.0, (0.2, 0): 30.0, (0.2, 1): 50.0}
    results = [ended(number, value, *of) for number, (of, value) in enumerate(values.items(), 1)]
    outcome.tell(sweep, results, REINFORCEMENT)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[1] == "PPO on CartPole-v1: 4 trials, by return, the highest first"
    assert lines[2].split() == ["rank", "lr", "seeds", "return", "env", "steps", "trials"]
    assert lines[3].split() == ["1", "0.2", "2", "40", "(30", "to", "50)", "3,500", "3,", "4"]
    assert lines[4].split()[:3] == ["2", "0.1", "2"]
    assert "best        lr 0.2, seed 1: return 50\n" in out
    assert "evaluate    rllib evaluate '/out/run/trial 4/checkpoint_000000' --episodes 20\n" in out
    assert "report      rllib report /out/run --out report\n" in out


@pytest.mark.parametrize(("seeds", "counted"), [((0, 0, 1), "2"), ((None, None, 0), "3")])
def test_trials_of_one_seed_count_as_one_seed(seeds, counted, capsys):
    results = [ended(number, 10.0, seed=seed) for number, seed in enumerate(seeds, 1)]
    outcome.tell(experiment(num_samples=3), results, REINFORCEMENT)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["rank", "seeds", "return", "env", "steps", "trials"]
    assert lines[3].split()[:2] == ["1", counted]


def test_a_failed_trial_of_a_sweep_is_in_the_table_and_named(capsys):
    outcome.tell(experiment(config=SEARCH), [ended(1, 3.0), ended(2, None, 0.2, error="it broke")], REINFORCEMENT)
    out = capsys.readouterr().out
    assert "2  0.2  - (1 failed)" in out
    assert "PPO on CartPole-v1: failed\nresults     /out/run/trial 2\n" in out
    assert "checkpoint  /out/run/trial 1/checkpoint_000000" in out


def test_long_values_are_cut(capsys):
    hidden = {"env": "CartPole-v1", "note": {"grid_search": ["x" * 80, "y"]}}
    results = [TrialResult({"note": note}, {}, "/out", None, "SIGINT", None) for note in hidden["note"]["grid_search"]]
    outcome.tell(experiment(config=hidden), results, REINFORCEMENT)
    assert "x" * 27 + "..." in capsys.readouterr().out


def test_a_cluster_storage_gets_no_commands_that_read_local_files(capsys):
    remote = TrialResult({}, {}, "s3://b/run/t", "s3://b/run/t/c", "SIGINT", None, best_checkpoint="s3://b/run/t/c")
    outcome.tell(experiment(storage_path="s3://b"), [remote], REINFORCEMENT)
    out = capsys.readouterr().out
    assert "rllib evaluate" not in out
    assert "rllib report" not in out
