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
    """Settings with absolute paths to recordings, and notes: which have another name today, where recordings are.

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
        notes += [
            f"{where}: output: {path} has recordings, and these come beside them"
            for path in searches.choices(config["output"])
            if path is not None and _has_recordings(Path(path))
        ]
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


def writes_episodes(config: "AlgorithmConfig") -> bool:
    """Whether whole episodes go to Parquet files of this machine, as ``RecordingEnvRunner`` writes them."""
    return (
        config.output_write_episodes
        and config.output_write_method == "write_parquet"
        and config.output_filesystem is None
        and "://" not in config.output
    )


def complete(config: "AlgorithmConfig", given: Mapping[str, Any]) -> None:
    """Sets what reading or writing recorded data needs and the user has not given.

    Whole episodes are recorded. An update takes one batch of the data if the learner is in the trial's own process.

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
    # RLlib's two processes that prepare batches would wait for CPUs that the trial and the reading have.
    config.map_batches_kwargs = {"concurrency": 1, "num_cpus": 0, **config.map_batches_kwargs}
    if _holds_episodes(config.input_) and "input_read_episodes" not in given:
        config.input_read_episodes = True
    if config.input_read_episodes and config.prelearner_class is None:
        _take_whole_episodes(config)


def set_spaces(config: "AlgorithmConfig") -> None:
    """Sets the spaces of what is learned from recorded data, where no evaluation makes an environment.

    Actions are the environment's. Observations are recorded as the model saw them: behind the connectors.
    """
    evaluates = config.evaluation_interval or config.evaluation_num_env_runners
    given = config.observation_space is not None or config.action_space is not None
    if not config.is_offline or not config.env or evaluates or given:
        return
    from rllib_stpn.agents.checkpoints import connectors_of
    from rllib_stpn.agents.environments import vector_env_of

    env = vector_env_of(config)
    observations, actions = env.single_observation_space, env.single_action_space
    env.close()
    pipeline, _ = connectors_of(config, observations, actions, vector_env_of)
    config.environment(observation_space=pipeline.observation_space, action_space=actions)


def _take_whole_episodes(config: "AlgorithmConfig") -> None:
    from ray.rllib.algorithms.bc import BCConfig
    from ray.rllib.algorithms.marwil import MARWILConfig

    from rllib_stpn.algorithms.whole_episodes import BURN_IN, WholeEpisodes

    if not isinstance(config, MARWILConfig):
        return
    config.prelearner_class = WholeEpisodes
    if isinstance(config, BCConfig) and config.burnin_len:
        config.learner_config_dict = {**config.learner_config_dict, BURN_IN: config.burnin_len}
        config.burnin_len = 0


def check(config: "AlgorithmConfig") -> None:
    """Refuses to learn from less than a sequence, and to record where nothing would be written.

    Raises:
        UsageError: RLlib would cut minibatches for ever, a burn-in leaves nothing of a sequence, evaluation is to be
            recorded, the env runners record nothing, or what RLlib writes with is missing.
    """
    from rllib_stpn.algorithms.burn_in import check_burn_in
    from rllib_stpn.algorithms.whole_episodes import BURN_IN
    from rllib_stpn.rollouts.episode_runner import EpisodeEnvRunner, check_output

    if config.is_offline:
        length = _sequence_length(config)
        _check_batch(config, length)
        for steps in (getattr(config, "burnin_len", 0), config.learner_config_dict.get(BURN_IN, 0)):
            check_burn_in(BURN_IN, steps, length)
    runner = config.env_runner_cls
    if (config.evaluation_config or {}).get("output") and runner and issubclass(runner, EpisodeEnvRunner):
        raise UsageError("evaluation_config: output: evaluation is not recorded, output beside it records training")
    if not config.output:
        return
    check_output(config, runner)
    if config.output_write_episodes and importlib.util.find_spec("msgpack_numpy") is None:
        raise UsageError(
            "output: RLlib writes episodes with msgpack-numpy, which is missing: pip install msgpack-numpy"
        )


def check_filter(config: "AlgorithmConfig", observation_filter: Any) -> None:
    """Refuses a filter around recorded data.

    Raises:
        UsageError: Observations would be filtered when an agent acts, and not when it learns, or the other way round.
    """
    if observation_filter != "MeanStdFilter" or not (config.is_offline or config.output):
        return
    with_what = "input" if config.is_offline else "output"
    raise UsageError(
        f"observation_filter: got MeanStdFilter with {with_what}, allowed is NoFilter: a recording holds no statistics "
        "of a filter; a wrapper of the environment can scale observations"
    )


def _sequence_length(config: "AlgorithmConfig") -> int:
    """Steps of a sequence, 0 without memory."""
    model = {**config.model_config, **(getattr(config._rl_module_spec, "model_config", None) or {})}
    return model.get("max_seq_len", 0) if model.get("custom_model") or model.get("use_lstm") else 0


def _check_batch(config: "AlgorithmConfig", length: int) -> None:
    if (size := config.train_batch_size_per_learner) < length:
        raise UsageError(
            f"train_batch_size_per_learner: got {size} with max_seq_len {length}, allowed is at least one sequence: "
            f"{length}"
        )


def _folder(where: str, path: Any) -> Any:
    if path is None:
        return None
    if not isinstance(path, str) or path in _WORDS:
        raise UsageError(f"{where}: got {path!r}, allowed is the folder that the recording goes to")
    return path if "://" in path else str(Path(path).expanduser().absolute())


def _has_recordings(folder: Path) -> bool:
    """Whether env runners have recorded there; names of environments may have a slash."""
    return any(next(folder.glob(f"{env}/run-*"), None) for env in ("*", "*/*"))


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


def _holds_episodes(paths: Any) -> bool:
    """Whether the first file is one of episodes, as env runners record them."""
    from pyarrow import parquet

    from rllib_stpn.rollouts.recording import EPISODES

    first = paths[0] if isinstance(paths, list) else paths
    if not isinstance(first, str) or "://" in first:
        return False
    file = next(Path(first).rglob("*.parquet"), None) if Path(first).is_dir() else Path(first)
    return file is not None and file.suffix == ".parquet" and parquet.read_schema(file).names == [EPISODES]
