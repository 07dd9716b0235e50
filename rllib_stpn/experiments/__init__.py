"""From a YAML or Python file to an ``AlgorithmConfig``, a Tune run and its results.

``load(path)`` is for a notebook or a script. It returns and raises, and prints nothing::

    (experiment,) = rllib_stpn.experiments.load("tuned_examples/maze_stpn.yaml")
    algorithm = experiment.algorithm_config().build_algo()
"""

import importlib
from typing import Any

_HOME = {
    "load": "rllib_stpn.experiments.checked_experiment",
    "CheckedExperiment": "rllib_stpn.experiments.checked_experiment",
    "TrialResult": "rllib_stpn.experiments.trial_result",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:  # Loaded on first use: the command line asks for its options without Ray.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
