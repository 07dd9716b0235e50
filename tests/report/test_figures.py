"""Figures of results that lack something, and of names that are long or mean something to Matplotlib."""

import dataclasses
import warnings

import numpy as np
import pytest

from rllib_stpn.cli.main import main
from rllib_stpn.report import figures, tables
from rllib_stpn.report.groups import ENERGY, make_sections, needed_metrics
from rllib_stpn.report.trials import read_trials

RETURN = "env_runners/episode_return_mean"
STEPS = "num_env_steps_sampled_lifetime"


def only_section(directory, metric=None):
    trials, notes = read_trials([directory], needed_metrics(metric))
    (section,) = make_sections(trials, metric, notes)
    return section


def drawn(section):
    """All figures of a section whose groups spend energies of one and several decades."""
    for number, group in enumerate(section.groups):
        for trial in group.trials:
            trial.metrics[ENERGY[0]] = np.full_like(trial.metrics["training_iteration"], 10.0**number)
    made = [
        figures.learning_curves(section, 2.0),
        figures.final_performance(section),
        figures.energy(section),
        figures.energy_against_performance(section),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as a layout that was given up
        for figure in made:
            figure.draw_without_rendering()
    return made


@pytest.mark.parametrize("metric", ["mean_accuracy", "episode_reward_mean"])
def test_without_steps_curves_and_tables_are_over_iterations(metric, train, tmp_path):
    train("exp/trainable_a", iterations=5, metrics=(metric, "time_total_s"))
    section = only_section(tmp_path, metric)
    axes, _ = figures.learning_curves(section, None).axes
    assert axes.get_xlabel() == "training iterations"
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5]
    heads, (row,) = tables.results(section, 3.0)[:2]
    assert dict(zip(heads, row, strict=True))["training iterations to 3"] == "3.00"
    heads, (row,) = tables.costs(section, None)[:2]
    assert dict(zip(heads, row, strict=True))["training iterations"] == "5.00"
    assert main(["report", str(tmp_path), "--metric", metric, "--out", str(tmp_path / "report")]) == 0


def test_trainings_with_steps_and_without_are_compared_over_iterations(train, tmp_path):
    train("exp/PPO_a", iterations=4)
    train("exp/PPO_b", metrics=(RETURN,), layer="lstm")
    section = only_section(tmp_path)
    assert section.unit_of_steps == "training iterations"
    by_steps, by_time = figures.learning_curves(section, None).axes
    assert [line.get_xdata()[-1] for line in by_steps.lines] == [4, 3]
    assert len(by_time.lines) == 1


def test_without_times_the_axis_of_times_is_empty(train, tmp_path):
    train("exp/PPO_a", metrics=(RETURN, STEPS))
    section = only_section(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_steps, by_time = figures.learning_curves(section, None).axes
    assert (by_steps.get_xlabel(), len(by_steps.lines), len(by_time.lines)) == ("environment steps", 1, 0)
    assert main(["report", str(tmp_path), "--threshold", "2", "--out", str(tmp_path / "report")]) == 0


def test_steps_that_are_known_only_where_the_metric_is_not_count_as_none(train, tmp_path):
    train("exp/PPO_a")
    section = only_section(tmp_path)
    (trial,) = section.groups[0].trials
    trial.metrics[RETURN][0], trial.metrics[STEPS][1:] = np.nan, np.nan
    assert section.unit_of_steps == "training iterations"
    assert len(figures.learning_curves(section, None).axes[0].lines) == 1


NAMES = ["a_setting_whose_name_is_a_longer_one_", "momentum_", "x"]


@pytest.mark.parametrize("number", [6, 14])
@pytest.mark.parametrize("name", NAMES)
def test_many_differing_settings_leave_room_for_the_figure(number, name, train, tmp_path):
    for value in range(3):
        train(f"exp/PPO_{value}", **{f"{name}{i}": 0.12345 * (value + 1) for i in range(number)})
    assert main(["report", str(tmp_path / "exp"), "--out", str(tmp_path / "report")]) == 0
    section = only_section(tmp_path / "exp")
    curves, final, energy, against = drawn(section)
    for figure in (curves, against):
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width
        assert figure.axes[0].get_position().height > 0.45
    for figure in (final, energy):
        labels = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
        assert all(box.x0 >= 0 for box in labels) and figure.axes[0].get_position().width > 0.3
        places = sorted((box.y0, box.y1) for box in labels)
        assert all(one[1] <= other[0] for one, other in zip(places, places[1:], strict=False))
    for labels in (
        [text.get_text() for text in curves.legends[0].get_texts()],
        [label.get_text() for label in final.axes[0].get_yticklabels()],
    ):
        assert len(set(labels)) == len(labels)


def test_labels_that_begin_alike_are_cut_and_say_their_row(train, tmp_path):
    for layer in ("rnn", "lstm"):
        train(f"{layer}/PPO_a", layer=layer)
    section = only_section(tmp_path)
    section.groups = [
        dataclasses.replace(group, label=f"{'one_word' * 60} {number}") for number, group in enumerate(section.groups)
    ]
    labels = [label.get_text() for label in figures.final_performance(section).axes[0].get_yticklabels()]
    assert [label.splitlines()[-1].rpartition("...")[2] for label in labels] == [
        f" (row {row} of the table, 1 seed)" for row in (1, 2)
    ]


def test_a_long_metric_is_broken_into_lines(train, tmp_path):
    metric = "evaluation/env_runners/agent_episode_returns_mean/of_the_agent_that_comes_first/and_so_on/and_on"
    train("exp/PPO_a", metrics=(metric, STEPS, "time_total_s"))
    section = only_section(tmp_path, metric)
    curves, final, *_ = drawn(section)
    for label in (curves.axes[0].yaxis.label, final.axes[0].xaxis.label):
        box, figure = label.get_window_extent(), label.get_figure().bbox
        assert box.x0 >= 0 and box.x1 <= figure.width and box.y0 >= 0 and box.y1 <= figure.height


def test_names_that_mean_something_to_matplotlib_are_shown_as_they_are(train, tmp_path):
    names = ["_hidden", r"$\nothing$ of $x"]
    for name in names:
        train(f"runs/{name}/PPO_a")
    section = only_section(tmp_path / "runs")
    curves, final, *_ = drawn(section)
    shown = [text.get_text().replace(r"\$", "$").strip() for text in curves.legends[0].get_texts()]
    assert sorted(shown) == sorted([*(f"{name} (1 seed)" for name in names), "threshold 2"])
