"""Python files: scripts that make an ``AlgorithmConfig`` called ``config``."""

import copy
import runpy
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import searches

if TYPE_CHECKING:
    from ray.rllib.algorithms import AlgorithmConfig


def read(path: Path) -> "tuple[AlgorithmConfig, dict[str, Any], Any]":
    """Runs a file as ``python FILE`` would, and returns what it made.

    Args:
        path: The file. It sets a variable ``config``, and ``stop`` for stop criteria.

    Returns:
        The config; the settings that are put on it for each trial, which are the environment's id and the searches by
        ``tune.grid_search``; and ``stop``, None without one.

    Raises:
        UsageError: The file is missing or fails, or ``config`` is no ``AlgorithmConfig`` of an algorithm.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    sys.path.insert(0, str(path.parent.absolute()))  # As Python does for a script: its neighbours can be imported.
    try:
        variables = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        place = f", line {line}" if line else ""
        raise UsageError(f"{path}{place}: {type(error).__name__}: {error}") from error
    from ray.rllib.algorithms import AlgorithmConfig

    config = variables.get("config")
    if not isinstance(config, AlgorithmConfig) or config.algo_class is None:
        given = f"got {type(config).__name__}" if "config" in variables else "the file has none"
        raise UsageError(f"{path}: config: {given}, allowed is an AlgorithmConfig such as PPOConfig()")
    config = config.copy(copy_frozen=False)
    return config, _on_top(path, config), variables.get("stop")


def _on_top(path: Path, config: "AlgorithmConfig") -> dict[str, Any]:
    from ray.tune.search.sample import Domain

    defaults = vars(config.algo_class.get_default_config())
    settings: dict[str, Any] = {}
    for key, value in list(vars(config).items()):
        if isinstance(value, Domain):
            raise UsageError(
                f"{path}: config: {key}: got {type(value).__name__}; a Python file searches by tune.grid_search, "
                f'random search goes into --config: {{"{key}": {{"uniform": [0, 1]}}}}'
            )
        if isinstance(value, dict) and any(searches.find(value)):
            if key not in defaults or key.startswith("_"):
                raise UsageError(f"{path}: config: {key.lstrip('_')}: a search in it goes into --config")
            settings[key] = value
            setattr(config, key, copy.deepcopy(defaults[key]))
    if isinstance(config.env, str):
        settings["env"] = config.env
    elif config.env is None and "env" not in settings and config.input_ in (None, "sampler"):
        raise UsageError(f"{path}: config: it has no environment: config.environment(...)")
    return settings
