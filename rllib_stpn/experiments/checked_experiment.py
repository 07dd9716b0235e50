"""The experiments of a file for a notebook or a script: checked, and ready to be built and run."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

import rllib_stpn
from rllib_stpn.cpus import available_cpus
from rllib_stpn.errors import UsageError, unknown
from rllib_stpn.experiments import loading, running, searches, validation
from rllib_stpn.experiments.building import build_config
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.overrides import Overrides
from rllib_stpn.experiments.ray_start import start_ray
from rllib_stpn.experiments.resources import Cluster
from rllib_stpn.experiments.trial_result import TrialResult

if TYPE_CHECKING:
    from ray.rllib.algorithms import AlgorithmConfig
    from ray.tune import Callback, Tuner


@dataclasses.dataclass(frozen=True, repr=False)
class CheckedExperiment(Experiment):
    """An experiment whose settings were checked, as :func:`load` returns it.

    It does not change, and prints nothing: ``notes`` has what ``rllib train`` would print.
    """

    def override(self, **overrides: Any) -> "CheckedExperiment":
        """The experiment with other settings, checked again.

        Args:
            overrides: The fields of :class:`Overrides`, each as an option of ``rllib train`` would be.

        Raises:
            UsageError: There is no such field, or its value is wrong.
        """
        for name in overrides:
            if name not in Overrides.names():
                raise unknown(self.where, "override", name, Overrides.names())
        return validation.check(Overrides(**overrides).apply(self))

    def fold(self, strict: bool = False) -> "CheckedExperiment":
        """The experiment with settings that fit the machines: those of Ray where it runs, else this one.

        The methods below do it by themselves; call it to read in ``notes`` what it changes, or to forbid changes.

        Args:
            strict: Refuse what does not fit, in place of changing it.

        Raises:
            UsageError: It does not fit.
        """
        runs = ray.is_initialized()
        cluster = Cluster.of_ray() if runs else Cluster.of_this_machine(available_cpus())
        experiment, notes = running.fit(self, cluster, strict=strict, may_grow=runs)
        return experiment.replaced(notes)

    def algorithm_config(self) -> "AlgorithmConfig":
        """The configuration of the algorithm, for ``build_algo()``; of supervised training its own configuration.

        Raises:
            UsageError: A setting has several values, or the experiment does not fit the machines.
        """
        searched = [".".join(map(str, path)) for path, _ in searches.find(self.config)]
        if searched:
            raise UsageError(
                f"{self.where}: algorithm_config: got a search over {', '.join(searched)}, allowed is one value for "
                "each setting, such as override(config={...}) gives; tuner() and run() take searches"
            )
        folded = self if self.folded is not None else self.fold()
        assert folded.folded is not None
        rllib_stpn.register()
        return build_config(folded.algorithm, folded.folded, folded.base)

    def tuner(self, callbacks: "Sequence[Callback]" = ()) -> "Tuner":
        """Tune's Tuner of the experiment, for ``fit()``. Starts Ray where it does not run, as ``fit()`` would.

        Args:
            callbacks: Callbacks of Tune.

        Raises:
            UsageError: Ray cannot start, the storage path cannot be written to, or the experiment does not fit the
                machines.
        """
        return running.make_tuner(self._prepared(), callbacks=callbacks)

    def run(self, callbacks: "Sequence[Callback]" = (), **overrides: Any) -> list[TrialResult]:
        """Runs the experiment as ``rllib train`` does, which can also go on with it (``--resume``).

        Args:
            callbacks: Callbacks of Tune.
            overrides: As :meth:`override` takes them.

        Returns:
            How each trial ended. A trial that failed raises nothing: its result has the ``error``, and the
            ``cause`` in a line.

        Raises:
            UsageError: As :meth:`override` and :meth:`tuner` do.
        """
        experiment = self.override(**overrides) if overrides else self
        return running.run(experiment._prepared(), callbacks=callbacks)

    def _prepared(self) -> "CheckedExperiment":
        own = not ray.is_initialized()
        cluster = start_ray(os.environ.get("RAY_ADDRESS")) if own else Cluster.of_ray()
        experiment, notes = running.prepare(self)
        experiment, more = running.fit(experiment, cluster, may_grow=not own, whole=own)
        return experiment.replaced([*notes, *more])


def load(path: str | Path, **overrides: Any) -> list[CheckedExperiment]:
    """The experiments of a file, translated and checked as ``rllib train`` does.

    Modules that it names, of environments and layers, are also looked for in its directory (then in ``sys.path``, too).

    Args:
        path: A YAML file in RLlib's format, or a Python file that makes an ``AlgorithmConfig`` called ``config``.
        overrides: What to change in each of them, as :meth:`CheckedExperiment.override` takes it.

    Raises:
        UsageError: The file is missing or wrong: where, what was given, what is allowed.
    """
    return [
        CheckedExperiment(**vars(experiment)).override(**overrides)
        for experiment in loading.load(Path(path).expanduser())
    ]
