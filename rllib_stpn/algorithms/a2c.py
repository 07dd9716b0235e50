"""Advantage actor-critic (A2C; Mnih et al. 2016) on RLlib's new API stack. RLlib dropped its own in Ray 2.8.

Sampling, the batch and the synchronisation of weights are those of RLlib's PPO; the loss and its settings are A2C's. A
batch is one gradient step, unless ``minibatch_size`` cuts it.
"""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.learner import AddOneTsToEpisodesAndTruncate, GeneralAdvantageEstimation
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.lambda_defaultdict import LambdaDefaultDict
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.schedules.scheduler import Scheduler
from ray.rllib.utils.torch_utils import explained_variance

from rllib_stpn import checks
from rllib_stpn.errors import UsageError
from rllib_stpn.learners.lean import LeanLearner, masked_mean
from rllib_stpn.models import MemoryRLModule, spec_from_model_dict
from rllib_stpn.models.lean_distributions import lean_distribution
from rllib_stpn.ray_names import register_environments, register_trainable
from rllib_stpn.rollouts import BatchedEnvRunner, ThinStates, use_batched_rollouts
from rllib_stpn.rollouts.setup import fragments_to_batch


class A2CConfig(AlgorithmConfig):
    """Settings of A2C.

    ::

        config = (
            A2CConfig()
            .environment("CartPole-v1")
            .env_runners(num_env_runners=0, num_envs_per_env_runner=16)
            .training(model={"custom_model": "stpn", "custom_model_config": {"hidden_size": 32}})
        )
        algorithm = config.build_algo()

    The defaults are those of RLlib's former A2C, with the batched EnvRunner. The loss is the mean over the batch; the
    former was the sum, and halved the squared error of the value. So its ``grad_clip`` of 40 is 40 / steps of a batch
    here, and its ``vf_loss_coeff`` of 0.5 is 0.25; the default of 40 hardly ever clips.

    With ``env_runner_cls=None``, and in multi-agent training, RLlib's own env runners and connectors take the batched
    one's place. Without a ``train_batch_size`` the batch is one fragment of every environment.

    Making one registers ``"A2C"`` with Tune and this package's environments with RLlib.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or A2C)
        self.lr = 1e-4
        self.gamma = 0.99
        self.lambda_ = 1.0
        self.use_gae = True
        self.vf_loss_coeff = 0.5
        self.entropy_coeff = 0.01
        self.policy_concentration_coeff = 0.0
        self.grad_clip = 40.0
        self.grad_clip_by = "global_norm"
        self.adam_epsilon = 1e-8
        self.standardize_advantages = False
        self.bootstrap_truncated = True
        self.micro_batch_size: int | None = None
        self.rollout_fragment_length = 20
        self.train_batch_size: int | None = None
        self.num_env_runners = 2
        use_batched_rollouts(self)
        register_trainable("A2C", A2C)
        register_environments()

    def training(
        self,
        *,
        lambda_: float = NotProvided,
        use_gae: bool = NotProvided,
        vf_loss_coeff: float = NotProvided,
        entropy_coeff: float | list = NotProvided,
        policy_concentration_coeff: float = NotProvided,
        adam_epsilon: float = NotProvided,
        standardize_advantages: bool = NotProvided,
        bootstrap_truncated: bool = NotProvided,
        micro_batch_size: int | None = NotProvided,
        model: dict[str, Any] = NotProvided,
        **kwargs,
    ) -> A2CConfig:
        """Sets the training settings; ``lr``, ``gamma``, ``grad_clip``, ``minibatch_size``... as in RLlib.

        Args:
            lambda_: The lambda of generalised advantage estimation. Default 1: Monte-Carlo returns up to the
                fragment's end.
            use_gae: False is the same as ``lambda_=1``.
            vf_loss_coeff: Weight of the mean squared error of the value. Default 0.5.
            entropy_coeff: Weight of the entropy bonus, or a schedule ``[[step, value], ...]``. Default 0.01.
            policy_concentration_coeff: Weight of the penalty sum_a pi(a)^2, an entropy bonus's stand-in that the
                STPN paper uses on the maze; for discrete actions. Default 0.
            adam_epsilon: Adam's epsilon. Default 1e-8.
            standardize_advantages: Whether advantages are brought to mean 0 and deviation 1. Default False.
            bootstrap_truncated: Whether returns go on, by the value, where an episode was truncated. Default True;
                False where the time limit is part of the task.
            micro_batch_size: Steps per forward and backward pass; gradients add up to one step on the whole batch.
                Bounds the memory of large batches. Default None: the whole batch at once.
            model: ``{"custom_model": "stpn", "custom_model_config": {...}, "max_seq_len": ...}``; the same as
                ``rl_module(rl_module_spec=recurrent_spec(...))``.

        Raises:
            UsageError: An unknown layer or option in ``model``.
        """
        super().training(**kwargs)
        given = {
            "lambda_": lambda_,
            "use_gae": use_gae,
            "vf_loss_coeff": vf_loss_coeff,
            "entropy_coeff": entropy_coeff,
            "policy_concentration_coeff": policy_concentration_coeff,
            "adam_epsilon": adam_epsilon,
            "standardize_advantages": standardize_advantages,
            "bootstrap_truncated": bootstrap_truncated,
            "micro_batch_size": micro_batch_size,
        }
        for name, value in given.items():
            if value is not NotProvided:
                setattr(self, name, value)
        if model is not NotProvided and model.get("custom_model"):
            self.rl_module(rl_module_spec=spec_from_model_dict(model))
        elif model is not NotProvided:  # RLlib's own model settings, as they come back from `to_dict()`
            super().training(model=model)
        return self

    def env_runners(self, *, env_runner_cls: type | None = NotProvided, **kwargs) -> A2CConfig:
        """Sets the sampling as in RLlib; an ``env_runner_cls`` that is not batched switches to RLlib's connectors."""
        super().env_runners(env_runner_cls=env_runner_cls, **kwargs)
        if not self.samples_batched and self._learner_connector is fragments_to_batch:
            self.learners(add_default_connectors_to_learner_pipeline=True, learner_connector=None)
        return self

    def multi_agent(self, **kwargs) -> A2CConfig:
        """Sets the policies as in RLlib, and RLlib's own env runners."""
        super().multi_agent(**kwargs)
        return self.env_runners(env_runner_cls=None) if self.is_multi_agent and self.samples_batched else self

    @property
    def samples_batched(self) -> bool:
        """Whether the env runners bring fragments; otherwise RLlib's own bring episodes."""
        return self.env_runner_cls is not None and issubclass(self.env_runner_cls, BatchedEnvRunner)

    def build_module_to_env_connector(self, *args, **kwargs):
        """RLlib's pipeline; with RLlib's own env runners, :class:`ThinStates` comes last."""
        pipeline = super().build_module_to_env_connector(*args, **kwargs)
        if not self.samples_batched:
            pipeline.append(ThinStates())
        return pipeline

    @property
    def train_batch_size_per_learner(self) -> int:
        """Steps per learner and update; without a given size, one fragment of every environment."""
        given = self._train_batch_size_per_learner or self.train_batch_size
        if given is not None:
            return given
        if self.rollout_fragment_length == "auto":
            raise UsageError("A2C: rollout_fragment_length: got 'auto', allowed is that with a train_batch_size only")
        return max(self.num_env_runners, 1) * self.num_envs_per_env_runner * self.rollout_fragment_length

    @train_batch_size_per_learner.setter
    def train_batch_size_per_learner(self, value: int) -> None:
        self._train_batch_size_per_learner = value

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """RLlib's default actor-critic model, until a layer is chosen."""
        return RLModuleSpec(module_class=MemoryRLModule)

    def get_default_learner_class(self) -> type[A2CTorchLearner]:
        """The A2C loss."""
        return A2CTorchLearner

    def validate(self) -> None:
        """Checks the settings.

        Raises:
            UsageError: A setting out of its range, or one that does not go with the others.
        """
        super().validate()
        if not (self.enable_rl_module_and_learner and self.enable_env_runner_and_connector_v2):
            raise UsageError("A2C: got the old API stack, allowed is the new one")
        if self.is_multi_agent and self.samples_batched:
            raise UsageError("A2C: env_runner_cls: got BatchedEnvRunner, allowed is None in multi-agent training")
        if self.is_multi_agent and self.micro_batch_size is not None:
            raise UsageError(
                f"A2C: micro_batch_size: got {self.micro_batch_size!r}, allowed is None in multi-agent training"
            )
        if self.num_learners > 1:
            raise UsageError(f"A2C: num_learners: got {self.num_learners}, allowed are 0 and 1")
        for name in ("vf_loss_coeff", "policy_concentration_coeff"):
            checks.number(f"A2C: {name}", getattr(self, name), at_least=0)
        for name in ("gamma", "lambda_"):
            checks.number(f"A2C: {name}", getattr(self, name), at_least=0, at_most=1)
        checks.integer("A2C: micro_batch_size", self.micro_batch_size, at_least=1, or_none=True)
        Scheduler.validate(
            fixed_value_or_schedule=self.entropy_coeff,
            setting_name="entropy_coeff",
            description="entropy coefficient",
        )
        self.validate_train_batch_size_vs_rollout_fragment_length()


class A2C(PPO):
    """A2C: PPO's sampling and synchronisation with ``A2CTorchLearner``."""

    @classmethod
    def get_default_config(cls) -> A2CConfig:
        """A2C's defaults."""
        return A2CConfig()


class A2CTorchLearner(LeanLearner):
    """The loss of A2C, over the whole batch or over micro-batches whose gradients add up."""

    def build(self) -> None:
        """Builds the learner, the schedules of the entropy bonus and, for RLlib's episodes, the advantages' connectors.

        These are PPO's: an extra step at each episode's end for the bootstrap value, and the returns.
        """
        super().build()
        config = self.config
        if self._learner_connector is not None and config.add_default_connectors_to_learner_pipeline:
            self._learner_connector.prepend(AddOneTsToEpisodesAndTruncate())
            if not config.bootstrap_truncated:
                self._learner_connector.prepend(TruncationsEnd())
            lambda_ = config.lambda_ if config.use_gae else 1.0
            self._learner_connector.append(GeneralAdvantageEstimation(gamma=config.gamma, lambda_=lambda_))
        self._entropy_coeffs = LambdaDefaultDict(
            lambda module_id: Scheduler(
                fixed_value_or_schedule=self.config.get_config_for_module(module_id).entropy_coeff,
                framework=self.framework,
                device=self._device,
            )
        )
        self._num_micro_batches = 1

    @classmethod
    def rl_module_required_apis(cls) -> list[type]:
        """The module must have a value function."""
        return [ValueFunctionAPI]

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out) -> torch.Tensor:
        """Returns the scalar loss of one module, the mean over the batch's counted steps."""
        loss, measured = self.loss_and_metrics(
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out, measure=True
        )
        self.metrics.log_dict(measured, key=module_id, window=self._num_micro_batches)
        return loss

    def loss_and_metrics(self, *, module_id, config, batch, fwd_out, measure) -> tuple[torch.Tensor, dict[str, Any]]:
        """The loss, the mean over the batch's counted steps, and its parts by RLlib's names."""
        module = self.module[module_id].unwrapped()
        mean = masked_mean(batch)
        distribution_class = module.get_train_action_dist_cls()
        logits = fwd_out[Columns.ACTION_DIST_INPUTS]
        distribution = lean_distribution(distribution_class)(logits)
        values = module.compute_values(batch, embeddings=fwd_out[Columns.EMBEDDINGS])
        targets = batch["value_targets"]
        # RLlib's connector always standardises. The baseline is the value as it is now: the one in the targets, but
        # for the steps that minibatches before have taken.
        advantages = batch["advantages"] if self.config.standardize_advantages else targets - values.detach()

        policy_loss = -mean(distribution.logp(batch[Columns.ACTIONS]) * advantages)
        value_loss = mean((values - targets) ** 2)
        entropy = mean(distribution.entropy())
        loss = (
            policy_loss
            + config.vf_loss_coeff * value_loss
            - self._entropy_coeffs[module_id].get_current_value() * entropy
        )
        measured = {POLICY_LOSS_KEY: policy_loss, VF_LOSS_KEY: value_loss, ENTROPY_KEY: entropy}
        if config.policy_concentration_coeff:
            if not issubclass(distribution_class, TorchCategorical):
                raise UsageError(
                    f"A2C: policy_concentration_coeff: got actions of {distribution_class.__name__}, allowed are "
                    "discrete ones (TorchCategorical)"
                )
            concentration = mean(logits.softmax(-1).square().sum(-1))
            loss = loss + config.policy_concentration_coeff * concentration
            measured["policy_concentration"] = concentration
        if not measure:
            return loss, {}
        counted = batch.get(Columns.LOSS_MASK, slice(None))
        measured["vf_explained_var"] = explained_variance(targets[counted].flatten(), values[counted].flatten())
        return loss, {name: value.detach() for name, value in measured.items()}

    def _backward(self, batch: dict[str, Any], last: bool) -> tuple[dict, dict]:
        size = self.config.micro_batch_size
        if size is None:
            return super()._backward(batch, last)
        (module_id,) = batch
        pieces = _micro_batches(batch[module_id], size)
        self._num_micro_batches = len(pieces)
        loss = torch.zeros((), device=self._device)
        for piece, share in pieces:
            outputs = self._forward({module_id: piece})
            part = self.compute_losses(fwd_out=outputs, batch={module_id: piece})[module_id] * share
            part.backward()
            loss = loss + part.detach()
        return outputs, {module_id: loss}

    def _uncompiled_update(self, batch: dict[str, Any], **kwargs):
        if self.config.micro_batch_size is None:
            return super()._uncompiled_update(batch, **kwargs)
        for parameter in self._params.values():
            parameter.grad = None
        outputs, losses = self._backward(batch, last=True)
        gradients = {reference: parameter.grad for reference, parameter in self._params.items()}
        self.apply_gradients(self.postprocess_gradients(gradients))
        return outputs, losses, {}

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Advances the schedules of learning rate and entropy bonus."""
        super().after_gradient_based_update(timesteps=timesteps)
        steps = timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        for module_id in self.module._rl_modules:
            coefficient = self._entropy_coeffs[module_id].update(timestep=steps)
            self.metrics.log_value((module_id, "curr_entropy_coeff"), coefficient, window=1)


class TruncationsEnd(ConnectorV2):
    """Learner connector that treats truncations as terminations: the return ends there, without a bootstrap value."""

    def __call__(self, *, batch: dict[str, Any], episodes, **kwargs) -> dict[str, Any]:
        """Marks truncated episodes as terminated; ``batch`` is not changed."""
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
            episode.is_terminated = episode.is_terminated or episode.is_truncated
        return batch


def _micro_batches(batch: Any, size: int) -> list[tuple[dict[str, Any], torch.Tensor]]:
    """Cuts a batch into whole rows of about ``size`` steps; returns each with its share of the counted steps."""
    advantages = batch["advantages"]  # [N, L] or [steps]
    mask = batch.get(Columns.LOSS_MASK, torch.ones_like(advantages, dtype=torch.bool))
    steps_per_row = max(1, advantages[0].numel())
    rows = max(1, size // steps_per_row)
    pieces = []
    for start in range(0, len(advantages), rows):
        taken = slice(start, start + rows)
        counted = mask[taken].sum()
        if counted:
            piece = torch.utils._pytree.tree_map(lambda column, taken=taken: column[taken], dict(batch))
            pieces.append((piece, counted / mask.sum()))
    return pieces
