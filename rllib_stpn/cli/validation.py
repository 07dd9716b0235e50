"""What RLlib would only find out later, or never: keys and values an algorithm cannot take."""

import difflib
import functools
import importlib
import itertools
from collections.abc import Mapping
from typing import Any

from rllib_stpn.cli import grid, old_names
from rllib_stpn.cli.building import TRAINABLES, build_config, default_config
from rllib_stpn.cli.experiments import Experiment, as_number, unknown_key
from rllib_stpn.errors import UsageError
from rllib_stpn.registration import register_class

#: Attributes that stand at None until set, and what they then are.
_KINDS_BEHIND_NONE: dict[str, type] = {
    "evaluation_interval": int,
    "grad_clip": float,
    "min_time_s_per_iteration": float,
    "micro_batch_size": int,
    "minibatch_size": int,
    "seed": int,
    "train_batch_size": int,
    "train_batch_size_per_learner": int,
}
#: Numbers that may also be the word "auto".
_AUTO: dict[str, type] = {
    "evaluation_duration": int,
    "num_cpus_per_learner": float,
    "rollout_fragment_length": int,
}
_AT_LEAST_ONE = {
    "num_envs_per_env_runner",
    "train_batch_size",
    "train_batch_size_per_learner",
    "minibatch_size",
}
_AT_LEAST_ONE |= {"num_epochs", "rollout_fragment_length", "evaluation_duration"}
#: Numbers without which nothing is learned; others are switched off by None.
_NEVER_NONE = {"lr", "gamma"}
#: Attributes of an AlgorithmConfig that are no settings.
_NOT_SETTINGS = {"algo_class", "_is_frozen", "in_evaluation", "stats_cls_lookup"}
_MOST_POINTS_TO_BUILD = 64


def check(experiment: Experiment) -> None:
    """Checks an experiment's settings against its algorithm, and makes numbers of texts like ``1e-4``.

    Every point of the grid (the first 64 of them) is built once, so that what RLlib itself refuses is told
    before Ray starts.

    Raises:
        UsageError: Naming the file, the key, what was given and what is allowed.
    """
    where = experiment.where
    if experiment.restore is not None and "://" not in experiment.restore:
        experiment.restore = _checkpoint(f"{where}: restore", experiment.restore, experiment.run)
    if experiment.run in TRAINABLES:
        for point in itertools.islice(grid.points(experiment.config), _MOST_POINTS_TO_BUILD):
            try:
                build_config(experiment.run, point)
            except UsageError as error:
                raise UsageError(f"{where}: {error}") from None
        return
    import rllib_stpn

    rllib_stpn.register()
    try:
        defaults = default_config(experiment.run, experiment.base)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    experiment.config = _checked(f"{where}: config", experiment.config, defaults)
    if "env" in experiment.config:  # A Python file may have a class.
        experiment.config["env"] = grid.change(experiment.config["env"], lambda env: _env(f"{where}: env", env))
    for point in itertools.islice(grid.points(experiment.config), _MOST_POINTS_TO_BUILD):
        try:
            config = build_config(experiment.run, point, experiment.base)
            config.validate()
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{where}: config: RLlib refuses it: {_first_sentences(error)}") from error


def _checkpoint(where: str, path: str, run: str) -> str:
    from rllib_stpn.checkpoints import algorithm_name, find_checkpoint

    try:
        checkpoint = find_checkpoint(path)
        wrote = algorithm_name(checkpoint)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    if wrote != run:
        raise UsageError(f"{where}: got a checkpoint of {wrote} ({checkpoint}), allowed is one of {run}")
    return str(checkpoint.absolute())


def _checked(where: str, settings: Mapping[str, Any], defaults: Any) -> dict[str, Any]:
    known = {
        "bootstrap_truncated": True,
        "_folded_env_runners": 0,
        "model": {},
        "train_batch_size_per_learner": None,
        **vars(defaults),
    }
    known = {key: default for key, default in known.items() if key not in _NOT_SETTINGS}
    needed = _NEVER_NONE - ({"lr"} if "actor_lr" in known else set())  # SAC and its like have several rates instead
    checked = {}
    for key, value in settings.items():
        if key not in known:
            raise unknown_key(where, key, [name for name in known if not name.startswith("_")])
        check_value = functools.partial(_value, where, key, default=known[key], needed=key in needed)
        checked[key] = grid.change(value, check_value)
    new_stack = old_names.on_new_stack(dict(settings))

    def block(key: str, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if key == "model":
            return _check_model(f"{where}.model", value, new_stack)
        return _checked(f"{where}.evaluation_config", value, defaults)

    for key in ("model", "evaluation_config"):
        if key in checked:
            checked[key] = grid.change(checked[key], functools.partial(block, key))
    return checked


def _value(where: str, key: str, value: Any, default: Any, needed: bool) -> Any:
    """The value, a number where it is a number's text; or an error where it cannot be the setting's."""
    kind = _KINDS_BEHIND_NONE.get(key) or _AUTO.get(key) or type(default)
    where = f"{where}: {key}"
    if value is None:
        if (key.startswith("num_") or needed or kind is bool) and default is not None:
            raise _wrong(where, value, kind)
        return value
    if key in _AUTO and value == "auto":
        return value
    if kind is bool and not isinstance(value, bool):
        raise _wrong(where, value, kind)
    if kind in (int, float):
        if isinstance(value, list):  # A schedule; RLlib checks the rest.
            return [[as_number(n) if as_number(n) is not None else n for n in _pair(where, pair)] for pair in value]
        number = as_number(value)
        if number is None or (kind is int and number != int(number)):
            raise _wrong(where, value, kind, auto=key in _AUTO)
        if kind is int:
            number = int(number)
            least = 1 if key in _AT_LEAST_ONE else 0
            if number < least and (key.startswith("num_") or key in _AT_LEAST_ONE or key == "seed"):
                raise UsageError(f"{where}: got {value}, the least is {least}")
        return number
    if kind is dict and not isinstance(value, dict) and key != "policies":
        raise _wrong(where, value, kind)
    if kind is str and not isinstance(value, str) and key != "input_":
        raise _wrong(where, value, kind)
    return value


def _pair(where: str, pair: Any) -> list:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise UsageError(f"{where}: expected a number or a schedule [[step, value], ...], got {pair!r} in the list")
    return list(pair)


def _wrong(where: str, value: Any, kind: type, auto: bool = False) -> UsageError:
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        dict: "a mapping",
        str: "a string",
    }
    return UsageError(f"{where}: got {value!r}, allowed is {names[kind]}{' or auto' if auto else ''}")


def _check_model(where: str, model: Mapping[str, Any], new_stack: bool) -> Mapping[str, Any]:
    if model.get("custom_model") and new_stack:
        return model  # The model's own check, when the settings are built, names keys and options.
    if new_stack:
        import dataclasses

        from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

        known = {field.name for field in dataclasses.fields(DefaultModelConfig)}
        known |= {"custom_model", "custom_model_config"}
    else:
        from ray.rllib.models.catalog import MODEL_DEFAULTS

        known = set(MODEL_DEFAULTS)
    for key in model:
        if key not in known:
            raise unknown_key(where, key, sorted(known))
    return model


def _env(where: str, env: Any) -> str:
    """The environment's id, if gymnasium or Tune knows it, as far as that can be told without making one.

    A class is registered by its path, since RLlib's new env runners take no paths.
    """
    import gymnasium
    import stpn_envs
    from ray.tune.registry import ENV_CREATOR, _global_registry

    if not isinstance(env, str) or not env:
        raise UsageError(f"{where}: expected the id of an environment, got {env!r}")
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
    elif env.startswith("ALE/"):
        importlib.import_module("ale_py")
    try:
        gymnasium.spec(env_id)
    except gymnasium.error.Error as error:
        known = [*gymnasium.registry, *stpn_envs.ENV_IDS, "StatelessCartPole"]
        close = difflib.get_close_matches(env_id, known, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(close)}?" if close and "Did you mean" not in str(error) else ""
        raise UsageError(f"{where}: {env!r}: {error}{hint}") from None
    return env


def _first_sentences(error: Exception, limit: int = 400) -> str:
    text = " ".join(str(error.args[0] if error.args else error).split())
    return text if len(text) <= limit else f"{text[:limit]}..."
