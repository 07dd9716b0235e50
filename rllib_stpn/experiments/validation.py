"""Checks an experiment's settings against its algorithm. RLlib makes some of these checks later, and some never."""

import dataclasses
import functools
import importlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from rllib_stpn import checks
from rllib_stpn.errors import UsageError, did_you_mean, unknown
from rllib_stpn.experiments import (
    atari,
    by_path,
    compatibility,
    neighbours,
    never_read,
    ranges,
    recorded_data,
    searches,
)
from rllib_stpn.experiments.building import TRAINABLES, build_config, default_config, first_sentences, validate
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.old import names as old_names
from rllib_stpn.experiments.previous import OFF, PREVIOUS_INPUTS
from rllib_stpn.ray_names import register_class

_E = TypeVar("_E", bound=Experiment)
#: Numbers that are needed to learn; others are switched off by None.
_NEVER_NONE = {"lr", "gamma"}
#: Attributes of an AlgorithmConfig that are no settings.
_NOT_SETTINGS = {"algo_class", "_is_frozen", "in_evaluation", "stats_cls_lookup"}
_MOST_POINTS_TO_BUILD = 64
_RETURN_OF_EVALUATION = "evaluation/env_runners/episode_return_mean"
#: How metrics of env runners begin that are not told for each agent or module.
_NUMBERS_ALONE = ("episode_", "num_env_steps", "num_episodes")
#: Settings that hold others whose keys RLlib does not check.
_HANDED_ON = (
    "replay_buffer_config",
    "q_model_config",
    "policy_model_config",
    "exploration_config",
    "optimization",
)
#: Settings with a check of their own.
_BLOCKS = ("env", "model", "evaluation_config", "algorithm_config_overrides_per_module", *_HANDED_ON)


def check(experiment: _E) -> _E:
    """Checks an experiment's settings against its algorithm, and makes numbers of texts like ``1e-4``.

    The configuration of every point of the grid (the first 64 of them) is built once, and so are those that a scheduler
    may change them to. An error that RLlib would raise in a trial is raised here, before Ray starts.

    Returns:
        The experiment as it is run; its notes also name the settings that are taken otherwise than they are written, or
        not at all.

    Raises:
        UsageError: Naming the file, the key, what was given and what is allowed.
    """
    where = experiment.where
    if experiment.directory is not None:
        neighbours.find_in(experiment.directory)
    restored: list[str] = []
    if experiment.restore is not None and "://" not in experiment.restore:
        restore = _checkpoint(f"{where}: restore", experiment.restore, experiment.algorithm, restored)
        experiment = dataclasses.replace(experiment, restore=restore)
    if experiment.algorithm in TRAINABLES:
        for point in itertools.islice(searches.points(experiment.config), _MOST_POINTS_TO_BUILD):
            try:
                build_config(experiment.algorithm, point)
            except UsageError as error:
                raise UsageError(f"{where}: {error}") from None
        _check_mutations_of_supervised(experiment)
        return experiment.replaced(restored)
    import rllib_stpn

    rllib_stpn.register()
    try:
        defaults = default_config(experiment.algorithm, experiment.base)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    config, notes = never_read.without_deprecated(f"{where}: config", experiment.config, experiment.algorithm)
    config = _checked(f"{where}: config", config, defaults, experiment.new_stack)
    if experiment.new_stack and experiment.base is None:
        config, more = recorded_data.settle(f"{where}: config", config, experiment.algorithm)
        notes += more
    experiment = dataclasses.replace(experiment, config=config)
    _check_goals(experiment, defaults)
    notes += _without_effect(experiment, defaults)
    mutations, more = _checked_mutations(experiment, defaults)
    notes += more
    begun = searches.merge(mutations, experiment.config)  # Tune draws what config does not have
    if experiment.scheduler == "pb2":  # It draws fractions, also for whole numbers.
        experiment = dataclasses.replace(experiment, config=begun)
    if mutations:
        changed = f"{where}: scheduler_config: {_mutations_key(experiment)}"
        for point in itertools.islice(searches.points(searches.merge(begun, mutations)), _MOST_POINTS_TO_BUILD):
            _build(f"{changed}: {', '.join(f'{name} {point[name]}' for name in mutations)}", experiment, point)
    spaces: compatibility.Spaces = {}
    for point in itertools.islice(searches.points(begun), _MOST_POINTS_TO_BUILD):
        try:
            _, more = atari.fit(point, experiment.new_stack, experiment.base is not None)
        except UsageError as error:
            raise UsageError(f"{where}: config: {error}") from None
        notes += [f"{where}: config: {note}" for note in more]
        config = _build(f"{where}: config", experiment, point)
        try:
            more = compatibility.check(config, prepared=experiment.base is None, known=spaces)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
        notes += [f"{where}: {note}" for note in more]
    notes = [*restored, *notes]
    return experiment.replaced(note for note in dict.fromkeys(notes) if note not in experiment.notes)


def _build(where: str, experiment: Experiment, point: Mapping[str, Any]) -> Any:
    try:
        config = build_config(experiment.algorithm, point, experiment.base)
    except UsageError as error:
        raise UsageError(f"{experiment.where}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{where}: RLlib refuses it: {first_sentences(error)}") from error
    try:
        validate(config)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return config


def _mutations_key(experiment: Experiment) -> str:
    return "hyperparam_bounds" if experiment.scheduler == "pb2" else "hyperparam_mutations"


def _checked_mutations(experiment: Experiment, defaults: Any) -> tuple[dict[str, Any], list[str]]:
    """The settings that a scheduler gives to trials, as searches, and a note for each without effect."""
    key = _mutations_key(experiment)
    given = experiment.scheduler_config.get(key)
    if experiment.scheduler not in ("pbt", "pb2") or not isinstance(given, dict):
        return {}, []
    where = f"{experiment.where}: scheduler_config: {key}"
    drawn = _as_searches(given, bounds=experiment.scheduler == "pb2")
    searches.check(where, drawn)
    drawn = _checked(where, drawn, defaults, experiment.new_stack)
    sizes = sorted(set(drawn.get("model") or {}) - {"max_seq_len"})
    if sizes:
        raise _no_other("model", f"{where}: model: {sizes[0]}")
    return drawn, never_read.notes(where, drawn, experiment.algorithm) if experiment.new_stack else []


def _check_mutations_of_supervised(experiment: Experiment) -> None:
    """Refuses that a scheduler changes what a trial of supervised training shares with those it goes on from."""
    from rllib_stpn.supervised.settings import SAME_IN_A_CHECKPOINT

    key = _mutations_key(experiment)
    given = experiment.scheduler_config.get(key)
    if experiment.scheduler not in ("pbt", "pb2") or not isinstance(given, dict):
        return
    for setting in SAME_IN_A_CHECKPOINT:
        if setting in given:
            within = f": {min(given[setting])}" if isinstance(given[setting], dict) and given[setting] else ""
            where = f"{experiment.where}: scheduler_config: {key}: {setting}{within}"
            raise _no_other(setting.removesuffix("_config"), where)


def _no_other(what: str, where: str) -> UsageError:
    return UsageError(
        f"{where}: a trial goes on with the weights of another, which fit no other {what}; "
        f"a grid_search in config compares {what}s"
    )


def _as_searches(mutations: Mapping[str, Any], bounds: bool) -> dict[str, Any]:
    """Mutations as searches. Tune takes bare lists: of values for PBT, of two bounds for PB2."""
    drawn: dict[str, Any] = {}
    for name, value in mutations.items():
        if isinstance(value, dict) and not searches.is_search(value):
            drawn[name] = _as_searches(value, bounds)
        elif isinstance(value, list) and bounds and len(value) == 2:
            low, high = (checks.as_number(end) for end in value)
            if isinstance(low, int) and isinstance(high, int):
                drawn[name] = {"randint": [low, high + 1]}
            else:
                drawn[name] = {"uniform": [low, high]}
        else:
            drawn[name] = {"choice": value} if isinstance(value, list) else value
    return drawn


def _check_goals(experiment: Experiment, defaults: Any) -> None:
    """Refuses metrics that no result has: of stop criteria, of the scheduler, of the score of checkpoints."""
    from ray.rllib.utils import metrics

    interval = experiment.config.get("evaluation_interval", defaults.evaluation_interval)
    of_env_runners = {value for value in vars(metrics).values() if isinstance(value, str)}
    of_env_runners |= {"custom_metrics", "energy", "episodes_this_iter", "hist_stats", "sampler_perf"}
    callbacks = experiment.config.get("callbacks_class")
    of_a_class = callbacks not in (None, "energy") and not isinstance(callbacks, dict)
    own_metrics = experiment.base is not None or of_a_class
    for key, path in _metrics(experiment):
        root, *below = path.split("/")
        where = f"{experiment.where}: {key}: {path}"
        if root == "evaluation" and not any(searches.choices(interval)):
            raise UsageError(f"{where}: without evaluation_interval there is no evaluation")
        of_own_function = "custom_evaluation_function" in experiment.config
        if root == "evaluation" and experiment.new_stack and not of_own_function and below[:1] != ["env_runners"]:
            raise UsageError(f"{where}: allowed are paths in evaluation/env_runners, such as {_RETURN_OF_EVALUATION}")
        if root == "evaluation" and below[:1] == ["env_runners"]:
            root, *below = below
        if root == "env_runners" and not own_metrics and (not below or below[0] not in of_env_runners):
            known = [name for name in sorted(of_env_runners) if name.startswith(("episode", "num_", "agent", "module"))]
            raise unknown(where, "metric", "/".join(below[:1]), known, "RLlib")
        if root == "env_runners" and below[1:] and below[0].startswith(_NUMBERS_ALONE):
            raise UsageError(f"{where}: {below[0]} is a number, with nothing below it")


def _metrics(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """The metrics that an experiment goes by, each with the key that names it."""
    yield from (("stop", path) for path in experiment.stop)
    for name in ("metric", "time_attr"):
        if isinstance(path := experiment.scheduler_config.get(name), str):
            yield f"scheduler_config: {name}", path
    if path := experiment.checkpoint.get("checkpoint_score_attribute"):
        yield "checkpoint_config: checkpoint_score_attribute", path


def _without_effect(experiment: Experiment, defaults: Any) -> list[str]:
    """A note for each setting that nothing reads."""
    if not experiment.new_stack:
        return []
    where = f"{experiment.where}: config"
    notes = never_read.notes(where, experiment.config, experiment.algorithm)
    if experiment.base is not None:
        usual = vars(experiment.base.algo_class.get_default_config())
        known = never_read.reasons(experiment.algorithm)
        changed = [key for key in known if key in usual and getattr(defaults, key, usual[key]) != usual[key]]
        notes += never_read.notes(where, changed, experiment.algorithm)
    for block in searches.choices(experiment.config.get("evaluation_config")):
        notes += never_read.notes(f"{where}.evaluation_config", block or {}, experiment.algorithm)
    for block in searches.choices(experiment.config.get("model")):
        notes += never_read.of_model(f"{where}.model", block or {})
    return notes


def _checkpoint(where: str, path: str, run: str, notes: list[str]) -> str:
    from rllib_stpn.agents.checkpoints import algorithm_name, check_whole, find_checkpoint

    try:
        checkpoint = find_checkpoint(path, notes.append)
        check_whole(checkpoint)
        wrote = algorithm_name(checkpoint)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    if wrote != run:
        raise UsageError(f"{where}: got a checkpoint of {wrote} ({checkpoint}), allowed is one of {run}")
    return str(checkpoint.absolute())


def _checked(where: str, settings: Mapping[str, Any], defaults: Any, new_stack: bool) -> dict[str, Any]:
    known = {
        "bootstrap_truncated": True,
        "_folded_env_runners": 0,
        "model": {},
        "train_batch_size_per_learner": None,
        **(dict.fromkeys(by_path.CONNECTORS) if new_stack else {}),
        **vars(defaults),
    }
    known = {key: default for key, default in known.items() if key not in _NOT_SETTINGS}
    needed = _NEVER_NONE - ({"lr"} if "actor_lr" in known else set())  # SAC and its like have several rates instead

    def block(key: str, value: Any) -> Any:
        if key == "env":
            return _env(f"{where}: env", value) if value is not None else None  # A Python file may have a class.
        if not isinstance(value, dict):
            return value
        if key == "model":
            return _check_model(f"{where}.model", value, new_stack)
        if key == "evaluation_config":
            return _checked(f"{where}.evaluation_config", value, defaults, new_stack)
        if key in _HANDED_ON:
            ranges.check_block(f"{where}.{key}", key, value, known[key])
            return value
        return {
            each: _checked(f"{where}.{key}.{each}", below, defaults, new_stack) if isinstance(below, dict) else below
            for each, below in value.items()
        }

    checked = {}
    for key, value in settings.items():
        if key not in known:
            if key in old_names.CONFIG_REFUSED:
                raise UsageError(f"{where}: got the unknown key {key!r}: {old_names.CONFIG_REFUSED[key]}")
            gone = {*never_read.deprecated(defaults), *old_names.CONFIG_DROPPED}
            names = [name for name in known if not name.startswith("_") and name not in gone]
            raise unknown(where, "key", key, names, "RLlib")
        if searches.kind(value) in ("uniform", "loguniform") and ranges.kind_of(key, known[key]) is int:
            raise UsageError(f"{where}: {key}: {searches.kind(value)} draws fractions, allowed are randint and choice")
        check_value = functools.partial(_value, where, key, default=known[key], needed=key in needed)
        checked[key] = searches.change(value, check_value)
        if key in _BLOCKS:
            checked[key] = searches.change(checked[key], functools.partial(block, key))
    return checked


def _value(where: str, key: str, value: Any, default: Any, needed: bool) -> Any:
    """The value, as a number if it is the text of one; raises if the setting cannot have it."""
    kind = ranges.kind_of(key, default)
    where = f"{where}: {key}"
    if value is None:
        if needed or not ranges.may_be_none(key, default, kind):
            raise ranges.wrong(where, key, value, kind)
        return value
    return ranges.check(where, key, value, kind)


def _check_model(where: str, model: Mapping[str, Any], new_stack: bool) -> Mapping[str, Any]:
    for named in searches.choices(model.get("custom_model")):
        if named is not None and not (isinstance(named, str) and named):
            raise UsageError(f"{where}: custom_model: got {named!r}, allowed is the name of a layer, or its path")
    refused = [key for key in model if new_stack and key in old_names.MODEL_REFUSED and model[key]]
    if refused:
        raise UsageError(f"{where}: {refused[0]}: got {model[refused[0]]!r}: {old_names.MODEL_REFUSED[refused[0]]}")
    for key in PREVIOUS_INPUTS if new_stack else ():
        for value in searches.choices(model.get(key, False)):
            if value not in (True, *OFF):
                raise ranges.wrong(f"{where}: {key}", key, value, bool)
    ranges.check_model(where, model)
    if model.get("custom_model") and new_stack:
        return model  # The model's own check, when the settings are built, names keys and options.
    if new_stack:
        from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

        known = {field.name for field in dataclasses.fields(DefaultModelConfig)}
        known |= {"custom_model", "custom_model_config", *PREVIOUS_INPUTS}
    else:
        from ray.rllib.models.catalog import MODEL_DEFAULTS

        known = set(MODEL_DEFAULTS)
    for key in model:
        if key not in known and not (new_stack and key in old_names.MODEL_REFUSED):
            raise unknown(where, "key", key, sorted(known), "RLlib")
    return model


def _env(where: str, env: Any) -> str:
    """The environment's id, if gymnasium or Tune knows it; the environment is not made.

    The path of a class is registered as an id, since RLlib's new env runners take no paths.
    """
    import gymnasium
    import stpn_envs
    from ray.tune.registry import ENV_CREATOR, _global_registry

    if not isinstance(env, str) or not env:
        raise UsageError(f"{where}: got {env!r}, allowed is the id of an environment")
    if _global_registry.contains(ENV_CREATOR, env):
        return env
    try:
        if register_class(env):
            return env
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    module, _, env_id = env.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(f"{where}: {env!r}: module {module!r} cannot be imported: {error}") from error
    if atari.is_a_game(env):
        return env
    try:
        gymnasium.spec(env_id)
    except gymnasium.error.Error as error:
        known = {*gymnasium.registry, *stpn_envs.ENV_IDS, "StatelessCartPole"}
        of_version = (gymnasium.error.VersionNotFound, gymnasium.error.DeprecatedEnv)
        told = isinstance(error, of_version) or "Did you mean" in str(error)
        hint = "" if told else did_you_mean(env_id, sorted(known))
        raise UsageError(f"{where}: {env!r}: {error}{hint}") from None
    return env
