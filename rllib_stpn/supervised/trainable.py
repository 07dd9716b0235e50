"""Supervised training as a Tune trainable."""

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import tune

from rllib_stpn import manifest
from rllib_stpn.errors import UsageError
from rllib_stpn.layers.layer import NoEnergyError
from rllib_stpn.supervised.sequence_module import SequenceModule
from rllib_stpn.supervised.settings import SupervisedConfig
from rllib_stpn.supervised.task import SPLITS, Task, Totals, evaluate
from rllib_stpn.whole_checkpoints import WholeCheckpoints

_FILE = "supervised.pt"
_INITIAL, _ORDER = 0, 1  # random streams beside those of the data


class Supervised(WholeCheckpoints):
    """Trains a layer on a task; one iteration is one epoch.

    ::

        tune.Tuner(Supervised, param_space={"task": "associative_retrieval", "model": {...}}).fit()

    Its settings are those of :class:`~rllib_stpn.supervised.settings.SupervisedConfig`. A result holds, beside Tune's
    own entries, for the training data (while it was trained on) and the validation data (after the epoch)
    ``train_loss``, ``train_accuracy``, ``validation_loss``, ``validation_accuracy``, and with language modelling
    ``train_perplexity`` and ``validation_perplexity``; the same of the test data after that epoch whose validation
    was the best so far, ``best_epoch``; ``energy_per_sequence`` on the validation data
    (:func:`~rllib_stpn.supervised.task.evaluate`; not where the layer leaves it out), ``num_parameters``,
    ``num_sequences_trained_lifetime``, ``epoch_time_s``, the seconds of training without evaluation, and
    ``setup_time_s``.

    A restored trial goes on bit for bit as if it had not been interrupted, with the same number of threads.
    """

    @classmethod
    def get_default_config(cls) -> SupervisedConfig:
        """The settings of a trial that gives none."""
        return SupervisedConfig()

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """One process with the CPUs that the settings give it."""
        return tune.PlacementGroupFactory([{"CPU": _settings(config).num_cpus_for_main_process}])

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike) -> "Supervised":
        """A trainable that goes on where a checkpoint was written.

        Raises:
            UsageError: There is no checkpoint of supervised training.
        """
        trainable = cls(_read(path)["config"])
        trainable.restore(str(path))
        return trainable

    def setup(self, config: dict[str, Any]) -> None:
        """Makes data, module and optimiser."""
        started = time.perf_counter()
        self._settings = _settings(config)
        # Ray sets OMP_NUM_THREADS to an actor's CPUs, unless the user's environment has another number.
        torch.set_num_threads(self._settings.num_cpus_for_main_process)
        seed = self._settings.seed
        self._build(int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed)
        self._warm_up()
        self._setup_time = time.perf_counter() - started

    def _build(self, seed: int) -> None:
        self._seed = seed
        self._epoch = 0
        self._sequences = 0
        self._best_score: float | None = None
        self._best: dict[str, float] = {}
        self._task, self.module = _make(self._settings, seed)
        for split in SPLITS:  # Refuses a text that is too short for the batch.
            self._task.num_batches(split, self._settings.train_batch_size)
        self._parameters = list(self.module.parameters())
        kind = torch.optim.Adam if self._settings.optimizer == "adam" else torch.optim.SGD
        self._optimizer = kind(self._parameters, lr=0.0, fused=True)

    def _warm_up(self) -> None:
        """Runs one batch and drops the result: compiling and loading kernels is start-up, not part of an epoch."""
        inputs, targets = next(iter(self._task.batches("train", self._settings.train_batch_size)))
        self._task.loss(self.module(inputs)[0], targets).backward()
        self._forget_gradients()
        self._measures_energy = True
        try:
            with torch.no_grad():
                self.module(inputs, return_energy=True)
        except NoEnergyError:
            self._measures_energy = False

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:  # Faster than the optimiser's own zero_grad.
            parameter.grad = None

    def step(self) -> dict[str, Any]:
        """One epoch, and its evaluation."""
        started = time.perf_counter()
        train = self._train()
        seconds = time.perf_counter() - started
        self._epoch += 1
        self._must_be_numbers(train, "training loss", train["train_loss"])
        task, batch_size = self._task, self._settings.train_batch_size
        validation = evaluate(task, self.module, "validation", batch_size, self._measures_energy)
        self._must_be_numbers(validation, "validation loss", validation["validation_loss"])
        score = validation[f"validation_{task.metric}"]
        if task.better(score, self._best_score):
            self._best_score = score
            self._best = {"best_epoch": self._epoch, **evaluate(task, self.module, "test", batch_size)}
        return {
            **train,
            **validation,
            **self._best,
            "num_parameters": sum(parameter.numel() for parameter in self._parameters),
            "num_sequences_trained_lifetime": self._sequences,
            "epoch_time_s": seconds,
            "setup_time_s": self._setup_time,
        }

    def _must_be_numbers(self, metrics: dict[str, float], name: str, loss: float) -> None:
        """Ends a run that has diverged: a loss is no number, or too large for its perplexity to be one."""
        if not np.isfinite(list(metrics.values())).all():
            raise UsageError(f"epoch {self._epoch}: the {name} is {loss:g}; a smaller lr or a grad_clip may help")

    def _train(self) -> dict[str, float]:
        """One pass over the training data."""
        task, module, optimizer = self._task, self.module, self._optimizer
        batch_size, clip = self._settings.train_batch_size, self._settings.grad_clip
        rates = self._settings.learning_rates(self._epoch, task.num_batches("train", batch_size))
        order = np.random.default_rng(_stream(self._seed, _ORDER, self._epoch))
        totals, state = Totals(task), None
        (group,) = optimizer.param_groups
        for rate, (inputs, targets) in zip(rates, task.batches("train", batch_size, order), strict=True):
            group["lr"] = rate
            logits, after = module(inputs, state)
            loss = task.loss(logits, targets)
            self._forget_gradients()
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(self._parameters, clip)
            optimizer.step()
            totals.add(loss, logits, targets)
            if task.carries_state:
                state = {key: leaf.detach() for key, leaf in after.items()}
        self._sequences += totals.sequences
        return totals.metrics("train")

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes all that is needed to go on, in one file, with its result and a manifest."""
        state = {
            "config": {key: value for key, value in self.config.items() if not key.startswith("__")},
            "seed": self._seed,
            "epoch": self._epoch,
            "sequences": self._sequences,
            "best_score": self._best_score,
            "best": self._best,
            "module": self.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        written = io.BytesIO()
        torch.save(state, written)  # to a file, it does not tell why it could not write it
        path = Path(checkpoint_dir) / _FILE
        replacement = path.with_suffix(".new")  # An interrupted run must not leave half a file.
        replacement.write_bytes(written.getbuffer())
        os.replace(replacement, path)
        self.seal(checkpoint_dir)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Goes on from a checkpoint; the data are made anew from its seed.

        Raises:
            UsageError: It is none of supervised training, or of another task or model.
        """
        state = _read(checkpoint_dir)
        theirs = _settings(state["config"])
        for key in ("task", "task_config", "model", "optimizer"):
            if getattr(theirs, key) != getattr(self._settings, key):
                raise UsageError(
                    f"{checkpoint_dir}: a checkpoint of another {key}: got {getattr(theirs, key)!r}, "
                    f"allowed is {getattr(self._settings, key)!r}"
                )
        self._build(state["seed"])
        self.module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._epoch = self._iteration = state["epoch"]
        self._sequences = state["sequences"]
        self._best_score, self._best = state["best_score"], state["best"]


def load(path: str | os.PathLike) -> tuple[Task, SequenceModule]:
    """The task, with its data, and the trained module of a checkpoint.

    ::

        task, module = load(path)
        evaluate(task, module, "test", batch_size=128)

    Args:
        path: The checkpoint's directory.

    Raises:
        UsageError: There is no checkpoint of supervised training.
    """
    state = _read(path)
    task, module = _make(_settings(state["config"]), state["seed"])
    module.load_state_dict(state["module"])
    return task, module.eval()


def _settings(config: Mapping[str, Any]) -> SupervisedConfig:
    """The configuration, without what Tune notes in it for itself."""
    return SupervisedConfig.from_settings({key: value for key, value in config.items() if not key.startswith("__")})


def _make(settings: SupervisedConfig, seed: int) -> tuple[Task, SequenceModule]:
    """The task with its data, and a new module."""
    task = settings.make_task()
    task.make_data(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(_stream(seed, _INITIAL).generate_state(1)[0]))
        return task, task.make_module(settings.make_layer(task))


def _stream(seed: int, *key: int) -> np.random.SeedSequence:
    """A random stream apart from those of the data, which are children 0, 1, 2 of the seed."""
    return np.random.SeedSequence(seed, spawn_key=(3, *key))


def _read(path: str | os.PathLike) -> dict[str, Any]:
    file = Path(path) / _FILE
    if not file.is_file():
        raise UsageError(f"{path}: no checkpoint of supervised training: it has no {_FILE}")
    if (file.parent / manifest.FILE).is_file() and (damage := manifest.damage(file.parent)):
        raise UsageError(f"{path}: broken: {damage}")
    try:
        return torch.load(file, weights_only=True)
    except Exception as error:
        raise UsageError(f"{file}: cannot be read: {' '.join(str(error).split())[:200]}") from error
