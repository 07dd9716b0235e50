"""Learners that take RLlib's gradient steps in less time and save what they adapt."""

from rllib_stpn.learners.adapted import KeepsWhatItAdapts, keeping_what_it_adapts
from rllib_stpn.learners.lean import LeanLearner
from rllib_stpn.learners.ppo import LeanPPOTorchLearner

__all__ = ["KeepsWhatItAdapts", "LeanLearner", "LeanPPOTorchLearner", "keeping_what_it_adapts"]
