"""From plain settings, as a YAML file and Tune hold them, to RLlib's ``AlgorithmConfig``."""

import contextlib
import functools
import pydoc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rllib_stpn.errors import UsageError, in_one_line, one_of, unknown
from rllib_stpn.experiments import atari, by_path, previous, recorded_data
from rllib_stpn.experiments.old import names as old_names

if TYPE_CHECKING:
    from ray.rllib.algorithms import Algorithm, AlgorithmConfig

OWN_ALGORITHMS = ("A2C",)
TRAINABLES = ("Supervised",)
"""What ``run:`` may also be: Tune trainables of ours that are no algorithms of RLlib."""
ENV_RUNNERS = ("batched", "single_agent")


def algorithm_names() -> list[str]:
    """The names that ``run:`` may have: ours and RLlib's."""
    from ray.rllib.algorithms.registry import ALGORITHMS

    return sorted({*OWN_ALGORITHMS, *TRAINABLES, *ALGORITHMS})


@functools.cache
def algorithm_class(run: str) -> "type[Algorithm]":
    """The algorithm of this name, or the trainable.

    Raises:
        UsageError: There is none.
    """
    if run in TRAINABLES:
        from rllib_stpn import supervised

        return getattr(supervised, run)
    if run in OWN_ALGORITHMS:
        from rllib_stpn import algorithms

        return getattr(algorithms, run)
    name = run.removeprefix("contrib/")
    if name in old_names.ALGORITHMS_DROPPED or run != name:
        near = old_names.ALGORITHMS_DROPPED.get(name, "none")
        told = f"RLlib has dropped it; of those it has, {near} comes close"
        raise UsageError(f"run: got the unknown algorithm {run!r}: {told}")
    if run not in algorithm_names():
        raise unknown("run", "algorithm", run, algorithm_names())
    from ray.rllib.algorithms.registry import ALGORITHMS

    try:
        return ALGORITHMS[run]()[0]
    except ImportError as error:
        raise UsageError(f"run: {run} cannot be imported: {error}") from error


def default_config(run: str, base: "AlgorithmConfig | None" = None) -> "AlgorithmConfig":
    """What an experiment's settings are put on: a copy of its Python file's config, else the algorithm's default.

    Raises:
        UsageError: There is no such algorithm.
    """
    if base is None:
        return algorithm_class(run).get_default_config()
    return base.copy(copy_frozen=False)


def build_config(run: str, settings: Mapping[str, Any], base: "AlgorithmConfig | None" = None) -> "AlgorithmConfig":
    """Builds the configuration of an algorithm, or of one of ``TRAINABLES``, whose settings are its fields.

    The settings are attributes of the algorithm's ``AlgorithmConfig``, but for these:

    - ``model``: with a ``custom_model``, one of ours or a layer by its path, the whole block becomes the RLModule's
      spec; without, its keys are those of RLlib's ``DefaultModelConfig``. ``lstm_use_prev_action``,
      ``lstm_use_prev_reward`` and ``lstm_use_prev_action_reward`` have the environments show these. On the old API
      stack it stays as it is.
    - ``env_runner_cls``: ``batched`` (ours) or ``single_agent`` (RLlib's own, see ``EpisodeEnvRunner``). Left out, A2C
      samples batched, and PPO does where ``custom_model`` names a layer and the settings are for one agent.
    - ``bootstrap_truncated``: of batched sampling, for PPO as for A2C; see ``use_batched_rollouts``.
    - ``observation_filter``: ``MeanStdFilter`` becomes RLlib's connector of that name.
    - ``train_batch_size``: counts, too, where the algorithm has a default of ``train_batch_size_per_learner``.
    - What reading or writing recorded data needs and is not given is set, see :func:`recorded_data.complete` and
      :func:`recorded_data.set_spaces`.
    - ``callbacks_class``: ``energy``, or ``{energy: {every_n_steps: 10}}`` with options, becomes that callback, and the
      path of a class that class, also in ``evaluation_config``; a list is of these.
    - ``env_to_module_connector``, ``module_to_env_connector``, ``learner_connector``: the path of a class, or a mapping
      of it to its arguments, or a list of these. They run before ours.

    Atari games are made as ``atari.fit`` says.

    Without a ``base``, what a single agent observes is flattened (numbers one-hot) unless it is a ``Box``, and pixels
    are scaled for RLlib's own modules, as the old stack did.

    Args:
        run: The algorithm's name.
        settings: Plain values, without searches. Not modified.
        base: What they are put on, where it is not the algorithm's default.

    Raises:
        UsageError: An unknown algorithm or env runner, or a model block that no model can be built from.
    """
    if run in TRAINABLES:
        return type(algorithm_class(run).get_default_config()).from_settings(settings)
    from rllib_stpn.learners import reliable_learner

    config = default_config(run, base)
    new_stack = config.enable_rl_module_and_learner and old_names.on_new_stack(dict(settings))
    settings = {key: value for key, value in settings.items() if not key.startswith("__")}  # Tune's own notes.
    settings, _ = atari.fit(settings, new_stack, own_model=base is not None)
    settings = _without_callbacks(config, settings)
    if not new_stack:
        return config.update_from_dict(_with_own_layer(settings))

    own = by_path.connectors(settings)
    asked = settings.pop("model", None) or {}
    model = previous.without(asked)
    runner = settings.pop("env_runner_cls", None)
    observation_filter = settings.pop("observation_filter", None)
    bootstrap = None if hasattr(config, "bootstrap_truncated") else settings.pop("bootstrap_truncated", None)
    config.update_from_dict(settings)
    _set_batch_size(config, settings)
    recorded_data.complete(config, settings)
    recorded_data.check_filter(config, observation_filter)
    _set_model(config, model)
    _set_replay(config, model, settings)
    if runner is None and run == "PPO" and _has_layer(model) and not config.is_multi_agent:
        runner = "batched"
    _set_env_runner(config, runner, bootstrap)
    previous.show(config, asked)
    # Batched sampling keeps the states that learning needs, and A2C's own config sees to it with RLlib's env runners.
    # DQN's replay reads the state of any step.
    thin = _has_layer(model) and runner != "batched" and not _is_a2c(config) and not _is_dqn(config)
    # A Python file, and several agents, bring the connectors that they need.
    prepared = base is None and not config.is_multi_agent
    _set_observations(config, prepared, _has_layer(model), observation_filter, own.get("env_to_module_connector"))
    _set_actions(config, prepared, thin, own.get("module_to_env_connector"))
    if "learner_connector" in own:
        config.learners(learner_connector=own["learner_connector"])
    if prepared:
        _set_catalog(config)
    recorded_data.set_spaces(config)
    config.learners(learner_class=reliable_learner(config.learner_class))
    return config


def _without_callbacks(config: "AlgorithmConfig", settings: dict[str, Any]) -> dict[str, Any]:
    """Sets the callbacks of training. Returns the settings without them, with those of evaluation as classes."""
    from ray.rllib.callbacks.callbacks import RLlibCallback
    from ray.rllib.utils import force_list

    from rllib_stpn.energy.callback import sum_up_evaluation, sum_up_training

    settings = dict(settings)
    callbacks = settings.pop("callbacks_class", None)
    if callbacks is not None:
        config.callbacks(callbacks_class=by_path.callbacks(callbacks))
    evaluation = settings.get("evaluation_config") or {}
    if evaluation.get("callbacks_class") is not None:
        classes = by_path.callbacks(evaluation["callbacks_class"])
        settings["evaluation_config"] = {**evaluation, "callbacks_class": classes}
        if callbacks is None:  # RLlib has training's own sum up; a Python file's stay beside these.
            config.callbacks(
                on_train_result=[*force_list(config.callbacks_on_train_result), sum_up_training],
                on_evaluate_end=[*force_list(config.callbacks_on_evaluate_end), sum_up_evaluation],
            )
    elif "callbacks_class" in evaluation:  # None switches those of training off.
        settings["evaluation_config"] = {**evaluation, "callbacks_class": RLlibCallback}
    return settings


def _set_batch_size(config: "AlgorithmConfig", settings: Mapping[str, Any]) -> None:
    """Lets ``train_batch_size`` count also where ``train_batch_size_per_learner`` has a default, which would win."""
    if "train_batch_size" in settings and "train_batch_size_per_learner" not in settings:
        config.train_batch_size_per_learner = None


def _has_layer(model: Mapping[str, Any]) -> bool:
    return bool(model.get("custom_model"))


def _with_own_layer(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of the old API stack, where RLlib takes the path of a layer for that of a model."""
    from ray.rllib.models.modelv2 import ModelV2

    from rllib_stpn.layers import layer_path
    from rllib_stpn.models.model_v2 import OWN_LAYER

    model = settings.get("model") or {}
    named = model.get("custom_model")
    if not isinstance(named, str) or "." not in named:
        return settings
    with contextlib.suppress(pydoc.ErrorDuringImport):  # which is told below
        found = pydoc.locate(named)
        if isinstance(found, type) and issubclass(found, ModelV2):
            return settings
    options = {"layer": layer_path(named, "model: custom_model"), **(model.get("custom_model_config") or {})}
    return {**settings, "model": {**model, "custom_model": OWN_LAYER, "custom_model_config": options}}


def _set_model(config: "AlgorithmConfig", model: Mapping[str, Any]) -> None:
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    from rllib_stpn.models.spec import spec_from_model_dict

    if _has_layer(model):
        config.rl_module(rl_module_spec=spec_from_model_dict(model))
    elif model:
        config.rl_module(model_config={k: v for k, v in model.items() if not k.startswith("custom_")})
    if "max_seq_len" in model and hasattr(config, "burnin_len"):
        config.model = {**config.model, "max_seq_len": model["max_seq_len"]}  # there RLlib looks for the bound of it
    if isinstance(config._model_config, dict) and config._model_config.get("use_lstm"):
        # RLlib's connectors look for it, and its default stands in a class that a mapping replaces.
        config._model_config.setdefault("max_seq_len", DefaultModelConfig.max_seq_len)


def _set_replay(config: "AlgorithmConfig", model: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Lets DQN train what has memory."""
    if not _is_dqn(config) or config.is_multi_agent or not (_has_layer(model) or model.get("use_lstm")):
        return
    from rllib_stpn.algorithms.recurrent_replay import refused_buffer, use_recurrent_replay

    kind = (settings.get("replay_buffer_config") or {}).get("type")
    if isinstance(kind, str) and "Prioritized" in kind:
        raise refused_buffer(kind)
    use_recurrent_replay(config)


def _set_env_runner(config: "AlgorithmConfig", runner: str | None, bootstrap: bool | None) -> None:
    """Sets what samples.

    Args:
        config: The configuration. Modified.
        runner: One of ``ENV_RUNNERS``, None for the algorithm's own.
        bootstrap: Whether returns go on where an episode is truncated; None where it is not given.
    """
    from rllib_stpn.rollouts import EpisodeEnvRunner, ManyAgentsEnvRunner, RecordingEnvRunner, use_batched_rollouts

    if runner not in (None, *ENV_RUNNERS):
        raise one_of("env_runner_cls", runner, ENV_RUNNERS)
    if bootstrap is not None and runner != "batched":
        raise UsageError("bootstrap_truncated: a setting of batched sampling, which needs env_runner_cls: batched")
    if runner == "batched":
        if not _is_a2c(config):  # which samples so, with settings of its own
            use_batched_rollouts(config, bootstrap_truncated=bootstrap is not False)
    elif runner == "single_agent" or _samples_with_rllibs_runner(config):
        if config.is_multi_agent:
            config.env_runners(env_runner_cls=None if config.output else ManyAgentsEnvRunner)
        elif config.output and not recorded_data.writes_episodes(config):
            config.env_runners(env_runner_cls=None)  # RLlib has a class of its own
        else:
            config.env_runners(env_runner_cls=RecordingEnvRunner if config.output else EpisodeEnvRunner)


def _set_observations(
    config: "AlgorithmConfig", prepared: bool, layer: bool, observation_filter: Any, own: by_path.Connectors | None
) -> None:
    """Sets the connectors between environment and model."""
    from rllib_stpn.rollouts import observations

    if observation_filter not in (None, "NoFilter", "MeanStdFilter"):
        raise one_of("observation_filter", observation_filter, ("NoFilter", "MeanStdFilter"))
    filtered = observation_filter == "MeanStdFilter"
    if prepared or filtered or own:
        made = observations.connectors(prepared, layer=layer, filtered=filtered, own=own)
        config.env_runners(env_to_module_connector=made)


def _is_a2c(config: "AlgorithmConfig") -> bool:
    from rllib_stpn.algorithms import A2CConfig

    return isinstance(config, A2CConfig)


def _is_dqn(config: "AlgorithmConfig") -> bool:
    from ray.rllib.algorithms.dqn import DQNConfig
    from ray.rllib.algorithms.sac import SACConfig

    return isinstance(config, DQNConfig) and not isinstance(config, SACConfig)


def _samples_with_rllibs_runner(config: "AlgorithmConfig") -> bool:
    """Whether episodes come from an env runner of RLlib's."""
    from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    return config.env_runner_cls in (None, MultiAgentEnvRunner if config.is_multi_agent else SingleAgentEnvRunner)


def _set_actions(config: "AlgorithmConfig", prepared: bool, thin: bool, own: by_path.Connectors | None) -> None:
    """Sets the connectors between model and environment.

    Args:
        config: The configuration. Modified.
        prepared: Whether actions are brought into the environment's own range and numbering.
        thin: Whether env runners keep one recurrent state for each sequence.
        own: Connectors of the user's own, in front of both.
    """
    from rllib_stpn.rollouts.preprocessing import before_defaults, module_to_env

    if not prepared:
        if thin or own:
            config.env_runners(module_to_env_connector=before_defaults(thin, own))
        return
    config.env_runners(
        module_to_env_connector=module_to_env(config.normalize_actions, config.clip_actions, thin, own),
        add_default_connectors_to_module_to_env_pipeline=False,
    )
    evaluation = config.evaluation_config or {}
    if "normalize_actions" in evaluation or "clip_actions" in evaluation:
        normalize = evaluation.get("normalize_actions", config.normalize_actions)
        clip = evaluation.get("clip_actions", config.clip_actions)
        config.evaluation_config = {**evaluation, "_module_to_env_connector": module_to_env(normalize, clip, thin, own)}


def _set_catalog(config: "AlgorithmConfig") -> None:
    """Lets RLlib's own actor-critic draw actions of every space that our models draw."""
    from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec

    from rllib_stpn.models import ActorCriticCatalog

    default = config.get_default_rl_module_spec()
    if config._rl_module_spec is None and issubclass(default.module_class, DefaultPPOTorchRLModule):
        config.rl_module(rl_module_spec=RLModuleSpec(catalog_class=ActorCriticCatalog))


def validate(config: "AlgorithmConfig") -> None:
    """Has RLlib check a config, and leaves it as it is. What RLlib does not see of recorded data is checked before.

    Raises:
        UsageError: It is refused.
    """
    recorded_data.check(config)
    try:
        config.copy(copy_frozen=False).validate()
    except UsageError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"RLlib refuses it: {first_sentences(error)}") from error


def first_sentences(error: Exception, limit: int = 400) -> str:
    """What an error of RLlib says, without its advice to leave out the check."""
    text = in_one_line(str(error.args[0] if error.args else error))
    return text if len(text) <= limit else f"{text[:limit]}..."
