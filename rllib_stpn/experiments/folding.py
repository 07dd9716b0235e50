"""Fitting an experiment written for a cluster to the machine at hand.

Where a trial asks for more CPUs than there are, its remote actors go, one kind after the other, and their
work moves into the trial's own process: R env runners with E environments each become R x E environments
there (a vectorised environment), so the number of parallel environments, the fragments and the train batch
stay the same. The trial then gets every CPU, for its learner and kernels.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import searches


@dataclasses.dataclass(frozen=True)
class Room:
    """What there is for trials, machine by machine: no process goes over the edge of one.

    Attributes:
        cpus: CPUs of each machine.
        gpus: GPUs of each machine; empty for none at all.
    """

    cpus: Sequence[int]
    gpus: Sequence[int] = ()

    def largest(self, gpus: float = 0) -> int:
        """CPUs of the largest machine that has so many GPUs; 0 without one."""
        machines = itertools.zip_longest(self.cpus, self.gpus, fillvalue=0)
        return max((cpus for cpus, of_it in machines if of_it >= gpus), default=0)

    def actors(self, gpus: float) -> float:
        """How many processes of so many GPUs there is room for; several share one where they ask for fractions."""
        if gpus == 0:
            return math.inf
        return sum(g // gpus if gpus >= 1 else g * math.floor(1 / gpus + 1e-9) for g in self.gpus)


def _there_are(each: Sequence[int]) -> str:
    largest = max(each, default=0)
    return f"there are {sum(each)}" + (f", at most {largest} on one machine" if sum(each) > largest else "")


class Resources:
    """What a trial of these settings asks for.

    Args:
        settings: Plain settings; where a value is swept, its largest counts.
        defaults: The algorithm's default ``AlgorithmConfig``; what it lacks, such as env runners, is not asked for.
    """

    def __init__(self, settings: dict[str, Any], defaults: Any):
        def largest(key: str) -> Any:
            return max(searches.choices(settings.get(key, getattr(defaults, key, 0))))

        self.env_runners = largest("num_env_runners")
        self.cpus_per_env_runner = largest("num_cpus_per_env_runner")
        interval = settings.get("evaluation_interval", getattr(defaults, "evaluation_interval", None))
        evaluates = any(searches.choices(interval))
        self.evaluation_env_runners = largest("evaluation_num_env_runners") if evaluates else 0
        self.learners = largest("num_learners")
        self.gpus_per_learner = largest("num_gpus_per_learner")
        self.gpus_per_env_runner = largest("num_gpus_per_env_runner")
        self.gpus_of_main_process = largest("num_gpus")  # of the old API stack
        per_learner = settings.get("num_cpus_per_learner", getattr(defaults, "num_cpus_per_learner", 0))
        self.cpus_per_learner = 1 if per_learner == "auto" else max(searches.choices(per_learner))
        self.main_process = largest("num_cpus_for_main_process")
        #: Ray reads recorded data in processes that the trial does not ask for, and waits for a CPU for them.
        self.reads = any(given not in (None, "sampler") for given in searches.choices(settings.get("input_")))

    @property
    def beside_main_process(self) -> float:
        """CPUs of the remote actors, and of who reads recorded data."""
        runners = (self.env_runners + self.evaluation_env_runners) * self.cpus_per_env_runner
        return runners + self.learners * self.cpus_per_learner + self.reads

    @property
    def cpus(self) -> float:
        """CPUs in all."""
        return self.main_process + self.beside_main_process

    @property
    def largest_actor(self) -> float:
        """CPUs of the largest of the remote actors, each of which is on one machine."""
        runners = self.env_runners + self.evaluation_env_runners
        return max(self.cpus_per_env_runner if runners else 0, self.cpus_per_learner if self.learners else 0)

    @property
    def gpus(self) -> float:
        """GPUs in all."""
        runners = (self.env_runners + self.evaluation_env_runners) * self.gpus_per_env_runner
        return self.gpus_of_main_process + self.gpus_per_learner * max(1, self.learners) + runners

    def too_much(self, room: Room) -> tuple[str, str] | None:
        """What there is no room for and what there is, such as "8 CPUs", "there are 2"; None if it fits."""
        if self.exceed_gpus(room):
            return f"{self.gpus:g} GPUs", _there_are(room.gpus)
        if self.exceed_cpus(room):
            return f"{self.cpus:g} CPUs", _there_are(room.cpus)
        return None

    def exceed_cpus(self, room: Room) -> bool:
        """Whether there are too few CPUs, in all or for one process, where there are its GPUs."""
        too_large = self.main_process > self.largest(room) or self.largest_actor > room.largest()
        return too_large or self.cpus > sum(room.cpus)

    def largest(self, room: Room) -> int:
        """CPUs that the trial's own process can have: with a learner in it, beside that one's GPUs."""
        return room.largest(self.gpus_of_main_process + (0 if self.learners else self.gpus_per_learner))

    def exceed_gpus(self, room: Room) -> bool:
        """Whether there are too few GPUs, in all or for one process."""
        learners = room.actors(self.gpus_per_learner) < max(1, self.learners)
        return learners or room.actors(self.gpus_of_main_process) < 1 or self.gpus > sum(room.gpus)


def fold(
    settings: dict[str, Any], defaults: Any, room: Room, *, strict: bool = False, alone: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """Fits settings to what there is.

    Args:
        settings: Plain settings, ``grid_search`` still in them. Not modified.
        defaults: The algorithm's default ``AlgorithmConfig``.
        room: What there is.
        strict: Change nothing, and refuse what does not fit.
        alone: Whether it is the only trial: then its own process gets what nobody asked for, too.

    Returns:
        The settings, and a line for each thing that had to change.

    Raises:
        UsageError: It does not fit, and ``strict`` or a sweep of num_env_runners leaves no way out.
    """
    folded = dict(settings)
    notes: list[str] = []
    needs = Resources(folded, defaults)
    if strict:
        if beyond := needs.too_much(room):
            raise UsageError("--strict-resources: a trial asks for {}, {}".format(*beyond))
        return folded, notes

    if needs.exceed_gpus(room):
        asked = f"{needs.gpus:g} asked for, {_there_are(room.gpus)}"
        for key, gpus in (
            ("num_gpus", needs.gpus_of_main_process),
            ("num_gpus_per_learner", needs.gpus_per_learner),
            ("num_gpus_per_env_runner", needs.gpus_per_env_runner),
        ):
            if gpus:
                notes.append(f"{key} {gpus:g} -> 0: {asked}")
                folded[key] = 0
        needs = Resources(folded, defaults)
    too_much = needs.exceed_cpus(room)
    if needs.main_process > needs.largest(room):
        folded["num_cpus_for_main_process"] = needs.largest(room)
    if Resources(folded, defaults).exceed_cpus(room) and needs.env_runners:
        notes.append(_fold_env_runners(folded, defaults, needs, room))
    if Resources(folded, defaults).exceed_cpus(room) and needs.evaluation_env_runners:
        notes.append(f"evaluation_num_env_runners {needs.evaluation_env_runners} -> 0: in the trial's own process")
        folded["evaluation_num_env_runners"] = 0
        folded["evaluation_parallel_to_training"] = False
    if Resources(folded, defaults).exceed_cpus(room) and needs.learners:
        notes.append(_fold_learners(folded, needs))
    needs = Resources(folded, defaults)
    if needs.reads and sum(room.cpus) < 2:
        raise UsageError("config: input: reading recorded data takes a CPU beside the trial's, and there is one")
    alone = alone or needs.reads  # several trials would take every CPU, and wait for one to read with
    spare = max(1, math.floor(min(needs.largest(room), sum(room.cpus) - needs.beside_main_process)))
    if too_much or (alone and "num_cpus_for_main_process" not in folded):
        folded["num_cpus_for_main_process"] = spare
    return folded, notes


def _fold_env_runners(folded: dict[str, Any], defaults: Any, needs: Resources, room: Room) -> str:
    runners = folded.get("num_env_runners", defaults.num_env_runners)
    if searches.is_grid(runners):
        raise UsageError(
            f"config: num_env_runners is swept up to {needs.env_runners}, and of CPUs {_there_are(room.cpus)}: "
            "sweep num_envs_per_env_runner in its place"
        )
    envs = folded.get("num_envs_per_env_runner", defaults.num_envs_per_env_runner)
    if needs.evaluation_env_runners or any(searches.choices(folded.get("evaluation_interval"))):
        # Evaluation keeps its own number of environments: the first episodes of very many are the short ones.
        evaluation = folded.get("evaluation_config") or {}
        if not searches.is_grid(evaluation):
            folded["evaluation_config"] = {"num_envs_per_env_runner": envs, **evaluation}
    folded["num_env_runners"] = 0
    folded["_folded_env_runners"] = runners  # so that each environment is told what it would have been told there
    folded["num_envs_per_env_runner"] = searches.change(envs, lambda n: runners * n)
    total = _words(folded["num_envs_per_env_runner"])
    return (
        f"{runners} env runners x {_words(envs)} -> {total} environments in the trial's own process: "
        f"{needs.cpus:g} CPUs asked for, {_there_are(room.cpus)}; {_sample(folded, defaults)}"
    )


def _sample(folded: dict[str, Any], defaults: Any) -> str:
    """What one sample of the folded env runners is; asynchronous algorithms have no batch that limits it."""
    if not hasattr(defaults, "broadcast_interval"):
        return "same batch"
    length = folded.get("rollout_fragment_length", defaults.rollout_fragment_length)
    numbers = [n for n in searches.choices(length) if isinstance(n, int)]  # not "auto"
    if not numbers:
        return "same batch"
    steps = max(numbers) * max(searches.choices(folded["num_envs_per_env_runner"]))
    return f"a result takes {steps:,} steps at least, fewer with a smaller rollout_fragment_length"


def _fold_learners(folded: dict[str, Any], needs: Resources) -> str:
    folded["num_learners"] = 0
    changed = ""
    for key in ("train_batch_size_per_learner", "minibatch_size"):
        value = folded.get(key)
        if needs.learners > 1 and value is not None:
            folded[key] = searches.change(value, lambda number: number * needs.learners)
            changed += f", {key} x {needs.learners}"
    return f"num_learners {needs.learners} -> 0: in the trial's own process{changed}"


def _words(envs: Any) -> str:
    return " or ".join(map(str, searches.choices(envs)))
