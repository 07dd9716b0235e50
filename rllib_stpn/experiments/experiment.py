"""An experiment: what is trained, on what, until when, and where its results go."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from rllib_stpn.experiments import searches
from rllib_stpn.experiments.old import names as old_names

if TYPE_CHECKING:
    from ray.rllib.algorithms import AlgorithmConfig

_E = TypeVar("_E", bound="Experiment")


def env_or_task(run: str) -> str:
    """The name of the setting that says what is learned: ``"task"`` for supervised training, ``"env"`` for all else."""
    return "task" if run == "Supervised" else "env"


@dataclasses.dataclass(frozen=True, repr=False)
class Experiment:
    """One experiment of a file.

    It does not change; what changes it makes another one. Its settings go through three stages, each with a name of
    its own: ``written``, ``config`` and ``folded``.

    Attributes:
        where: What errors call it: the file and the experiment's name.
        name: The experiment's name, which is that of its directory.
        algorithm: The algorithm's name.
        config: The algorithm's settings, `env` (or `task`) included, under today's names; searches still in them.
        stop: Metric path -> the value at which a trial ends.
        checkpoint: The arguments of Tune's ``CheckpointConfig``.
        num_samples: How often each point of the grid is run.
        max_failures: How often a failed trial is tried again, from its last checkpoint.
        storage_path: The directory (or URI) that holds the experiment's directory.
        notes: What the user should know of how the file was taken, one line each.
        base: The config of a Python file, which `config` is put on; None stands for the algorithm's default.
        restore: The checkpoint that trials begin with.
        resume: Whether to go on with the run before.
        scheduler: ``fifo``, ``asha``, ``pbt`` or ``pb2``.
        scheduler_config: The scheduler's arguments, as Tune's class has them.
        search_alg: ``optuna``; None for random draws and grids.
        track: The services that get results, such as ``wandb``, each with the arguments of Tune's callback for it.
        written: The settings as they stand in the file, under any names; None where there is no file.
        folded: `config` fitted to the machines that it runs on; None before.
        directory: That of its file, whose modules it may name; None without a file.
    """

    where: str
    name: str
    algorithm: str
    config: dict[str, Any]
    stop: dict[str, float] = dataclasses.field(default_factory=dict)
    checkpoint: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_samples: int = 1
    max_failures: int = 0
    storage_path: str = "~/ray_results"
    notes: tuple[str, ...] = ()
    base: "AlgorithmConfig | None" = None
    restore: str | None = None
    resume: bool = False
    scheduler: str = "fifo"
    scheduler_config: dict[str, Any] = dataclasses.field(default_factory=dict)
    search_alg: str | None = None
    track: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    written: dict[str, Any] | None = None
    folded: dict[str, Any] | None = None
    directory: str | None = None

    def __repr__(self) -> str:
        """Such as ``CheckedExperiment(tuned_examples/maze_stpn.yaml: maze_stpn, A2C on stpn_envs:stpn/Maze-v0)``."""
        learned = ", ".join(map(str, self.envs_or_tasks(self.config)))
        return f"{type(self).__name__}({self.where}, {self.algorithm} on {learned})"

    @property
    def new_stack(self) -> bool:
        """Whether it runs on RLlib's new API stack."""
        base = {} if self.base is None else {key: getattr(self.base, key) for key in old_names.SWITCHES}
        return old_names.on_new_stack(base | self.config)

    @property
    def num_trials(self) -> int:
        """How many trials it has."""
        return self.num_samples * searches.size(self.config)

    def envs_or_tasks(self, settings: Mapping[str, Any]) -> list[Any]:
        """What is learned with these settings: an environment or a task; of a search over them, all."""
        return searches.choices(settings.get(env_or_task(self.algorithm), getattr(self.base, "env", None)))

    def replaced(self: _E, notes: Iterable[str], **fields: Any) -> _E:
        """The experiment with other values in some fields, and more notes."""
        return dataclasses.replace(self, notes=(*self.notes, *notes), **fields)
