"""Names that RLlib changed or dropped since its old ``tuned_examples``, and what became of them."""

import functools
from collections.abc import Callable
from typing import Any

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import searches
from rllib_stpn.experiments.old import keys as old_keys
from rllib_stpn.experiments.old import values as old_values

#: The settings that choose between RLlib's API stacks.
SWITCHES = ("enable_rl_module_and_learner", "enable_env_runner_and_connector_v2")
#: Old -> new name in `config`, whatever the API stack.
CONFIG = {
    "num_workers": "num_env_runners",
    "num_rollout_workers": "num_env_runners",
    "num_envs_per_worker": "num_envs_per_env_runner",
    "num_cpus_per_worker": "num_cpus_per_env_runner",
    "num_gpus_per_worker": "num_gpus_per_env_runner",
    "custom_resources_per_worker": "custom_resources_per_env_runner",
    "num_cpus_for_driver": "num_cpus_for_main_process",
    "num_cpus_for_local_worker": "num_cpus_for_main_process",
    "num_learner_workers": "num_learners",
    "num_gpus_per_learner_worker": "num_gpus_per_learner",
    "num_cpus_per_learner_worker": "num_cpus_per_learner",
    "num_aggregation_workers": "num_aggregator_actors_per_learner",
    "max_sample_requests_in_flight_per_worker": "max_requests_in_flight_per_env_runner",
    "max_requests_in_flight_per_sampler_worker": "max_requests_in_flight_per_env_runner",
    "sgd_minibatch_size": "minibatch_size",
    "mini_batch_size_per_learner": "minibatch_size",
    "microbatch_size": "micro_batch_size",
    "num_sgd_iter": "num_epochs",
    "shuffle_sequences": "shuffle_batch_per_epoch",
    "sample_batch_size": "rollout_fragment_length",
    "learning_starts": "num_steps_sampled_before_learning_starts",
    "buffer_size": "replay_buffer_config.capacity",
    "prioritized_replay_alpha": "replay_buffer_config.alpha",
    "prioritized_replay_beta": "replay_buffer_config.beta",
    "Q_model": "q_model_config",
    "policy_model": "policy_model_config",
    "lambda": "lambda_",
    "input": "input_",
    "framework": "framework_str",
    "callbacks": "callbacks_class",
    "create_env_on_driver": "create_env_on_local_worker",
    "custom_eval_function": "custom_evaluation_function",
    "ignore_worker_failures": "ignore_env_runner_failures",
    "recreate_failed_workers": "restart_failed_env_runners",
    "recreate_failed_env_runners": "restart_failed_env_runners",
    "max_num_worker_restarts": "max_num_env_runner_restarts",
    "evaluation_num_workers": "evaluation_num_env_runners",
    "evaluation_num_episodes": "evaluation_duration",
    "metrics_smoothing_episodes": "metrics_num_episodes_for_smoothing",
    "collect_metrics_timeout": "metrics_episode_collection_timeout_s",
    "min_iter_time_s": "min_time_s_per_iteration",
    "min_time_s_per_reporting": "min_time_s_per_iteration",
    "timesteps_per_iteration": "min_sample_timesteps_per_iteration",
    "min_sample_timesteps_per_reporting": "min_sample_timesteps_per_iteration",
    "min_train_timesteps_per_reporting": "min_train_timesteps_per_iteration",
}
#: The keys above that users of today write, too: not worth a word.
SILENT = {"lambda", "input", "framework", "callbacks"}
#: The same for the new API stack alone.
CONFIG_NEW_STACK = {
    "lr_schedule": "lr",
    "entropy_coeff_schedule": "entropy_coeff",
    "num_gpus": "num_gpus_per_learner",
    "vf_share_layers": "model.vf_share_layers",
}
#: The same for one algorithm there.
CONFIG_OF_ALGORITHM = {
    "APPO": {"minibatch_buffer_size": "circular_buffer_num_batches"},
    "DQN": {"hiddens": "model.head_fcnet_hiddens"},
}
_NO_MODULE_SWITCH = "the new API stack is RLlib's default"
CONFIG_DROPPED = {
    "horizon": "limit episodes in the environment itself (gymnasium's: env_config: {max_episode_steps: N})",
    "soft_horizon": "limit episodes in the environment itself",
    "no_done_at_end": "limit episodes in the environment itself",
    "monitor": "videos come from a checkpoint, after training",
    "record_env": "videos come from a checkpoint, after training",
    "render_env": "videos come from a checkpoint, after training",
    "sample_async": "sampling is synchronous",
    "num_accs": "num_aggregator_actors_per_learner tells how many actors build batches",
    "num_data_loader_buffers": "num_gpu_loader_threads takes its place",
    "vtrace_drop_last_ts": "V-trace keeps the last step",
    "worker_side_prioritization": "replay_buffer_config tells how to replay",
    "final_prioritized_replay_beta": "replay_buffer_config.beta stays as it is",
    "prioritized_replay_beta_annealing_timesteps": "replay_buffer_config.beta stays as it is",
    "beta_annealing_fraction": "replay_buffer_config.beta stays as it is",
    "gpu": "num_gpus_per_learner takes its place",
    "log_sys_usage": "system usage is not logged",
    "use_pytorch": "torch is the only framework",
    "eager": "torch is the only framework",
    "eager_tracing": "torch is the only framework",
    "tf_session_args": "torch is the only framework",
    "local_tf_session_args": "torch is the only framework",
    "simple_optimizer": "learners are set by num_learners",
    "synchronize_filters": "merge_env_runner_states takes its place",
    "prioritized_replay": "replay_buffer_config.type tells the kind of buffer",
    "prioritized_replay_eps": "replay_buffer_config tells how to replay",
    "replay_batch_size": "replay_buffer_config tells how to replay",
    "replay_mode": "replay_buffer_config tells how to replay",
    "env_task_fn": "set tasks from a callback",
    "enable_connectors": "connectors are always there",
    "worker_cls": "env_runner_cls takes its place",
    "policy_map_cache": "policies are held in memory",
    "enable_async_evaluation": "evaluation_parallel_to_training takes its place",
    "custom_async_evaluation_function": "custom_evaluation_function takes its place",
    "auto_wrap_old_gym_envs": "environments are gymnasium's",
    "always_attach_evaluation_results": "evaluation results are always attached",
    "input_evaluation": "off_policy_estimation_methods takes its place",
    "disable_env_checking": "environments are not checked",
    "_enable_new_api_stack": _NO_MODULE_SWITCH,
    "_enable_learner_api": _NO_MODULE_SWITCH,
    "_enable_rl_module_api": _NO_MODULE_SWITCH,
    "_disable_preprocessor_api": _NO_MODULE_SWITCH,
    "_disable_execution_plan_api": _NO_MODULE_SWITCH,
}
_NO_CONNECTOR = (
    "connectors by their paths are for the new API stack; stpn_envs.Wrapped sets up wrappers of your own on both"
)
CONFIG_DROPPED_NEW_STACK = {
    "exploration_config": "exploring is the RLModule's business (DQN: epsilon: [[0, 1.0], [10000, 0.05]])",
    "preprocessor_pref": "environments deliver the observation the model sees; wrap yours where it does not",
    "remote_worker_envs": "gym_env_vectorize_mode: async takes its place",
    "remote_env_batch_wait_ms": "gym_env_vectorize_mode: async takes its place",
    "replay_sequence_length": "episodes are what is stored and replayed",
    "compress_observations": "episodes are not compressed",
    "replay_ratio": "batches are not replayed; APPO's circular_buffer_num_batches does something like it",
}
#: What no file has, or none of the old API stack.
CONFIG_REFUSED = {
    "env_to_module_connector": _NO_CONNECTOR,
    "module_to_env_connector": _NO_CONNECTOR,
    "learner_connector": _NO_CONNECTOR,
    "multiagent": "policies, and which agent has which, are set up in a Python file (config.multi_agent(...))",
}
#: Old -> new name in `config.model`, new API stack.
MODEL = {
    "post_fcnet_hiddens": "head_fcnet_hiddens",
    "post_fcnet_activation": "head_fcnet_activation",
    "fcnet_weights_initializer": "fcnet_kernel_initializer",
    "fcnet_weights_initializer_config": "fcnet_kernel_initializer_kwargs",
    "post_fcnet_weights_initializer": "head_fcnet_kernel_initializer",
    "post_fcnet_weights_initializer_config": "head_fcnet_kernel_initializer_kwargs",
    "lstm_weights_initializer": "lstm_kernel_initializer",
    "lstm_weights_initializer_config": "lstm_kernel_initializer_kwargs",
    "conv_kernel_initializer_config": "conv_kernel_initializer_kwargs",
    **{f"{part}_bias_initializer_config": f"{part}_bias_initializer_kwargs" for part in ("fcnet", "lstm", "conv")},
    "post_fcnet_bias_initializer": "head_fcnet_bias_initializer",
    "post_fcnet_bias_initializer_config": "head_fcnet_bias_initializer_kwargs",
}
_NO_PREPROCESSOR = "environments deliver the observation the model sees; wrap yours where it does not"
MODEL_DROPPED = {
    "framestack": _NO_PREPROCESSOR,
    "dim": _NO_PREPROCESSOR,
    "grayscale": _NO_PREPROCESSOR,
    "zero_mean": _NO_PREPROCESSOR,
    "custom_preprocessor": _NO_PREPROCESSOR,
    "no_final_linear": "give the hidden sizes with fcnet_hiddens and head_fcnet_hiddens",
    "_time_major": "batches are [batch, time]",
    "always_check_shapes": "shapes are always checked",
    "_use_default_native_models": "models are torch's",
    "_disable_preprocessor_api": _NO_PREPROCESSOR,
    "_disable_action_flattening": "actions are as the environment's space has them",
    "encoder_latent_dim": "give the hidden sizes with fcnet_hiddens",
    **{
        f"conv_transpose_{kind}_initializer{config}": "no model has transposed convolutions"
        for kind in ("kernel", "bias")
        for config in ("", "_config")
    },
    **{
        f"attention_{option}": "without use_attention there is no attention"
        for option in (
            "dim",
            "head_dim",
            "init_gru_gate_bias",
            "memory_inference",
            "memory_training",
            "num_heads",
            "num_transformer_units",
            "position_wise_mlp_dim",
            "use_n_prev_actions",
            "use_n_prev_rewards",
        )
    },
}
_ONLY_OLD_STACK = (
    "allowed is the old API stack (enable_rl_module_and_learner: false, enable_env_runner_and_connector_v2: false)"
)
#: What the model would have to have, and on the new API stack has not.
MODEL_REFUSED = {
    "use_attention": f"the new API stack has no attention net; {_ONLY_OLD_STACK}, or a custom_model with memory",
}
_PER_MODULE = "algorithm_config_overrides_per_module"

#: Algorithms that RLlib no longer has, and which of today's comes close.
ALGORITHMS_DROPPED = {
    "A3C": "A2C",
    "PG": "A2C",
    "DDPPO": "PPO",
    "DDPG": "SAC",
    "TD3": "SAC",
    "ApexDDPG": "SAC",
    "APEX_DDPG": "SAC",
    "SimpleQ": "DQN",
    "APEX": "DQN",
    "ApexDQN": "DQN",
    "R2D2": "DQN",
    "CRR": "CQL",
    "DT": "BC",
    "Dreamer": "DreamerV3",
    **dict.fromkeys(("AlphaStar", "AlphaZero", "ARS", "BanditLinTS", "BanditLinUCB", "ES", "LeelaChessZero"), "none"),
    **dict.fromkeys(("MADDPG", "MAML", "MBMPO", "QMIX", "SlateQ"), "none"),
}

_RETURN = "episode_return"
#: Old -> new name of a metric in `stop`.
METRICS = {
    "timesteps_total": "num_env_steps_sampled_lifetime",
    "num_env_steps_sampled": "num_env_steps_sampled_lifetime",
    "num_steps_sampled": "num_env_steps_sampled_lifetime",
    "info/num_env_steps_sampled": "num_env_steps_sampled_lifetime",
    "info/num_steps_sampled": "num_env_steps_sampled_lifetime",
    "info/num_steps_trained": "num_env_steps_trained",
    "num_steps_trained": "num_env_steps_trained",
    **{f"evaluation/episode_{name}_mean": f"evaluation/env_runners/episode_{name}_mean" for name in ("len", "return")},
    **{f"{old}episode_len_mean": "env_runners/episode_len_mean" for old in ("", "sampler_results/")},
    **{f"episode_reward_{stat}": f"env_runners/{_RETURN}_{stat}" for stat in ("mean", "min", "max")},
    **{f"sampler_results/episode_reward_{s}": f"env_runners/{_RETURN}_{s}" for s in ("mean", "min", "max")},
    **{f"env_runners/episode_reward_{s}": f"env_runners/{_RETURN}_{s}" for s in ("mean", "min", "max")},
    **{f"eval/episode_reward_{s}": f"evaluation/env_runners/{_RETURN}_{s}" for s in ("mean", "min", "max")},
    **{f"evaluation/episode_reward_{s}": f"evaluation/env_runners/{_RETURN}_{s}" for s in ("mean", "min", "max")},
    **{
        f"evaluation/sampler_results/episode_reward_{s}": f"evaluation/env_runners/{_RETURN}_{s}"
        for s in ("mean", "min", "max")
    },
}
_TRAINED = "learners/__all_modules__/num_env_steps_trained_lifetime"
#: The same for the new API stack alone.
METRICS_NEW_STACK = {
    "episodes_total": "env_runners/num_episodes_lifetime",
    **dict.fromkeys(("num_env_steps_trained", "num_steps_trained"), _TRAINED),
    **dict.fromkeys(("info/num_env_steps_trained", "info/num_steps_trained"), _TRAINED),
}
#: Short for a metric's path.
METRIC_SHORTHANDS = {f"{_RETURN}_{stat}": f"env_runners/{_RETURN}_{stat}" for stat in ("mean", "min", "max")}


def settings() -> set[str]:
    """The names of settings that RLlib has renamed or dropped, old and new."""
    return {*CONFIG, *CONFIG.values(), *CONFIG_NEW_STACK, *CONFIG_DROPPED, *CONFIG_DROPPED_NEW_STACK, *CONFIG_REFUSED}


def translate_experiment(where: str, experiment: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """An experiment's keys under their present names, and a note for each that changed.

    Args:
        where: What to call the experiment in notes and errors.
        experiment: The mapping below the experiment's name.

    Raises:
        UsageError: A key stands there under its old and its new name.
    """
    return _translate(where, experiment, old_keys.RENAMED, old_keys.DROPPED)


def translate_config(
    where: str, config: dict[str, Any], run: str, new_stack: bool | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The same for an experiment's `config`, with the blocks of settings inside.

    Args:
        where: What to call it in notes and errors.
        config: Its settings, searches still in them.
        run: Its algorithm.
        new_stack: Whether it is for RLlib's new API stack; None: as its own switches say.
    """
    new_stack = on_new_stack(config) if new_stack is None else new_stack
    renamed = {**CONFIG, **({**CONFIG_NEW_STACK, **CONFIG_OF_ALGORITHM.get(run, {})} if new_stack else {})}
    dropped = {**CONFIG_DROPPED, **(CONFIG_DROPPED_NEW_STACK if new_stack else {})}
    of_old = {key for key in config if key in renamed}
    config = _with_one_of_two(config, new_stack)
    if "evaluation_num_episodes" in config:
        config.setdefault("evaluation_duration_unit", "episodes")
    config, respelled = old_values.translate(where, config, new_stack)
    config, notes = _translate(where, config, renamed, dropped)
    notes = respelled + notes

    def framework(name: Any) -> Any:
        if name not in ("tf", "tf2", "tfe"):
            return name
        notes.append(f"{where}: framework: {name} -> torch, the only one left")
        return "torch"

    def model(block: Any) -> Any:
        if not isinstance(block, dict):
            return block
        off = {key for key in MODEL_REFUSED if block.get(key) in (False, None, 0)}
        block = {key: value for key, value in block.items() if key not in off}
        block, more = _translate(f"{where}.model", block, MODEL, MODEL_DROPPED)
        notes.extend(more)
        return block

    def settings(below: str, block: Any) -> Any:
        if not isinstance(block, dict):
            return block
        block, more = translate_config(f"{where}.{below}", block, run, new_stack)
        notes.extend(more)
        return block

    def settings_of_each(block: Any) -> Any:
        if not isinstance(block, dict):
            return block
        return {each: settings(f"{_PER_MODULE}.{each}", below) for each, below in block.items()}

    blocks: dict[str, Callable[[Any], Any]] = {
        "framework_str": framework,
        "evaluation_config": functools.partial(settings, "evaluation_config"),
        _PER_MODULE: settings_of_each,
    }
    if new_stack:
        blocks["model"] = model
    for key, translate in blocks.items():
        if key in config:
            config[key] = searches.change(config[key], translate)
    if new_stack:
        config, more = old_values.translate_renamed(where, config, run, of_old, of_old <= SILENT)
        notes += more
    return config, list(dict.fromkeys(notes))


def _with_one_of_two(config: dict[str, Any], new_stack: bool) -> dict[str, Any]:
    """The settings without schedules that are off, and without constants that a schedule takes the place of.

    The new stack has one setting for both.
    """
    schedules = {"lr_schedule": "lr", "entropy_coeff_schedule": "entropy_coeff"}
    config = {key: value for key, value in config.items() if value is not None or key not in schedules}
    for schedule, constant in schedules.items():
        if new_stack and config.get(schedule):
            config.pop(constant, None)
    return config


def translate_stop(where: str, stop: dict[str, Any], new_stack: bool = True) -> tuple[dict[str, Any], list[str]]:
    """The same for stop criteria; names come out as paths: ``env_runners/episode_return_mean``."""
    stop, notes = _translate(where, _flatten(stop), METRICS | (METRICS_NEW_STACK if new_stack else {}), {})
    return {METRIC_SHORTHANDS.get(name, name): value for name, value in stop.items()}, notes


def on_new_stack(config: dict[str, Any]) -> bool:
    """Whether these settings are for RLlib's new API stack, its default."""
    return all(config.get(switch, True) is not False for switch in SWITCHES)


def _translate(
    where: str, settings: dict[str, Any], renamed: dict[str, str], dropped: dict[str, str]
) -> tuple[dict[str, Any], list[str]]:
    translated: dict[str, Any] = {k: v for k, v in settings.items() if k not in renamed and k not in dropped}
    notes = []
    for old, value in settings.items():
        if old in dropped:
            notes.append(f"{where}: {old} no longer means anything: {dropped[old]}")
        elif old in renamed:
            new = renamed[old]
            block, _, key = new.rpartition(".")
            both = UsageError(f"{where}: {old!r} is the old name of {new!r}, and both are given")

            def put(target: Any, key: str = key, value: Any = value, both: UsageError = both) -> Any:
                if target is not None and (not isinstance(target, dict) or key in target):
                    raise both
                return {**(target or {}), key: value}

            if block:
                translated[block] = searches.change(translated.get(block), put)
            else:
                translated = put(translated)
            if old not in SILENT:
                notes.append(f"{where}: {old} -> {new}")
    return translated, notes


def _flatten(tree: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update({f"{key}/{below}": leaf for below, leaf in _flatten(value).items()})
        else:
            flat[key] = value
    return flat
