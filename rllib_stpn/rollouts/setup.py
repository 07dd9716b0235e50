"""One call that gives an AlgorithmConfig the batched rollouts."""

from __future__ import annotations

import logging

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rllib_stpn.errors import UsageError
from rllib_stpn.learners import LeanLearner, LeanPPOTorchLearner, reliable_learner
from rllib_stpn.models import MemoryRLModule
from rllib_stpn.rollouts.env_runner import BatchedEnvRunner
from rllib_stpn.rollouts.episode_runner import check_output
from rllib_stpn.rollouts.learner_connector import FragmentsToBatch
from rllib_stpn.rollouts.survival import telling_failures

logger = logging.getLogger(__name__)


def use_batched_rollouts(config: AlgorithmConfig, *, bootstrap_truncated: bool = True) -> AlgorithmConfig:
    """Switches PPO (or A2C) to the batched EnvRunner, its learner connector and, for PPO, the lean learner.

    A learner class that is set stays, with RLlib's update unless it is derived from
    ``rllib_stpn.learners.LeanPPOTorchLearner``; RLlib's own is ``config.learners(learner_class=PPOTorchLearner)``.

    ::

        config = use_batched_rollouts(PPOConfig().environment("CartPole-v1"))

    Args:
        config: The algorithm's config; changed in place.
        bootstrap_truncated: Whether a return goes on, by the value of the final observation, where an episode was
            truncated. False for Monte-Carlo training of tasks whose time limit is part of the task, such as the maze.

    Returns:
        ``config``.

    Raises:
        UsageError: An algorithm whose loss needs RLlib's episodes, multi-agent training, several modules, a learner
            connector of the user's own, or an ``output``; one that is set later is refused as the algorithm is built.
    """
    from ray.rllib.algorithms.ppo import PPO
    from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner

    algorithm = config.algo_class
    if algorithm is None or not issubclass(algorithm, PPO):
        name = getattr(algorithm, "__name__", type(config).__name__)
        raise UsageError(
            f"batched rollouts: got algorithm {name}, allowed are PPO and A2C; others run with RLlib's own env runners "
            "(env_runner_cls: single_agent)"
        )
    check_parts(config)
    if config._rl_module_spec is None:
        config.rl_module(rl_module_spec=RLModuleSpec(module_class=MemoryRLModule))
    config.env_runners(env_runner_cls=BatchedEnvRunner)
    telling_failures(config)
    learner_class = config.learner_class
    if config._learner_class is None and learner_class is PPOTorchLearner:
        learner_class = LeanPPOTorchLearner
    elif learner_class is not PPOTorchLearner and not issubclass(learner_class, LeanLearner):
        logger.warning(
            "batched rollouts: %s is not derived from rllib_stpn.learners.LeanPPOTorchLearner, so RLlib's own update "
            "takes the lean one's place",
            learner_class.__name__,
        )
    config.learners(
        add_default_connectors_to_learner_pipeline=False,
        learner_connector=fragments_to_batch,
        learner_class=reliable_learner(learner_class),
    )
    if hasattr(config, "bootstrap_truncated"):
        config.bootstrap_truncated = bootstrap_truncated
    else:
        config.learner_config_dict = {
            **config.learner_config_dict,
            "bootstrap_truncated": bootstrap_truncated,
        }
    return config


def check_parts(config: AlgorithmConfig) -> None:
    """Refuses what batched rollouts cannot run beside them.

    Raises:
        UsageError: Several agents, several modules, a learner connector of the user's own, or an ``output``.
    """
    check_output(config, BatchedEnvRunner)
    if config.is_multi_agent:
        raise UsageError(
            "batched rollouts: got a multi-agent config, allowed are single-agent ones; several agents run with "
            "RLlib's own env runners"
        )
    specs = getattr(config._rl_module_spec, "rl_module_specs", None)
    if isinstance(config._rl_module_spec, MultiRLModuleSpec):
        names = f" ({', '.join(map(str, specs))})" if isinstance(specs, dict) else ""
        raise UsageError(
            f"batched rollouts: got a MultiRLModuleSpec{names}, allowed is the spec of one module, which acts; RLlib's "
            "own env runners run beside other modules"
        )
    connector = config._learner_connector
    if connector is not None and connector is not fragments_to_batch:
        name = getattr(connector, "__name__", connector)
        raise UsageError(
            f"batched rollouts: got the learner connector {name}, allowed is none: fragments are not episodes; RLlib's "
            "own env runners give it episodes"
        )


def fragments_to_batch(observation_space, action_space) -> FragmentsToBatch:
    """Builds the learner connector, as RLlib asks for it."""
    return FragmentsToBatch(observation_space, action_space)
