"""What the command line, or a caller, puts in place of an experiment's own."""

import dataclasses
from typing import Any, TypeVar

from rllib_stpn import checks
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import keys, searches
from rllib_stpn.experiments.experiment import Experiment, env_or_task
from rllib_stpn.experiments.old import names as old_names
from rllib_stpn.experiments.old import values as old_values

_E = TypeVar("_E", bound=Experiment)
#: The options of ``rllib train`` whose names are not those of the fields.
_OPTIONS = {
    "name": "--experiment-name",
    "checkpoint_frequency": "--checkpoint-freq",
    "checkpoints_kept": "--keep-checkpoints-num",
}


@dataclasses.dataclass(frozen=True)
class Overrides:
    """What to change in an experiment; None leaves it as it is.

    Attributes:
        name: The experiment's name, which is that of its directory.
        run: The algorithm.
        env: The environment, or the task of supervised training.
        stop: Stop criteria, in place of all that the experiment has.
        config: Settings, merged over the experiment's level by level.
        seed: The random seed.
        num_samples: How often each point of the grid is run.
        max_failures: How often a failed trial is tried again, from its last checkpoint; -1 for always.
        checkpoint_frequency: Iterations from one checkpoint to the next; 0 for one at the end alone.
        checkpoints_kept: How many of the last checkpoints are kept.
        storage_path: The directory, or URI, that the experiment's directory is made in.
        restore: The checkpoint that trials begin with.
        resume: Whether to go on with the run before.
        scheduler: ``fifo``, ``asha``, ``pbt`` or ``pb2``.
        scheduler_config: Arguments of Tune's class for the scheduler.
        search_alg: ``optuna``.
        track: Services that get results, beside the experiment's own: names, or a mapping of names to options.
        options: Whether errors name the options of ``rllib train``, and not these fields.
    """

    name: str | None = None
    run: str | None = None
    env: str | None = None
    stop: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    seed: int | None = None
    num_samples: int | None = None
    max_failures: int | None = None
    checkpoint_frequency: int | None = None
    checkpoints_kept: int | None = None
    storage_path: str | None = None
    restore: str | None = None
    resume: bool | None = None
    scheduler: str | None = None
    scheduler_config: dict[str, Any] | None = None
    search_alg: str | None = None
    track: Any = None
    options: bool = dataclasses.field(default=False, kw_only=True)

    @classmethod
    def names(cls) -> list[str]:
        """The fields that change something."""
        return [field.name for field in dataclasses.fields(cls) if not field.kw_only]

    def apply(self, experiment: _E) -> _E:
        """The changed experiment; its notes are those of both.

        Raises:
            UsageError: A value that no experiment can have.
        """
        changed = self._with_checkpoints(self._with_trials(self._with_names(experiment)))
        changed = self._with_settings(changed, experiment)
        wanted = env_or_task(changed.algorithm)
        if wanted not in changed.config and changed.base is None and not {"env", "task"} & set(changed.config):
            raise UsageError(f"{changed.where}: {wanted!r} is missing")
        if changed.base is None and None in searches.choices(changed.config.get("env", "")):
            raise UsageError(f"{changed.where}: env: got nothing, allowed is the id of an environment")
        if self.stop is not None:
            stop, notes = keys.stop(self._called("stop"), self.stop, changed.algorithm, changed.new_stack)
            changed = changed.replaced(notes, stop=stop)
        scheduler_config, notes = keys.scheduler_config(changed)
        return changed.replaced(notes, scheduler_config=scheduler_config, folded=None)

    def _called(self, field: str) -> str:
        """What errors and notes call a field."""
        return _OPTIONS.get(field, f"--{field.replace('_', '-')}") if self.options else field

    def _with_names(self, experiment: _E) -> _E:
        changes: dict[str, Any] = {}
        if self.name is not None:
            changes["name"] = keys.name(self._called("name"), self.name)
        if self.run is not None:
            if experiment.base is not None and self.run != experiment.algorithm:
                raise UsageError(
                    f"{self._called('run')}: got {self.run!r}, and the config in {experiment.where} is one of "
                    f"{experiment.algorithm}"
                )
            changes["algorithm"] = self.run
        for field in ("storage_path", "restore", "resume"):
            if getattr(self, field) is not None:
                changes[field] = getattr(self, field)
        return dataclasses.replace(experiment, **changes)

    def _with_trials(self, experiment: _E) -> _E:
        changes: dict[str, Any] = {}
        notes: list[str] = []
        if self.scheduler is not None:
            scheduler, notes = keys.scheduler(self._called("scheduler"), self.scheduler)
            if scheduler != experiment.scheduler:
                changes = {"scheduler": scheduler, "scheduler_config": {}}  # Those were for another one.
        if self.scheduler_config is not None:
            changes["scheduler_config"] = self.scheduler_config
        if self.search_alg is not None:
            changes["search_alg"] = keys.search_alg(self._called("search_alg"), self.search_alg)
        if self.track is not None:
            changes["track"] = experiment.track | keys.track(self._called("track"), self.track)
        for field, at_least in (("num_samples", 1), ("max_failures", -1)):
            if getattr(self, field) is not None:
                changes[field] = checks.integer(self._called(field), getattr(self, field), at_least)
        return experiment.replaced(notes, **changes)

    def _with_checkpoints(self, experiment: _E) -> _E:
        checkpoint = dict(experiment.checkpoint)
        for field, key, at_least in (
            ("checkpoint_frequency", "checkpoint_frequency", 0),
            ("checkpoints_kept", "num_to_keep", 1),
        ):
            if getattr(self, field) is not None:
                checkpoint[key] = checks.integer(self._called(field), getattr(self, field), at_least)
        return dataclasses.replace(experiment, checkpoint=checkpoint)

    def _with_settings(self, changed: _E, experiment: _E) -> _E:
        """Puts settings over those of the file, both translated for the resulting algorithm and API stack."""
        given = {**(self.config or {}), **({} if self.seed is None else {"seed": self.seed})}
        switches = {key: given[key] for key in old_names.SWITCHES if key in given}
        new_stack = dataclasses.replace(changed, config=changed.config | switches).new_stack
        other = (changed.algorithm, new_stack) != (experiment.algorithm, experiment.new_stack)
        if changed.written is not None and other:
            where = f"{changed.where}: config"
            config, notes = old_names.translate_config(where, changed.written, changed.algorithm, new_stack)
            kept = tuple(note for note in changed.notes if not note.startswith(where))
            changed = dataclasses.replace(changed, config=config, notes=(*kept, *notes))
        where = self._called("config")
        searches.check(where, given)
        config, notes = old_names.translate_config(where, given, changed.algorithm, new_stack)
        config = searches.merge(changed.config, config)
        if self.env is not None:
            env, more = old_values.translate(self._called("env"), {"env": self.env}, new_stack)
            config[env_or_task(changed.algorithm)] = env["env"]
            notes = [*notes, *more]
        return changed.replaced(notes, config=config)
