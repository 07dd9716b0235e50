"""Learners that take RLlib's gradient steps in less time and save what they adapt."""

from rllib_stpn.learners.adapted import KeepsWhatItAdapts, reliable_learner
from rllib_stpn.learners.finite import RefusesNonFiniteGradients
from rllib_stpn.learners.lean import LeanLearner
from rllib_stpn.learners.ppo import LeanPPOTorchLearner

__all__ = ["KeepsWhatItAdapts", "LeanLearner", "LeanPPOTorchLearner", "RefusesNonFiniteGradients", "reliable_learner"]
