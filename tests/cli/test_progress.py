"""The lines on the terminal."""

import time
from types import SimpleNamespace

import pytest

from rllib_stpn.cli.progress import Progress, duration


def result(iteration, steps, seconds, returns=None, **more):
    env_runners = {"num_episodes_lifetime": 3}
    if returns is not None:
        env_runners["episode_return_mean"] = returns
    return {
        "training_iteration": iteration,
        "num_env_steps_sampled_lifetime": steps,
        "time_total_s": seconds,
        "env_runners": env_runners,
        **more,
    }


@pytest.fixture
def trial():
    return SimpleNamespace(trial_id="a", config={"lr": 0.1, "model": {"width": 8}})


def test_a_header_and_aligned_columns_with_the_rate_of_the_run(capsys, trial):
    progress = Progress(seconds=0)
    progress.on_trial_result(0, [], trial, result(1, 3200, 2.0))
    progress.on_trial_result(0, [], trial, result(2, 6400, 3.0, returns=-20.5))
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["iter", "env", "steps", "steps/s", "return", "episodes", "elapsed"]
    assert first.split() == ["1", "3,200", "1,600", "-", "3", "0:02"]
    assert second.split() == ["2", "6,400", "2,133", "-20.50", "3", "0:03"]
    assert len(header) == len(first) == len(second)


def test_lines_are_held_back_but_never_the_last(capsys, trial):
    progress = Progress(seconds=1000)
    for iteration in range(1, 6):
        progress.on_trial_result(0, [], trial, result(iteration, 10 * iteration, iteration))
    progress.on_trial_complete(0, [], trial)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["iter", "1", "5"]


def test_a_result_that_ends_the_trial_is_printed_at_once_and_only_once(capsys, trial):
    progress = Progress(seconds=1000)
    progress.on_trial_result(0, [], trial, result(1, 10, 1))
    progress.on_trial_result(0, [], trial, result(2, 20, 2, done=True))
    progress.on_trial_complete(0, [], trial)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["iter", "1", "2"]


def test_the_header_returns_every_twenty_lines(capsys, trial):
    progress = Progress(seconds=0)
    for iteration in range(1, 42):
        progress.on_trial_result(0, [], trial, result(iteration, iteration, iteration))
    assert sum("iter" in line for line in capsys.readouterr().out.splitlines()) == 3


def test_several_trials_are_numbered(capsys, trial):
    progress = Progress(num_trials=2, seconds=0, differing={("lr",): "lr"})
    progress.on_trial_start(0, [trial], trial)
    progress.on_trial_result(0, [], trial, result(1, 10, 1))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "trial 1 of 2: lr 0.1"
    assert lines[2].split()[:2] == ["1", "1"]


def test_what_differs_is_told_under_its_name(capsys):
    config = {"env_config": {"size": 3}, "lr": 0.1}
    trial = SimpleNamespace(trial_id="a", config=config)
    Progress(num_trials=2, differing={("env_config", "size"): "size"}).on_trial_start(0, [trial], trial)
    assert capsys.readouterr().out == "trial 1 of 2: size 3\n"


def test_what_a_scheduler_changes_is_told_once(capsys, trial):
    progress = Progress(num_trials=2, differing={("lr",): "lr"})
    progress.on_trial_start(0, [trial], trial)
    progress.on_trial_start(0, [trial], trial)  # it was paused
    trial.config = {"lr": 0.12345678, "model": {"width": 16}}
    progress.on_trial_start(0, [trial], trial)
    progress.on_trial_start(0, [trial], trial)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["trial 1 of 2: lr 0.1", "trial 1 of 2: lr 0.1235, model.width 16"]


def test_a_criterion_that_no_result_has_is_told(capsys, trial):
    progress = Progress(criteria={"env_runners/nothing": 1, "env_runners/episode_return_mean": 2})
    progress.on_trial_result(0, [], trial, result(1, 10, 1))
    out = capsys.readouterr().out
    assert "env_runners/nothing is not among the results" in out
    assert "episode_return_mean is not" not in out


def test_no_control_characters(capsys, trial):
    Progress().on_trial_result(0, [], trial, result(1, 10, 1, returns=1.0))
    assert capsys.readouterr().out.replace("\n", "").isprintable()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.9, "1:01"), (3600, "1:00:00")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_throttling_lets_a_line_through_after_its_time(capsys, trial):
    progress = Progress(seconds=0.01)
    progress.on_trial_result(0, [], trial, result(1, 10, 1))
    time.sleep(0.02)
    progress.on_trial_result(0, [], trial, result(2, 20, 2))
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_rate_of_a_run_that_goes_on_is_of_what_it_adds(capsys, trial):
    progress = Progress(seconds=0)
    progress.on_trial_result(0, [], trial, result(6, 6000, 60.0, iterations_since_restore=1))
    progress.on_trial_result(0, [], trial, result(7, 7000, 61.0, iterations_since_restore=2))
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[2] == "-"
    assert second.split()[2] == "1,000"


def test_intervals_grow_with_the_time_that_has_passed(capsys, trial, monkeypatch):
    now = 0.0
    monkeypatch.setattr("rllib_stpn.cli.progress.time.monotonic", lambda: now)
    progress = Progress()
    for second in range(1, 2001):
        now = float(second)
        progress.on_trial_result(0, [], trial, result(second, second, second))
    told = [int(line.split()[0]) for line in capsys.readouterr().out.splitlines() if "iter" not in line]
    assert told[:5] == [1, 3, 5, 7, 9]
    assert 40 < len(told) < 80
    assert max(after - before for before, after in zip(told, told[1:], strict=False)) > 150


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"env": "x", "num_env_runners": 0, "num_envs_per_env_runner": 512}, "512 environments and the first"),
        ({"env": "x", "num_env_runners": 2, "num_envs_per_env_runner": 4}, "8 environments in 2 env runners and the"),
        ({"env": "x", "num_env_runners": 0}, "1 environment and the first iteration"),
        ({"task": "familiarity"}, "the data; kernels"),
        ({"lr": 0.1}, "3 environments in 3 env runners and the first iteration"),  # by the algorithm's config
    ],
)
def test_what_is_set_up_is_told_once_before_the_first_result(capsys, config, told):
    trial = SimpleNamespace(trial_id="a", config=config, status="PENDING", RUNNING="RUNNING")
    progress = Progress(seconds=0, defaults=SimpleNamespace(num_env_runners=3, num_envs_per_env_runner=1))
    progress.on_step_begin(0, [trial])
    trial.status = "RUNNING"
    for _ in range(3):
        progress.on_step_begin(0, [trial])
    progress.on_trial_result(0, [], trial, result(1, 10, 1))
    progress.on_step_begin(0, [trial])
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first == "setting up  a process for the trial"
    assert second.startswith(f"setting up  {told}")
    assert [line.split()[0] for line in rest] == ["iter", "1"]


def test_what_starts_at_once_tells_nothing_of_it(capsys):
    trial = SimpleNamespace(trial_id="a", config={}, status="PENDING", RUNNING="RUNNING")
    Progress(seconds=1000).on_step_begin(0, [trial])
    assert capsys.readouterr().out == ""
