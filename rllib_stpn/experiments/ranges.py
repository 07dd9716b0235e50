"""The type and range of every setting, where RLlib itself takes whatever it is given.

A setting's type is that of its default; the tables here have the others, the ranges of numbers, and the words that a
setting may have.
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any

from rllib_stpn import checks
from rllib_stpn.errors import UsageError, one_of, unknown
from rllib_stpn.experiments import searches

#: Attributes whose default is None, or of another type than their values -> the type of their values.
_KINDS: dict[str, type] = {
    "dataset_num_iters_per_learner": int,
    "epsilon": float,
    "evaluation_error_after_n_consecutive_skips": int,
    "evaluation_interval": int,
    "grad_clip": float,
    "input_read_batch_size": int,
    "offline_evaluation_interval": int,
    "output_max_rows_per_file": int,
    "min_time_s_per_iteration": float,
    "micro_batch_size": int,
    "minibatch_size": int,
    "seed": int,
    "train_batch_size": int,
    "train_batch_size_per_learner": int,
    "training_intensity": float,
}
#: Attributes that may also be "auto" -> the type of their other values.
AUTO: dict[str, type] = {
    "evaluation_duration": int,
    "num_cpus_per_learner": float,
    "rollout_fragment_length": int,
    "symlog_obs": bool,
    "target_entropy": float,
}
#: Numbers of CPUs and GPUs, which may be fractions.
_FRACTIONS = {f"num_{kind}_per_{actor}" for kind in ("cpus", "gpus") for actor in ("env_runner", "learner")}
_FRACTIONS |= {"num_gpus", "num_cpus_for_main_process"}

#: Factors of discounting and averaging: from 0 to 1.
_SHARES = {"gamma", "lambda_", "gae_lambda", "tau", "decay", "momentum", "expectile", "return_normalization_decay"}
_ABOVE_ZERO = {"clip_param", "kl_target", "adam_epsilon", "grad_clip", "temperature", "training_ratio"}
_ABOVE_ZERO |= {"training_intensity"}
#: All others are 0 at least.
_MAY_BE_NEGATIVE = {"v_min", "v_max", "target_entropy"}
#: Settings that ``.inf`` switches off.
_MAY_BE_INFINITE = ("clip", "threshold", "_s")
#: Numbers whose default is none, and which None switches off; without the others nothing learns.
_MAY_BE_NONE = {
    "grad_clip",
    "minibatch_size",
    "micro_batch_size",
    "min_sample_timesteps_per_iteration",
    "min_train_timesteps_per_iteration",
    "train_batch_size_per_learner",
    "vf_clip_param",
}
#: Numbers of what exists at once, or is gone through in a loop.
_SIZES = {
    "train_batch_size",
    "train_batch_size_per_learner",
    "minibatch_size",
    "micro_batch_size",
    "num_envs_per_env_runner",
    "num_epochs",
    "rollout_fragment_length",
    "evaluation_duration",
    "metrics_num_episodes_for_smoothing",
    "n_step",
    "num_atoms",
    "num_actions",
    "broadcast_interval",
    "circular_buffer_num_batches",
    "circular_buffer_iterations_per_batch",
    "learner_queue_size",
    "simple_queue_size",
    "batch_size_B",
    "batch_length_T",
    "horizon_H",
    "capacity",
    "max_seq_len",
    "lstm_cell_size",
}
_IN_FLIGHT = "max_requests_in_flight_per_"  # with 0, nothing would ever be asked for
_LARGEST_SIZE = 10**8
_LARGEST_SEED = 2**32 - 1
_LARGEST = 2**53  # up to which floats count
#: Settings of which RLlib takes schedules.
_SCHEDULES = ("lr", "entropy_coeff", "epsilon", "beta")
#: The words that a setting may have.
_WORDS: dict[str, tuple[Any, ...]] = {
    "batch_mode": ("truncate_episodes", "complete_episodes"),
    "count_steps_by": ("env_steps", "agent_steps"),
    "evaluation_duration_unit": ("episodes", "timesteps"),
    "grad_clip_by": ("global_norm", "norm", "value"),
    "merge_env_runner_states": ("training_only", True, False),
    "placement_strategy": ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"),
    "td_error_loss_fn": ("huber", "mse"),
}
_NAMES_OF_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a mapping",
    list: "a list",
    str: "a string",
}
#: How keys of blocks end whose values are numbers.
_WHOLE_IN_BLOCKS = ("capacity", "learning_starts", "min_size_for_sampling", "batch_size_B", "batch_length_T")
_NUMBERS_IN_BLOCKS = ("alpha", "beta", "_eps", "_epsilon", "_timesteps", "_learning_rate")
#: Keys of a replay buffer's block that RLlib itself reads, and those of buffers on its old API stack.
_OF_REPLAY = {"type", "beta", "capacity", "alpha", "replay_burn_in", "replay_zero_init_states"}
_OF_REPLAY |= {"_enable_replay_buffer_api", "underlying_buffer_config", "num_shards", "policies_to_train"}
_OF_OLD_REPLAY = {
    "learning_starts",
    "prioritized_replay_alpha",
    "prioritized_replay_beta",
    "prioritized_replay_eps",
    "replay_batch_size",
    "replay_mode",
    "replay_ratio",
    "replay_sequence_length",
    "replay_sequence_override",
    "replay_buffer_shards_colocated_with_driver",
    "storage_unit",
    "worker_side_prioritization",
    "min_size_for_sampling",
}


def kind_of(key: str, default: Any) -> type:
    """The type of a setting's values, by its name and its default."""
    if key in _FRACTIONS:
        return float
    return _KINDS.get(key) or AUTO.get(key) or (list if isinstance(default, tuple) else type(default))


def may_be_none(key: str, default: Any, kind: type) -> bool:
    """Whether None is a value of a setting."""
    if default is None or key in _MAY_BE_NONE or key.endswith("_s"):
        return True
    return kind not in (bool, int, float) and key not in _WORDS


def check(where: str, key: str, value: Any, kind: type) -> Any:
    """Checks one value of a setting.

    Args:
        where: What to call the setting.
        key: Its name.
        value: What is given; None, which is no value, is not looked at here.
        kind: The type of its values, see :func:`kind_of`.

    Returns:
        The value, as a number where it is the text of one and numbers are wanted.

    Raises:
        UsageError: It is of another type, or outside the setting's range.
    """
    if key in AUTO and value == "auto":
        return value
    if key in _WORDS:
        if not any(value is word or (isinstance(value, str) and value == word) for word in _WORDS[key]):
            raise one_of(where, value, _WORDS[key])
        return value
    if key == "clip_rewards":
        return value if isinstance(value, bool) else _number(where, key, value, float)
    if key == "n_step" and isinstance(value, list | tuple) and len(value) == 2:  # drawn between both
        return tuple(_number(where, key, each, int) for each in value)
    if kind in (int, float):
        if isinstance(value, list):
            return _schedule(where, key, value)
        return _number(where, key, value, kind)
    wanted = (list, tuple) if kind is list else kind
    if kind in _NAMES_OF_KINDS and not isinstance(value, wanted) and key not in ("policies", "input_"):
        raise wrong(where, key, value, kind)
    return value


def wrong(where: str, key: str, value: Any, kind: type) -> UsageError:
    """The error for a value that is not of a setting's type."""
    auto = " or auto" if key in AUTO else ""
    return UsageError(f"{where}: got {value!r}, allowed is {_NAMES_OF_KINDS.get(kind, 'another type')}{auto}")


def _number(where: str, key: str, value: Any, kind: type) -> Any:
    number = checks.as_number(value)
    if number is None or (kind is int and not (math.isfinite(number) and number == int(number))):
        raise wrong(where, key, value, kind)
    if kind is int:
        number = int(number)
        if key in _SIZES or key == "seed" or key.startswith(("num_", _IN_FLIGHT)):
            least = 1 if key in _SIZES or key.startswith(_IN_FLIGHT) else 0
            most = _LARGEST_SEED if key == "seed" else _LARGEST_SIZE if key in _SIZES else _LARGEST
            return _whole(where, value, number, least, most)
        if abs(number) > _LARGEST:
            return _whole(where, value, number, 0, _LARGEST)
    _check_range(where, key, number)
    if key in _FRACTIONS and "gpus" in key and number > 1 and number != int(number):
        raise UsageError(f"{where}: got {value}, allowed is a whole number, or a part of 1")
    return number


def _whole(where: str, value: Any, number: int, least: int, most: int) -> int:
    if number < least:
        raise UsageError(f"{where}: got {value}, allowed is a whole number of at least {least}")
    if number > most:
        raise UsageError(f"{where}: got {value}, allowed is a whole number of at most {most:,}")
    return number


def _check_range(where: str, key: str, number: float) -> None:
    low, high = (-math.inf if key in _MAY_BE_NEGATIVE else 0.0), (1.0 if key in _SHARES else math.inf)
    if key in _FRACTIONS and number < 0:
        allowed = "a whole number, or a part of 1" if "gpus" in key else "a number of at least 0"
        raise UsageError(f"{where}: got {number}, allowed is {allowed}")
    above = key in _ABOVE_ZERO
    if math.isnan(number) or number < low or number > high or (above and number == 0):
        allowed = "numbers from 0 to 1" if high == 1 else f"numbers {'above' if above else 'from'} 0"
        raise UsageError(f"{where}: got {number}, allowed are {allowed if low == 0 else 'numbers'}")
    if math.isinf(number) and not any(word in key for word in _MAY_BE_INFINITE):
        raise UsageError(f"{where}: got {number}, allowed are finite numbers")


def _schedule(where: str, key: str, pairs: list[Any]) -> list[list[Any]]:
    """``[[step, value], ...]`` in place of a number."""
    has_one = key.endswith(_SCHEDULES)
    if not pairs or not has_one:
        allowed = "a number or a schedule [[step, value], ...]" if has_one else "a number"
        raise UsageError(f"{where}: got {pairs}, allowed is {allowed}")
    checked = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UsageError(
                f"{where}: got {pair!r} in the list, allowed is a number or a schedule [[step, value], ...]"
            )
        step, value = (checks.as_number(each) for each in pair)
        for name, number, given in (("step", step, pair[0]), ("value", value, pair[1])):
            if number is None:
                raise UsageError(f"{where}: got {given!r} as a {name} of the schedule, allowed are numbers")
        _check_range(f"{where}: schedule", "", step)  # type: ignore[arg-type]
        _check_range(f"{where}: schedule", key, value)  # type: ignore[arg-type]
        checked.append([step, value])
    return checked


def check_model(where: str, model: Mapping[str, Any]) -> None:
    """Checks the values of a ``model`` block: sizes of networks, activations, switches and initialisers.

    Raises:
        UsageError: One that no network can be made with.
    """
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.models.catalog import MODEL_DEFAULTS

    defaults = {**MODEL_DEFAULTS, **vars(DefaultModelConfig())}
    for key, values in model.items():
        for value in searches.choices(values):
            _check_of_model(f"{where}: {key}", key, value, type(defaults.get(key)))


def _check_of_model(where: str, key: str, value: Any, kind: type) -> None:
    if key.endswith("_hiddens"):
        if not isinstance(value, list | tuple) or not all(map(_is_size, value)):
            raise UsageError(f"{where}: got {value!r}, allowed is a list of whole numbers of at least 1")
    elif key.endswith("_activation"):
        _check_activation(where, value)
    elif key == "conv_filters":
        _check_filters(where, value)
    elif key.endswith(("_initializer_kwargs", "_initializer_config")):
        if value is not None and not isinstance(value, dict):
            raise wrong(where, key, value, dict)
    elif key.endswith("_initializer"):
        if value is not None and not callable(value) and not (isinstance(value, str) and value):
            raise wrong(where, key, value, str)
    elif kind in (bool, int, float) and not key.startswith("lstm_use_prev"):
        check(where, key, value, kind)


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _LARGEST_SIZE


def _check_activation(where: str, value: Any) -> None:
    from torch import nn

    known = ("relu", "tanh", "elu", "swish", "silu", "linear", None)
    named = isinstance(value, str) and (value.lower() in known or isinstance(getattr(nn, value, None), type))
    if value is not None and not callable(value) and not named:
        raise one_of(where, value, known)


def _check_filters(where: str, value: Any) -> None:
    def side(number: Any) -> bool:
        both = isinstance(number, list | tuple) and len(number) == 2 and all(map(_is_size, number))
        return _is_size(number) or both

    if value is None:
        return
    for each in value if isinstance(value, list | tuple) else [value]:
        sizes = each if isinstance(each, list | tuple) else []
        padding = sizes[3] if len(sizes) > 3 else "same"
        right = 3 <= len(sizes) <= 4 and _is_size(sizes[0]) and side(sizes[1]) and side(sizes[2])
        if not right or not (padding in ("same", "valid") or side(padding) or padding == 0):
            raise UsageError(
                f"{where}: got {each!r}, allowed are lists [channels, kernel, stride] of whole numbers of at least 1"
            )


def check_block(where: str, key: str, block: Mapping[str, Any], default: Any) -> None:
    """Checks a block that RLlib hands on unread: a misspelt key in it would have no effect.

    Args:
        where: What to call the block.
        key: The setting whose value it is.
        block: What is given.
        default: The setting's default.

    Raises:
        UsageError: A key that nothing reads, or a number outside its range.
    """
    known = {*(default or {})}
    if key == "replay_buffer_config":
        of_class = _of_buffer(where, block.get("type", (default or {}).get("type")))
        if of_class is None:  # a class of the user's own, which may take anything
            return
        known |= of_class
    elif key == "exploration_config":
        if "type" not in block and not default:
            raise UsageError(f"{where}: 'type' is missing")
        of_class = _of_exploration(where, block.get("type", default.get("type")))
        if of_class is None:
            return
        known |= of_class
    elif key in ("q_model_config", "policy_model_config"):
        from ray.rllib.models.catalog import MODEL_DEFAULTS

        known |= set(MODEL_DEFAULTS)
        check_model(where, block)
    for name, values in block.items():
        if name not in known:
            raise unknown(where, "key", name, sorted(known), "RLlib")
        for value in searches.choices(values):
            if name.endswith(_WHOLE_IN_BLOCKS):
                _number(f"{where}: {name}", name, value, int)
            elif name.endswith(_NUMBERS_IN_BLOCKS) and value is not None:
                _number(f"{where}: {name}", name, value, float)


def _of_buffer(where: str, kind: Any) -> set[str] | None:
    """What a replay buffer's block may have; None where the buffer is none of RLlib's."""
    from ray.rllib.utils import replay_buffers

    every = [_class_of(f"{where}: type", each, replay_buffers) for each in searches.choices(kind)]
    if None in every:
        return None
    of_old = any("Episode" not in each.__name__ for each in every)
    known = _OF_REPLAY | (_OF_OLD_REPLAY if of_old else set())
    return known.union(*(_arguments_of(each) for each in every))


def _of_exploration(where: str, kind: Any) -> set[str] | None:
    """What an exploration's block may have; None where it is none of RLlib's."""
    from ray.rllib.utils import exploration

    every = [_class_of(f"{where}: type", each, exploration) for each in searches.choices(kind)]
    if None in every:
        return None
    return {"type", "framework"}.union(*(_arguments_of(each) for each in every))


def _class_of(where: str, name: Any, module: Any) -> Any:
    """The class of RLlib's with this name; None for a path or a class, which may be the user's own.

    Raises:
        UsageError: RLlib has none of that name.
    """
    if isinstance(name, type) or (isinstance(name, str) and "." in name):
        return None
    known = {each: found for each, found in vars(module).items() if isinstance(found, type)}
    if not isinstance(name, str) or name not in known:
        raise one_of(where, name, sorted(known))
    return known[name]


def _arguments_of(kind: type) -> set[str]:
    """The arguments of a class's constructor and of those above it."""
    own = [vars(each)["__init__"] for each in kind.__mro__[:-1] if "__init__" in vars(each)]
    every = (inspect.signature(each).parameters.values() for each in own)
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {argument.name for each in every for argument in each if argument.kind in plain} - {"self"}
