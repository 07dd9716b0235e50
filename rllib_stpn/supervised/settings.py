"""Settings of supervised training, as they stand in a YAML file's ``config``."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rllib_stpn import checks
from rllib_stpn.errors import UsageError, unknown
from rllib_stpn.layers import Layer, layer_options, layer_path, make_layer
from rllib_stpn.plain import plain
from rllib_stpn.supervised.associative_retrieval import AssociativeRetrieval
from rllib_stpn.supervised.familiarity import Familiarity
from rllib_stpn.supervised.language_modelling import LanguageModelling
from rllib_stpn.supervised.task import Task

TASKS: dict[str, type[Task]] = {task.name: task for task in (AssociativeRetrieval, Familiarity, LanguageModelling)}
OPTIMIZERS = ("adam", "sgd")
SAME_IN_A_CHECKPOINT = ("task", "task_config", "model", "optimizer")
"""Settings that a trial has to share with the checkpoint that it goes on from."""
_SIZES = ("hidden_size", "num_parameters")


@dataclasses.dataclass(frozen=True)
class SupervisedConfig:
    """Settings of supervised training, named as in RLlib where RLlib has the same.

    Attributes:
        task: One of ``TASKS``.
        task_config: Options of the task.
        model: ``{custom_model: a layer's name or path, custom_model_config: {hidden_size: ..., its options}}``.
        lr: Learning rate, or a schedule ``[[epoch, rate], ...]``: linear between its points and constant after the
            last; epochs count from 0, and the rate changes with every batch.
        optimizer: "adam" or "sgd" (plain), otherwise as torch has them.
        grad_clip: Bound of the gradient's norm, over all parameters; None for no bound.
        train_batch_size: Sequences per batch, in evaluation too.
        seed: Of the data, their order and the initial parameters; None draws one.
        num_cpus_for_main_process: CPUs of the trial, which has no other process.
    """

    task: str = AssociativeRetrieval.name
    task_config: dict[str, Any] = dataclasses.field(default_factory=dict)
    model: dict[str, Any] = dataclasses.field(
        default_factory=lambda: {"custom_model": "stpn", "custom_model_config": {"hidden_size": 11}}
    )
    lr: float | list[list[float]] = 0.001
    optimizer: str = "adam"
    grad_clip: float | None = None
    train_batch_size: int = 128
    seed: int | None = None
    num_cpus_for_main_process: int = 1

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "SupervisedConfig":
        """The configuration of plain settings; numbers may be NumPy's, or texts such as ``1e-3``, as YAML reads them.

        Raises:
            UsageError: An unknown key, task, layer or option, or a value it does not take.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in settings:
            if key not in known:
                raise unknown("config", "key", key, known)
        config = cls(**{key: _CHECKS[key](f"config: {key}", plain(value)) for key, value in settings.items()})
        config.make_layer(config.make_task())
        return config

    def make_task(self) -> Task:
        """The task, without data."""
        kind = TASKS[self.task]
        options = inspect.signature(kind).parameters
        for option in self.task_config:
            if option not in options:
                raise unknown(f"task_config of {self.task}", "option", option, options)
        return kind(**self.task_config)

    def make_layer(self, task: Task) -> Layer:
        """The layer for a task."""
        return make_layer(
            self.model["custom_model"], input_size=task.input_size, **self.model.get("custom_model_config") or {}
        )

    def learning_rates(self, epoch: int, batches: int) -> list[float]:
        """The learning rate of each batch of an epoch."""
        schedule = self.lr if isinstance(self.lr, list) else [[0, self.lr]]
        epochs, rates = zip(*schedule, strict=True)
        return np.interp(epoch + np.arange(batches) / batches, epochs, rates).tolist()


def _positive(where: str, value: Any) -> float:
    return checks.number(where, checks.from_text(value), above=0)


def _whole(least: int, most: int) -> Callable[[str, Any], int]:
    return lambda where, value: checks.integer(where, checks.from_text(value), least, most)


def _lr(where: str, value: Any) -> float | list[list[float]]:
    if not isinstance(value, list):
        return _positive(where, value)
    schedule = [[checks.from_text(number) for number in pair] for pair in value if isinstance(pair, list | tuple)]
    pairs = [
        pair for pair in schedule if len(pair) == 2 and all(checks.is_number(number) and number >= 0 for number in pair)
    ]
    epochs = [epoch for epoch, _ in pairs]
    if not value or len(pairs) < len(value) or epochs[0] != 0 or sorted(set(epochs)) != epochs:
        raise UsageError(
            f"{where}: got {value!r}, allowed is a number or [[0, rate], [epoch, rate], ...] with rising epochs"
        )
    return pairs


def _model(where: str, value: Any) -> dict[str, Any]:
    value = checks.mapping(where, value)
    keys = ("custom_model", "custom_model_config")
    for key in value:
        if key not in keys:
            raise unknown(where, "key", key, keys)
    name = layer_path(value.get("custom_model"), f"{where}: custom_model")
    options = checks.mapping(f"{where}: custom_model_config", value.get("custom_model_config") or {})
    for option in options:
        if option not in (*_SIZES, *layer_options(name)):
            raise unknown(f"{where}: custom_model_config of {name}", "option", option, [*_SIZES, *layer_options(name)])
    return {**value, "custom_model": name}


def _choice(allowed):
    return lambda where, value: checks.choice(where, value, allowed)


def _optional(check):
    return lambda where, value: None if value is None else check(where, value)


_CHECKS = {
    "task": _choice(list(TASKS)),
    "task_config": checks.mapping,
    "model": _model,
    "lr": _lr,
    "optimizer": _choice(OPTIMIZERS),
    "grad_clip": _optional(_positive),
    "train_batch_size": _whole(1, 10**8),
    "seed": _optional(_whole(0, 2**53)),
    "num_cpus_for_main_process": _whole(1, 10**6),
}
