"""Which trainings are one line of a report, and which are one section."""

import os
import re

import pytest

from rllib_stpn.cli.main import main
from rllib_stpn.experiments import loading
from rllib_stpn.experiments.goal import default_goal
from rllib_stpn.report.groups import make_sections, needed_metrics
from rllib_stpn.report.trials import read_trials


def sections(*directories, metric=None):
    trials, notes = read_trials(directories, needed_metrics(metric))
    return make_sections(trials, metric, notes), notes


def test_of_trainings_with_the_same_seed_the_longest_counts(train, tmp_path):
    short, long = train("exp/PPO_b", iterations=1, seed=0), train("exp/PPO_a", iterations=12, seed=0)
    train("exp/PPO_c", seed=1)
    ((section,), notes) = sections(tmp_path)
    (group,) = section.groups
    assert (group.seeds, [len(t.metrics["training_iteration"]) for t in group.trials]) == ([0, 1], [12, 3])
    assert notes == [f"{short}: has the same seed, 0, as {long}, and did not go on longer: skipped"]


@pytest.mark.parametrize("times", [(2, 1), (1, 2)])
def test_of_equally_long_trainings_with_the_same_seed_the_later_one_counts(times, train, tmp_path):
    paths = [train(f"exp/PPO_{name}", timestamp=100 * time, seed=0) for name, time in zip("ab", times, strict=True)]
    ((section,), notes) = sections(tmp_path)
    assert [trial.path for trial in section.groups[0].trials] == [paths[times.index(2)]]
    assert len(notes) == 1 and all(str(path) in notes[0] for path in paths)


def test_a_seed_given_twice_is_told_on_the_terminal_and_in_the_report(train, tmp_path, capsys):
    paths = [train(f"exp/PPO_{name}", seed=0) for name in "ab"]
    assert main(["report", str(tmp_path / "exp"), "--out", str(tmp_path / "report")]) == 0
    for told in (capsys.readouterr().out, (tmp_path / "report/report.md").read_text()):
        assert all(str(path) in told for path in paths)


def test_trainings_without_a_seed_all_count(train, tmp_path):
    for name, settings in (("a", {}), ("b", {}), ("c", {"seed": None})):
        train(f"exp/PPO_{name}", **settings)
    ((section,), notes) = sections(tmp_path)
    assert sum(len(group.trials) for group in section.groups) == 3 and not notes


def test_the_same_seed_with_other_settings_is_another_training(train, tmp_path):
    train("exp/PPO_a", seed=0, lr=0.1)
    train("exp/PPO_b", seed=0, lr=0.2)
    ((section,), notes) = sections(tmp_path)
    assert [group.label for group in section.groups] == ["stpn, lr 0.1", "stpn, lr 0.2"] and not notes


def test_experiments_of_one_name_in_several_places_are_told_apart(train, tmp_path):
    for place in ("x/laptop/runs/maze", "x/server/runs/maze", "x/server/runs/pong"):
        train(f"{place}/PPO_a", seed=0)
    ((section,), notes) = sections(tmp_path)
    assert [group.label for group in section.groups] == ["laptop/runs/maze", "server/runs/maze", "pong"]
    assert [group.seeds for group in section.groups] == [[0], [0], [0]] and not notes


def test_settings_of_an_experiment_whose_name_is_not_the_only_one_train_again(train, tmp_path):
    for place in ("laptop", "server"):
        train(f"runs/{place}/maze/PPO_a", seed=0)
    assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "report")]) == 0
    files = sorted((tmp_path / "report").glob("*.yaml"))
    assert [loading.load(file)[0].name for file in files] == ["maze", "maze"]


@pytest.mark.parametrize("prefixed_first", [True, False])
def test_an_environment_with_the_module_that_registers_it_is_the_same_one(prefixed_first, train, tmp_path):
    subjects = ["a_module.below:mine/Maze-v0", "mine/Maze-v0"][:: 1 if prefixed_first else -1]
    train("exp/PPO_a", env=subjects[0], seed=0)
    train("exp/PPO_b", env=subjects[1], seed=1)
    train("exp/PPO_c", env="mine/Maze-v1", seed=1)
    (section, other), _ = sections(tmp_path)
    assert (section.subject, other.subject) == (subjects[0], "mine/Maze-v1")
    assert [group.seeds for group in section.groups] == [[0, 1]]


def test_names_with_a_colon_that_are_not_gymnasiums_stay_apart(train, tmp_path):
    train("exp/PPO_a", env="suite:walker")
    train("exp/PPO_b", env="other:walker")
    assert [section.subject for section in sections(tmp_path)[0]] == ["suite:walker", "other:walker"]


def test_links_to_experiments_and_trials_are_followed(train, tmp_path):
    far, trial = train("far/lstm_exp/PPO_a", layer="lstm"), train("far/rnn_exp/PPO_a", layer="rnn")
    train("here/PPO_a")
    (tmp_path / "here/linked").symlink_to(far.parent)
    (tmp_path / "here/best").symlink_to(trial)
    ((section,), notes) = sections(tmp_path / "here")
    assert sorted(group.layer for group in section.groups) == ["lstm", "rnn", "stpn"] and not notes


def test_links_in_a_circle_are_followed_once(train, tmp_path):
    train("runs/exp/PPO_a")
    (tmp_path / "runs/exp/up").symlink_to(tmp_path / "runs")
    (tmp_path / "runs/again").symlink_to(tmp_path / "runs/exp")
    os.symlink("nowhere", tmp_path / "runs/dangling")
    ((section,), notes) = sections(tmp_path / "runs")
    assert [len(group.trials) for group in section.groups] == [1] and not notes


@pytest.mark.parametrize("task", ["language_modelling", "associative_retrieval"])
def test_supervised_training_is_reported_by_what_a_sweep_ranks_it_by(task, train, tmp_path):
    config = "{model: {custom_model: rnn}}"
    (tmp_path / "sweep.yaml").write_text(f"x: {{run: Supervised, task: {task}, config: {config}}}")
    goal = default_goal(loading.load(tmp_path / "sweep.yaml")[0])
    other = ("validation_perplexity",) if task == "language_modelling" else ()
    train("exp/Supervised_a", metrics=("validation_accuracy", *other), env=None, task=task)
    ((section,), _) = sections(tmp_path / "exp")
    assert section.metric == goal.metric
    best = 1.0 if goal.mode == "min" else 3.0
    assert section.groups[0].best(section.metric).tolist() == [best]


def test_each_section_has_files_of_its_own(train, tmp_path):
    long = "a" * 300
    for number, subject in enumerate(("one/Task", "one Task", "ONE:Task", f"{long}1", f"{long}2", "ü" * 300)):
        train(f"runs/exp/PPO_{number}", env=subject)
    assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "report")]) == 0
    markdown = (tmp_path / "report/report.md").read_text()
    figures = re.findall(r"!\[.*\]\((.*)\)", markdown)
    settings = re.findall(r"rllib train -f (.*)", markdown)
    for names, number in ((figures, 12), (settings, 6)):
        assert len(names) == len({name.casefold() for name in names}) == number
    found = {loading.load(file)[0].config["env"] for file in (tmp_path / "report").glob("*.yaml")}
    assert len(found) == 6  # none was written over
