"""Fitting an experiment written for a cluster to the machine at hand.

Where a trial asks for more CPUs than there are, the work of its remote actors moves into the trial's own process, one
kind of actor after the other until it fits. R env runners with E environments each become R x E environments there, so
the number of parallel environments, the fragments and the train batch stay the same. The trial then gets every CPU, for
its learner and kernels.
"""

import math
from typing import Any

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import searches
from rllib_stpn.experiments.resources import Cluster, TrialResources, there_are


def fold(
    settings: dict[str, Any], defaults: Any, cluster: Cluster, *, strict: bool = False, alone: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """Fits settings to the machines.

    Args:
        settings: Plain settings, ``grid_search`` still in them. Not modified.
        defaults: The algorithm's default ``AlgorithmConfig``.
        cluster: The machines to run on.
        strict: Change nothing, and refuse what does not fit.
        alone: Whether this trial is the only one: its own process then also gets the CPUs that are left over.

    Returns:
        The settings, and a line for each thing that had to change.

    Raises:
        UsageError: It does not fit, and ``strict`` is set or num_env_runners is searched over.
    """
    folded = dict(settings)
    notes: list[str] = []
    needs = TrialResources(folded, defaults)
    if strict:
        if beyond := needs.too_much(cluster):
            raise UsageError("--strict-resources: a trial asks for {}, {}".format(*beyond))
        return folded, notes

    if needs.exceed_gpus(cluster):
        asked = f"{needs.gpus:g} asked for, {there_are(cluster.gpus)}"
        for key, gpus in (
            ("num_gpus", needs.gpus_of_main_process),
            ("num_gpus_per_learner", needs.gpus_per_learner),
            ("num_gpus_per_env_runner", needs.gpus_per_env_runner),
        ):
            if gpus:
                notes.append(f"{key} {gpus:g} -> 0: {asked}")
                folded[key] = 0
        needs = TrialResources(folded, defaults)
    too_much = needs.exceed_cpus(cluster)
    if needs.main_process > needs.largest(cluster):
        folded["num_cpus_for_main_process"] = needs.largest(cluster)
    if TrialResources(folded, defaults).exceed_cpus(cluster) and needs.env_runners:
        notes.append(_fold_env_runners(folded, defaults, needs, cluster))
    if TrialResources(folded, defaults).exceed_cpus(cluster) and needs.evaluation_env_runners:
        notes.append(f"evaluation_num_env_runners {needs.evaluation_env_runners} -> 0: in the trial's own process")
        folded["evaluation_num_env_runners"] = 0
        folded["evaluation_parallel_to_training"] = False
    if TrialResources(folded, defaults).exceed_cpus(cluster) and needs.learners:
        notes.append(_fold_learners(folded, needs))
    needs = TrialResources(folded, defaults)
    if needs.reads and sum(cluster.cpus) < 2:
        raise UsageError("config: input: got one CPU, and reading recorded data takes one beside the trial's")
    alone = alone or needs.reads  # several trials would take every CPU, and wait for one to read with
    spare = max(1, math.floor(min(needs.largest(cluster), sum(cluster.cpus) - needs.beside_main_process)))
    if too_much or (alone and "num_cpus_for_main_process" not in folded):
        folded["num_cpus_for_main_process"] = spare
    return folded, notes


def _fold_env_runners(folded: dict[str, Any], defaults: Any, needs: TrialResources, cluster: Cluster) -> str:
    runners = folded.get("num_env_runners", defaults.num_env_runners)
    if searches.is_search(runners):
        raise UsageError(
            f"config: num_env_runners: got a search up to {needs.env_runners}, and of CPUs {there_are(cluster.cpus)}; "
            "allowed is a search over num_envs_per_env_runner"
        )
    envs = folded.get("num_envs_per_env_runner", defaults.num_envs_per_env_runner)
    if needs.evaluation_env_runners or any(searches.choices(folded.get("evaluation_interval"))):
        # Evaluation keeps its own number of environments: the first episodes of very many are the short ones.
        evaluation = folded.get("evaluation_config") or {}
        if not searches.is_search(evaluation):
            folded["evaluation_config"] = {"num_envs_per_env_runner": envs, **evaluation}
    folded["num_env_runners"] = 0
    folded["_folded_env_runners"] = runners  # environments get the worker_index that they would have had
    folded["num_envs_per_env_runner"] = searches.change(envs, lambda n: runners * n)
    total = _words(folded["num_envs_per_env_runner"])
    return (
        f"{runners} env runners x {_words(envs)} -> {total} environments in the trial's own process: "
        f"{needs.cpus:g} CPUs asked for, {there_are(cluster.cpus)}; {_sample(folded, defaults)}"
    )


def _sample(folded: dict[str, Any], defaults: Any) -> str:
    """What becomes of a sample: with asynchronous algorithms it grows with the environments, as no batch limits it."""
    if not hasattr(defaults, "broadcast_interval"):
        return "same batch"
    length = folded.get("rollout_fragment_length", defaults.rollout_fragment_length)
    numbers = [n for n in searches.choices(length) if isinstance(n, int)]  # not "auto"
    if not numbers:
        return "same batch"
    steps = max(numbers) * max(searches.choices(folded["num_envs_per_env_runner"]))
    return f"a result takes {steps:,} steps at least, fewer with a smaller rollout_fragment_length"


def _fold_learners(folded: dict[str, Any], needs: TrialResources) -> str:
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
