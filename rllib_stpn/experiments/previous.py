"""The previous action and reward, where a `model` block asks for them: the environments show them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rllib_stpn.errors import UsageError

if TYPE_CHECKING:
    from ray.rllib.algorithms import AlgorithmConfig

#: Keys of a `model` block, and what each has the environments show.
PREVIOUS_INPUTS = {
    "lstm_use_prev_action": ("action",),
    "lstm_use_prev_reward": ("reward",),
    "lstm_use_prev_action_reward": ("action", "reward"),
}
#: Values of these keys that ask for nothing; -1 is RLlib's own default of the last one.
OFF = (False, None, -1)


def without(model: Mapping[str, Any]) -> dict[str, Any]:
    """A `model` block without these keys, which no model reads."""
    return {key: value for key, value in model.items() if key not in PREVIOUS_INPUTS}


def show(config: "AlgorithmConfig", model: Mapping[str, Any]) -> None:
    """Has the environments of a config show what a `model` block asks for.

    Args:
        config: With its env runners chosen. Modified.
        model: The block; where it is empty, the model settings that a Python file's config has are looked at.

    Raises:
        UsageError: They are asked for and cannot be shown there.
    """
    blocks = [model] if model else [config._model_config, getattr(config._rl_module_spec, "model_config", None)]
    asked = [
        key for block in blocks if isinstance(block, Mapping) for key in PREVIOUS_INPUTS if block.get(key) not in OFF
    ]
    if not asked:
        return
    from rllib_stpn.rollouts import EpisodeEnvRunner

    where = f"model: {asked[0]}: got true"
    if config.is_multi_agent:
        raise UsageError(f"{where} with several agents, allowed is one; theirs have to show it by themselves")
    if config.is_offline:
        raise UsageError(
            f"{where} with recorded data, allowed is sampling from an environment; what is recorded of one inside "
            "stpn_envs.PreviousActionReward has the previous action and reward"
        )
    runner: Any = config.env_runner_cls
    if runner is None or not issubclass(runner, EpisodeEnvRunner):
        name = getattr(runner, "__name__", "RLlib's own env runner")
        raise UsageError(
            f"{where} with {name}, allowed are the env runners batched and single_agent; elsewhere the environment "
            "has to be wrapped in stpn_envs.PreviousActionReward"
        )
    inputs = {each for key in asked for each in PREVIOUS_INPUTS[key]}
    config._previous_inputs = tuple(sorted(inputs))
