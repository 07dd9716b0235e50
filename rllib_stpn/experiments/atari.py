"""Atari games, by the ids that they have had since the first Gym."""

import re
from typing import Any

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.old import values as old_values

_IDS = re.compile(
    r"(?:ale_py:)?(?:(?P<v5>ALE/))?(?P<game>[A-Z][A-Za-z0-9]*?)(?P<ram>-ram)?(?P<kind>NoFrameskip|Deterministic)?"
    r"-v(?P<version>[045])"
)
_SMALL = "stpn_envs:stpn/Atari-v0"
#: The settings that decide which environment a trial gets.
_KEYS = ("env", "env_config", "clip_rewards", "model")


def fit(settings: dict[str, Any], new_stack: bool, own_model: bool = False) -> tuple[dict[str, Any], list[str]]:
    """A trial's settings with ids that every process can make, and a note for each environment that changes.

    RLlib's old stack made small grey frames of Atari games. On the new stack, models without ``conv_filters`` get such
    frames, from ``stpn/Atari-v0``; all others get the game's own frames, from ale-py.

    Args:
        settings: Plain values, without searches. Not modified.
        new_stack: Whether they are for RLlib's new API stack.
        own_model: Whether a Python file sets the model, and not ``settings``.
    """
    fitted, notes = _fit(settings, new_stack, own_model)
    evaluation = settings.get("evaluation_config")
    if isinstance(evaluation, dict) and any(key in evaluation for key in _KEYS[:3]):
        whole = {key: settings[key] for key in _KEYS if key in settings} | evaluation
        whole["env_config"] = {**(settings.get("env_config") or {}), **(evaluation.get("env_config") or {})}
        whole, more = _fit(whole | {"model": settings.get("model")}, new_stack, own_model)
        changed = {key: whole[key] for key in _KEYS[:2] if key in whole and whole[key] != fitted.get(key)}
        rest = {key: value for key, value in evaluation.items() if key not in _KEYS[:2] and key in whole}
        fitted["evaluation_config"] = rest | changed
        notes += [f"evaluation_config: {note}" for note in more if note not in notes]
    return fitted, notes


def _fit(settings: dict[str, Any], new_stack: bool, own_model: bool) -> tuple[dict[str, Any], list[str]]:
    settings = dict(settings)
    env, notes = settings.get("env"), []
    found = _IDS.fullmatch(env) if isinstance(env, str) and is_a_game(env) else None
    if found is not None:
        model = settings.get("model") or {}
        if new_stack and not own_model and not found["ram"] and "conv_filters" not in model:
            notes = _small(settings, found)
        else:
            _as_it_is(settings, found)
    if new_stack:
        settings, more = old_values.clip_rewards(settings)
        notes += more
    return settings, notes


def _snake(game: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", game).lower()


def is_a_game(env: str) -> bool:
    """Whether an id is that of an Atari game.

    Raises:
        UsageError: It is, and ale-py is not installed.
    """
    found = _IDS.fullmatch(env)
    if found is None:
        return False
    try:
        from ale_py import roms
    except ImportError:
        if not found["v5"] and not found["kind"]:
            return False
        raise UsageError(f"env: {env!r} needs ale-py: pip install ale-py") from None
    return _snake(found["game"]) in roms.get_all_rom_ids()


def _small(settings: dict[str, Any], found: re.Match) -> list[str]:
    arguments = settings.get("env_config") or {}
    sticky, skip = _rules(found)
    skip = arguments.get("frameskip", skip)
    if not isinstance(skip, int) and not (isinstance(skip, list | tuple) and len(skip) == 2):
        raise UsageError(f"env_config: frameskip: got {skip!r}, allowed is a whole number, or the two ends of a range")
    known = ("frameskip", "repeat_action_probability", "full_action_space")
    game = _snake(found["game"])
    settings["env"] = _SMALL
    settings["env_config"] = {
        "game": game,
        "frame_skip": skip if isinstance(skip, int) else 4,
        "repeat_action_probability": arguments.get("repeat_action_probability", sticky),
        "full_action_space": arguments.get("full_action_space", False),
        "clip_rewards": settings.pop("clip_rewards", None) is not False,
    }
    notes = [f"env_config.{key} means nothing to {_SMALL}: left out" for key in sorted(arguments) if key not in known]
    at_random = "" if isinstance(skip, int) else ", 4 frames a step in place of 2 to 4 at random"
    told = f"{game}: grey frames of 84 x 84 as RLlib's wrappers made them, one at a time{at_random}"
    return [*notes, f"env: {found[0]} -> {_SMALL}, {told}"]


def _as_it_is(settings: dict[str, Any], found: re.Match) -> None:
    """Names the game by an id with its module, so that every process can make it."""
    import ale_py  # registers its ids
    import gymnasium

    gymnasium.register_envs(ale_py)
    env_id = found[0].removeprefix("ale_py:")
    if env_id in gymnasium.registry:
        settings["env"] = f"ale_py:{env_id}"
        return
    sticky, skip = _rules(found)
    settings["env"] = f"ale_py:ALE/{found['game']}-v5"
    settings["env_config"] = {
        "frameskip": skip,
        "repeat_action_probability": sticky,
        **({"obs_type": "ram"} if found["ram"] else {}),
        **(settings.get("env_config") or {}),
    }


def _rules(found: re.Match) -> tuple[float, int | tuple[int, int]]:
    """The chance that an action is repeated, and the frames of a step, or their bounds, by the version of the id."""
    sticky = 0.0 if found["version"] == "4" else 0.25
    if found["kind"] == "NoFrameskip":
        return sticky, 1
    if found["kind"] == "Deterministic":
        return sticky, 3 if found["game"] == "SpaceInvaders" else 4
    return sticky, 4 if found["v5"] else (2, 5)
