"""Whether environment, model and algorithm go together: makes one environment and one model, before Ray starts."""

import contextlib
import textwrap
from typing import TYPE_CHECKING, Any

from rllib_stpn.errors import UsageError, in_one_line
from rllib_stpn.experiments import by_path, own_callbacks

if TYPE_CHECKING:
    from gymnasium import Space
    from ray.rllib.algorithms import AlgorithmConfig

#: The algorithms that train our layers; the first four learn on-policy.
TAKE_A_LAYER = ("PPO", "A2C", "APPO", "IMPALA", "DQN", "BC", "MARWIL")
_ON_POLICY = TAKE_A_LAYER[:4]

Spaces = dict[tuple, "tuple[Space, Space] | None"]


def check(config: "AlgorithmConfig", prepared: bool, known: Spaces) -> list[str]:
    """Checks the settings of one trial.

    Args:
        config: The trial's configuration.
        prepared: Whether our connectors prepare observations and actions, as they do for YAML files.
        known: The spaces of the environments that were made before. Modified.

    Returns:
        A note for each thing that the user may not expect.

    Raises:
        UsageError: What does not go together, and what would.
    """
    if not config.enable_rl_module_and_learner or not config.enable_env_runner_and_connector_v2:
        return []
    _check_algorithm(config)
    notes = own_callbacks.check(config)
    if _samples_batched(config):
        from rllib_stpn.rollouts.fragment import check_learners
        from rllib_stpn.rollouts.setup import check_parts

        check_parts(config)
        check_learners(config)
    spaces = None if config.is_multi_agent else _spaces(config, known)
    if spaces is None:
        return notes
    _check_choices(config, spaces[1])
    if not prepared:
        return notes + _check_connectors(config, spaces)
    if _has_own_connectors(config):  # behind which the model sees other observations
        notes += _check_connectors(config, spaces)
    else:
        notes += _check_observations(spaces[0]) + _unused_filters(config, spaces[0])
    _check_actions(config, spaces[1])
    return notes + _check_model(config, spaces)


def _name(config: "AlgorithmConfig") -> str:
    return config.algo_class.__name__


def _layer(config: "AlgorithmConfig") -> str | None:
    """The layer that the settings name, None for another model."""
    settings = getattr(config._rl_module_spec, "model_config", None)
    return settings.get("custom_model") if isinstance(settings, dict) else None


def _check_algorithm(config: "AlgorithmConfig") -> None:
    name, layer = _name(config), _layer(config)
    memory = f"custom_model {layer!r}" if layer else "use_lstm" if config.model_config.get("use_lstm") else None
    if memory and not _takes_memory(config):
        raise UsageError(
            f"run: got {name} with {memory}, allowed are {', '.join(TAKE_A_LAYER)}: {name} needs a model of another "
            f"kind; without {memory.split()[0]}, {name} trains one of RLlib's own"
        )


def _takes_memory(config: "AlgorithmConfig") -> bool:
    from ray.rllib.algorithms.bc.torch.default_bc_torch_rl_module import DefaultBCTorchRLModule
    from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
    from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule

    module_class = getattr(config.get_default_rl_module_spec(), "module_class", None)
    taking = (DefaultPPOTorchRLModule, DefaultBCTorchRLModule, DefaultDQNTorchRLModule)
    return module_class is not None and issubclass(module_class, taking)


def _spaces(config: "AlgorithmConfig", known: Spaces) -> "tuple[Space, Space] | None":
    """The spaces that the environment shows; None where it cannot be made here: the run itself says why.

    Raises:
        UsageError: It does not take its arguments, or has several agents.
    """
    from ray.rllib.env.multi_agent_env import MultiAgentEnv

    from rllib_stpn.agents.environments import make_env
    from rllib_stpn.rollouts.previous import previous_inputs, with_previous

    if not config.env:
        return None
    key = (config.env, repr(config.env_config), previous_inputs(config))
    if key not in known:
        try:
            env: Any = make_env(config.env, config.env_config)
        except UsageError as error:
            if isinstance(error.__cause__, TypeError | ValueError):  # as constructors refuse arguments
                raise UsageError(f"config: {error}") from error
            known[key] = None
            return None
        shown: Any = env if isinstance(env, MultiAgentEnv) else with_previous(env, previous_inputs(config))
        known[key] = (shown.observation_space, shown.action_space)
        with contextlib.suppress(Exception):  # whatever the user's own environment raises
            env.close()
        if isinstance(env, MultiAgentEnv):
            raise UsageError(
                f"env: {config.env!r} has several agents: their policies, and which agent has which, are set up in a "
                "Python file (config.multi_agent(policies=..., policy_mapping_fn=...))"
            )
    return known[key]


def _check_observations(space: "Space") -> list[str]:
    from rllib_stpn.models.spaces import FlatSpace

    left_out = FlatSpace(space).left_out
    if not left_out:
        return []
    return [f"observations: {', '.join(left_out)} left out, a text that no model reads"]


def _unused_filters(config: "AlgorithmConfig", space: "Space") -> list[str]:
    if _layer(config) or not config.model_config.get("conv_filters") or (space.shape and len(space.shape) == 3):
        return []
    kind = type(space).__name__
    return [f"model: conv_filters has no effect: observations of a {kind} are flattened, pixels as they are"]


def _check_choices(config: "AlgorithmConfig", space: "Space") -> None:
    from gymnasium.spaces import Discrete
    from ray.rllib.algorithms.dqn import DQN
    from ray.rllib.algorithms.sac import SAC

    name = _name(config)
    if (
        issubclass(config.algo_class, DQN)
        and not issubclass(config.algo_class, SAC)
        and not isinstance(space, Discrete)
    ):
        raise UsageError(
            f"run: got {name} with actions {in_one_line(str(space))}, allowed is Discrete: {name} has a value for each "
            f"choice; {', '.join(_ON_POLICY)} take these actions"
        )


def _check_actions(config: "AlgorithmConfig", space: "Space") -> None:
    name = _name(config)
    if (part := _begins_elsewhere(space)) and name not in _ON_POLICY:
        raise UsageError(
            f"run: got {name} with actions that do not begin at 0 ({part}), allowed are {', '.join(_ON_POLICY)}: "
            f"{name} also learns from actions that its model did not draw; a wrapper of the environment can "
            "count from 0"
        )


def _begins_elsewhere(space: "Space") -> "Space | None":
    """The first part of an action space whose numbers do not begin at 0; None where all do."""
    from gymnasium.spaces import Discrete, MultiDiscrete

    from rllib_stpn.models.spaces import parts

    of_numbers = (part for _, part in parts(space) if isinstance(part, (Discrete, MultiDiscrete)))
    return next((part for part in of_numbers if part.start.any()), None)


def _check_model(config: "AlgorithmConfig", spaces: "tuple[Space, Space]") -> list[str]:
    """Builds the connectors and the model as an env runner does, and runs a layer of the user's own."""
    from ray.rllib.core import DEFAULT_MODULE_ID

    every = _by_name(spaces)
    try:
        pipeline = config.build_env_to_module_connector(env=None, spaces=every, device="cpu")
        every[DEFAULT_MODULE_ID] = (pipeline.observation_space, spaces[1])
        module = config.get_multi_rl_module_spec(spaces=every, inference_only=False)[DEFAULT_MODULE_ID].build()
    except UsageError:
        raise
    except Exception as error:  # RLlib has no kind of its own
        raise UsageError(
            f"run: {_name(config)} has no model for observations {spaces[0]} and actions {spaces[1]}: "
            f"{textwrap.shorten(in_one_line(str(error)) or type(error).__name__, 300)}"
        ) from error
    _check_mask(config, every[DEFAULT_MODULE_ID][0], module)
    notes = _check_own_layer(config, module)
    if _measures_energy(config):
        from rllib_stpn.energy.spent import check_told

        check_told(module)
    return notes


def _check_batched_module(config: "AlgorithmConfig", observations: "Space", spaces: "tuple[Space, Space]") -> None:
    """Refuses a module that batched rollouts cannot run; one that cannot be built is left to the run."""
    from ray.rllib.core import DEFAULT_MODULE_ID

    from rllib_stpn.rollouts.env_runner import check_module

    every = {**_by_name(spaces), DEFAULT_MODULE_ID: (observations, spaces[1])}
    module = None
    with contextlib.suppress(Exception):
        module = config.get_multi_rl_module_spec(spaces=every, inference_only=False)[DEFAULT_MODULE_ID].build()
    if module is not None:
        check_module(module)


def _check_mask(config: "AlgorithmConfig", observations: "Space", module: Any) -> None:
    from rllib_stpn.models import ActorCriticCatalog
    from rllib_stpn.models.action_mask import KEY
    from rllib_stpn.models.flat_box import mask_size

    masks = isinstance(module.catalog, ActorCriticCatalog) and _name(config) in _ON_POLICY
    if mask_size(observations) and not masks:
        raise UsageError(
            f"run: got {_name(config)} with {KEY} among the observations, allowed are {', '.join(_ON_POLICY)}: the "
            f"model of {_name(config)} would draw what is not allowed"
        )


def _check_own_layer(config: "AlgorithmConfig", module: Any) -> list[str]:
    """A note where the user's own layer breaks the contract; one that cannot run is refused."""
    from rllib_stpn.layers import LAYERS, LayerError, check_layer
    from rllib_stpn.models import encoders

    if _layer(config) in (None, *LAYERS):
        return []
    for encoder in list(encoders(module).values())[:1]:  # of actor and critic; they are alike
        try:
            check_layer(encoder.layer)
        except LayerError as error:
            if error.__cause__ is not None:
                raise
            return [f"model: {error}"]
    return []


def _measures_energy(config: "AlgorithmConfig") -> bool:
    from rllib_stpn.energy import EnergyMetricsCallback

    callbacks = [config.callbacks_class, (config.evaluation_config or {}).get("callbacks_class")]
    kinds = [getattr(each, "func", each) for each in callbacks]  # options come with functools.partial
    return EnergyMetricsCallback in kinds


def _by_name(spaces: "tuple[Space, Space]") -> dict[str, Any]:
    """An environment's spaces as RLlib hands them to the functions that make connectors."""
    from gymnasium.vector.utils import batch_space
    from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES

    return {
        INPUT_ENV_SPACES: tuple(batch_space(space, 1) for space in spaces),
        INPUT_ENV_SINGLE_SPACES: spaces,
    }


def _samples_batched(config: "AlgorithmConfig") -> bool:
    from rllib_stpn.rollouts import BatchedEnvRunner

    return config.env_runner_cls is not None and issubclass(config.env_runner_cls, BatchedEnvRunner)


def _has_own_connectors(config: "AlgorithmConfig") -> bool:
    """Whether a file names connectors by their paths."""
    made = (config._env_to_module_connector, config._module_to_env_connector)
    return any(isinstance(part, by_path.Connectors) for each in made for part in getattr(each, "args", ()))


def _check_connectors(config: "AlgorithmConfig", spaces: "tuple[Space, Space]") -> list[str]:
    """Builds the user's own connectors, and names what goes wrong in silence with RLlib's own."""
    from ray.rllib.connectors.env_to_module import MeanStdFilter

    from rllib_stpn.agents.checkpoints import connectors_of
    from rllib_stpn.agents.environments import vector_env_of
    from rllib_stpn.rollouts.connectors import action_transforms, observation_transforms, refuse_filtered_mask

    try:
        pipeline, to_env = connectors_of(config, *spaces, vector_env_of)
    except UsageError:
        raise
    except Exception as error:  # of the user's own function, or of a connector for other observations
        told = textwrap.shorten(in_one_line(str(error)), 300)
        observations, actions = (in_one_line(str(space)) for space in spaces)
        raise UsageError(
            f"connectors: got observations {observations} and actions {actions}, which they do not take: "
            f"{type(error).__name__}: {told}"
        ) from error
    refuse_filtered_mask(pipeline)
    if _samples_batched(config):
        observation_transforms(pipeline)
        action_transforms(to_env)
        _check_batched_module(config, pipeline.observation_space, spaces)
        return []
    notes = []
    filters = any(type(connector) is MeanStdFilter for connector in pipeline.connectors)
    if config.num_env_runners and filters:
        notes.append(
            "MeanStdFilter of RLlib merges the statistics of remote env runners wrongly, far from zero by much: "
            "rllib_stpn.rollouts.MeanStdFilter in its place merges them right"
        )
    part = _begins_elsewhere(spaces[1])
    if part is not None and config.add_default_connectors_to_module_to_env_pipeline:
        notes.append(
            f"RLlib's own env runners count actions from 0, and those of the environment do not ({part}): "
            "use_batched_rollouts counts them right"
        )
    return notes
