"""Trained agents: their checkpoints, how they act, evaluation and video."""

from rllib_stpn.agents.agent import Agent, load
from rllib_stpn.agents.evaluation import Evaluation, evaluate

__all__ = ["Agent", "Evaluation", "evaluate", "load"]
