"""What Tune runs: RLlib's algorithm, built inside the trial from plain settings.

Tune gets the settings as a plain dict, so that grids are resolved by Tune, and ``params.json`` and
``result.json`` hold what the user wrote and not every attribute of an ``AlgorithmConfig``.
"""

import functools
import math
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayActorError
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.result import TRIAL_INFO

from rllib_stpn.agents.checkpoints import check_whole
from rllib_stpn.experiments.building import TRAINABLES, algorithm_class, build_config, validate
from rllib_stpn.experiments.results import paths_of
from rllib_stpn.rollouts import survival
from rllib_stpn.whole_checkpoints import WholeCheckpoints

if TYPE_CHECKING:
    from ray.rllib.algorithms import Algorithm, AlgorithmConfig
    from ray.rllib.algorithms import Algorithm as _Base
else:
    _Base = object


@functools.cache
def trial_class(run: str, defaults: "AlgorithmConfig | None" = None, score: str | None = None) -> "type[Algorithm]":
    """The Tune trainable for an algorithm: a subclass of it, of the same name, that takes plain settings.

    One of ``TRAINABLES`` takes them itself.

    Its checkpoints are the algorithm's own: ``Algorithm.from_checkpoint`` gives a stock ``PPO``, ``A2C``, ...

    Args:
        run: The algorithm's name.
        defaults: What the settings are put on, where it is not the algorithm's default config.
        score: The metric that checkpoints are kept by, if there is one.
    """
    base = algorithm_class(run) if defaults is None else defaults.algo_class
    if run in TRAINABLES:
        return base
    return type(
        base.__name__,
        (_Trial, base),
        {
            "__module__": __name__,
            "__doc__": base.__doc__,
            "base": base,
            "run": run,
            "defaults": defaults,
            "score": score,
        },
    )


def _set_schedules(steps: int, learner: Any) -> None:
    for optimizer, schedule in learner._optimizer_lr_schedules.items():
        learner._set_optimizer_lr(optimizer, lr=schedule.update(timestep=steps))
    for name in ("_entropy_coeffs", "entropy_coeff_schedulers_per_module"):  # A2C's and PPO's
        for module_id in learner.module.keys() if hasattr(learner, name) else ():
            getattr(learner, name)[module_id].update(timestep=steps)


def _settings_of_policies(worker: Any) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """For each policy of the old API stack its settings, and those of its optimisers without their parameters."""
    return {
        policy_id: (policy.config, [_without_parameters(group) for group in _groups(policy)])
        for policy_id, policy in worker.policy_map.items()
    }


def _set_policies(settings: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]], worker: Any) -> None:
    for policy_id, (config, groups) in settings.items():
        policy = worker.policy_map[policy_id]
        policy.config = config
        for group, own in zip(_groups(policy), groups, strict=True):
            group.update(own)
        policy.on_global_var_update({"timestep": policy.global_timestep})  # what follows a schedule


def _groups(policy: Any) -> list[dict[str, Any]]:
    return [group for optimizer in policy._optimizers for group in optimizer.param_groups]


def _without_parameters(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _env_name(config: "AlgorithmConfig") -> str:
    return getattr(config.env, "__name__", None) or str(config.env)


def _model_in_words(config: "AlgorithmConfig") -> dict[str, Any]:
    """The keys of a ``model`` block that name the model of a config, for reports: a Python file has no such block."""
    model = config.model_config if config.enable_rl_module_and_learner else config.model
    spec = config._rl_module_spec
    if spec is not None and not config.is_multi_agent:
        own = spec.model_config if isinstance(spec.model_config, dict) else {}
        model = own if own.get("custom_model") else {"custom_model": getattr(spec.module_class, "__name__", None)}
    return {key: model[key] for key in ("custom_model", "custom_model_config", "use_lstm") if model.get(key)}


class _Trial(WholeCheckpoints, _Base):
    """Goes before an algorithm in the bases of a class, with the class attributes below."""

    base: "type[Algorithm]"
    run: str
    defaults: "AlgorithmConfig | None"
    score: str | None

    def __init__(self, config: Any = None, *args, **kwargs):
        import torch

        self._settings = None
        trial_info = None
        if isinstance(config, dict) and "class" not in config:
            trial_info = config.get(TRIAL_INFO)
            self._settings = {key: value for key, value in config.items() if not key.startswith("__")}
            config = build_config(self.run, config, self.defaults)
            validate(config)  # A scheduler may have brought together what does not fit.
            if self.defaults is not None:
                self._settings = {"env": _env_name(config), **self._settings, "model": _model_in_words(config)}
            config.algo_class = self.base
            if config.enable_env_runner_and_connector_v2:
                survival.telling_failures(config)
            # Ray sets OMP_NUM_THREADS to an actor's CPUs, unless the user's environment has another number.
            torch.set_num_threads(max(1, int(config.num_cpus_for_main_process)))
        self._died: RayActorError | None = None
        super().__init__(config, *args, **kwargs)
        if trial_info is not None:
            self._trial_info = trial_info

    def __repr__(self) -> str:
        """RLlib's; the class's name if the constructor has failed, since Ray asks for it to say why."""
        return super().__repr__() if self.config is not None else type(self).__name__

    def setup(self, config: Any) -> None:
        """RLlib's; where a process died meanwhile, the first iteration says so.

        Ray 2.60 never ends a constructor that fails for that reason, and the run would wait for ever.
        """
        try:
            super().setup(config)
        except RayActorError as error:
            self._died = error
        if not self.config.enable_env_runner_and_connector_v2:  # which has no functions as callbacks
            survival.tell_why(algorithm=self)

    def step(self) -> dict[str, Any]:
        """An iteration; its result tells what RLlib's fault settings let it survive (``rollouts/survival.py``).

        Raises:
            RolloutError: What was raised in an env runner without which the run cannot go on.
            RayTaskError: The same, of the old API stack and of several agents, where nothing was sampled.
        """
        if self._died is not None:
            raise survival.died_in_setup(self._died) from self._died
        result = super().step()
        if not self.config.enable_env_runner_and_connector_v2:
            survival.tell(algorithm=self, result=result)
        return result

    @classmethod
    def default_resource_request(cls, config: Any) -> Any:
        """The resources of the configuration that the settings stand for."""
        if isinstance(config, dict) and "class" not in config:
            config = build_config(cls.run, config, cls.defaults).to_dict()
        return cls.base.default_resource_request(config)

    def get_auto_filled_metrics(self, *args, **kwargs) -> dict[str, Any]:
        """Tune's own entries of a result, with the settings as the user gave them."""
        metrics = super().get_auto_filled_metrics(*args, **kwargs)
        if self._settings is not None and "config" in metrics:
            metrics["config"] = self._settings
        return metrics

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Restores a checkpoint, and puts the settings of this trial in place of those it was written with.

        RLlib's new API stack does so only after the first update, and its old one never: there the policies have the
        settings of another trial, whose checkpoint this is in population based training.
        """
        check_whole(Path(checkpoint_dir))
        workers = None if self.config.enable_rl_module_and_learner else self.env_runner_group
        own = workers.foreach_env_runner(_settings_of_policies)[0] if workers is not None else {}
        super().load_checkpoint(checkpoint_dir)
        if workers is not None:
            workers.foreach_env_runner(functools.partial(_set_policies, own))
        if self.config.enable_rl_module_and_learner and self.learner_group is not None:
            steps = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)
            self.learner_group.foreach_learner(functools.partial(_set_schedules, steps))

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """A checkpoint with its result, which also has metrics by their paths, where Tune looks for a score.

        RLlib repeats the last evaluation until the next, which is of other weights: such a checkpoint has none. Tune
        would take one without a score for the best and throw others away for it, so its score is NaN, the worst.
        """
        saved = super().save(checkpoint_dir)
        interval = self.config.evaluation_interval
        if interval and self.training_iteration % interval:
            saved.metrics.pop("evaluation", None)
        saved.metrics |= paths_of(saved.metrics)
        if self.score is not None:
            saved.metrics.setdefault(self.score, math.nan)
        return saved

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the algorithm's checkpoint, with the algorithm's class in place of this one.

        Raises:
            RolloutError: A remote learner died meanwhile: without its part nothing can go on from the checkpoint.
            OSError: The disk is full, or cannot be written to.
        """
        super().save_checkpoint(checkpoint_dir)
        written = Path(checkpoint_dir) / self.CLASS_AND_CTOR_ARGS_FILE_NAME
        if written.exists():
            from ray import cloudpickle

            # Replaced in one step: an interrupted run must not leave half a file.
            replacement = written.with_suffix(".new")
            constructor = {"class": self.base, "ctor_args_and_kwargs": self.get_ctor_args_and_kwargs()}
            replacement.write_bytes(cloudpickle.dumps(constructor, protocol=pickle.HIGHEST_PROTOCOL))
            os.replace(replacement, written)
        self.seal(checkpoint_dir)
