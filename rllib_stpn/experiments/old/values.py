"""Settings whose values RLlib's new API stack spells otherwise than its old ``tuned_examples``."""

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from rllib_stpn.errors import UsageError, unknown
from rllib_stpn.experiments import searches

#: Where a setting inside a block stands now.
MOVED = {
    "optimization": {
        "actor_learning_rate": "actor_lr",
        "critic_learning_rate": "critic_lr",
        "entropy_learning_rate": "alpha_lr",
    },
    "replay_buffer_config": {
        "min_size_for_sampling": "num_steps_sampled_before_learning_starts",
        "learning_starts": "num_steps_sampled_before_learning_starts",
    },
}
#: What an exploration by epsilon alone may have.
_EPSILON_GREEDY = ("type", "initial_epsilon", "final_epsilon", "epsilon_timesteps", "warmup_timesteps", "framework")
#: Settings of DQN until 2019, and their defaults.
_SCHEDULE_OF_2018 = {
    "schedule_max_timesteps": 100_000,
    "exploration_fraction": 0.1,
    "exploration_initial_eps": 1.0,
    "exploration_final_eps": 0.02,
}
REPLAY = {"prioritized_replay_alpha": "alpha", "prioritized_replay_beta": "beta"}
REPLAY_DROPPED = (
    "prioritized_replay_eps",
    "worker_side_prioritization",
    "storage_unit",
    "replay_batch_size",
    "replay_sequence_length",
    "replay_mode",
)
REPLAY_TYPES = {
    "ReplayBuffer": "EpisodeReplayBuffer",
    "MultiAgentReplayBuffer": "EpisodeReplayBuffer",
    "PrioritizedReplayBuffer": "PrioritizedEpisodeReplayBuffer",
    "MultiAgentPrioritizedReplayBuffer": "PrioritizedEpisodeReplayBuffer",
}
_CLIPPING = ("stpn_envs:stpn/Atari-v0", "stpn_envs:stpn/Pong-v0", "stpn/Atari-v0", "stpn/Pong-v0")
_MODULES = ("ray.rllib.examples.env.", "ray.rllib.examples.envs.classes.")
_VERSIONED = re.compile(r"(?P<name>[\w/-]*?)-v(?P<version>\d+)")


def translate(where: str, config: dict[str, Any], new_stack: bool = True) -> tuple[dict[str, Any], list[str]]:
    """A config's settings as they are spelled today, and a note for each that changed.

    Args:
        where: What to call the config in notes.
        config: Settings, under old names or new ones. Not modified.
        new_stack: Whether they are for RLlib's new API stack; the old one spells only environments otherwise.
    """
    config = dict(config)
    changes = (_blocks, _exploration, _replay, _environment) if new_stack else (_environment,)
    return config, _notes(where, config, changes)


def translate_renamed(
    where: str, config: dict[str, Any], run: str, of_old: Collection[str], of_today_too: bool
) -> tuple[dict[str, Any], list[str]]:
    """The same for what depends on several settings, which have today's names already; of the new API stack.

    Args:
        where: What to call the config in notes.
        config: Settings under today's names. Not modified.
        run: The algorithm.
        of_old: The names of an earlier RLlib in the settings, which took some that today's refuses, and some otherwise.
        of_today_too: Whether users of today write all of these names.
    """
    config = dict(config)
    changes = [_fragments]
    changes += [_whole_batches] if run == "PPO" and of_old else []
    changes += [_mean_loss] if run == "A2C" and not of_today_too else []
    changes += [_networks] if run in ("SAC", "CQL") else []
    return config, _notes(where, config, changes)


def _notes(where: str, config: dict[str, Any], changes: Iterable[Callable[[dict], Iterable[str]]]) -> list[str]:
    try:
        return [f"{where}: {note}" for change in changes for note in change(config)]
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def env_today(env: Any) -> Any:
    """An environment's id as gymnasium and RLlib have it: the next version where this one is gone."""
    import gymnasium

    if not isinstance(env, str):
        return env
    if env.startswith(_MODULES[0]):
        return _MODULES[1] + env.removeprefix(_MODULES[0])
    found = _VERSIONED.fullmatch(env)
    if found is None or _can_be_made(gymnasium.registry.get(env)):
        return env
    later = {
        spec.version: spec_id
        for spec_id, spec in gymnasium.registry.items()
        if spec.version is not None and spec.version > int(found["version"]) and _can_be_made(spec)
        if spec_id.rpartition("-v")[0] == found["name"]
    }
    return later[min(later)] if later else env


def _can_be_made(spec: Any) -> bool:
    """Whether it is one of gymnasium's, and not one that only says where it has gone (MuJoCo's versions 2 and 3)."""
    return spec is not None and "raise" not in getattr(spec.entry_point, "__name__", "")


def clip_rewards(config: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """``clip_rewards``, which the new API stack ignores, into the arguments of the environments here that clip.

    Args:
        config: Plain settings with ``env``. Not modified.
    """
    config = dict(config)
    env = config.get("env")
    if not isinstance(env, str) or config.get("clip_rewards") is None:
        return config, []
    clips = config.pop("clip_rewards")
    if env in _CLIPPING:
        config["env_config"] = {**(config.get("env_config") or {}), "clip_rewards": clips}
    elif clips:
        return config, [f"clip_rewards no longer means anything with {env}: have the environment clip its rewards"]
    return config, []


def _blocks(config: dict[str, Any]) -> Iterator[str]:
    for block, moved in MOVED.items():
        every = searches.choices(config.get(block))
        if not all(isinstance(inside, dict) for inside in every):
            continue
        for old in [key for key in every[0] if key in moved]:
            value = every[0][old]
            if any(old not in inside or inside[old] != value for inside in every):
                raise UsageError(
                    f"{block}: {old} is {moved[old]} today, beside {block}: it cannot differ between the values of a "
                    f"search over {block}; give {moved[old]} a search of its own"
                )
            config.setdefault(moved[old], value)
            config[block] = searches.change(config[block], functools.partial(_without, old))
            yield f"{block}.{old} -> {moved[old]}"
        if config[block] == {}:
            del config[block]


def _exploration(config: dict[str, Any]) -> Iterator[str]:
    exploration = config.get("exploration_config")
    if isinstance(exploration, dict) and "epsilon_timesteps" in exploration:
        first, last = (
            exploration.get(f"{end}_epsilon", default) for end, default in (("initial", 1.0), ("final", 0.05))
        )
        for key in exploration:
            if key not in _EPSILON_GREEDY:
                raise unknown("exploration_config", "key", key, _EPSILON_GREEDY)
        config["epsilon"] = [[0, first], [exploration["epsilon_timesteps"], last]]
        del config["exploration_config"]
        yield f"exploration_config -> epsilon: {config['epsilon']}"
    of_2018 = {key: config.pop(key) for key in _SCHEDULE_OF_2018 if key in config}
    if of_2018:
        try:
            given = {key: float(value) for key, value in {**_SCHEDULE_OF_2018, **of_2018}.items()}
            if min(given.values()) < 0:
                raise ValueError
            steps = max(1, int(given["schedule_max_timesteps"] * given["exploration_fraction"]))
        except (TypeError, ValueError, OverflowError):  # of NaN and infinity, too
            raise UsageError(f"{', '.join(of_2018)}: epsilon: [[0, 1.0], [10000, 0.02]] takes their place") from None
        first, last = given["exploration_initial_eps"], given["exploration_final_eps"]
        config.setdefault("epsilon", [[0, first], [steps, last]])
        yield f"{', '.join(of_2018)} -> epsilon: {config['epsilon']}"


def _replay(config: dict[str, Any]) -> Iterator[str]:
    notes: list[str] = []

    def kind(old: Any) -> Any:
        new = REPLAY_TYPES.get(old, old) if isinstance(old, str) else old
        if new != old:
            notes.append(f"replay_buffer_config.type: {old} -> {new}")
        return new

    def block(replay: Any) -> Any:
        if not isinstance(replay, dict):
            return replay
        notes.extend(f"replay_buffer_config.{old} -> {REPLAY[old]}" for old in replay if old in REPLAY)
        notes.extend(
            f"replay_buffer_config.{old} no longer means anything: episodes are what is stored and replayed"
            for old in replay
            if old in REPLAY_DROPPED
        )
        replay = {REPLAY.get(key, key): value for key, value in replay.items() if key not in REPLAY_DROPPED}
        if "type" in replay:
            replay["type"] = searches.change(replay["type"], kind)
        return replay

    if "replay_buffer_config" in config:
        config["replay_buffer_config"] = searches.change(config["replay_buffer_config"], block)
    yield from dict.fromkeys(notes)


def _without(key: str, block: dict[str, Any]) -> dict[str, Any]:
    return {each: value for each, value in block.items() if each != key}


def _networks(config: dict[str, Any]) -> Iterator[str]:
    """One network for the policy and one for Q, which are alike on the new API stack."""
    from ray.rllib.models.catalog import MODEL_DEFAULTS

    def written(block: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in block.items() if value or key not in MODEL_DEFAULTS}

    given = {key: config[key] for key in ("q_model_config", "policy_model_config") if key in config}
    networks = [written(block) for block in given.values() if _plain(block)]
    alike = len(networks) == 2 and networks[0] == networks[1]
    if alike and networks[0].keys() <= {"fcnet_hiddens", "fcnet_activation"} and "model" not in config:
        config["model"] = networks[0]
        for key in given:
            del config[key]
        yield f"{', '.join(given)} -> model: {networks[0]}"


def _plain(block: Any) -> bool:
    """Whether it is a mapping without a search in it."""
    return isinstance(block, dict) and not any(searches.find(block))


def _whole_batches(config: dict[str, Any]) -> Iterator[str]:
    """Rounds of fragments that are no train batch: RLlib took them once, and refuses them today."""
    keys = ("train_batch_size", "num_env_runners", "num_envs_per_env_runner", "rollout_fragment_length")
    numbers = [config.get(key, default) for key, default in zip(keys, (4000, 0, 1, "auto"), strict=True)]
    if not all(isinstance(number, int) for number in numbers) or "train_batch_size" not in config:
        return
    batch, runners, envs, length = numbers
    steps = max(1, runners) * envs * length
    if steps > 0 and -(-batch // steps) * steps - batch > 0.1 * batch:
        config["rollout_fragment_length"] = "auto"
        yield (
            f"rollout_fragment_length: {length} -> auto: fragments of {max(1, runners)} x {envs} environments make no "
            f"train batch of {batch}"
        )


def _mean_loss(config: dict[str, Any]) -> Iterator[str]:
    """What meant something else while A2C's loss was RLlib's: a sum over the batch, of half the squared error."""
    if config.get("grad_clip") is not None:
        yield (
            "grad_clip: earlier RLlib clipped the gradient of a sum over the batch, today it is a mean: "
            "for the same, divide it by the steps of a batch"
        )
    if "vf_loss_coeff" in config:
        yield "vf_loss_coeff: earlier RLlib weighed half of the squared error, today all of it: for the same, halve it"


def _fragments(config: dict[str, Any]) -> Iterator[str]:
    steps, length = config.get("n_step"), config.get("rollout_fragment_length")
    if isinstance(steps, int) and isinstance(length, int) and length < steps:
        config["rollout_fragment_length"] = steps
        yield f"rollout_fragment_length: {length} -> {steps}, the least with n_step {steps}"


def _environment(config: dict[str, Any]) -> Iterator[str]:
    if "env" in config:
        given, config["env"] = config["env"], searches.change(config["env"], env_today)
        for old, new in zip(searches.choices(given), searches.choices(config["env"]), strict=True):
            if old != new:
                yield f"env: {old} -> {new}"
