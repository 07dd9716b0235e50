"""Experiments made of settings alone, for tests."""

import dataclasses
from typing import Any

from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.loading import from_flags

#: Settings of PPO with which an iteration takes a moment.
SMALL: dict[str, Any] = {
    "num_env_runners": 0,
    "train_batch_size": 64,
    "minibatch_size": 64,
    "num_epochs": 1,
    "model": {"fcnet_hiddens": [4]},
}


def experiment_of(run: str, env: str, **config: Any) -> Experiment:
    """An experiment as options alone make it, with settings under today's names, not checked."""
    experiment = from_flags(run, env)
    return dataclasses.replace(experiment, config=experiment.config | config)
