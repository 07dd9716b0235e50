"""``rllib report`` on the result files of real runs, whole and broken."""

import base64
import csv
import dataclasses
import json
import re
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from rllib_stpn.cli.main import main
from rllib_stpn.experiments import loading
from rllib_stpn.report import figures, tables
from rllib_stpn.report.groups import ENERGY, Section, make_sections, needed_metrics
from rllib_stpn.report.numbers import (
    interquartile_mean_and_interval,
    mean_and_deviation,
    mean_count_and_deviation,
    ratio_and_interval,
)
from rllib_stpn.report.palette import COLOURS
from rllib_stpn.report.trials import read_trials

DATA = Path(__file__).parent / "data"
RETURN = "env_runners/episode_return_mean"
STEPS = "num_env_steps_sampled_lifetime"


@pytest.fixture
def runs(tmp_path) -> Path:
    """A copy of the runs: STPNf with three seeds, an MLP with two and an RNN with one, on the inverted pendulum."""
    return Path(shutil.copytree(DATA, tmp_path / "runs"))


def results(trial: Path) -> list[dict]:
    return [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]


def trials(runs: Path, experiment: str) -> list[Path]:
    return sorted((runs / f"inverted_pendulum_{experiment}").iterdir())


def report(runs: Path, *options: object) -> str:
    out = runs.parent / "report"
    assert main(["report", str(runs), "--out", str(out), *map(str, options)]) == 0
    return (out / "report.md").read_text()


def table(markdown: str) -> dict[str, dict[str, str]]:
    """The rows of the first section's two tables by their first cell, put together."""
    rows: dict[str, dict[str, str]] = {}
    tables = [block for block in markdown.split("\n\n") if block.startswith("|")]
    for lines in (block.splitlines() for block in tables[:2]):
        heads, _, *cells = [line.strip("| ").split(" | ") for line in lines]
        for row in cells:
            rows.setdefault(row[0], {}).update(zip(heads, row, strict=True))
    return rows


def test_table_tells_what_the_result_files_say(runs):
    rows = table(report(runs, "--threshold", 450))
    assert list(rows) == ["mlp", "rnn", "stpn"]
    assert [rows[layer]["parameters"] for layer in rows] == ["515", "4,675", "1,027"]
    for layer, experiment in (("mlp", "mlp"), ("stpn", "stpnf"), ("rnn", "rnn")):
        seeds = [results(trial) for trial in trials(runs, experiment)]
        returns = [[row["env_runners"]["episode_return_mean"] for row in rows] for rows in seeds]
        row = rows[layer]
        assert (row["experiment"], row["seeds"]) == (f"inverted_pendulum_{experiment}", str(len(seeds)))
        final, best = [each[-1] for each in returns], [max(each) for each in returns]
        for cell, values in (("final episode return", final), ("best episode return", best)):
            assert row[cell] == mean_and_deviation(np.array(values))
        assert row["interquartile mean (95 % interval)"] == interquartile_mean_and_interval(np.array(final))
        first = [next((r for r in rows if r["env_runners"]["episode_return_mean"] >= 450), None) for rows in seeds]
        if None in first:
            assert row["environment steps to 450"] == "not reached"
            continue
        steps, minutes = [r[STEPS] for r in first], [r["time_total_s"] / 60 for r in first]
        assert row["environment steps to 450"] == mean_count_and_deviation(np.array(steps))
        assert row["minutes to 450"] == mean_and_deviation(np.array(minutes))


def test_html_holds_its_figures(runs, capsys):
    markdown = report(runs)
    page = (runs.parent / "report/report.html").read_text()
    sources = re.findall(r'src="([^"]*)"', page)
    files = re.findall(r"!\[.*\]\((.*)\)", markdown)
    assert [file.split("_", 1)[1] for file in files] == ["learning_curves.png", "final.png"]  # no energy was measured
    assert len(sources) == len(files) and "http" not in page
    for source, file in zip(sources, files, strict=True):
        picture = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        assert picture == (runs.parent / "report" / file).read_bytes()
        colours = Image.open(BytesIO(picture)).convert("RGB").getcolors(2**24)
        assert len(colours) > 50  # something is drawn
    assert str(runs.parent / "report/report.html") in capsys.readouterr().out


def test_broken_files_are_named_and_skipped(runs, capsys):
    whole = table(report(runs))
    cut, empty = trials(runs, "mlp")
    last = (cut / "result.json").read_text().splitlines()[-1]
    with (cut / "result.json").open("a") as file:
        file.write(last[: len(last) // 2])
    number = len(results_text(cut))
    (empty / "result.json").write_text("")
    (trials(runs, "stpnf")[0] / "params.json").write_text('{"model": {"custom')
    (unstarted := runs / "inverted_pendulum_mlp/PPO_unstarted").mkdir()
    (unstarted / "params.json").write_text("{}")
    capsys.readouterr()
    markdown = report(runs)
    out = capsys.readouterr().out
    for note in (
        f"{cut}/result.json: line {number} is cut off or broken: skipped",
        f"{empty}: no results (no whole line in result.json or progress.csv): skipped",
        f"{unstarted}: no results (no whole line in result.json or progress.csv): skipped",
        f"{trials(runs, 'stpnf')[0]}/params.json: broken: skipped",
    ):
        assert f"note: {note}\n" in out
        assert f"- {note}\n" in markdown
    rows = table(markdown)
    assert rows["mlp"]["seeds"] == "1"
    final = json.loads(results_text(cut)[-2])["env_runners"]["episode_return_mean"]
    assert rows["mlp"]["final episode return"] == mean_and_deviation(np.array([final]))
    assert rows["rnn"] == whole["rnn"]


def results_text(trial: Path) -> list[str]:
    return (trial / "result.json").read_text().splitlines()


def test_progress_csv_stands_in_for_result_json(runs):
    expected = table(report(runs))["rnn"]
    (trial,) = trials(runs, "rnn")
    with (trial / "progress.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        parameters = "learners/default_policy/num_trainable_parameters"
        writer.writerow([STEPS, "training_iteration", "time_total_s", RETURN, parameters])
        for row in results(trial):
            measured = row["env_runners"]["episode_return_mean"]
            writer.writerow([row[STEPS], row["training_iteration"], row["time_total_s"], measured, 4675])
        file.write("80000.0,41")
    (trial / "result.json").unlink()
    markdown = report(runs)
    assert table(markdown)["rnn"] == expected
    assert f"{trial}/progress.csv: line 42 is cut off or broken: skipped" in markdown


def test_iterations_repeated_after_a_restore_count_once(runs):
    (trial,) = trials(runs, "rnn")
    lines = results_text(trial)
    again = [line.replace('"episode_return_mean": ', '"episode_return_mean": 9') for line in lines[30:35]]
    (trial / "result.json").write_text("\n".join([*lines, *again]) + "\n")
    ((read,), _) = read_trials([trial], needed_metrics(None))
    assert len(read.metrics[RETURN]) == 40
    assert (np.diff(read.metrics["training_iteration"]) == 1).all()
    assert read.metrics[RETURN][30] == json.loads(again[0])["env_runners"]["episode_return_mean"]


def test_a_trial_that_ended_with_an_error_is_named(runs):
    trial, other = trials(runs, "mlp")
    for each, done in ((trial, False), (other, True)):  # the other one's error was that of an attempt before
        last = json.dumps({**results(each)[-1], "done": done})
        (each / "result.json").write_text("\n".join([*results_text(each)[:-1], last]) + "\n")
        (each / "error.txt").write_text("Traceback (most recent call last):\nValueError: not finite:\n[nan]\n")
    markdown = report(runs)
    told = "ended with an error, after the results shown: ValueError: not finite: [nan]"
    assert f"inverted_pendulum_mlp/{trial.name} {told}" in markdown
    assert other.name + " ended" not in markdown


def test_points_of_a_grid_are_not_taken_for_seeds(runs):
    for trial, rate in zip(trials(runs, "mlp"), (0.001, 0.01), strict=True):
        settings = json.loads((trial / "params.json").read_text())
        (trial / "params.json").write_text(json.dumps(settings | {"lr": rate}))
    rows = table(report(runs))
    assert list(rows) == ["mlp, lr 0.001", "mlp, lr 0.01", "rnn", "stpn"]


def set_params(trial: Path, **settings) -> None:
    old = json.loads((trial / "params.json").read_text())
    (trial / "params.json").write_text(json.dumps(old | settings))


def labels(runs: Path) -> list[str]:
    read, notes = read_trials([runs], needed_metrics(None))
    (section,) = make_sections(read, None, notes)
    return [group.label for group in section.groups]


def test_layers_and_rates_of_a_sweep_are_told_apart(runs):
    (sweep := runs / "sweep").mkdir()
    found = [t for name in ("mlp", "stpnf") for t in trials(runs, name)[:2]]
    for number, trial in enumerate(found):
        set_params(trial, lr=(0.1, 0.0001157912357382645)[number % 2])
        shutil.move(trial, sweep / trial.name)
    shutil.rmtree(runs / "inverted_pendulum_mlp")
    of_sweep = [f"{layer} (sweep), lr {rate}" for layer in ("mlp", "stpn") for rate in ("0.0001158", "0.1")]
    alone = ["rnn (inverted_pendulum_rnn)", "stpn (inverted_pendulum_stpnf)"]
    assert sorted(labels(runs)) == sorted([*alone, *of_sweep])


def test_trainings_from_python_have_their_layer(runs):
    spec = "RLModuleSpec(module_class=<class 'm'>, model_config={{'custom_model': '{}', 'on': <f at 0x{}>}})"
    for number, trial in enumerate(trials(runs, "stpnf")):
        set_params(trial, model={}, _rl_module_spec=spec.format("gru", f"7f{number}"))
    set_params(trials(runs, "rnn")[0], model={}, _rl_module_spec="RLModuleSpec(<class 'Mine'>)")
    rows = table(report(runs))
    assert list(rows) == ["mlp", "unknown layer", "gru"]
    assert rows["gru"]["seeds"] == "3"  # another address is not another setting


def test_directories_without_results_are_named_and_skipped(runs, capsys):
    (empty := runs.parent / "empty").mkdir()
    assert main(["report", str(empty), str(runs), "--out", str(runs.parent / "report")]) == 0
    assert f"note: {empty}: no results of Tune in or below it: skipped" in capsys.readouterr().out


def section(runs: Path, **spent: float) -> Section:
    """All runs, with an energy for each layer, which the second and third seed exceed by 1 and 2."""
    read, notes = read_trials([runs], needed_metrics(None))
    (only,) = make_sections(read, None, notes)
    for group in only.groups:
        for number, trial in enumerate(group.trials):
            if group.layer in spent:
                trial.metrics[ENERGY[0]] = np.full_like(trial.metrics[RETURN], spent[group.layer] + number)
    return only


def test_groups_are_named_by_what_tells_all_of_them_apart(runs):
    def heads() -> tuple[list[str], list[str]]:
        drawn = section(runs)
        return [group.label for group in drawn.groups], tables.costs(drawn, None).headings[:3]

    assert heads() == (["mlp", "rnn", "stpn"], ["layer", "experiment", "seeds"])
    shutil.move(trials(runs, "rnn")[0], runs / "inverted_pendulum_mlp")
    shutil.copytree(runs / "inverted_pendulum_stpnf", runs / "again")
    labels, headings = heads()
    assert labels == [
        "stpn (again)",
        "mlp (inverted_pendulum_mlp)",
        "rnn (inverted_pendulum_mlp)",
        "stpn (inverted_pendulum_stpnf)",
    ]
    assert headings == ["layer (experiment)", "seeds", "parameters"]
    shutil.rmtree(runs / "inverted_pendulum_mlp")
    assert heads() == (["again", "inverted_pendulum_stpnf"], ["experiment", "layer", "seeds"])


def test_energy_is_in_proportion_to_that_of_the_baseline(runs):
    drawn = section(runs, mlp=2.0, rnn=4.0, stpn=8.0)
    mlp, rnn, stpn = np.array([2.0, 3.0]), np.array([4.0]), np.array([8.0, 9.0, 10.0])
    for name, label, expected in (
        ("mlp", "mlp", ["1", ratio_and_interval(rnn, mlp), ratio_and_interval(stpn, mlp)]),
        ("rnn", "rnn", [ratio_and_interval(mlp, rnn), "1", ratio_and_interval(stpn, rnn)]),
        ("inverted_pendulum_stpnf", "stpn", [ratio_and_interval(mlp, stpn), ratio_and_interval(rnn, stpn), "1"]),
    ):
        costs = tables.costs(drawn, drawn.group(name))
        assert costs.headings[-1] == f"energy ratio to {label}"
        assert [row[-1] for row in costs.rows] == expected
    assert " to " in ratio_and_interval(stpn, mlp)


def test_what_was_not_measured_has_no_ratio(runs):
    drawn = section(runs, rnn=4.0, stpn=8.0)
    assert [row[-1] for row in tables.costs(drawn, drawn.group("rnn")).rows] == ["-", "1", "2.250"]
    assert [row[-1] for row in tables.costs(drawn, drawn.group("mlp")).rows] == ["-", "-", "-"]
    assert tables.costs(drawn, None).headings[-1] == "energy per environment step"


def test_a_baseline_is_named_on_the_command_line(runs):
    for number, trial in enumerate([*trials(runs, "rnn"), *trials(runs, "stpnf")]):
        lines = [row | {"energy_per_sequence": 1.0 + number} for row in results(trial)]
        (trial / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    set_params(trials(runs, "rnn")[0], env="Elsewhere-v0")
    elsewhere, pendulum = report(runs, "--baseline", "stpn").split("\n## ")[1:][::-1]
    assert "| energy ratio to stpn |" in pendulum
    assert "energy ratio" not in elsewhere and "energy per environment step" in elsewhere


@pytest.mark.parametrize(
    ("name", "parts"),
    [("ltsm", ["'ltsm'", "'mlp', 'rnn', 'stpn'"]), ("stpnn", ["did you mean stpn?"])],
)
def test_a_baseline_that_is_not_there_is_refused(name, parts, runs, capsys):
    out = runs.parent / "report"
    assert main(["report", str(runs), "--out", str(out), "--baseline", name]) == 2
    err = capsys.readouterr().err
    assert all(part in err for part in ["--baseline", *parts]) and not out.exists()


def test_a_baseline_that_several_trainings_have_is_refused_with_their_names(runs, capsys):
    shutil.copytree(runs / "inverted_pendulum_stpnf", runs / "again")
    assert main(["report", str(runs), "--out", str(runs.parent / "report"), "--baseline", "stpn"]) == 2
    err = capsys.readouterr().err
    assert "several trainings on InvertedPendulum-v5" in err
    assert "'stpn (inverted_pendulum_stpnf)'" in err or "'inverted_pendulum_stpnf'" in err


def test_energy_has_a_log_axis_where_it_spans_decades(runs):
    for energies, scale in (({"mlp": 2.0, "rnn": 8.0, "stpn": 4.0}, "linear"), ({"mlp": 1.0, "stpn": 400.0}, "log")):
        drawn = section(runs, **energies)
        for figure in (figures.energy(drawn), figures.energy_against_performance(drawn)):
            assert figure.axes[0].get_xscale() == scale
            assert np.isfinite(figure.axes[0].get_xlim()).all()
    assert figures.energy(section(runs)) is None and figures.energy_against_performance(section(runs)) is None
    assert figures.energy(section(runs, mlp=0.0, stpn=400.0)).axes[0].get_xscale() == "linear"  # 0 has no logarithm


@pytest.mark.parametrize("times", [11, 15, 90, 900, 1e5, 1e9])
def test_labels_of_a_log_axis_stand_apart(runs, times):
    drawn = section(runs, mlp=300.0, stpn=300.0 * times)
    for figure in (figures.energy(drawn), figures.energy_against_performance(drawn)):
        figure.draw_without_rendering()
        axes = figure.axes[0]
        labels = [tick.label1 for tick in (*axes.xaxis.get_major_ticks(), *axes.xaxis.get_minor_ticks())]
        boxes = sorted((label.get_window_extent() for label in labels if label.get_text()), key=lambda box: box.x0)
        inside = [box for box in boxes if axes.bbox.x0 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1]
        assert len(inside) >= 2
        assert all(one.x1 < other.x0 for one, other in zip(inside, inside[1:], strict=False))


def test_bands_of_a_curve_end_where_the_seeds_do(runs):
    drawn = section(runs)
    for group in drawn.groups:
        for number, trial in enumerate(group.trials):  # a mean of 1/2 or 1/3, and a deviation of 0.6 or 0.7
            trial.metrics[RETURN][:] = number == 1
    for axes in figures.learning_curves(drawn, None).axes:
        ends = [(band.get_datalim(axes.transData).y0, band.get_datalim(axes.transData).y1) for band in axes.collections]
        assert ends == [(0, 1), (0, 1)]  # and none for the RNN, which has a single seed


def test_a_layer_has_its_colour_in_all_figures(runs):
    drawn = section(runs, mlp=1.0, rnn=2.0, stpn=4.0)
    colours = {COLOURS[group.layer].lower() for group in drawn.groups}
    curves = figures.learning_curves(drawn, None).axes[0].lines
    assert {to_hex(line.get_color()) for line in curves} == colours
    for figure in (figures.final_performance(drawn), figures.energy(drawn)):
        assert {to_hex(bar.get_facecolor()) for bar in figure.axes[0].patches} == colours
    points = figures.energy_against_performance(drawn).axes[0].lines
    assert {to_hex(line.get_color()) for line in points} == colours


def test_each_seed_has_a_dot_on_its_bar_away_from_the_interval(runs):
    drawn = section(runs)
    axes = figures.final_performance(drawn).axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    finals = [group.last(RETURN) for group in drawn.groups if len(group.trials) > 1]
    assert [line.get_xdata().tolist() for line in dots] == [final.tolist() for final in finals]
    for line in dots:
        place = np.round(line.get_ydata()[0])
        assert (np.abs(line.get_ydata() - place) > 0.1).all() and (np.abs(line.get_ydata() - place) < 0.31).all()


def test_legends_of_many_lines_fit(runs):
    read, notes = read_trials([runs], needed_metrics(None))
    (section,) = make_sections(read, None, notes)
    section.groups = [dataclasses.replace(section.groups[0], label=f"a layer's name {i:05}") for i in range(9)]
    figure = figures.learning_curves(section, None)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert figure.axes[0].get_position().height > 0.5


def test_other_tasks_get_sections_of_their_own(runs):
    (trial,) = trials(runs, "rnn")
    settings = json.loads((trial / "params.json").read_text())
    (trial / "params.json").write_text(json.dumps(settings | {"env": "stpn_envs:stpn/Maze-v0"}))
    markdown = report(runs)
    assert re.findall(r"^## (.*)", markdown, re.M) == ["InvertedPendulum-v5", "stpn_envs:stpn/Maze-v0"]
    assert "(stpn_Maze-v0_learning_curves.png)" in markdown


def test_settings_of_runs_without_a_recorded_command_train_again(runs):
    markdown = report(runs)
    (file,) = re.findall(r"rllib train -f (.*stpnf.*)", markdown)
    (experiment,) = loading.load(Path(file))
    settings = json.loads((trials(runs, "stpnf")[0] / "params.json").read_text())
    assert (experiment.name, experiment.algorithm) == ("inverted_pendulum_stpnf", "PPO")
    assert experiment.config == settings | {"seed": {"grid_search": [0, 1, 2]}}
    assert experiment.stop == {"training_iteration": max(len(results(t)) for t in trials(runs, "stpnf"))}


def test_a_metric_of_which_less_is_better(runs):
    read, notes = read_trials([runs], needed_metrics("env_runners/loss"))
    for trial in read:
        trial.metrics["env_runners/loss"] = np.array([3.0, 1.0, 2.0])
        trial.metrics[STEPS], trial.metrics["time_total_s"] = np.array([10, 20, 30]), np.array([1, 2, 3])
    (section,) = make_sections(read, "env_runners/loss", notes)
    assert section.groups[0].best("env_runners/loss").tolist() == [1, 1]
    assert section.groups[0].reached("env_runners/loss", 1.5).tolist() == [[20, 2], [20, 2]]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere"], ["nowhere: no such directory"]),
        (["."], [".: no results of Tune", "result.json"]),
        ([str(DATA), "--metric", "env_runners/episode_retrun_mean"], ["env_runners/episode_retrun_mean", "nothing"]),
        ([str(DATA), "--out", "/proc/report"], ["/proc/report cannot be written"]),
        ([str(DATA), "--threshold", "high"], ["--threshold", "'high'"]),
    ],
    ids=["missing", "empty", "metric", "out", "threshold"],
)
def test_mistakes_are_told_in_a_line(arguments, parts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(part in err for part in parts), err
