"""Connectors between environment and module, in place of RLlib's: for more spaces, and with correct statistics.

They run on RLlib's episode objects and, with their method ``batched``, on whole arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from ray.rllib.connectors.env_to_module import MeanStdFilter as RLlibMeanStdFilter
from ray.rllib.connectors.env_to_module.observation_preprocessor import SingleAgentObservationPreprocessor
from ray.rllib.connectors.module_to_env import (
    GetActions,
    ListifyDataForVectorEnv,
    NormalizeAndClipActions,
    RemoveSingleTsTimeRankFromBatch,
    TensorToNumpy,
    UnBatchToIndividualItems,
)
from ray.rllib.core.columns import Columns
from ray.rllib.utils.numpy import SMALL_NUMBER
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space

from rllib_stpn.models.flat_box import FlatBox, mask_size
from rllib_stpn.models.spaces import FlatSpace, for_env
from rllib_stpn.rollouts.thin_states import ThinStates


class Preprocessor(SingleAgentObservationPreprocessor):
    """Base of connectors that change one observation at a time and learn nothing.

    RLlib merges the states of a pipeline's connectors by their place among those that have a state. A filter's would
    be merged by the connector in front of it, and lost, if that one had none.
    """

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """A state without content, so that RLlib finds the connector in its place."""
        return {"learns": False}

    def merge_states(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """The first state: there is nothing to merge."""
        return states[0]


class FlatObservations(Preprocessor):
    """Observations of any space that a model takes, as one array of float32, see :class:`FlatSpace`.

    In place of RLlib's ``FlattenObservations``, which takes no numbers that begin elsewhere than at 0, no
    ``MultiDiscrete`` of several dimensions and no ``Text``.
    """

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> gym.Space:
        """A Box of one dimension."""
        self._flat = FlatSpace(input_observation_space)
        return self._flat.space

    def preprocess(self, observation: Any, episode: Any) -> np.ndarray:
        """One observation."""
        return self._flat.flatten(observation)

    def batched(self, observations: Any) -> np.ndarray:
        """Observations ``[B, ...]``, in dicts and tuples for such spaces."""
        return self._flat.flatten(observations, (_batch_size(observations),))


def _batch_size(observations: Any) -> int:
    while isinstance(observations, (dict, tuple)):
        values = observations.values() if isinstance(observations, dict) else observations
        # A batch of texts is a tuple of them, as long as the batch.
        if isinstance(observations, tuple) and observations and isinstance(observations[0], str):
            return len(observations)
        observations = next(iter(values))
    return len(observations)


class MeanStdFilter(RLlibMeanStdFilter):
    """RLlib's ``MeanStdFilter`` with the right statistics where several env runners merge theirs.

    RLlib's counts what is new since the last merge by the steps of its running mean, which is no mean of the new
    observations; far from zero the merged mean and deviation are wrong by hundreds of times. See :func:`push`.
    A mask of actions behind flat observations stays as it is.
    """

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> gym.Space:
        """RLlib's, but for flat observations whose space says where images and a mask stand."""
        if isinstance(input_observation_space, FlatBox):
            return input_observation_space.filtered()
        return super().recompute_output_observation_space(input_observation_space, input_action_space)

    def __call__(self, *, batch: dict[str, Any], episodes: Any, **kwargs: Any) -> dict[str, Any]:
        """Puts filtered observations in place of the newest of each episode."""
        if self._filters is None:
            self._init_new_filters()
        for episode in self.single_agent_episode_iterator(episodes):
            observation = episode.get_observations(indices=-1)
            batch_of_one = tree.map_structure(lambda leaf: np.asarray(leaf)[None], observation)
            filtered = _through(self, self._filters[episode.agent_id], batch_of_one)
            episode.set_observations(at_indices=-1, new_data=tree.map_structure(lambda leaf: leaf[0], filtered))
            episode.observation_space = self.observation_space
        return batch

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over statistics; none of them count as new, since their sender has counted them already."""
        super().set_state(state)
        for filter_ in self._filters.values():
            for stats in tree.flatten(filter_.running_stats):
                if stats is not None:
                    stats.num_pushes_delta = 0
                    stats.mean_delta_array = np.zeros_like(stats.mean_array)
                    stats.sum_sq_diff_delta_array = np.zeros_like(stats.sum_sq_diff_array)

    def batched(self, observations: Any) -> Any:
        """Observations ``[B, ...]`` of one agent."""
        return filter_batched(self, observations)


def filter_batched(connector: RLlibMeanStdFilter, observations: Any) -> Any:
    """A batch ``[B, ...]`` of one agent through a filter, which learns from it first unless it is switched off."""
    if connector._filters is None:
        connector._init_new_filters()
    (filter_,) = connector._filters.values()
    return _through(connector, filter_, observations)


def _through(connector: RLlibMeanStdFilter, filter_: Any, observations: Any) -> Any:
    """The same for one of a connector's filters."""

    masked = mask_size(connector.input_observation_space)

    def leaf(x: np.ndarray, stats: Any, buffer: Any, shape: Any) -> np.ndarray:
        if shape is None:  # Discrete and MultiDiscrete stay as they are
            return x
        if connector._update_stats:
            for running in (stats, buffer):
                push(running, x)
        y = x.astype(np.float64)
        if connector.de_mean_to_zero:
            y = y - stats.mean
        if connector.de_std_to_one:
            y = y / (stats.std + SMALL_NUMBER)
        if connector.clip_by_value:
            y = np.clip(y, -connector.clip_by_value, connector.clip_by_value)
        if masked:
            y[..., -masked:] = x[..., -masked:]
        return y.astype(x.dtype)

    return tree.map_structure_up_to(
        observations, leaf, observations, filter_.running_stats, filter_.buffer, filter_.shape
    )


def push(running: Any, x: np.ndarray) -> None:
    """Adds the rows of ``x`` ``[B, ...]`` to RLlib's ``RunningStat``: to all it has seen, and to what is new.

    Each is a count, a mean and a sum of squared differences from it in float64 (Chan et al. 1983, merging two samples).
    ``RunningStat.update`` merges what is new of one into another, and expects it to be that.
    """
    count, mean = len(x), x.mean(axis=0, dtype=np.float64)
    squares = ((x - mean) ** 2).sum(axis=0)
    running.num_pushes = _merge(running.num_pushes, running.mean_array, running.sum_sq_diff_array, count, mean, squares)
    running.num_pushes_delta = _merge(
        running.num_pushes_delta, running.mean_delta_array, running.sum_sq_diff_delta_array, count, mean, squares
    )


def _merge(seen: int, mean: np.ndarray, squares: np.ndarray, count: int, its_mean: Any, its_squares: Any) -> int:
    """Merges a sample into the arrays of another in place; returns how many there are together."""
    total = seen + count
    difference = its_mean - mean
    squares[...] += its_squares + difference**2 * (seen * count / total)
    mean[...] += difference * (count / total)
    return total


class ActionsForEnv(NormalizeAndClipActions):
    """Actions of a module as its environment takes them, see :func:`rllib_stpn.models.spaces.for_env`.

    In place of RLlib's ``NormalizeAndClipActions``: numbers that begin elsewhere than at 0, arrays of any shape,
    ``MultiBinary`` and boxes of whole numbers. What learners see stays as the module drew it.
    """

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds the column of the actions that go to the environment."""
        batch[Columns.ACTIONS_FOR_ENV] = {
            key: [self._for_env(action, ()) for action in actions] for key, actions in batch[Columns.ACTIONS].items()
        }
        return batch

    def batched(self, actions: Any) -> Any:
        """Actions ``[B, ...]``, in dicts and tuples for such spaces."""
        return self._for_env(actions, (len(tree.flatten(actions)[0]),))

    def _for_env(self, actions: Any, lead: tuple[int, ...]) -> Any:
        return for_env(actions, self._action_space_struct, lead, self.normalize_actions, self.clip_actions)


def actions_for_env(connector: NormalizeAndClipActions) -> Any:
    """The function of :meth:`ActionsForEnv.batched` with the settings of RLlib's connector."""
    space = get_base_struct_from_space(connector.input_action_space)
    normalize, clip = connector.normalize_actions, connector.clip_actions
    return lambda actions: for_env(actions, space, (len(tree.flatten(actions)[0]),), normalize, clip)


def module_to_env(
    normalize: bool, clip: bool, thin: bool, own: Callable[..., list[Any]] | None = None
) -> Callable[..., list[Any]]:
    """A ``module_to_env_connector`` for one agent: RLlib's connectors, with ``ActionsForEnv`` for normalizing actions.

    Use it with ``add_default_connectors_to_module_to_env_pipeline=False``; RLlib would add its own behind these.

    Args:
        normalize: The config's ``normalize_actions``.
        clip: The config's ``clip_actions``.
        thin: Whether :class:`ThinStates` belongs to them.
        own: Makes connectors of the user's own, where RLlib would put them: on single actions as the module drew them.
    """
    return functools.partial(_module_to_env, normalize, clip, thin, own)


def before_defaults(thin: bool, own: Callable[..., list[Any]] | None = None) -> Callable[..., list[Any]]:
    """A ``module_to_env_connector`` beside RLlib's defaults, with the last two of :func:`module_to_env`'s arguments."""
    return functools.partial(_before_defaults, thin, own)


def _module_to_env(
    normalize: bool, clip: bool, thin: bool, own: Any = None, env: Any = None, spaces: Any = None
) -> list[Any]:
    return [
        GetActions(),
        TensorToNumpy(),
        UnBatchToIndividualItems(),
        RemoveSingleTsTimeRankFromBatch(),
        *_before_defaults(thin, own),
        ActionsForEnv(normalize_actions=normalize, clip_actions=clip),
        ListifyDataForVectorEnv(),
    ]


def _before_defaults(thin: bool, own: Any, env: Any = None, spaces: Any = None) -> list[Any]:
    return [*(own() if own else []), *([ThinStates()] if thin else [])]
