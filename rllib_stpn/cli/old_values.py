"""Settings whose values RLlib's new API stack spells otherwise than its old ``tuned_examples``."""

import re
from collections.abc import Iterator
from typing import Any

from rllib_stpn.cli import grid

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
ENVS = {"Pendulum-v0": "Pendulum-v1", "FrozenLake-v0": "FrozenLake-v1", "LunarLander-v2": "LunarLander-v3"}
_CLIPPING = ("stpn_envs:stpn/Atari-v0", "stpn_envs:stpn/Pong-v0", "stpn/Atari-v0", "stpn/Pong-v0")
_MODULES = ("ray.rllib.examples.env.", "ray.rllib.examples.envs.classes.")
_ATARI = re.compile(r"(?:ALE/(?P<v5>[A-Z]\w+)-v5|(?P<game>[A-Z]\w+?)(?P<kind>NoFrameskip|Deterministic)-v[04])")


def translate(where: str, config: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A config's settings as they are spelled today, and a note for each that changed.

    Args:
        where: What to call the config in notes.
        config: Settings, under old names or new ones. Not modified.
    """
    config = dict(config)
    notes = [
        note for change in (_blocks, _exploration, _replay, _fragments, _environment, _atari) for note in change(config)
    ]
    return config, [f"{where}: {note}" for note in notes]


def move_clip_rewards(config: dict[str, Any], env: str | None = None) -> tuple[dict[str, Any], list[str]]:
    """``clip_rewards``, which the new API stack ignores, into the arguments of the environments here that clip.

    Args:
        config: All settings of an experiment, or its ``evaluation_config``. Not modified.
        env: The environment, where the settings name none.
    """
    config = dict(config)
    notes: list[str] = []
    env = config.get("env", env)
    if isinstance(config.get("evaluation_config"), dict):
        config["evaluation_config"], notes = move_clip_rewards(config["evaluation_config"], env)
    if isinstance(env, str) and config.get("clip_rewards") is not None:
        clips = config.pop("clip_rewards")
        if env in _CLIPPING:
            config["env_config"] = grid.change(
                config.get("env_config"), lambda block: {**(block or {}), "clip_rewards": clips}
            )
        elif clips:
            notes.append(f"clip_rewards no longer means anything with {env}: have the environment clip its rewards")
    return config, notes


def _blocks(config: dict[str, Any]) -> Iterator[str]:
    for block, moved in MOVED.items():
        if not isinstance(config.get(block), dict):
            continue
        inside = dict(config[block])
        for old in [key for key in inside if key in moved]:
            config.setdefault(moved[old], inside.pop(old))
            yield f"{block}.{old} -> {moved[old]}"
        config[block] = inside
        if not inside:
            del config[block]


def _exploration(config: dict[str, Any]) -> Iterator[str]:
    exploration = config.get("exploration_config")
    if isinstance(exploration, dict) and "epsilon_timesteps" in exploration:
        first, last = (
            exploration.get(f"{end}_epsilon", default) for end, default in (("initial", 1.0), ("final", 0.05))
        )
        config["epsilon"] = [[0, first], [exploration["epsilon_timesteps"], last]]
        del config["exploration_config"]
        yield f"exploration_config -> epsilon: {config['epsilon']}"


def _replay(config: dict[str, Any]) -> Iterator[str]:
    replay = config.get("replay_buffer_config")
    if not isinstance(replay, dict) or grid.is_grid(replay):
        return
    replay = config["replay_buffer_config"] = dict(replay)
    for old in [key for key in replay if key in REPLAY]:
        replay[REPLAY[old]] = replay.pop(old)
        yield f"replay_buffer_config.{old} -> {REPLAY[old]}"
    for old in [key for key in replay if key in REPLAY_DROPPED]:
        del replay[old]
        yield f"replay_buffer_config.{old} no longer means anything: episodes are what is stored and replayed"
    if str(replay.get("type")) in REPLAY_TYPES:
        old, replay["type"] = replay["type"], REPLAY_TYPES[replay["type"]]
        yield f"replay_buffer_config.type: {old} -> {replay['type']}"


def _fragments(config: dict[str, Any]) -> Iterator[str]:
    steps, length = config.get("n_step"), config.get("rollout_fragment_length")
    if isinstance(steps, int) and isinstance(length, int) and length < steps:
        config["rollout_fragment_length"] = steps
        yield f"rollout_fragment_length: {length} -> {steps}, the least with n_step {steps}"


def _environment(config: dict[str, Any]) -> Iterator[str]:
    env = config.get("env")
    if isinstance(env, str):
        new = ENVS.get(env, env)
        if env.startswith(_MODULES[0]):
            new = _MODULES[1] + env.removeprefix(_MODULES[0])
        if new != env:
            config["env"] = new
            yield f"env: {env} -> {new}"


def _atari(config: dict[str, Any]) -> Iterator[str]:
    """RLlib's old stack made small grey frames of Atari games; models without filters of their own need them."""
    env, model, arguments = config.get("env"), config.get("model") or {}, config.get("env_config") or {}
    found = _ATARI.fullmatch(env) if isinstance(env, str) else None
    if not found or grid.is_grid(model) or "conv_filters" in model or "custom_model" in model:
        return
    game = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", found["v5"] or found["game"]).lower()
    sticky, skip = (0.25, 4) if found["v5"] else (0.0, 1 if found["kind"] == "NoFrameskip" else 4)
    config["env"] = "stpn_envs:stpn/Atari-v0"
    config["env_config"] = {
        "game": game,
        "frame_skip": arguments.get("frameskip", skip),
        "repeat_action_probability": arguments.get("repeat_action_probability", sticky),
        "full_action_space": arguments.get("full_action_space", False),
        "clip_rewards": config.pop("clip_rewards", None) is not False,
    }
    for key in sorted(arguments.keys() - {"frameskip", "repeat_action_probability", "full_action_space"}):
        yield f"env_config.{key} means nothing to {config['env']}: left out"
    yield f"env: {env} -> {config['env']}, {game}: grey frames of 84 x 84 as RLlib's wrappers made them, one at a time"
