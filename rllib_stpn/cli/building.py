"""From plain settings, as a YAML file and Tune hold them, to RLlib's ``AlgorithmConfig``."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rllib_stpn.cli import old_names
from rllib_stpn.cli.experiments import unknown_key
from rllib_stpn.errors import UsageError, one_of

if TYPE_CHECKING:
    from ray.rllib.algorithms import Algorithm, AlgorithmConfig

OWN_ALGORITHMS = ("A2C",)
ENV_RUNNERS = ("batched", "single_agent")


def algorithm_names() -> list[str]:
    """The names that ``run:`` may have: our algorithms and RLlib's."""
    from ray.rllib.algorithms.registry import ALGORITHMS

    return sorted({*OWN_ALGORITHMS, *ALGORITHMS})


@functools.cache
def algorithm_class(run: str) -> "type[Algorithm]":
    """The algorithm of this name.

    Raises:
        UsageError: There is none.
    """
    if run in OWN_ALGORITHMS:
        from rllib_stpn import algorithms

        return getattr(algorithms, run)
    if run not in algorithm_names():
        raise unknown_key("run", run, algorithm_names(), noun="algorithm", list_all=True)
    from ray.rllib.algorithms.registry import ALGORITHMS

    try:
        return ALGORITHMS[run]()[0]
    except ImportError as error:
        raise UsageError(f"run: {run} cannot be imported: {error}") from error


def build_config(run: str, settings: Mapping[str, Any]) -> "AlgorithmConfig":
    """Builds the configuration of an algorithm.

    The settings are attributes of the algorithm's ``AlgorithmConfig``, but for these:

    - ``model``: with a ``custom_model`` of ours the whole block becomes the RLModule's spec; without,
      its keys are those of RLlib's ``DefaultModelConfig``. On the old API stack it stays as it is.
    - ``env_runner_cls``: ``batched`` (ours) or ``single_agent`` (RLlib's own). Left out, A2C samples batched,
      and PPO does where ``custom_model`` names one of our layers and the settings are for one agent.
    - ``bootstrap_truncated``: of batched sampling, for PPO as for A2C; see ``use_batched_rollouts``.
    - ``observation_filter``: ``MeanStdFilter`` becomes RLlib's connector of that name.

    Args:
        run: The algorithm's name.
        settings: Plain values, nothing of a grid in them. Not modified.

    Raises:
        UsageError: An unknown algorithm or env runner, or a model block that no model can be built from.
    """
    import rllib_stpn

    rllib_stpn.register()
    config = algorithm_class(run).get_default_config()
    new_stack = old_names.on_new_stack(dict(settings))
    settings = {key: value for key, value in settings.items() if not key.startswith("__")}  # Tune's own notes.
    if not new_stack:
        return config.update_from_dict(settings)

    model = settings.pop("model", None) or {}
    layer = model.get("custom_model")
    runner = settings.pop("env_runner_cls", None)
    observation_filter = settings.pop("observation_filter", None)
    bootstrap = None if hasattr(config, "bootstrap_truncated") else settings.pop("bootstrap_truncated", None)
    config.update_from_dict(settings)
    if layer:
        from rllib_stpn.models.spec import spec_from_model_dict

        config.rl_module(rl_module_spec=spec_from_model_dict(model))
    elif model:
        config.rl_module(model_config={k: v for k, v in model.items() if not k.startswith("custom_")})
    if observation_filter not in (None, "NoFilter"):
        if observation_filter != "MeanStdFilter":
            raise one_of("observation_filter", observation_filter, ("NoFilter", "MeanStdFilter"))
        config.env_runners(env_to_module_connector=_mean_std_filter)
    if runner is None and run == "PPO" and layer and not config.is_multi_agent:
        runner = "batched"
    if runner not in (None, *ENV_RUNNERS):
        raise one_of("env_runner_cls", runner, ENV_RUNNERS)
    if runner == "batched" and run != "A2C":  # A2C's config has it, with its settings.
        from rllib_stpn.rollouts import use_batched_rollouts

        use_batched_rollouts(config, bootstrap_truncated=bootstrap is not False)
    elif runner == "single_agent":
        from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

        config.env_runners(env_runner_cls=SingleAgentEnvRunner)
    if bootstrap is not None and runner != "batched":
        raise UsageError("bootstrap_truncated: a setting of batched sampling, which needs env_runner_cls: batched")
    return config


def _mean_std_filter(env=None, spaces=None, device=None):
    from ray.rllib.connectors.env_to_module import MeanStdFilter

    return MeanStdFilter()
