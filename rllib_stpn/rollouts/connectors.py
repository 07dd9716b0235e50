"""Batched equivalents of RLlib's connectors.

RLlib's connectors walk over episode objects, one environment at a time. The batched runner keeps RLlib's pipelines
(they hold the filters' state, which RLlib merges and checkpoints) and runs each piece on whole arrays. A piece
without an equivalent is refused by name, never dropped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from ray.rllib.connectors.common.flatten_observations import FlattenObservations
from ray.rllib.connectors.common.numpy_to_tensor import NumpyToTensor
from ray.rllib.connectors.env_to_module import (
    AddObservationsFromEpisodesToBatch,
    AddStatesFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
    BatchIndividualItems,
    MeanStdFilter,
    PrevActionsPrevRewards,
)
from ray.rllib.connectors.module_to_env import (
    GetActions,
    ListifyDataForVectorEnv,
    NormalizeAndClipActions,
    RemoveSingleTsTimeRankFromBatch,
    TensorToNumpy,
    UnBatchToIndividualItems,
)
from ray.rllib.utils.numpy import flatten_inputs_to_1d_tensor

from rllib_stpn.errors import UsageError
from rllib_stpn.models.flat_box import mask_size
from rllib_stpn.rollouts.preprocessing import actions_for_env, filter_batched
from rllib_stpn.rollouts.thin_states import ThinStates

Transform = Callable[[Any], Any]

# The batched runner does the work of these on arrays.
_DONE_BY_THE_RUNNER = (
    AddObservationsFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
    AddStatesFromEpisodesToBatch,
    BatchIndividualItems,
    NumpyToTensor,
    GetActions,
    TensorToNumpy,
    UnBatchToIndividualItems,
    RemoveSingleTsTimeRankFromBatch,
    ListifyDataForVectorEnv,
    ThinStates,
)


def of_the_runner(connector: Any) -> bool:
    """Whether a connector does what the batched runner does by itself."""
    return type(connector) in _DONE_BY_THE_RUNNER


def observation_transforms(pipeline: Any) -> list[Transform]:
    """Returns the functions from a batch of observations to the module's, in the pipeline's order.

    Raises:
        UsageError: A connector that cannot run batched.
    """
    refuse_filtered_mask(pipeline)
    return _transforms(pipeline, {FlattenObservations: _flatten, MeanStdFilter: _mean_std_filter}, "env_to_module")


def action_transforms(pipeline: Any) -> list[Transform]:
    """Returns the functions from a batch of the module's actions to the environment's.

    Raises:
        UsageError: A connector that cannot run batched.
    """
    return _transforms(pipeline, {NormalizeAndClipActions: actions_for_env}, "module_to_env")


def _transforms(pipeline: Any, equivalents: dict[type, Callable], where: str) -> list[Transform]:
    transforms = []
    for connector in pipeline.connectors:
        if of_the_runner(connector):
            continue
        # A user's own connector runs batched by offering `batched(array [B, ...]) -> array [B, ...]`.
        if hasattr(connector, "batched"):
            transforms.append(connector.batched)
        elif type(connector) in equivalents:
            transforms.append(equivalents[type(connector)](connector))
        else:
            names = ", ".join(kind.__name__ for kind in equivalents)
            way = "RLlib's own SingleAgentEnvRunner (env_runner_cls: single_agent) runs any connector"
            if isinstance(connector, PrevActionsPrevRewards):
                way = "stpn_envs.PreviousActionReward around the environment shows the same"
            raise UsageError(
                f"{where} connector {type(connector).__name__}: cannot run batched; allowed are {names} and "
                f"connectors with a method `batched(array)`; {way}"
            )
    return transforms


def _flatten(connector: FlattenObservations) -> Transform:
    if connector._multi_agent:
        raise UsageError("env_to_module connector FlattenObservations: multi_agent cannot run batched")
    spaces, removed = connector._input_obs_base_struct, connector._keys_to_remove

    def transform(observations: Any) -> np.ndarray:
        if removed:
            observations = {key: value for key, value in observations.items() if key not in removed}
        return flatten_inputs_to_1d_tensor(observations, spaces, batch_axis=True)

    return transform


def _mean_std_filter(connector: MeanStdFilter) -> Transform:
    if connector._multi_agent:
        raise UsageError("env_to_module connector MeanStdFilter: multi_agent cannot run batched")
    return functools.partial(filter_batched, connector)


def refuse_filtered_mask(pipeline: Any) -> None:
    """Refuses RLlib's ``MeanStdFilter`` behind flat observations with a mask.

    Raises:
        UsageError: The mask would be filtered, and no longer known for one: all actions would be drawn.
    """
    for connector in pipeline.connectors:
        if type(connector) is MeanStdFilter and mask_size(connector.input_observation_space):
            raise UsageError(
                "env_to_module connector MeanStdFilter: got RLlib's, which would filter the action_mask, too, allowed "
                "is rllib_stpn.rollouts.MeanStdFilter"
            )
