"""Rollouts on whole arrays: the batched EnvRunner, its fragments and the learner connector for them."""

from rllib_stpn.rollouts.env_runner import BatchedEnvRunner
from rllib_stpn.rollouts.fragment import Fragment, NonFiniteObservationError
from rllib_stpn.rollouts.learner_connector import FragmentsToBatch
from rllib_stpn.rollouts.preprocessing import ActionsForEnv, FlatObservations, MeanStdFilter
from rllib_stpn.rollouts.setup import use_batched_rollouts
from rllib_stpn.rollouts.single_agent import OwnArraysEnvRunner
from rllib_stpn.rollouts.thin_states import ThinStates, thin_states

__all__ = [
    "ActionsForEnv",
    "BatchedEnvRunner",
    "FlatObservations",
    "Fragment",
    "FragmentsToBatch",
    "MeanStdFilter",
    "NonFiniteObservationError",
    "OwnArraysEnvRunner",
    "ThinStates",
    "thin_states",
    "use_batched_rollouts",
]
