"""CPUs and GPUs: those of the machines, and those that a trial asks for."""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import searches
from rllib_stpn.experiments.experiment import Experiment

_OF_ANY_MACHINE = ("memory", "object_store_memory")
_MOST_POINTS = 64


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The machines that trials can run on; one machine alone is a cluster of one. Each process runs on one machine.

    Attributes:
        cpus: CPUs of each machine.
        gpus: GPUs of each machine; empty for none at all.
    """

    cpus: Sequence[int]
    gpus: Sequence[int] = ()

    @classmethod
    def of_ray(cls) -> "Cluster":
        """The machines of the Ray that runs."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return cls(*([int(node.get(kind, 0)) for node in nodes] for kind in ("CPU", "GPU")))

    @classmethod
    def of_this_machine(cls, cpus: int) -> "Cluster":
        """This machine, with the CPUs that are to be used and all its GPUs."""
        import torch

        return cls([cpus], [torch.cuda.device_count()])

    def largest(self, gpus: float = 0) -> int:
        """CPUs of the largest machine that has so many GPUs; 0 where none has."""
        machines = itertools.zip_longest(self.cpus, self.gpus, fillvalue=0)
        return max((cpus for cpus, of_it in machines if of_it >= gpus), default=0)

    def places(self, gpus: float) -> float:
        """How many processes of so many GPUs fit; several share a GPU where each asks for a fraction of it."""
        if gpus == 0:
            return math.inf
        return sum(g // gpus if gpus >= 1 else g * math.floor(1 / gpus + 1e-9) for g in self.gpus)


def there_are(each: Sequence[int]) -> str:
    """Such as ``"there are 4, at most 2 on one machine"``, for the number on each machine."""
    largest = max(each, default=0)
    return f"there are {sum(each)}" + (f", at most {largest} on one machine" if sum(each) > largest else "")


class TrialResources:
    """The CPUs and GPUs that a trial asks for.

    Args:
        settings: Plain settings; of a search, the largest value counts.
        defaults: The algorithm's default ``AlgorithmConfig``. A field that it does not have counts as 0.
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
        #: Ray reads recorded data in a process of its own, which needs a CPU that the trial does not ask for.
        self.reads = any(given not in (None, "sampler") for given in searches.choices(settings.get("input_")))

    @property
    def beside_main_process(self) -> float:
        """CPUs of the remote actors, and of the process that reads recorded data."""
        runners = (self.env_runners + self.evaluation_env_runners) * self.cpus_per_env_runner
        return runners + self.learners * self.cpus_per_learner + self.reads

    @property
    def cpus(self) -> float:
        """CPUs in all."""
        return self.main_process + self.beside_main_process

    @property
    def largest_actor(self) -> float:
        """CPUs of the largest remote actor."""
        runners = self.env_runners + self.evaluation_env_runners
        return max(self.cpus_per_env_runner if runners else 0, self.cpus_per_learner if self.learners else 0)

    @property
    def gpus(self) -> float:
        """GPUs in all."""
        runners = (self.env_runners + self.evaluation_env_runners) * self.gpus_per_env_runner
        return self.gpus_of_main_process + self.gpus_per_learner * max(1, self.learners) + runners

    def too_much(self, cluster: Cluster) -> tuple[str, str] | None:
        """What does not fit and what there is, such as "8 CPUs", "there are 2"; None where all fits."""
        if self.exceed_gpus(cluster):
            return f"{self.gpus:g} GPUs", there_are(cluster.gpus)
        if self.exceed_cpus(cluster):
            return f"{self.cpus:g} CPUs", there_are(cluster.cpus)
        return None

    def exceed_cpus(self, cluster: Cluster) -> bool:
        """Whether there are too few CPUs, in all or for one process."""
        too_large = self.main_process > self.largest(cluster) or self.largest_actor > cluster.largest()
        return too_large or self.cpus > sum(cluster.cpus)

    def largest(self, cluster: Cluster) -> int:
        """The most CPUs that the trial's own process can have, on a machine that also has its GPUs."""
        return cluster.largest(self.gpus_of_main_process + (0 if self.learners else self.gpus_per_learner))

    def exceed_gpus(self, cluster: Cluster) -> bool:
        """Whether there are too few GPUs, in all or for one process."""
        learners = cluster.places(self.gpus_per_learner) < max(1, self.learners)
        return learners or cluster.places(self.gpus_of_main_process) < 1 or self.gpus > sum(cluster.gpus)


def refuse_what_never_comes(experiment: Experiment, cluster: Cluster) -> None:
    """Refuses an experiment whose trials ask for more than the machine has, where no other machine will join.

    Args:
        experiment: One that is fitted to the machine.
        cluster: The machine.

    Raises:
        UsageError: A trial would wait for ever; the message names what it asks for and which settings do.
    """
    from rllib_stpn.experiments.trial import trial_class

    trainable = trial_class(experiment.algorithm, experiment.base)
    have = {"CPU": sum(cluster.cpus), "GPU": sum(cluster.gpus)}
    for point in itertools.islice(searches.points(experiment.folded or experiment.config), _MOST_POINTS):
        factory = trainable.default_resource_request(point)
        asked = total(factory.bundles) if factory is not None else {}
        for name, amount in asked.items():
            there = have.get(name, 0)
            if amount <= there or name.startswith(("node:", "accelerator_type:")) or name in _OF_ANY_MACHINE:
                continue
            by = ", ".join(_asking(name, point))
            raise UsageError(
                f"{experiment.where}: a trial asks for {in_words({name: amount})}{f' ({by})' if by else ''}, there are "
                f"{there:g}; a cluster that has it is joined with --ray-address"
            )


def _asking(name: str, settings: Mapping[str, Any]) -> list[str]:
    """The settings that ask for a resource."""
    kind = {"CPU": "num_cpus", "GPU": "num_gpus"}.get(name, "custom_resources")
    asking = {key: value for key, value in settings.items() if key.startswith(kind) and value}
    return [f"{key} {value}" for key, value in asking.items() if not isinstance(value, dict) or name in value]


def total(bundles: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The resources of several bundles together, without those of which none is asked for."""
    total: Counter[str] = Counter()
    for bundle in bundles:
        total.update(bundle)  # type: ignore[arg-type]
    return {name: amount for name, amount in total.items() if amount}


def unplaced(asked: Mapping[str, float]) -> bool:
    """Whether Ray has found no place for processes that ask for this, all together."""
    from ray.util import placement_group_table

    return any(
        group["state"] in ("PENDING", "INFEASIBLE") and total(list(group["bundles"].values())) == asked
        for group in placement_group_table().values()
    )


def in_words(resources: Mapping[str, float]) -> str:
    """Such as ``"2 CPUs, 1 GPU, 1 license"``."""

    def one(name: str, amount: float) -> str:
        return f"{amount:g} {name}{'s' if name in ('CPU', 'GPU') and amount != 1 else ''}"

    return ", ".join(one(name, amount) for name, amount in resources.items()) or "nothing"
