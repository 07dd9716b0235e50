"""Gymnasium environments for agents with memory.

Importing the package registers its environments with gymnasium, each with a scalar form
(``gymnasium.make``) and a vector form (``gymnasium.make_vec(...,
vectorization_mode="vector_entry_point")``) that agree step for step. In a process that imported nothing,
the id with the module in front does both: ``gymnasium.make("stpn_envs:stpn/Pong-v0")``.

The environments are built on gymnasium and numpy; an emulator or simulator is imported when its environment
is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from stpn_envs.previous import PreviousActionReward, PreviousActionRewardVector
from stpn_envs.trials import TrialsEnv as Trials
from stpn_envs.wrapped import Wrapped

__all__ = ["ENV_IDS", "PreviousActionReward", "PreviousActionRewardVector", "Trials", "Wrapped", "register"]

# id: (module:name, in which the classes nameEnv and nameVectorEnv are found; keyword arguments fixed by the id)
_ENVIRONMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "stpn/Atari-v0": ("atari:Atari", {}),
    "stpn/Pong-v0": ("atari:Atari", {"game": "pong"}),
    "stpn/Maze-v0": ("maze:Maze", {}),
    "stpn/MazeSmall-v0": ("maze:Maze", {"size": 9, "episode_length": 100}),
    "stpn/MazeLarge-v0": ("maze:Maze", {"size": 21, "episode_length": 500}),
    "stpn/AssociativeRetrieval-v0": ("associative_retrieval:AssociativeRetrieval", {}),
    "stpn/AssociativeRetrievalSmall-v0": ("associative_retrieval:AssociativeRetrieval", {"num_pairs": 1}),
    "stpn/AssociativeRetrievalLarge-v0": ("associative_retrieval:AssociativeRetrieval", {"num_pairs": 8}),
    "stpn/Familiarity-v0": ("familiarity:Familiarity", {}),
    "stpn/FamiliaritySmall-v0": ("familiarity:Familiarity", {"delay": 1, "dim": 25, "episode_length": 50}),
    "stpn/FamiliarityLarge-v0": ("familiarity:Familiarity", {"delay": 10, "episode_length": 500}),
    "stpn/CueReward-v0": ("cue_reward:CueReward", {}),
    "stpn/CueRewardSmall-v0": ("cue_reward:CueReward", {"num_cues": 2, "episode_length": 60}),
    "stpn/CueRewardLarge-v0": ("cue_reward:CueReward", {"num_cues": 8, "episode_length": 400}),
    "stpn/Bandit-v0": ("bandit:Bandit", {}),
    "stpn/RepeatFirstEasy-v0": ("popgym.cards:RepeatFirst", {}),
    "stpn/RepeatFirstMedium-v0": ("popgym.cards:RepeatFirst", {"num_decks": 8}),
    "stpn/RepeatFirstHard-v0": ("popgym.cards:RepeatFirst", {"num_decks": 16}),
    "stpn/RepeatPreviousEasy-v0": ("popgym.cards:RepeatPrevious", {}),
    "stpn/RepeatPreviousMedium-v0": ("popgym.cards:RepeatPrevious", {"num_decks": 2, "k": 32}),
    "stpn/RepeatPreviousHard-v0": ("popgym.cards:RepeatPrevious", {"num_decks": 3, "k": 64}),
    "stpn/AutoencodeEasy-v0": ("popgym.cards:Autoencode", {}),
    "stpn/AutoencodeMedium-v0": ("popgym.cards:Autoencode", {"num_decks": 2}),
    "stpn/AutoencodeHard-v0": ("popgym.cards:Autoencode", {"num_decks": 3}),
    "stpn/CountRecallEasy-v0": ("popgym.cards:CountRecall", {}),
    "stpn/CountRecallMedium-v0": ("popgym.cards:CountRecall", {"num_decks": 2, "deck_type": "suits"}),
    "stpn/CountRecallHard-v0": ("popgym.cards:CountRecall", {"num_decks": 4, "deck_type": "ranks"}),
    "stpn/HigherLowerEasy-v0": ("popgym.cards:HigherLower", {}),
    "stpn/HigherLowerMedium-v0": ("popgym.cards:HigherLower", {"num_decks": 2}),
    "stpn/HigherLowerHard-v0": ("popgym.cards:HigherLower", {"num_decks": 3}),
    "stpn/PositionOnlyCartPoleEasy-v0": ("popgym.control:PositionOnlyCartPole", {}),
    "stpn/PositionOnlyCartPoleMedium-v0": ("popgym.control:PositionOnlyCartPole", {"episode_length": 400}),
    "stpn/PositionOnlyCartPoleHard-v0": ("popgym.control:PositionOnlyCartPole", {"episode_length": 600}),
    "stpn/NoisyPositionOnlyCartPoleEasy-v0": ("popgym.control:NoisyPositionOnlyCartPole", {}),
    "stpn/NoisyPositionOnlyCartPoleMedium-v0": ("popgym.control:NoisyPositionOnlyCartPole", {"noise_sigma": 0.2}),
    "stpn/NoisyPositionOnlyCartPoleHard-v0": ("popgym.control:NoisyPositionOnlyCartPole", {"noise_sigma": 0.3}),
    "stpn/PositionOnlyPendulumEasy-v0": ("popgym.control:PositionOnlyPendulum", {}),
    "stpn/PositionOnlyPendulumMedium-v0": ("popgym.control:PositionOnlyPendulum", {"episode_length": 150}),
    "stpn/PositionOnlyPendulumHard-v0": ("popgym.control:PositionOnlyPendulum", {"episode_length": 100}),
    "stpn/NoisyPositionOnlyPendulumEasy-v0": ("popgym.control:NoisyPositionOnlyPendulum", {}),
    "stpn/NoisyPositionOnlyPendulumMedium-v0": ("popgym.control:NoisyPositionOnlyPendulum", {"noise_sigma": 0.2}),
    "stpn/NoisyPositionOnlyPendulumHard-v0": ("popgym.control:NoisyPositionOnlyPendulum", {"noise_sigma": 0.3}),
    "stpn/MultiarmedBanditEasy-v0": ("popgym.bandit:MultiarmedBandit", {}),
    "stpn/MultiarmedBanditMedium-v0": ("popgym.bandit:MultiarmedBandit", {"num_arms": 20, "episode_length": 400}),
    "stpn/MultiarmedBanditHard-v0": ("popgym.bandit:MultiarmedBandit", {"num_arms": 30, "episode_length": 600}),
    "stpn/BattleshipEasy-v0": ("popgym.boards:Battleship", {"size": 8}),
    "stpn/BattleshipMedium-v0": ("popgym.boards:Battleship", {}),
    "stpn/BattleshipHard-v0": ("popgym.boards:Battleship", {"size": 12}),
    "stpn/ConcentrationEasy-v0": ("popgym.boards:Concentration", {"deck_type": "colors"}),
    "stpn/ConcentrationMedium-v0": ("popgym.boards:Concentration", {"num_decks": 2, "deck_type": "colors"}),
    "stpn/ConcentrationHard-v0": ("popgym.boards:Concentration", {}),
    "stpn/MineSweeperEasy-v0": ("popgym.boards:MineSweeper", {}),
    "stpn/MineSweeperMedium-v0": ("popgym.boards:MineSweeper", {"size": 6, "num_mines": 6}),
    "stpn/MineSweeperHard-v0": ("popgym.boards:MineSweeper", {"size": 8, "num_mines": 10}),
    "stpn/Trials-v0": ("trials:Trials", {}),
}

ENV_IDS: tuple[str, ...] = tuple(_ENVIRONMENTS)
"""The registered ids, without the ``stpn_envs:`` in front."""


def register() -> None:
    """Register every id of `ENV_IDS` with gymnasium; ids that are registered already are left as they are.

    Called on import. No time limit wrapper is asked for: the environments truncate their episodes themselves.
    """
    for env_id, (classes, kwargs) in _ENVIRONMENTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point=f"stpn_envs.{classes}Env",
                vector_entry_point=f"stpn_envs.{classes}VectorEnv",
                kwargs=dict(kwargs),
            )


register()
