"""Rollouts on whole arrays: the batched EnvRunner, its fragments and the learner connector for them."""

from rllib_stpn.errors import NonFiniteError, NonFiniteObservationError, RolloutError
from rllib_stpn.rollouts.env_runner import BatchedEnvRunner
from rllib_stpn.rollouts.episode_runner import EpisodeEnvRunner
from rllib_stpn.rollouts.fragment import Fragment
from rllib_stpn.rollouts.learner_connector import FragmentsToBatch
from rllib_stpn.rollouts.many_agents_runner import ManyAgentsEnvRunner
from rllib_stpn.rollouts.preprocessing import ActionsForEnv, FlatObservations, MeanStdFilter
from rllib_stpn.rollouts.recording import RecordingEnvRunner
from rllib_stpn.rollouts.setup import use_batched_rollouts
from rllib_stpn.rollouts.survival import telling_failures
from rllib_stpn.rollouts.thin_states import ThinStates, thin_states

__all__ = [
    "ActionsForEnv",
    "BatchedEnvRunner",
    "EpisodeEnvRunner",
    "FlatObservations",
    "Fragment",
    "FragmentsToBatch",
    "ManyAgentsEnvRunner",
    "MeanStdFilter",
    "NonFiniteError",
    "NonFiniteObservationError",
    "RecordingEnvRunner",
    "RolloutError",
    "ThinStates",
    "telling_failures",
    "thin_states",
    "use_batched_rollouts",
]
