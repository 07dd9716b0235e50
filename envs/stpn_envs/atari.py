"""Atari 2600 games of the Arcade Learning Environment: one (`AtariEnv`) or a batch (`AtariVectorEnv`)."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from stpn_envs.arguments import (
    autoreset,
    choice,
    did_you_mean,
    flag,
    integer,
    is_integer,
    number,
    refuse,
    reset_mask,
    seeds_in,
)

if TYPE_CHECKING:
    import ale_py

__all__ = ["AtariEnv", "AtariVectorEnv"]

_HEIGHT, _WIDTH = 84, 84
_FRAMES_PER_SECOND = 60
_SEEDS = 2**31  # the emulator takes a non-negative C int and reads a negative one as "keep the generator"
_KEEP_GENERATOR = -1
_LARGEST_INT = 2**31 - 2  # ale-py adds one to some of its C ints


class AtariEnv(gymnasium.Env[np.ndarray, int]):
    """One Atari 2600 game, small, gray and without frame stack: what is out of sight has to be remembered.

    ## Description

    A single 84x84 frame shows where things are, not where they are going. The usual remedies, a stack of
    four frames and four frames per action, are both off by default, so velocities have to come from the
    agent's memory. The defaults are those of ``PongNoFrameskip-v4`` with random no-ops at the start and
    FIRE pressed: every frame is a step, and actions are executed as given (no sticky actions).

    ## Observation space

    ``Box(0, 255, (84, 84, 1), uint8)``: the screen (210x160, up to 250 rows in some games) in gray, resized
    by area.

    | axis | size | meaning |
    |---|---|---|
    | 0 | 84 | row, from the top |
    | 1 | 84 | column, from the left |
    | 2 | 1 | luminance: 0 black, 255 white |

    Scaling to floats is left to the model: bytes keep rollouts four times smaller. With ``frame_skip`` of
    two or more the observation is the pixelwise maximum of the last two of the skipped frames, because the
    console draws some sprites on every second frame only; with ``frame_skip=1`` it is the frame itself.

    The frame that ends an episode is not drawn: the last observation shows the frames before it, so with
    ``frame_skip=1`` it equals the one of the step before.

    ## Action space

    ``Discrete(n)``: the joystick positions that have an effect in the game (`get_action_meanings` names
    them), or all 18 with ``full_action_space=True``. In Pong:

    | action | 0 | 1 | 2 | 3 | 4 | 5 |
    |---|---|---|---|---|---|---|
    | meaning | NOOP | FIRE | RIGHT (up) | LEFT (down) | RIGHTFIRE (up) | LEFTFIRE (down) |

    ## Rewards

    The change of the game's score over the step's frames, as a float; clipped to [-1, 1] unless
    ``clip_rewards=False``. In Pong +1 for a point won, -1 for a point lost.

    ## Start of an episode

    The console is reset, FIRE is pressed once if the game uses it and ``fire_on_reset`` is set, and NOOP is
    held until the number of frames is a uniform draw from 0 .. ``noop_max`` - 1 (the frame with FIRE
    counts, and is there even if the draw is 0).

    ## End of an episode

    Terminated when the game is over (Pong: one side has 21 points), or with ``episodic_life=True`` when a
    life is lost; the next reset starts a new game in both cases. Truncated after ``max_frames`` frames
    since the reset, unless terminated. Stepping on without a reset raises `gymnasium.error.ResetNeeded`.

    ## Info

    | key | meaning |
    |---|---|
    | ``lives`` | lives left, 0 in games without lives |
    | ``episode_frame_number`` | frames since the console's reset, those of the start included |
    | ``frame_number`` | frames since the emulator was last seeded |

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``game`` | ``"pong"`` | name of the game in snake_case, as in ``ale_py.roms`` |
    | ``frame_skip`` | 1 | frames per step; the action is held meanwhile |
    | ``repeat_action_probability`` | 0.0 | chance per frame that the previous action is repeated ("sticky") |
    | ``noop_max`` | 30 | see the start of an episode; 0 or 1 for none |
    | ``fire_on_reset`` | True | see the start of an episode |
    | ``episodic_life`` | False | see the end of an episode |
    | ``clip_rewards`` | True | clip each step's reward to [-1, 1] |
    | ``full_action_space`` | False | offer all 18 joystick positions |
    | ``max_frames`` | 108000 | frames until truncation, half an hour of play |
    | ``num_threads`` | 0 | the vector form's, so that both forms take the same; one game has one thread |
    | ``render_mode`` | None | ``"rgb_array"``: `render` returns the screen in colour; ``"human"``: a window |

    Unknown arguments, wrong types and values out of range raise `ValueError`.

    ## Seeding

    ``reset(seed=s)`` (taken modulo 2**31) decides everything random: the no-ops of this and the following
    episodes and the sticky actions. It is what sub-environment i of an `AtariVectorEnv` does when that is
    reset with ``seed=s - i``.

    A copy or a pickle is an environment with the same arguments which has to be reset before it can be
    stepped.

    ## Registered ids

    - ``stpn/Atari-v0``
    - ``stpn/Pong-v0``: ``game="pong"``

    ## Version history

    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": _FRAMES_PER_SECOND}

    def __init__(
        self,
        game: str = "pong",
        *,
        frame_skip: int = 1,
        repeat_action_probability: float = 0.0,
        noop_max: int = 30,
        fire_on_reset: bool = True,
        episodic_life: bool = False,
        clip_rewards: bool = True,
        full_action_space: bool = False,
        max_frames: int = 108_000,
        num_threads: int = 0,
        render_mode: str | None = None,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        integer("num_threads", num_threads, minimum=0, maximum=_LARGEST_INT)
        self._ale: ale_py.ALEVectorInterface | None = None
        self._screen: _Screen | None = None
        settings = _Settings(
            game, frame_skip, repeat_action_probability, noop_max, fire_on_reset, episodic_life, clip_rewards,
            full_action_space, max_frames,
        )  # fmt: skip
        self.render_mode = choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self._arguments = {**settings.arguments(), "render_mode": render_mode}
        # render_fps is per call of render, that is per step
        self.metadata = {
            **self.metadata,
            "render_fps": max(1, round(_FRAMES_PER_SECOND / settings.frame_skip)),
        }

        # The observations come from a vector interface of one game. A loop of Python around a plain
        # ALEInterface would have to repeat its resize and its draw of no-ops; the latter is a C++ library's
        # uniform_int_distribution, whose algorithm differs between platforms. Next-step autoreset never
        # happens here: step() refuses before it.
        self._ale = settings.emulators(num_envs=1, num_threads=1, autoreset_mode=AutoresetMode.NEXT_STEP)
        if render_mode is not None:
            self._screen = _Screen(settings, window=render_mode == "human")
        self._action_names = tuple(action.name for action in self._ale.get_action_set())
        self.observation_space = _observation_space()
        self.action_space = spaces.Discrete(len(self._action_names))  # type: ignore[assignment]
        self._strength = np.ones(1, np.float32)
        self._seeded = False
        self._playing = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the environment; None goes on with the generators it has (random ones at first).
            options: None are known; ignored.

        Returns:
            The observation, uint8 ``[84, 84, 1]``, owned by the caller, and the info.
        """
        super().reset(seed=seed)
        ale = self._open_ale()
        if seed is not None:
            emulator_seed = int(seed) % _SEEDS
        elif self._seeded:
            emulator_seed = _KEEP_GENERATOR
        else:
            emulator_seed = int(self.np_random.integers(_SEEDS))
        observation, raw = ale.reset(np.zeros(1, np.int64), np.array([emulator_seed]))
        self._seeded = self._playing = True
        info = {key: int(raw[key][0]) for key in _INFO_KEYS}
        if self._screen is not None:
            self._screen.reset(emulator_seed, info["frame_number"])
        return observation.reshape(_HEIGHT, _WIDTH, 1), info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold `action` for `frame_skip` frames.

        Args:
            action: An integer of the action space.

        Returns:
            Observation (uint8 ``[84, 84, 1]``, owned by the caller), reward, terminated, truncated and info.

        Raises:
            ValueError: `action` is not in the action space.
            gymnasium.error.ResetNeeded: There is no episode under way.
        """
        ale = self._open_ale()
        if not self._playing:
            raise ResetNeeded("there is no episode under way: call reset() before step()")
        try:
            index = operator.index(action)
        except TypeError:
            index = -1
        if not 0 <= index < len(self._action_names):
            raise ValueError(f"action: got {action!r}, allowed is an integer, 0 to {len(self._action_names) - 1}")
        ale.send(np.array([index]), self._strength)
        observation, rewards, terminations, truncations, raw = ale.recv()
        terminated, truncated = bool(terminations[0]), bool(truncations[0])
        self._playing = not (terminated or truncated)
        info = {key: int(raw[key][0]) for key in _INFO_KEYS}
        if self._screen is not None:
            self._screen.step(index, info["frame_number"])
        return observation.reshape(_HEIGHT, _WIDTH, 1), float(rewards[0]), terminated, truncated, info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """Return the screen in mode "rgb_array": uint8 ``[210, 160, 3]``, up to 250 rows in some games.

        None in mode "human", whose window follows every step, and without a render mode (with a warning).
        """
        if self._screen is None:
            gymnasium.logger.warn(
                "render() was called without a render mode; make the environment with render_mode='rgb_array'"
            )
            return None
        return self._screen.pixels() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Stop the emulators; a second call does nothing."""
        self._ale = self._screen = None

    def get_action_meanings(self) -> list[str]:
        """Return the joystick position of each action in order: "NOOP", "FIRE", "UP", "UPFIRE", ..."""
        return list(self._action_names)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **self._arguments), (), {"spec": self.spec}

    def _open_ale(self) -> ale_py.ALEVectorInterface:
        if self._ale is None:
            raise gymnasium.error.ClosedEnvironmentError("the environment is closed")
        return self._ale


class AtariVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """A batch of Atari 2600 games, stepped in parallel by the C++ threads of ale-py.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what an `AtariEnv` with the same arguments
    sees after ``reset(seed=s + i)``; its description of observations, actions, rewards, the start and the
    end of episodes holds here, with a batch axis in front: observations uint8 ``[num_envs, 84, 84, 1]``,
    actions an integer array ``[num_envs]``, rewards float64, terminations and truncations bool
    ``[num_envs]``.

    Every array returned is new and belongs to the caller; later steps do not touch it. The channel axis is
    a view of ale-py's array, not a copy.

    ## Autoreset

    ``autoreset_mode="SameStep"`` (default): the step that ends an episode returns that episode's reward and
    end with the first observation and the info of the next. ``info["final_obs"]`` is an object array
    ``[num_envs]`` with the last observation of each episode that ended and None elsewhere,
    ``info["_final_obs"]`` the bool mask of those; both keys are missing when no episode ended. There is no
    ``final_info``: ale-py does not keep it.

    ``autoreset_mode="NextStep"``: the step that ends an episode returns its last observation; the step
    after it ignores the action, resets, and returns the first observation with reward 0.

    ``metadata["autoreset_mode"]`` says which. The other values of `gymnasium.vector.AutoresetMode` are
    refused.

    ## Arguments

    Those of `AtariEnv` without ``render_mode``, and

    | argument | default | meaning |
    |---|---|---|
    | ``num_envs`` | 1 | number of games |
    | ``num_threads`` | 0 | threads that run them, at most one per CPU; 0: one per game, at most one per CPU |
    | ``autoreset_mode`` | SAME_STEP | `gymnasium.vector.AutoresetMode` or its value, see above |

    Each key of the info (``lives``, ``episode_frame_number``, ``frame_number``) is an int32 array
    ``[num_envs]``, with gymnasium's bool mask (``_lives``, ...) beside it, all True.

    A copy or a pickle is an environment with the same arguments which has to be reset before it can be
    stepped.

    ## Registered ids

    - ``stpn/Atari-v0``
    - ``stpn/Pong-v0``: ``game="pong"``

    through ``gymnasium.make_vec(id, num_envs=n, vectorization_mode="vector_entry_point")``.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        game: str = "pong",
        num_envs: int = 1,
        *,
        frame_skip: int = 1,
        repeat_action_probability: float = 0.0,
        noop_max: int = 30,
        fire_on_reset: bool = True,
        episodic_life: bool = False,
        clip_rewards: bool = True,
        full_action_space: bool = False,
        max_frames: int = 108_000,
        num_threads: int = 0,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        self._ale: ale_py.ALEVectorInterface | None = None
        refuse(type(self), unknown)
        settings = _Settings(
            game, frame_skip, repeat_action_probability, noop_max, fire_on_reset, episodic_life, clip_rewards,
            full_action_space, max_frames,
        )  # fmt: skip
        self.num_envs = integer("num_envs", num_envs, minimum=1, maximum=_LARGEST_INT)
        num_threads = integer("num_threads", num_threads, minimum=0, maximum=_LARGEST_INT)
        mode = autoreset(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": mode}
        self._arguments = {
            **settings.arguments(), "num_envs": self.num_envs, "num_threads": num_threads, "autoreset_mode":
            mode,
        }  # fmt: skip

        # Not through ale_py.AtariVectorEnv: its constructor writes the autoreset mode into the metadata
        # that all vector environments of the process share.
        self._ale = settings.emulators(self.num_envs, num_threads, mode)
        self.single_observation_space = _observation_space()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._num_actions = len(self._ale.get_action_set())
        self.single_action_space = spaces.Discrete(self._num_actions)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._strength = np.ones(self.num_envs, np.float32)
        self._all = np.ones(self.num_envs, bool)
        self._started = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | np.ndarray | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every sub-environment, or in those chosen by a mask.

        Args:
            seed: An integer s seeds sub-environment i with s + i; a sequence ``[num_envs]`` gives each its own. None,
                alone or in the sequence, goes on with the generators there are (random ones at first).
            options: ``{"reset_mask": mask}`` with a bool array ``[num_envs]`` resets only where it is True; the others
                stay where they are and return what they returned last. The first reset has to be of all. Needs ale-py
                0.12.1 (otherwise NotImplementedError).

        Returns:
            Observations, uint8 ``[num_envs, 84, 84, 1]``, and the info.
        """
        ale = self._open_ale()
        chosen = np.arange(self.num_envs)
        mask = (options or {}).get("reset_mask")
        if mask is not None:
            chosen = reset_mask(mask, self.num_envs)
        if len(chosen) < self.num_envs:
            if not self._started:
                raise ResetNeeded("reset all environments before resetting some with a reset_mask")
            _require_partial_resets()
        observations, raw = ale.reset(chosen, self._emulator_seeds(seed)[chosen])
        self._started = True
        return observations.reshape(self.num_envs, _HEIGHT, _WIDTH, 1), self._info(raw)

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every sub-environment.

        Args:
            actions: Integers of the action space, ``[num_envs]``.

        Returns:
            Observations, rewards, terminations, truncations and info; shapes as in the class's description.

        Raises:
            ValueError: The actions have another shape or type, or one is not in the action space.
            gymnasium.error.ResetNeeded: There was no reset yet.
        """
        ale = self._open_ale()
        if not self._started:
            raise ResetNeeded("call reset() before step()")
        # The emulator's threads never come back from an action that does not exist, so none must reach them.
        checked = np.asarray(actions)
        if checked.shape != (self.num_envs,) or checked.dtype.kind not in "iu":
            raise ValueError(
                f"actions: got {checked.dtype} of shape {checked.shape}, "
                f"allowed are integers of shape ({self.num_envs},)"
            )
        if checked.min() < 0 or checked.max() >= self._num_actions:
            index = int(np.argmax((checked < 0) | (checked >= self._num_actions)))
            raise ValueError(
                f"action of environment {index}: got {checked[index]}, allowed are 0 to {self._num_actions - 1}"
            )
        ale.send(checked.astype(np.int64, copy=False), self._strength)
        observations, rewards, terminations, truncations, raw = ale.recv()
        return (
            observations.reshape(self.num_envs, _HEIGHT, _WIDTH, 1),
            rewards.astype(np.float64),
            terminations,
            truncations,
            self._info(raw, terminations, truncations),
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the emulators and their threads."""
        self._ale = None

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **self._arguments), (), {"spec": self.spec}

    def _emulator_seeds(self, seed: int | Sequence[int | None] | np.ndarray | None) -> np.ndarray:
        """Return the seed of each sub-environment, int64 ``[num_envs]``; -1 keeps its generator."""
        if is_integer(seed):
            self._np_random, self._np_random_seed = seeding.np_random(int(seed))  # refuses a negative one
            return (int(seed) % _SEEDS + np.arange(self.num_envs)) % _SEEDS
        given = seeds_in(seed, self.num_envs)
        seeds = np.full(self.num_envs, _KEEP_GENERATOR)
        if not self._started:
            seeds[:] = self.np_random.integers(_SEEDS, size=self.num_envs)
        for index, of_environment in given.items():
            seeds[index] = of_environment % _SEEDS
        return seeds

    def _info(self, raw: dict[str, np.ndarray], *ended: np.ndarray) -> dict[str, Any]:
        info: dict[str, Any] = {}
        for key in _INFO_KEYS:
            info[key], info[f"_{key}"] = raw[key], self._all.copy()
        if "final_obs" in raw:  # only if an episode ended, and then one array of all sub-environments
            info["_final_obs"] = np.logical_or(*ended)
            info["final_obs"] = np.full(self.num_envs, None, dtype=object)
            for index in np.flatnonzero(info["_final_obs"]):
                info["final_obs"][index] = raw["final_obs"][index].reshape(_HEIGHT, _WIDTH, 1)
        return info

    def _open_ale(self) -> ale_py.ALEVectorInterface:
        if self._ale is None:
            raise gymnasium.error.ClosedEnvironmentError("the environment is closed")
        return self._ale


_INFO_KEYS = ("lives", "episode_frame_number", "frame_number")


@dataclass
class _Settings:
    """The arguments that both forms share, checked, and the emulators they describe."""

    game: str
    frame_skip: int
    repeat_action_probability: float
    noop_max: int
    fire_on_reset: bool
    episodic_life: bool
    clip_rewards: bool
    full_action_space: bool
    max_frames: int

    def __post_init__(self) -> None:
        self.frame_skip = integer("frame_skip", self.frame_skip, minimum=1, maximum=_LARGEST_INT)
        self.noop_max = integer("noop_max", self.noop_max, minimum=0, maximum=_LARGEST_INT)
        self.max_frames = integer("max_frames", self.max_frames, minimum=1, maximum=_LARGEST_INT)
        for name in ("fire_on_reset", "episodic_life", "clip_rewards", "full_action_space"):
            setattr(self, name, flag(name, getattr(self, name)))
        name = "repeat_action_probability"
        setattr(self, name, number(name, getattr(self, name), minimum=0, maximum=1))
        self.rom_path = _rom_path(self.game)

    def arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def emulators(self, num_envs: int, num_threads: int, autoreset_mode: AutoresetMode) -> ale_py.ALEVectorInterface:
        import ale_py

        return ale_py.ALEVectorInterface(
            rom_path=self.rom_path,
            num_envs=num_envs,
            frame_skip=self.frame_skip,
            stack_num=1,
            img_height=_HEIGHT,
            img_width=_WIDTH,
            grayscale=True,
            maxpool=self.frame_skip > 1,
            noop_max=self.noop_max,
            use_fire_reset=self.fire_on_reset,
            episodic_life=self.episodic_life,
            life_loss_info=False,
            reward_clipping=self.clip_rewards,
            max_episode_steps=self.max_frames,
            repeat_action_probability=self.repeat_action_probability,
            full_action_space=self.full_action_space,
            batch_size=0,
            num_threads=num_threads,
            thread_affinity_offset=-1,
            autoreset_mode=autoreset_mode.value,
        )


class _Screen:
    """A second emulator that plays the same frames, for the colours that the vector interface does not show.

    Same seed and same actions make the same frames, sticky actions included. The frame counter of the first
    says how many no-ops it drew and how many frames of a step it played.
    """

    def __init__(self, settings: _Settings, window: bool):
        import ale_py

        if window and not ale_py.SDL_SUPPORT:
            raise ValueError("render_mode: got 'human' with an ale-py built without SDL, allowed is 'rgb_array'")
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", settings.repeat_action_probability)
        self._ale.setBool("display_screen", window)
        self._rom_path = settings.rom_path
        self._ale.loadROM(self._rom_path)
        full = settings.full_action_space
        self._actions = self._ale.getLegalActionSet() if full else self._ale.getMinimalActionSet()
        self._noop, fire = ale_py.Action.NOOP, ale_py.Action.FIRE
        self._first_action = fire if settings.fire_on_reset and fire in self._actions else self._noop

    def reset(self, seed: int, frame_number: int) -> None:
        if seed != _KEEP_GENERATOR:
            self._ale.setInt("random_seed", seed)
            self._ale.loadROM(self._rom_path)
        self._ale.reset_game()
        action = self._first_action
        while self._ale.getFrameNumber() < frame_number:
            self._ale.act(action)
            action = self._noop
            if self._ale.game_over():
                self._ale.reset_game()

    def step(self, action: int, frame_number: int) -> None:
        while self._ale.getFrameNumber() < frame_number:
            self._ale.act(self._actions[action])

    def pixels(self) -> np.ndarray:
        return self._ale.getScreenRGB()


def _observation_space() -> spaces.Box:
    return spaces.Box(0, 255, (_HEIGHT, _WIDTH, 1), np.uint8)


def _rom_path(game: str) -> Path:
    """Return the path of the game's ROM, or raise the ValueError that says why there is none."""
    import ale_py
    from ale_py import roms

    games = roms.get_all_rom_ids()
    if game not in games:
        # "ALE/MsPacman-v5" and "MsPacmanNoFrameskip-v4" mean ms_pacman
        name = re.sub(r"(NoFrameskip|Deterministic)?-v\d+$", "", str(game).split("/")[-1])
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        hint = did_you_mean(name, [name] if name in games else games)
        raise ValueError(f"game: got {game!r}, allowed are those of ale_py.roms.get_all_rom_ids(){hint}")
    path = roms.get_rom_path(game)
    if path is None or not ale_py.ALEInterface.isSupportedROM(path):  # loading it would end the process
        raise ValueError(f"game: got {game!r}, allowed are games that one agent can play")
    return path


def _require_partial_resets() -> None:
    """Raise on ale-py before 0.12.1, where a reset of some environments waits for the others for ever."""
    import ale_py

    if tuple(map(int, re.findall(r"\d+", ale_py.__version__)[:3])) < (0, 12, 1):
        raise NotImplementedError(f"reset_mask needs ale-py 0.12.1 or later; this is {ale_py.__version__}")
