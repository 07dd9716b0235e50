"""Supervised training as a Tune trainable."""

import io
import os
import pickle
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import tune

from rllib_stpn import manifest
from rllib_stpn.errors import UsageError, in_words
from rllib_stpn.layers.layer import NoEnergyError
from rllib_stpn.supervised.sequence_module import SequenceModule
from rllib_stpn.supervised.settings import SAME_IN_A_CHECKPOINT, SupervisedConfig
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

    A restored trial goes on bit for bit as if it had not been interrupted, with the same number of threads. One that
    begins from the checkpoint of another draws data and their order from its own ``seed``, where it has one; what was
    the best on the other's data then does not count for it.
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
        """Makes data, module and optimiser.

        Raises:
            UsageError: A setting that is none, or that no checkpoint could hold.
        """
        started = time.perf_counter()
        self._settings = _settings(config)
        # Ray sets OMP_NUM_THREADS to an actor's CPUs, unless the user's environment has another number.
        torch.set_num_threads(self._settings.num_cpus_for_main_process)
        seed = self._settings.seed
        self._build(int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed)
        self._warm_up()
        _bytes_of(self._state())  # Refuses now what it would else refuse after an epoch, or after the last.
        self._setup_time = time.perf_counter() - started

    def _build(self, seed: int, vocabulary: Iterable[str] = ()) -> None:
        self._seed = seed
        self._epoch = 0
        self._sequences = 0
        self._best_score: float | None = None
        self._best: dict[str, float] = {}
        self._task, self.module = _make(self._settings, seed, vocabulary)
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
        """Writes all that is needed to go on, in one file, with its result and a manifest.

        Raises:
            UsageError: The state has what could not be read again, such as an object in a layer's own state.
        """
        written = _bytes_of(self._state())
        path = Path(checkpoint_dir) / _FILE
        replacement = path.with_suffix(".new")  # An interrupted run must not leave half a file.
        replacement.write_bytes(written)
        os.replace(replacement, path)
        self.seal(checkpoint_dir)

    def _state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {
            # The settings as they were checked: those given may hold what cannot be read again, such as a class.
            "config": {key: getattr(self._settings, key) for key in self.config if not key.startswith("__")},
            "files": {option: str(file) for option, file in self._task.files.items()},
            "vocabulary": list(self._task.vocabulary),
            "seed": self._seed,
            "epoch": self._epoch,
            "sequences": self._sequences,
            "best_score": self._best_score,
            "best": self._best,
            "module": self.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Goes on from a checkpoint; the data are made anew, from this trial's own seed where it has one.

        Raises:
            UsageError: It is none of supervised training, or of another task or model, or its parameters do not fit.
        """
        state = _read(checkpoint_dir)
        theirs = _settings(state["config"])
        for key in SAME_IN_A_CHECKPOINT:
            if getattr(theirs, key) != getattr(self._settings, key):
                raise UsageError(
                    f"{checkpoint_dir}: a checkpoint of another {key}: got {getattr(theirs, key)!r}, "
                    f"allowed is {getattr(self._settings, key)!r}"
                )
        own = self._settings.seed
        self._build(state["seed"] if own is None else own, state.get("vocabulary", ()))
        _load_parameters(checkpoint_dir, state, self._task, self.module)
        self._optimizer.load_state_dict(state["optimizer"])
        self._epoch = self._iteration = state["epoch"]
        self._sequences = state["sequences"]
        if self._seed == state["seed"]:  # Another seed makes other data, on which nothing was measured yet.
            self._best_score, self._best = state["best_score"], state["best"]


def load(path: str | os.PathLike) -> tuple[Task, SequenceModule]:
    """The task, with its data, and the trained module of a checkpoint.

    ::

        task, module = load(path)
        evaluate(task, module, "test", batch_size=128)

    Args:
        path: The checkpoint's directory.

    Raises:
        UsageError: There is no checkpoint of supervised training, or its text files are gone, or its parameters fit
            no longer.
    """
    task, module, _ = load_with_settings(path)
    return task, module


def load_with_settings(path: str | os.PathLike) -> tuple[Task, SequenceModule, SupervisedConfig]:
    """The same as :func:`load`, and the settings of the training, such as the size of its batches."""
    state = _read(path)
    settings = _settings(state["config"])
    task, module = _make(settings, state["seed"], state.get("vocabulary", ()))
    _load_parameters(path, state, task, module)
    return task, module.eval(), settings


def _settings(config: Mapping[str, Any]) -> SupervisedConfig:
    """The configuration, without what Tune notes in it for itself."""
    return SupervisedConfig.from_settings({key: value for key, value in config.items() if not key.startswith("__")})


def _make(settings: SupervisedConfig, seed: int, vocabulary: Iterable[str]) -> tuple[Task, SequenceModule]:
    """The task with its data, and a new module; the words of a checkpoint are in the order of their ids."""
    task = settings.make_task()
    task.vocabulary = {word: index for index, word in enumerate(vocabulary)}
    task.make_data(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(_stream(seed, _INITIAL).generate_state(1)[0]))
        return task, task.make_module(settings.make_layer(task))


def _stream(seed: int, *key: int) -> np.random.SeedSequence:
    """A random stream apart from those of the data, which are children 0, 1, 2 of the seed."""
    return np.random.SeedSequence(seed, spawn_key=(3, *key))


def _load_parameters(path: str | os.PathLike, state: Mapping[str, Any], task: Task, module: SequenceModule) -> None:
    """Fills the module that a checkpoint's settings make."""
    try:
        module.load_state_dict(state["module"])
    except RuntimeError as error:
        changed = "layer's code" if state.get("vocabulary") or not task.vocabulary else "training text"
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"{path}: the {changed} is another than it was: the parameters do not fit: {reason}") from None


def _bytes_of(state: Mapping[str, Any]) -> memoryview:
    """The file of a state, which :func:`_read` can read again.

    It is made in memory, since torch does not tell why it could not write a file.
    """
    written = io.BytesIO()
    try:
        torch.save(state, written)
        written.seek(0)
        torch.load(written, weights_only=True)
    except (pickle.PickleError, AttributeError, TypeError) as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise UsageError(
            f"config: a checkpoint cannot hold {found[1] if found else in_words(error)}, in a setting or in a layer's "
            "own state, allowed are numbers, texts, tensors, lists and mappings"
        ) from error
    return written.getbuffer()


def _found(config: dict[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """Settings with the absolute path of each file that is not where they say, as seen from this directory."""
    options = config.get("task_config", {})
    absent = {option: file for option, file in files.items() if not Path(options[option]).expanduser().is_file()}
    return {**config, "task_config": {**options, **absent}} if absent else config


def _read(path: str | os.PathLike) -> dict[str, Any]:
    file = Path(path) / _FILE
    if not file.is_file():
        raise UsageError(f"{path}: no checkpoint of supervised training: it has no {_FILE}")
    if (file.parent / manifest.FILE).is_file() and (damage := manifest.damage(file.parent)):
        raise UsageError(f"{path}: broken: {damage}")
    try:
        state = torch.load(file, weights_only=True)
    except Exception as error:
        raise UsageError(f"{file}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    return {**state, "config": _found(state["config"], state.get("files", {}))}
