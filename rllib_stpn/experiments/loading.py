"""Experiments as their YAML file tells them: loaded, translated, with the command line's wishes on top.

Only what can be judged without RLlib is judged here; :mod:`rllib_stpn.experiments.validation` does the rest.
"""

import dataclasses
import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_stpn.errors import UsageError, one_of
from rllib_stpn.experiments import searches, yaml_file
from rllib_stpn.experiments.old import keys as old_keys
from rllib_stpn.experiments.old import names as old_names
from rllib_stpn.experiments.old import values as old_values

if TYPE_CHECKING:
    from ray.rllib.algorithms import AlgorithmConfig

CHECKPOINT_KEYS = {
    "checkpoint_frequency": int,
    "checkpoint_at_end": bool,
    "num_to_keep": int,
    "checkpoint_score_attribute": str,
    "checkpoint_score_order": str,
}
#: Arguments of schedulers that hold settings.
MUTATIONS = ("hyperparam_mutations", "hyperparam_bounds")
SCHEDULERS = ("fifo", "asha", "pbt", "pb2")
#: Metrics at the top of a result; the others are paths, such as ``env_runners/episode_return_mean``.
TOP_METRICS = (
    "num_env_steps_sampled_lifetime",
    "num_env_steps_sampled_lifetime_throughput",
    "num_training_step_calls_per_iteration",
    "time_since_restore",
    "time_this_iter_s",
    "time_total_s",
    "training_iteration",
    "iterations_since_restore",
)
#: Where the paths of the others begin, on RLlib's new API stack and on its old one.
METRIC_ROOTS = (
    "env_runners",
    "evaluation",
    "learners",
    "timers",
    "env_runner_group",
    "fault_tolerance",
    "replay_buffer",
    "perf",
)
METRIC_ROOTS_OLD_STACK = ("env_runners", "evaluation", "info", "counters", "custom_metrics", "timers", "perf")
#: Metrics at the top of a result of the old stack alone.
TOP_METRICS_OLD_STACK = ("num_env_steps_trained", "timesteps_total", "agent_timesteps_total", "num_agent_steps_trained")
#: The same of supervised training, beside Tune's own. A criterion is reached from below: no losses, and no test data.
SUPERVISED_METRICS = ("train_accuracy", "validation_accuracy", "num_sequences_trained_lifetime")


def subject(run: str) -> str:
    """The setting that says what is learned: ``task`` of supervised training, ``env`` of all else."""
    return "task" if run == "Supervised" else "env"


@dataclasses.dataclass
class Experiment:
    """One experiment of a file.

    Attributes:
        where: What errors call it: the file and the experiment's name.
        name: The experiment's name, which is that of its directory.
        run: The algorithm's name.
        config: The algorithm's settings, `env` (or `task`) included, under today's names; `grid_search` still in it.
        stop: Metric path -> the value at which a trial ends.
        checkpoint: The arguments of Tune's ``CheckpointConfig``.
        num_samples: How often each point of the grid is run.
        max_failures: How often a failed trial is tried again, from its last checkpoint.
        storage_path: The directory (or URI) that holds the experiment's directory.
        notes: What was translated, one line each, for the user.
        base: The config of a Python file, which `config` is put on; None stands for the algorithm's default.
        restore: The checkpoint that trials begin with.
        resume: Whether to go on with the run before.
        scheduler: ``fifo``, ``asha``, ``pbt`` or ``pb2``.
        scheduler_config: The scheduler's arguments, as Tune's class has them.
        folded: `config` fitted to the machines that it runs on; None before.
        written: The settings as they stand in the file, under any names.
    """

    where: str
    name: str
    run: str
    config: dict[str, Any]
    stop: dict[str, float] = dataclasses.field(default_factory=dict)
    checkpoint: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_samples: int = 1
    max_failures: int = 0
    storage_path: str = "~/ray_results"
    notes: list[str] = dataclasses.field(default_factory=list)
    base: "AlgorithmConfig | None" = None
    restore: str | None = None
    resume: bool = False
    scheduler: str = "fifo"
    scheduler_config: dict[str, Any] = dataclasses.field(default_factory=dict)
    folded: dict[str, Any] | None = None
    written: dict[str, Any] | None = None

    @property
    def new_stack(self) -> bool:
        """Whether it runs on RLlib's new API stack."""
        base = {} if self.base is None else {key: getattr(self.base, key) for key in old_names.SWITCHES}
        return old_names.on_new_stack(base | self.config)

    @property
    def num_trials(self) -> int:
        """How many trials it has."""
        return self.num_samples * searches.size(self.config)


@dataclasses.dataclass(frozen=True)
class Overrides:
    """What the command line puts in place of an experiment's own; None leaves it."""

    name: str | None = None
    run: str | None = None
    env: str | None = None
    stop: dict[str, Any] | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_samples: int | None = None
    max_failures: int | None = None
    checkpoint_frequency: int | None = None
    checkpoints_kept: int | None = None
    storage_path: str | None = None
    restore: str | None = None
    resume: bool = False
    scheduler: str | None = None
    scheduler_config: dict[str, Any] | None = None

    def apply(self, experiment: Experiment) -> Experiment:
        """A new experiment; its notes are those of both.

        Raises:
            UsageError: A value no experiment can have.
        """
        changed = dataclasses.replace(experiment, notes=list(experiment.notes))
        if self.name is not None:
            changed.name = _name("--experiment-name", self.name)
        if self.run is not None:
            if changed.base is not None and self.run != changed.run:
                raise UsageError(f"--run: got {self.run!r}, and the config in {changed.where} is one of {changed.run}")
            changed.run = self.run
        if self.scheduler is not None:
            scheduler, notes = _scheduler("--scheduler", self.scheduler)
            if scheduler != changed.scheduler:
                changed.scheduler, changed.scheduler_config = scheduler, {}  # Those were for another one.
            changed.notes += notes
        for option in ("storage_path", "restore", "scheduler_config"):
            if getattr(self, option) is not None:
                setattr(changed, option, getattr(self, option))
        changed.resume = self.resume
        if self.num_samples is not None:
            changed.num_samples = _integer("--num-samples", self.num_samples, at_least=1)
        if self.max_failures is not None:
            changed.max_failures = _integer("--max-failures", self.max_failures, at_least=-1)
        if self.checkpoint_frequency is not None:
            frequency = _integer("--checkpoint-freq", self.checkpoint_frequency, at_least=0)
            changed.checkpoint = {**changed.checkpoint, "checkpoint_frequency": frequency}
        if self.checkpoints_kept is not None:
            kept = _integer("--keep-checkpoints-num", self.checkpoints_kept, at_least=1)
            changed.checkpoint = {**changed.checkpoint, "num_to_keep": kept}
        self._over_config(experiment, changed)
        wanted = subject(changed.run)
        if wanted not in changed.config and changed.base is None and not {"env", "task"} & set(changed.config):
            raise UsageError(f"{changed.where}: {wanted!r} is missing")
        if changed.config.get("env", "") is None and changed.base is None:
            raise UsageError(f"{changed.where}: env: expected the id of an environment, got nothing")
        if self.stop is not None:
            changed.stop, notes = _stop("--stop", self.stop, changed.run, changed.new_stack)
            changed.notes += notes
        changed.scheduler_config, notes = _scheduler_config(changed)
        changed.notes += notes
        return changed

    def _over_config(self, experiment: Experiment, changed: Experiment) -> None:
        """Puts settings over those of the file, both translated for the algorithm and the API stack that come out."""
        switches = {key: self.config[key] for key in old_names.SWITCHES if key in self.config}
        new_stack = dataclasses.replace(changed, config=changed.config | switches).new_stack
        if changed.written is not None and (changed.run, new_stack) != (experiment.run, experiment.new_stack):
            where = f"{changed.where}: config"
            changed.config, notes = old_names.translate_config(where, changed.written, changed.run, new_stack)
            check_grids(where, changed.config)
            changed.notes = [note for note in changed.notes if not note.startswith(where)] + notes
        config, notes = old_names.translate_config("--config", self.config, changed.run, new_stack)
        check_grids("--config", config)
        changed.config = searches.merge(changed.config, config)
        changed.notes += notes
        if self.env is not None:
            env, notes = old_values.translate("--env", {"env": self.env}, new_stack)
            changed.config[subject(changed.run)] = env["env"]
            changed.notes += notes


def from_flags(run: str, env: str) -> Experiment:
    """The experiment of ``rllib train --run RUN --env ENV``: the algorithm's defaults, until interrupted."""
    name = f"{run}_{env}".replace("/", "-").replace(":", "-")
    return Experiment(where="command line", name=name, run=run, config={subject(run): env})


def load(path: Path) -> list[Experiment]:
    """Reads the experiments of a YAML file, or the one of a Python file.

    Args:
        path: The file: ``{experiment name: {env, run, stop, config, ...}}``, or Python that makes an
            ``AlgorithmConfig`` and calls it ``config``.

    Raises:
        UsageError: The file is missing or no YAML, a key is missing or unknown, a value has the wrong type.
    """
    if path.suffix == ".py":
        return [_from_python(path)]
    tree, notes = _read(path)
    if not isinstance(tree, dict) or not tree:
        raise UsageError(f"{path}: expected a mapping of experiment names, got {_kind(tree)}")
    misplaced = old_keys.setting_at_the_top(tree, old_names.settings())
    if misplaced is not None:
        raise UsageError(
            f"{path}: {misplaced!r} stands at the top, where the experiment's name belongs: "
            "NAME: {run: ALGORITHM, env: ID, stop: {...}, config: {...}}"
        )
    loaded = [_experiment(path, name, block) for name, block in tree.items()]
    loaded[0].notes[:0] = notes
    return loaded


def _from_python(path: Path) -> Experiment:
    from rllib_stpn.experiments import python_file

    base, config, stop = python_file.read(path)
    run = base.algo_class.__name__
    experiment = Experiment(where=str(path), name=path.stem, run=run, config=config, base=base)
    experiment.stop, experiment.notes = _stop(f"{path}: stop", stop, run, experiment.new_stack, own_metrics=True)
    return experiment


def _read(path: Path) -> tuple[Any, list[str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file{_neighbours(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UsageError(f"{path}: cannot be read: {reason}") from None
    return yaml_file.parse(path, text)


def _neighbours(path: Path) -> str:
    from rllib_stpn.experiments import examples

    if path.stem in examples.names():
        return f"; the example of this name is run by: rllib example run {path.stem}"
    if not path.parent.is_dir():
        return ""
    close = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1, cutoff=0.5)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _experiment(path: Path, name: Any, block: Any) -> Experiment:
    where = f"{path}: {name}"
    name = _name(f"{path}: experiment name", name)
    if not isinstance(block, dict):
        raise UsageError(f"{where}: expected a mapping with run, env (or task), stop and config, got {_kind(block)}")
    block, notes = old_names.translate_experiment(where, block)
    allowed = (
        "run",
        "env",
        "task",
        "stop",
        "config",
        "checkpoint_config",
        "num_samples",
        "max_failures",
        "storage_path",
        "restore",
        "scheduler",
        "scheduler_config",
    )
    for key in block:
        if key not in allowed:
            raise unknown_key(where, key, allowed, list_all=True)
    config = block.get("config")
    if config is None:
        config = {}
    if not isinstance(config, dict):
        raise UsageError(f"{where}: config: expected a mapping of settings, got {_kind(config)}")
    config = dict(config)
    for key in ("env", "task"):
        if key in block:
            if key in config and config[key] != block[key]:
                raise UsageError(f"{where}: {key} is given twice: {block[key]!r} and, in config, {config[key]!r}")
            config[key] = block[key]
    if "run" not in block:
        raise UsageError(f"{where}: 'run' is missing")
    if not isinstance(block["run"], str):
        raise UsageError(f"{where}: run: expected the name of an algorithm, got {_kind(block['run'])}")
    written = config
    config, more = old_names.translate_config(f"{where}: config", config, block["run"])
    check_grids(f"{where}: config", config)
    stop, stop_notes = _stop(f"{where}: stop", block.get("stop"), block["run"], old_names.on_new_stack(config))
    storage_path = block.get("storage_path", Experiment.storage_path)
    for key, path in (("storage_path", storage_path), ("restore", block.get("restore", ""))):
        if not isinstance(path, str):
            raise UsageError(f"{where}: {key}: expected a directory, got {_kind(path)}")
    scheduler, more_notes = _scheduler(f"{where}: scheduler", block.get("scheduler", "fifo"))
    scheduler_config = block.get("scheduler_config", {})
    if not isinstance(scheduler_config, dict):
        raise UsageError(f"{where}: scheduler_config: expected a mapping of arguments, got {_kind(scheduler_config)}")
    return Experiment(
        where=where,
        name=name,
        run=block["run"],
        config=config,
        stop=stop,
        checkpoint=_checkpoint(
            f"{where}: checkpoint_config", block.get("checkpoint_config"), block["run"], old_names.on_new_stack(config)
        ),
        num_samples=_integer(f"{where}: num_samples", block.get("num_samples", 1), at_least=1),
        max_failures=_integer(f"{where}: max_failures", block.get("max_failures", 0), at_least=-1),
        storage_path=storage_path,
        restore=block.get("restore"),
        scheduler=scheduler,
        scheduler_config=scheduler_config,
        notes=notes + more + stop_notes + more_notes,
        written=written,
    )


def _scheduler(where: str, name: Any) -> tuple[str, list[str]]:
    scheduler, notes = old_keys.scheduler(where, name)
    if scheduler not in SCHEDULERS:
        raise one_of(where, name, SCHEDULERS)
    return scheduler, notes


def _name(where: str, name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or "/" in name or name in (".", ".."):
        raise UsageError(f"{where}: expected the name of a directory, got {name!r}")
    return name


def _stop(
    where: str, stop: Any, run: str, new_stack: bool, own_metrics: bool = False
) -> tuple[dict[str, float], list[str]]:
    if stop is None:
        return {}, []
    if not isinstance(stop, dict):
        raise UsageError(f"{where}: expected a mapping of metrics to numbers, got {_kind(stop)}")
    stop, notes = old_names.translate_stop(where, stop, new_stack)
    criteria = {}
    for metric, value in stop.items():
        _check_metric(where, metric, run, new_stack, own_metrics)
        number = as_number(value)
        if number is None or math.isnan(number):
            raise UsageError(f"{where}: {metric}: expected a number, got {_kind(value)}")
        criteria[metric] = number
    return criteria, notes


def _check_metric(where: str, metric: Any, run: str, new_stack: bool, own_metrics: bool = False) -> None:
    """Refuses a metric that no result can have; ``own_metrics``: callbacks of the user's own may add some."""
    known: tuple[str, ...] = (*TOP_METRICS, *old_names.METRIC_SHORTHANDS, "env_runners/episode_len_mean")
    known += () if new_stack else TOP_METRICS_OLD_STACK
    if subject(run) == "task":
        known = (*SUPERVISED_METRICS, *(name for name in TOP_METRICS if not name.startswith("num_")))
    elif isinstance(metric, str) and "/" in metric:
        root = metric.partition("/")[0]
        roots = METRIC_ROOTS if new_stack else METRIC_ROOTS_OLD_STACK
        if own_metrics or root in roots:
            return
        raise UsageError(f"{where}: {metric}: no result has {root!r}; paths begin with {', '.join(roots)}")
    if metric not in known and not (own_metrics and isinstance(metric, str)):
        raise unknown_key(where, metric, known, noun="metric", list_all=True)


def _scheduler_config(experiment: Experiment) -> tuple[dict[str, Any], list[str]]:
    """A scheduler's arguments with the settings and metrics in them under today's names."""
    where = f"{experiment.where}: scheduler_config"
    arguments, notes = dict(experiment.scheduler_config), []
    for key in MUTATIONS:
        if isinstance(arguments.get(key), dict):
            inside = f"{where}: {key}"
            arguments[key], more = old_names.translate_config(
                inside, arguments[key], experiment.run, experiment.new_stack
            )
            notes += more
    for key in ("metric", "time_attr"):
        if isinstance(arguments.get(key), str) and subject(experiment.run) == "env":
            named, more = old_names.translate_stop(f"{where}: {key}", {arguments[key]: 0}, experiment.new_stack)
            (arguments[key],) = named
            _check_metric(f"{where}: {key}", arguments[key], experiment.run, experiment.new_stack)
            notes += more
    return arguments, notes


def _checkpoint(where: str, block: Any, run: str, new_stack: bool) -> dict[str, Any]:
    if block is None:
        return {}
    if not isinstance(block, dict):
        raise UsageError(f"{where}: expected a mapping, got {_kind(block)}")
    for key, value in block.items():
        if key not in CHECKPOINT_KEYS:
            raise unknown_key(where, key, CHECKPOINT_KEYS, list_all=True)
        if value is None:
            continue
        kind = CHECKPOINT_KEYS[key]
        if kind is int:
            _integer(f"{where}: {key}", value, at_least=1 if key == "num_to_keep" else 0)
        elif not isinstance(value, kind):
            expected = "true or false" if kind is bool else "a string"
            raise UsageError(f"{where}: {key}: expected {expected}, got {_kind(value)}")
    order = block.get("checkpoint_score_order")
    if order not in (None, "min", "max"):
        raise UsageError(f"{where}: checkpoint_score_order: got {order!r}, allowed are 'min', 'max'")
    block = {key: value for key, value in block.items() if value is not None}
    score = block.get("checkpoint_score_attribute")
    if score and subject(run) == "env":
        if score.startswith("min-"):  # as Tune wrote it once
            score, block["checkpoint_score_order"] = score.removeprefix("min-"), "min"
        (score,) = old_names.translate_stop(where, {score: 0.0}, new_stack)[0]
        _check_metric(f"{where}: checkpoint_score_attribute", score, run, new_stack)
        block["checkpoint_score_attribute"] = score
    return block


def check_grids(where: str, config: dict[str, Any]) -> None:
    """Checks every search, and makes numbers of the ends of ranges, which YAML may read as texts."""
    for path, block in searches.grids(config):
        key = ".".join(map(str, path))
        kind = searches.kind(block)
        if kind is None:
            others = ", ".join(repr(k) for k in block if k != searches.GRID)
            raise UsageError(f"{where}: {key}: grid_search stands alone in its mapping, found {others} beside it")
        values = block[kind]
        if kind in searches.RANGES:
            block[kind] = _range(f"{where}: {key}: {kind}", kind, values)
        elif not isinstance(values, list) or not values:
            raise UsageError(f"{where}: {key}: {kind}: expected a list of values, got {_kind(values)}")


def _range(where: str, kind: str, values: Any) -> list[float]:
    ends = [as_number(value) for value in values] if isinstance(values, list) else []
    low, high = ends if len(ends) == 2 else (None, None)
    whole = kind != "randint" or all(isinstance(end, int) for end in ends)
    if low is None or high is None or not low < high or not whole or (kind == "loguniform" and low <= 0):
        numbers = {"randint": "whole numbers", "loguniform": "numbers above 0"}.get(kind, "numbers")
        raise UsageError(f"{where}: got {values!r}, allowed are two {numbers} [low, high] with low < high")
    return [low, high]


def as_number(value: Any) -> float | int | None:
    """``value`` as a number, None where it is none; YAML reads ``1e6`` as a string, and that counts too."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
        return int(value) if value.is_integer() else value
    return value if isinstance(value, (int, float)) else None


def _integer(where: str, value: Any, at_least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        given = value if isinstance(value, int) else _kind(value)
        raise UsageError(f"{where}: expected a whole number of at least {at_least}, got {given}")
    return value


def unknown_key(where: str, key: Any, allowed: Iterable[str], noun: str = "key", list_all: bool = False) -> UsageError:
    """The error for a key that does not exist, with the nearest ones that do.

    Args:
        where: What holds the key.
        key: As given.
        allowed: The keys that exist.
        noun: What a key is here.
        list_all: Whether to list ``allowed`` where none of them is near.
    """
    allowed = list(allowed)
    names = {name.lower(): name for name in allowed}
    given = str(key).lower()
    close = [name for low, name in names.items() if len(given) > 2 and low.startswith(given)][:3]
    close = close or [names[near] for near in difflib.get_close_matches(given, names, n=3, cutoff=0.6)]
    message = f"{where}: unknown {noun} {key!r}"
    if close:
        return UsageError(f"{message}; did you mean {' or '.join(close)}?")
    return UsageError(f"{message}; allowed are {', '.join(allowed)}" if list_all else message)


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "the string", type(None): "nothing"}
    if isinstance(value, (dict, list)) or value is None:
        return names[type(value)]
    return f"{names.get(type(value), '')} {value!r}".strip()
