"""Supervised training of the layers on sequences, as a Tune trainable; needs Tune, and nothing of RLlib."""

from rllib_stpn.supervised.settings import TASKS, SupervisedConfig
from rllib_stpn.supervised.task import Task, evaluate
from rllib_stpn.supervised.trainable import Supervised, load

__all__ = ["TASKS", "Supervised", "SupervisedConfig", "Task", "evaluate", "load"]
