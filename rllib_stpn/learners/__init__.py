"""Learners that do RLlib's updates with less work around torch's arithmetic."""

from rllib_stpn.learners.lean import LeanLearner
from rllib_stpn.learners.ppo import LeanPPOTorchLearner

__all__ = ["LeanLearner", "LeanPPOTorchLearner"]
