"""What users of RLlib and Tune wrote for an experiment, beside its settings, and what became of it."""

from collections.abc import Mapping
from typing import Any

_FOLLOWS = "the trial's resources follow from num_env_runners and its like in `config`"
_STORAGE = "give a `storage_path` that all machines reach"
_ALWAYS = "results are always written as JSON, as CSV and for TensorBoard"
#: Old -> new name of an experiment's keys. A dot means a key inside the block before it.
RENAMED = {
    "checkpoint_freq": "checkpoint_config.checkpoint_frequency",
    "checkpoint_at_end": "checkpoint_config.checkpoint_at_end",
    "keep_checkpoints_num": "checkpoint_config.num_to_keep",
    "checkpoint_score_attr": "checkpoint_config.checkpoint_score_attribute",
    "local_dir": "storage_path",
    "repeat": "num_samples",
}
DROPPED = {
    "pass_criteria": "only `stop` ends a run",
    "resources_per_trial": _FOLLOWS,
    "trial_resources": _FOLLOWS,
    "sync_config": _STORAGE,
    "upload_dir": _STORAGE,
    "sync_to_cloud": _STORAGE,
    "sync_to_driver": _STORAGE,
    "sync_function": _STORAGE,
    "sync_on_checkpoint": _STORAGE,
    "export_formats": "a checkpoint has the module's weights",
    "global_checkpoint_period": "the state of the experiment is written now and then",
    "log_to_file": "messages go to the terminal; results are written as JSON, as CSV and for TensorBoard",
    "loggers": _ALWAYS,
    "verbose": "-v and -vv tell more",
    "reuse_actors": "each trial has a process of its own",
    "queue_trials": "trials always wait for their resources",
    "fail_fast": "a failed trial leaves the others running",
    "raise_on_failed_trial": "a failed trial makes the exit code 1",
    "max_concurrent_trials": "as many trials run as there is room for",
    "time_budget_s": "stop: {time_total_s: N} ends each trial",
}
#: Names of Tune's schedulers, in lower case and without underscores -> ours.
SCHEDULERS = {
    **dict.fromkeys(("asynchyperband", "asynchyperbandscheduler", "ashascheduler"), "asha"),
    "populationbasedtraining": "pbt",
    "fifoscheduler": "fifo",
}
#: What stands at the top of an experiment, in any spelling.
_OF_AN_EXPERIMENT = {"run", "algorithm", "env", "stop", "config", "checkpoint_frequency", *RENAMED, *DROPPED}


def scheduler(where: str, name: Any) -> tuple[str, list[str]]:
    """A scheduler's name as it is today, in lower case, and a note where Tune calls it otherwise."""
    given = str(name).lower()
    today = SCHEDULERS.get(given.replace("_", ""))
    return (today, [f"{where}: {name} -> {today}"]) if today else (given, [])


def setting_at_the_top(tree: Mapping[Any, Any], settings: set[str]) -> str | None:
    """The first key at the top of a file that is a setting, and no experiment's name; None without one.

    Args:
        tree: The file.
        settings: The names that settings have or had.
    """
    plain = (key for key, value in tree.items() if not isinstance(value, dict))
    return next((str(key) for key in plain if key in _OF_AN_EXPERIMENT or key in settings), None)
