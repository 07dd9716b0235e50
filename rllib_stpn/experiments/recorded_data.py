"""Settings for learning from recorded data and for recording, on RLlib's new API stack."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import searches

if TYPE_CHECKING:
    from ray.rllib.algorithms import AlgorithmConfig

#: The algorithms that learn from recorded data on the new API stack.
OFFLINE = ("BC", "MARWIL", "CQL", "IQL")
#: What RLlib's old API stack took in place of a folder.
_WORDS = ("dataset", "logdir", "sampler")


def settle(where: str, settings: Mapping[str, Any], run: str) -> tuple[dict[str, Any], list[str]]:
    """Settings with absolute paths to recordings, and a note for each setting that has another name today.

    Args:
        where: What holds the settings.
        settings: Those of the new API stack, searches still in them. Not modified.
        run: The algorithm.

    Raises:
        UsageError: There are no data at a path, the algorithm learns from no recorded data or only from such and none
            are given, or a recording has no folder.
    """
    config = dict(settings)
    notes: list[str] = []
    if config.get("output") is not None:
        config["output"] = searches.change(config["output"], lambda path: _folder(f"{where}: output", path))
    if run not in OFFLINE:
        for given in searches.choices(config.get("input_")):
            if given not in (None, "sampler"):
                raise UsageError(
                    f"{where}: input: got {given!r}, allowed is sampler: {run} learns from what it samples, "
                    f"{', '.join(OFFLINE)} learn from recorded data"
                )
        return config, notes
    if config.get("input_") == "dataset":
        block = config.pop("input_config", None) or {}
        config["input_"] = block.get("paths")
        notes.append(f"{where}: input: dataset -> input: {block.get('paths')}")
        if block.get("format"):
            config.setdefault("input_read_method", f"read_{block['format']}")
            notes[-1] += f", input_read_method: {config['input_read_method']}"
    if config.get("input_") in (None, "sampler", []):
        raise UsageError(f"{where}: input is missing: {run} learns from recorded data, by their folder or files")
    config["input_"] = searches.change(config["input_"], lambda paths: _recordings(f"{where}: input", paths))
    paths = [
        path for paths in searches.choices(config["input_"]) for path in ([paths] if isinstance(paths, str) else paths)
    ]
    if "input_read_method" not in config and all(map(_holds_json, paths)):
        config["input_read_method"] = "read_json"
        notes.append(f"{where}: input_read_method: read_json, as the files' names end")
    return config, notes


def complete(config: "AlgorithmConfig", given: Mapping[str, Any]) -> None:
    """Sets what reading or writing recorded data needs and the user has not given.

    Whole episodes are recorded. An update takes one batch of the data if the learner is in the trial's own process.
    Spaces are those of the environment, if no evaluation makes one.

    Args:
        config: The configuration. Modified.
        given: The settings that were put on it.
    """
    if config.output and config.output_write_episodes and "batch_mode" not in given:
        config.batch_mode = "complete_episodes"
    if not config.is_offline:
        return
    if hasattr(config, "actor_lr") and "lr" not in given:
        config.lr = None  # CQL's own default is one that RLlib refuses
    if config.num_learners == 0 and not config.dataset_num_iters_per_learner:
        config.dataset_num_iters_per_learner = 1
    evaluates = config.evaluation_interval or config.evaluation_num_env_runners
    if config.env and not evaluates and config.observation_space is None and config.action_space is None:
        from rllib_stpn.agents.environments import make_env

        env: Any = make_env(config.env, config.env_config)
        config.environment(observation_space=env.observation_space, action_space=env.action_space)
        env.close()


def check_recording(config: "AlgorithmConfig") -> None:
    """Refuses to record where nothing would be written.

    Raises:
        UsageError: The env runners record nothing, or what RLlib writes with is missing.
    """
    from rllib_stpn.rollouts import BatchedEnvRunner

    if not config.output:
        return
    if config.env_runner_cls is not None and issubclass(config.env_runner_cls, BatchedEnvRunner):
        raise UsageError("output: batched env runners record nothing, env_runner_cls: single_agent does")
    if config.output_write_episodes and importlib.util.find_spec("msgpack_numpy") is None:
        raise UsageError(
            "output: RLlib writes episodes with msgpack-numpy, which is missing: pip install msgpack-numpy"
        )


def _folder(where: str, path: Any) -> Any:
    if path is None:
        return None
    if not isinstance(path, str) or path in _WORDS:
        raise UsageError(f"{where}: got {path!r}, allowed is the folder that the recording goes to")
    return path if "://" in path else str(Path(path).expanduser().absolute())


def _recordings(where: str, paths: Any) -> Any:
    if isinstance(paths, list) and paths:
        return [_recordings(where, path) for path in paths]
    if not isinstance(paths, str):
        raise UsageError(f"{where}: got {paths!r}, allowed is a folder or a list of files")
    if "://" in paths:
        return paths
    path = Path(paths).expanduser()
    if not path.exists():
        raise UsageError(f"{where}: there is nothing at {paths!r}")
    return str(path.absolute())


def _holds_json(path: str) -> bool:
    files = sorted(Path(path).glob("*")) if Path(path).is_dir() else [Path(path)]
    return bool(files) and all(file.suffix in (".json", ".jsonl") for file in files)
