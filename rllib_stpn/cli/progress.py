"""One line on the terminal for each result of a trial."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune import Callback
from ray.tune.utils import flatten_dict

from rllib_stpn.cli.terminal import live, tell
from rllib_stpn.experiments.differences import Path, brief, values_of
from rllib_stpn.experiments.results import SURVIVED, metric
from rllib_stpn.rollouts.failure import left_by, told_in_job

_HEADER_EVERY = 20
_LOOKS_EVERY = 5.0  # seconds
_GROWS_AFTER, _LONGEST = 20.0, 300.0  # seconds, for the interval between lines


@dataclasses.dataclass(frozen=True)
class ShownMetrics:
    """The metrics that lines on the terminal show of a kind of training, and their headings.

    Attributes:
        iteration: The heading of the number of iterations.
        iterated: What an iteration is called in a sentence.
        counter: The metric that counts what training learns from.
        counted: The heading of the counter.
        rate: The heading of the counter's growth per second.
        measures: Heading, metric and format of each other column.
        final: Heading, metric and format of what the last line tells, where there is such a result.
    """

    iteration: str
    iterated: str
    counter: str
    counted: str
    rate: str
    measures: tuple[tuple[str, str, str], ...]
    final: tuple[tuple[str, str, str], ...]


REINFORCEMENT = ShownMetrics(
    iteration="iter",
    iterated="iteration",
    counter="num_env_steps_sampled_lifetime",
    counted="env steps",
    rate="steps/s",
    measures=(
        ("return", "env_runners/episode_return_mean", ",.2f"),
        ("episodes", "env_runners/num_episodes_lifetime", ",.0f"),
    ),
    final=(("return", "env_runners/episode_return_mean", ",.2f"),),
)


def supervised(measure: str) -> ShownMetrics:
    """Those of supervised training, where a task's measure of success is accuracy or perplexity."""
    return ShownMetrics(
        iteration="epoch",
        iterated="epoch",
        counter="num_sequences_trained_lifetime",
        counted="sequences",
        rate="seq/s",
        measures=(
            ("train loss", "train_loss", ",.4f"),
            (f"val {measure}", f"validation_{measure}", ",.4f"),
        ),
        final=((f"test {measure}", f"test_{measure}", ".4f"),),
    )


class Progress(Callback):
    """Prints a trial's progress: lines at growing intervals, and always its first and last result.

    On a terminal a live line has each result in between.

    Args:
        num_trials: How many trials the experiment has; with several, a line begins with the trial's number.
        criteria: The stop criteria; one that a first result does not have is told.
        seconds: The least time between two lines, in the first 20 seconds; then it grows with the time that has passed.
        shown: The metrics of a line.
        differing: Path and name of the settings that differ between trials.
        defaults: The algorithm's config, which has the settings that a trial does not have.
    """

    def __init__(
        self,
        num_trials: int = 1,
        criteria: Mapping[str, float] | None = None,
        seconds: float = 2.0,
        shown: ShownMetrics = REINFORCEMENT,
        differing: Mapping[Path, str] | None = None,
        defaults: Any = None,
    ):
        self._defaults = defaults
        self._differing = dict(differing or {})
        self._shown = shown
        headings = (shown.iteration, shown.counted, shown.rate, *(name for name, *_ in shown.measures), "elapsed")
        widths = (7, 13, 9, *(max(10, len(name) + 2) for name, *_ in shown.measures), 9)
        self._columns = tuple(zip(headings, widths, strict=True))
        self._num_trials = num_trials
        self._criteria = dict(criteria or {})
        self._seconds = seconds
        self._lines = 0
        self._started = time.monotonic()
        self._last_line = -math.inf
        self._set_up: str | None = None  # What was told before the first result.
        self._numbers: dict[str, int] = {}
        self._begun: dict[str, dict[str, Any]] = {}  # The settings that each trial began with,
        self._told: dict[str, dict[str, Any]] = {}  # and those that were told last.
        self._from: dict[str, tuple[float, float]] = {}  # Steps and seconds that a trial's rate counts from.
        self._before: dict[str, tuple[float, float]] = {}  # Those at the result before.
        self._unprinted: dict[str, str] = {}
        self._looked = time.monotonic()
        self._hangs: dict[str, str | None] = {}

    def on_trial_start(self, iteration: int, trials: Sequence, trial, **info) -> None:
        """Tells what a trial was given, where there are several trials, and what a scheduler changed."""
        number = self._numbers[trial.trial_id] = list(trials).index(trial) + 1
        settings = flatten_dict(trial.config, delimiter=".")
        begun = self._begun.setdefault(trial.trial_id, settings)
        changed = {path: value for path, value in settings.items() if value != begun.get(path)}
        told = values_of(self._differing, trial.config)
        told |= {path: value for path, value in changed.items() if tuple(path.split(".")) not in self._differing}
        if self._num_trials == 1 or self._told.get(trial.trial_id) == told:
            return  # Schedulers pause trials and start them again.
        self._told[trial.trial_id] = told
        listed = ", ".join(f"{path} {brief(value)}" for path, value in told.items())
        print(f"trial {number} of {self._num_trials}{': ' + listed if listed else ''}", flush=True)

    def on_trial_result(self, iteration: int, trials: Sequence, trial, result: dict[str, Any], **info) -> None:
        """Prints the line of a result, unless the last one is too recent."""
        first = trial.trial_id not in self._before
        if first:
            self._tell_missing(result)
        tell(result.get(SURVIVED) or ())
        line = self._line(trial.trial_id, result)
        now = time.monotonic()
        interval = min(self._seconds * max(1, (now - self._started) / _GROWS_AFTER), _LONGEST)
        if first or result.get("done") or now - self._last_line >= interval:
            self._print(trial.trial_id, line)
        else:
            self._unprinted[trial.trial_id] = line
            live(line)

    def on_step_begin(self, iteration: int, trials: Sequence, **info) -> None:
        """Tells what is being set up, while there is no result yet."""
        waited = time.monotonic() - self._started
        if self._before or not trials or waited < self._seconds:
            return
        running = [trial for trial in trials if trial.status == trial.RUNNING]
        told = _set_up(running[0].config, self._defaults) if running else "a process for the trial"
        if told != self._set_up:
            self._set_up = told
            print(f"setting up  {told}", flush=True)
        live(f"setting up  {duration(waited)}")

    def on_step_end(self, iteration: int, trials: Sequence, **info) -> None:
        """Tells what a trial waits for: an environment of its own process hangs, or an env runner had to begin anew."""
        if time.monotonic() - self._looked < _LOOKS_EVERY:
            return
        self._looked = time.monotonic()
        tell(told_in_job())
        for trial in trials:
            actor = trial.temporary_state.ray_actor
            told = left_by(actor) if actor is not None else None
            if told and told != self._hangs.get(trial.trial_id):
                tell([told])
            self._hangs[trial.trial_id] = told

    def on_experiment_end(self, trials: Sequence, **info) -> None:
        """Tells what has not been told since the last look."""
        tell(told_in_job())

    def on_trial_complete(self, iteration: int, trials: Sequence, trial, **info) -> None:
        """Prints the last result, if it was held back."""
        if trial.trial_id in self._unprinted:
            self._print(trial.trial_id, self._unprinted[trial.trial_id])

    on_trial_error = on_trial_complete

    def _line(self, trial_id: str, result: Mapping[str, Any]) -> str:
        steps = float(metric(result, self._shown.counter) or 0)
        seconds = float(result.get("time_total_s") or 0)
        _, seconds_before = self._before.get(trial_id, (0.0, 0.0))
        if trial_id not in self._before or seconds <= seconds_before:  # Begun, or restored from a checkpoint.
            restored = result.get("iterations_since_restore", 1) != result.get("training_iteration")
            self._from[trial_id] = (steps, seconds) if restored else (0.0, 0.0)
        self._before[trial_id] = (steps, seconds)
        steps_from, seconds_from = self._from[trial_id]
        rate = (steps - steps_from) / (seconds - seconds_from) if seconds > seconds_from else math.nan
        values = (
            str(result.get("training_iteration", "")),
            f"{steps:,.0f}",
            _number(rate, ",.0f"),
            *(_number(metric(result, path), style) for _, path, style in self._shown.measures),
            duration(seconds),
        )
        return self._aligned(str(self._numbers.get(trial_id, "")), values)

    def _aligned(self, trial: str, values: Sequence[str]) -> str:
        cells = [value.rjust(width) for value, (_, width) in zip(values, self._columns, strict=True)]
        return "".join(([trial.rjust(5)] if self._num_trials > 1 else []) + cells)

    def _print(self, trial_id: str, line: str) -> None:
        if self._lines % _HEADER_EVERY == 0:
            print(self._aligned("trial", [name for name, _ in self._columns]))
        print(line, flush=True)
        self._lines += 1
        self._last_line = time.monotonic()
        self._unprinted.pop(trial_id, None)

    def _tell_missing(self, result: Mapping[str, Any]) -> None:
        for path in self._criteria:
            # Episode metrics come with the first episode that ends, evaluation with the first evaluation.
            if metric(result, path) is None and not path.startswith(("env_runners/episode_", "evaluation/")):
                tell([f"stop: {path} is not among the results, and cannot end the run until it is"])


def _set_up(settings: Mapping[str, Any], defaults: Any) -> str:
    """What a trial does before its first result."""
    compiling = "kernels are compiled where this is their first run"
    if "task" in settings:
        return f"the data; {compiling}"
    runners, each = (
        settings.get(name, getattr(defaults, name, otherwise))
        for name, otherwise in (("num_env_runners", 0), ("num_envs_per_env_runner", 1))
    )
    where = f" in {runners} env runner{'s' * (runners > 1)}" if runners else ""
    number = each * max(runners, 1)
    envs = f"{number:,} environment{'s' * (number > 1)}{where}"
    return f"{envs} and the first iteration; {compiling}"


def _number(value: Any, style: str) -> str:
    known = isinstance(value, (int, float)) and math.isfinite(value)
    return format(value, style) if known else "-"


def duration(seconds: float) -> str:
    """Seconds as ``1:02:03``, or ``2:03`` below the hour."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
