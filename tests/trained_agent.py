"""An agent from a short training, as it is loaded from its checkpoint."""

import numpy as np

import rllib_stpn


def trained_agent(config, folder, iterations=1):
    """Trains, with losses that are finite, and returns the agent of the checkpoint in ``folder``."""
    algo = config.build_algo()
    try:
        for _ in range(iterations):
            assert np.isfinite(algo.train()["learners"]["default_policy"]["total_loss"])
        algo.save_to_path(folder / "checkpoint")
    finally:
        algo.stop()
    return rllib_stpn.load(folder / "checkpoint")
