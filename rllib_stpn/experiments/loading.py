"""Experiments as their file has them, read and translated.

Only what can be judged without RLlib is judged here; :mod:`rllib_stpn.experiments.validation` does the rest.
"""

import dataclasses
from pathlib import Path
from typing import Any

from rllib_stpn import checks
from rllib_stpn.errors import UsageError, did_you_mean, unknown
from rllib_stpn.experiments import keys, searches, yaml_file
from rllib_stpn.experiments.experiment import Experiment, env_or_task
from rllib_stpn.experiments.old import keys as old_keys
from rllib_stpn.experiments.old import names as old_names
from rllib_stpn.experiments.values import in_words

_KEYS = (
    "run",
    "env",
    "task",
    "stop",
    "config",
    "checkpoint_config",
    "num_samples",
    "max_failures",
    "storage_path",
    "restore",
    "scheduler",
    "scheduler_config",
    "search_alg",
    "track",
)


def from_flags(run: str, env: str) -> Experiment:
    """The experiment of ``rllib train --run RUN --env ENV``: the algorithm's defaults, until interrupted."""
    name = f"{run}_{env}".replace("/", "-").replace(":", "-")
    return Experiment(where="command line", name=name, algorithm=run, config={env_or_task(run): env})


def load(path: Path) -> list[Experiment]:
    """Reads the experiments of a YAML file, or the one of a Python file.

    Args:
        path: The file: ``{experiment name: {env, run, stop, config, ...}}``, or Python that makes an
            ``AlgorithmConfig`` and calls it ``config``.

    Raises:
        UsageError: The file is missing or no YAML, a key is missing or unknown, a value has the wrong type.
    """
    if path.suffix == ".py":
        return [_from_python(path)]
    tree, notes = _read(path)
    if not isinstance(tree, dict) or not tree:
        raise UsageError(f"{path}: got {in_words(tree)}, allowed is a mapping of experiment names")
    misplaced = old_keys.setting_at_the_top(tree, old_names.settings())
    if misplaced is not None:
        raise UsageError(
            f"{path}: {misplaced!r} stands at the top, where the experiment's name belongs: "
            "NAME: {run: ALGORITHM, env: ID, stop: {...}, config: {...}}"
        )
    first, *others = (_experiment(path, name, block) for name, block in tree.items())
    return [dataclasses.replace(first, notes=(*notes, *first.notes)), *others]


def _from_python(path: Path) -> Experiment:
    from rllib_stpn.experiments import python_file

    base, config, stop = python_file.read(path)
    run = base.algo_class.__name__
    directory = str(path.parent.absolute())
    experiment = Experiment(
        where=str(path), name=path.stem, algorithm=run, config=config, base=base, directory=directory
    )
    stop, notes = keys.stop(f"{path}: stop", stop, run, experiment.new_stack, own_metrics=True)
    return experiment.replaced(notes, stop=stop)


def _read(path: Path) -> tuple[Any, list[str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file{_neighbours(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UsageError(f"{path}: cannot be read: {reason}") from None
    return yaml_file.parse(path, text)


def _neighbours(path: Path) -> str:
    from rllib_stpn.experiments import examples

    if path.stem in examples.names():
        return f"; the example of this name is run by: rllib example run {path.stem}"
    if not path.parent.is_dir():
        return ""
    return did_you_mean(path.name, [file.name for file in path.parent.glob("*.y*ml")], most=1, likeness=0.5)


def _experiment(path: Path, name: Any, block: Any) -> Experiment:
    where = f"{path}: {name}"
    name = keys.name(f"{path}: experiment name", name)
    if not isinstance(block, dict):
        raise UsageError(
            f"{where}: got {in_words(block)}, allowed is a mapping with run, env (or task), stop and config"
        )
    block, notes = old_names.translate_experiment(where, block)
    for key in block:
        if key not in _KEYS:
            raise unknown(where, "key", key, _KEYS)
    written, run = _written(where, block), _run(where, block)
    searches.check(f"{where}: config", written)
    config, of_config = old_names.translate_config(f"{where}: config", written, run)
    new_stack = old_names.on_new_stack(config)
    stop, of_stop = keys.stop(f"{where}: stop", block.get("stop"), run, new_stack)
    scheduler, of_scheduler = keys.scheduler(f"{where}: scheduler", block.get("scheduler", "fifo"))
    return Experiment(
        where=where,
        name=name,
        algorithm=run,
        config=config,
        stop=stop,
        checkpoint=keys.checkpoint(f"{where}: checkpoint_config", block.get("checkpoint_config"), run, new_stack),
        num_samples=checks.integer(f"{where}: num_samples", block.get("num_samples", 1), at_least=1),
        max_failures=checks.integer(f"{where}: max_failures", block.get("max_failures", 0), at_least=-1),
        storage_path=_directory(where, block, "storage_path", Experiment.storage_path),
        restore=_directory(where, block, "restore", None),
        scheduler=scheduler,
        track=keys.track(f"{where}: track", block.get("track")),
        search_alg=keys.search_alg(f"{where}: search_alg", block.get("search_alg")),
        scheduler_config=_mapping(f"{where}: scheduler_config", block.get("scheduler_config", {}), "arguments"),
        notes=(*notes, *of_config, *of_stop, *of_scheduler),
        written=written,
        directory=str(path.parent.absolute()),
    )


def _written(where: str, block: dict[str, Any]) -> dict[str, Any]:
    """The settings in ``config``, with the environment or the task that may stand beside it."""
    config = _mapping(f"{where}: config", {} if block.get("config") is None else block["config"], "settings")
    for key in ("env", "task"):
        if key in block:
            if key in config and config[key] != block[key]:
                raise UsageError(f"{where}: {key} is given twice: {block[key]!r} and, in config, {config[key]!r}")
            config[key] = block[key]
    return config


def _run(where: str, block: dict[str, Any]) -> str:
    if "run" not in block:
        raise UsageError(f"{where}: 'run' is missing")
    if not isinstance(block["run"], str):
        raise UsageError(f"{where}: run: got {in_words(block['run'])}, allowed is the name of an algorithm")
    return block["run"]


def _directory(where: str, block: dict[str, Any], key: str, default: str | None) -> Any:
    if key in block and not isinstance(block[key], str):
        raise UsageError(f"{where}: {key}: got {in_words(block[key])}, allowed is a directory")
    return block.get(key, default)


def _mapping(where: str, value: Any, of: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: got {in_words(value)}, allowed is a mapping of {of}")
    return dict(value)
