"""Settings that RLlib takes and never reads on its new API stack."""

from collections.abc import Iterable, Mapping
from typing import Any

from rllib_stpn.experiments import searches
from rllib_stpn.experiments.previous import PREVIOUS_INPUTS

_OLD_STACK = "only the old API stack reads it"
_ADAM = "the optimiser is Adam, with lr"
#: Attributes of every algorithm's config -> what to use instead, or who reads them.
OF_EVERY_ALGORITHM = {
    "action_mask_key": "RLModules find masks by themselves",
    "checkpoint_trainable_policies_only": _OLD_STACK,
    "eager_max_retraces": "torch is the only framework",
    "export_native_model_files": "a checkpoint has the module's weights",
    "extra_python_environs_for_driver": _OLD_STACK,
    "extra_python_environs_for_worker": _OLD_STACK,
    "fake_sampler": _OLD_STACK,
    "input_config": "input_read_method and its like take its place",
    "input_spaces_jsonable": _OLD_STACK,
    "observation_fn": "an env-to-module connector takes its place",
    "offline_sampling": _OLD_STACK,
    "optimizer": _ADAM,
    "output_config": "output_write_method and its like take its place",
    "output_max_file_size": "output_max_rows_per_file takes its place",
    "policy_map_capacity": "all policies are held in memory",
    "prelearner_module_synch_period": _OLD_STACK,
    "sample_collector": _OLD_STACK,
    "sampler_perf_stats_ema_coef": _OLD_STACK,
    "shuffle_buffer_size": "the replay buffer shuffles",
}
_NO_EPOCHS = "training_intensity tells how often to update"
_REPLAY = {
    "minibatch_size": "train_batch_size_per_learner is what one update gets",
    "num_epochs": _NO_EPOCHS,
    "shuffle_batch_per_epoch": _NO_EPOCHS,
}
_RECORDED = {
    "minibatch_size": "train_batch_size_per_learner is what one update gets",
    "num_epochs": "dataset_num_iters_per_learner tells how often to update",
    "shuffle_batch_per_epoch": "the data are read in an order of their own",
}
_MODELS = dict.fromkeys(("policy_model_config", "q_model_config"), "model: {head_fcnet_hiddens: [...]} takes its place")
_NO_NOISE = "networks have no noisy layers, epsilon alone explores"
_REPLAYS_NO_BATCHES = "batches are not replayed; APPO's circular_buffer_num_batches does something like it"
_IMPALA = {
    "opt_type": _ADAM,
    "decay": _ADAM,
    "momentum": _ADAM,
    "epsilon": _ADAM,
    "learner_queue_timeout": _OLD_STACK,
    "max_requests_in_flight_per_aggregator_worker": "max_requests_in_flight_per_aggregator_actor takes its place",
    "num_multi_gpu_tower_stacks": "num_learners tells how many GPUs learn",
    "replay_buffer_num_slots": _REPLAYS_NO_BATCHES,
    "timeout_s_aggregator_manager": _OLD_STACK,
}
#: The same for the config of one algorithm.
OF_ALGORITHM = {
    "IMPALA": {**_IMPALA, "minibatch_buffer_size": _REPLAYS_NO_BATCHES},
    "APPO": {
        **_IMPALA,
        "target_update_frequency": "target_network_update_freq takes its place",
        "target_worker_clipping": _OLD_STACK,
        "use_critic": "V-trace needs the critic",
        "use_gae": "advantages are those of V-trace",
    },
    "DQN": {
        "adam_epsilon": _ADAM,
        "before_learn_on_batch": "a learner connector takes its place",
        "categorical_distribution_temperature": _OLD_STACK,
        "hiddens": "model: {head_fcnet_hiddens: [...]} takes its place",
        "noisy": _NO_NOISE,
        "sigma0": _NO_NOISE,
        **_REPLAY,
    },
    "SAC": {
        "_deterministic_loss": _OLD_STACK,
        "_use_beta_distribution": _OLD_STACK,
        **_REPLAY,
        **_MODELS,
        "optimization": "actor_lr, critic_lr and alpha_lr take its place",
    },
    "CQL": {
        **_REPLAY,
        **_MODELS,
        "lagrangian": _OLD_STACK,
        "lagrangian_thresh": _OLD_STACK,
        "optimization": "actor_lr, critic_lr and alpha_lr take its place",
    },
    "BC": _RECORDED,
    "MARWIL": _RECORDED,
    "IQL": _RECORDED,
    "DreamerV3": {**_REPLAY, "intrinsic_rewards_scale": _OLD_STACK},
}


#: Attributes of every algorithm's config that IMPALA and APPO alone read.
OF_SYNCHRONOUS_ALGORITHMS = dict.fromkeys(
    ("use_env_runner_state_server", "env_runner_state_server_max_concurrency", "policy_states_are_swappable"),
    "IMPALA and APPO alone read it",
)


def reasons(run: str) -> dict[str, str]:
    """The settings of an algorithm that nothing reads -> what to use instead, or who reads them."""
    synchronous = {} if run in ("IMPALA", "APPO") else OF_SYNCHRONOUS_ALGORITHMS
    return OF_EVERY_ALGORITHM | synchronous | OF_ALGORITHM.get(run, {})


def deprecated(defaults: Any) -> set[str]:
    """The settings that RLlib has dropped, and keeps in its default config with a mark."""
    from ray._common.deprecation import DEPRECATED_VALUE

    return {key for key, value in vars(defaults).items() if type(value) is int and value == DEPRECATED_VALUE}


def without_deprecated(where: str, settings: Mapping[str, Any], run: str) -> tuple[dict[str, Any], list[str]]:
    """Settings without those that RLlib has dropped, and a note for each.

    Args:
        where: What holds the settings.
        settings: Plain ones, searches still in them. Not modified.
        run: The algorithm.
    """
    from rllib_stpn.experiments.building import default_config

    gone, known = deprecated(default_config(run)), reasons(run)
    told: list[str] = []

    def without(where: str, block: Any) -> Any:
        if not isinstance(block, dict):
            return block
        told.extend(
            f"{where}: {key} no longer means anything: {known.get(key, 'RLlib has dropped it')}"
            for key in block
            if key in gone
        )
        return {key: value for key, value in block.items() if key not in gone}

    kept = without(where, dict(settings))
    if "evaluation_config" in kept:
        inside = f"{where}.evaluation_config"
        kept["evaluation_config"] = searches.change(kept["evaluation_config"], lambda block: without(inside, block))
    return kept, list(dict.fromkeys(told))


def notes(where: str, given: Iterable[str], run: str) -> list[str]:
    """A line for each given setting that has no effect on the new API stack.

    Args:
        where: What holds the settings.
        given: Their names.
        run: The algorithm.
    """
    known = reasons(run)
    return [f"{where}: {key} has no effect: {known[key]}" for key in given if key in known]


def of_model(where: str, model: dict) -> list[str]:
    """The same for the `model` block, where it has neither a layer of ours nor RLlib's LSTM."""
    if model.get("use_lstm") or model.get("custom_model"):
        return []
    return [
        f"{where}: {key} has no effect without use_lstm: true"
        for key, value in model.items()
        if key not in PREVIOUS_INPUTS and (key == "max_seq_len" or (key.startswith("lstm_") and value))
    ]
