"""RLlib's update of a ``TorchLearner``, with little work beside torch's arithmetic."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import operator
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.policy.sample_batch import MultiAgentBatch
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    MODULE_TRAIN_BATCH_SIZE_MEAN,
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    WEIGHTS_SEQ_NO,
)
from ray.rllib.utils.minibatch_utils import MiniBatchCyclicIterator, MiniBatchDummyIterator

from rllib_stpn import checks
from rllib_stpn.kernels import torch_on_threads
from rllib_stpn.kernels.memory import memory_left_unfilled
from rllib_stpn.kernels.threads import subnormals_are_zero
from rllib_stpn.learners.adapted import KeepsWhatItAdapts
from rllib_stpn.learners.finite import RefusesNonFiniteGradients
from rllib_stpn.learners.minibatches import Minibatches

logger = logging.getLogger(__name__)

# Multiplications in one pass of a minibatch, steps times parameters, from which torch takes all its threads. An LSTM
# of 47 units gained nothing from a second one up to 80 million, 6,400 steps, and lost 20 % at 20 million
# (benchmarks/learner_update.py). Where other processes use the cores, too, each small parallel operation waits for a
# thread that does not run.
WORTH_MORE_THREADS = 100_000_000

# The lean update does not call these. A user's class that overrides one of them gets RLlib's update.
_REPLACED = (
    "compute_losses",
    "compute_loss_for_module",
    "compute_gradients",
    "postprocess_gradients",
    "postprocess_gradients_for_module",
    "apply_gradients",
    "_uncompiled_update",
    "_update",
)


class LeanLearner(KeepsWhatItAdapts, RefusesNonFiniteGradients, TorchLearner):
    """Takes the same gradient steps as RLlib's ``TorchLearner``, in less time.

    Minibatches are plain slices of tensors. Gradients get one norm, which clips them and tells whether all are finite;
    if not, the update ends with an error (:class:`RefusesNonFiniteGradients`). Adam is torch's fused one. Metrics are
    computed once per update: as RLlib's, values of losses, entropy, KL divergence and gradients' norm are those of the
    last minibatch. Counts are over all minibatches. Checkpoints, schedules, several modules and several learners are
    RLlib's.

    RLlib's own update takes its place, and a warning says so, with a subclass that overrides one of the methods of an
    update (``compute_loss_for_module``, ``postprocess_gradients``, ...), with modules that bring a loss of their own,
    with ``torch_compile_learner``, gradient scalers and torch's learning rate schedulers.

    Torch's operations take one thread where a minibatch is small, and all that torch has otherwise; convolutions and
    our kernels take all. ``learner_config_dict={"torch_threads": n}`` sets the number.
    """

    _told: str | None = None

    def build(self) -> None:
        """Builds the learner.

        Raises:
            UsageError: ``torch_threads`` is not a whole number from 1.
        """
        threads = self.config.learner_config_dict.get("torch_threads")
        checks.integer("learner_config_dict: torch_threads", threads, at_least=1, or_none=True)
        super().build()

    def loss_and_metrics(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any], measure: bool
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Returns the loss of one module's minibatch.

        Args:
            module_id: The module.
            config: Its settings.
            batch: Its minibatch: columns ``[steps, ...]`` or ``[sequences, L, ...]``.
            fwd_out: What ``forward_train`` made of it, but for the state after the last step.
            measure: Whether metrics are asked for.

        Returns:
            The scalar loss, and metrics by RLlib's names, if asked for.
        """
        raise NotImplementedError

    def _create_iterator_if_necessary(self, **kwargs):
        iterator = super()._create_iterator_if_necessary(**kwargs)
        reason = self._reason_for_rllibs_update()
        if reason is not None and reason != self._told:
            logger.warning("%s: %s, so RLlib's own update takes the lean one's place", type(self).__name__, reason)
            self._told = reason
        if reason is not None or type(iterator) not in (MiniBatchCyclicIterator, MiniBatchDummyIterator):
            return iterator
        minibatches = Minibatches(iterator)
        return [MultiAgentBatch(minibatches, minibatches.env_steps)]

    def _update(self, batch: dict[str, Any], **kwargs):
        if self._reason_for_rllibs_update() is not None:
            return super()._update(batch, **kwargs)
        for module in self.module.values():
            if isinstance(module, torch.nn.Module):
                module.train()
        if not isinstance(batch, Minibatches):
            return self._gradient_step(batch, last=True)
        threads = torch_on_threads(self._threads(batch.minibatch_steps))
        with threads, memory_left_unfilled(), subnormals_are_zero():  # Adam's moments decay, too
            for minibatch, last in batch.cut():
                result = self._gradient_step(minibatch, last)
        return result

    def _threads(self, steps: int) -> int:
        given = self.config.learner_config_dict.get("torch_threads")
        if given is not None:
            return given
        modules = [module for module in self.module.values() if isinstance(module, torch.nn.Module)]
        convolves = any(isinstance(part, torch.nn.Conv2d) for module in modules for part in module.modules())
        parameters = max((sum(p.numel() for p in module.parameters()) for module in modules), default=0)
        small = not convolves and steps * parameters < WORTH_MORE_THREADS
        return 1 if small and self._device.type == "cpu" else torch.get_num_threads()

    def _reason_for_rllibs_update(self) -> str | None:
        ours = next(kind for kind in type(self).__mro__ if kind.__module__.startswith("rllib_stpn."))
        for name in _REPLACED:  # unwrapped, since Ray wraps every method of an actor's class
            method = inspect.unwrap(getattr(type(self), name))
            if method is not inspect.unwrap(getattr(ours, name)):
                return f"{type(self).__name__} overrides {name}"
        for setting in ("torch_compile_learner", "_torch_grad_scaler_class", "_torch_lr_scheduler_classes"):
            if getattr(self.config, setting, None):
                return f"{setting} is set"
        for module_id, module in self.module.items():
            if isinstance(module.unwrapped(), SelfSupervisedLossAPI):
                return f"module {module_id} has a loss of its own"
        return None

    # --- one gradient step --------------------------------------------------------------------------------------

    def _gradient_step(self, batch: dict[str, Any], last: bool) -> tuple[dict, dict, dict]:
        """Takes one step; the last one of an update logs the metrics. Returns what RLlib's ``_update`` does."""
        for parameter in self._params.values():
            parameter.grad = None
        if last:
            self._compute_off_policyness(batch)
        fwd_out, losses = self._backward(batch, last)
        finite = True
        gradients = {}
        for module_id in self.module.keys():  # noqa: SIM118, RLlib's container cannot be iterated over
            config = self.config.get_config_for_module(module_id)
            for name, optimizer in self.get_optimizers_for_module(module_id):
                of_optimizer = {p: p.grad for p in self._optimizer_parameters[optimizer] if p.grad is not None}
                norms = _norms(list(of_optimizer.values()))
                if math.isfinite(math.hypot(*norms)):
                    norm = _clip(list(of_optimizer.values()), norms, config.grad_clip, config.grad_clip_by)
                    if last and _logs_norm(config):
                        key = (module_id, f"gradients_{name}_global_norm")
                        self.metrics.log_value(key, norm, window=1)
                elif self.refuse(of_optimizer.values()):
                    return fwd_out, losses, {}
                else:
                    finite = False
                    of_optimizer = self.postprocess_gradients_for_module(
                        module_id=module_id, config=config, module_gradients_dict=of_optimizer
                    )
                gradients.update(of_optimizer)
        if finite and self._refused is None:  # by a minibatch before
            for optimizer in self._optimizer_parameters:
                optimizer.step()
        else:
            self.apply_gradients(gradients)
        return fwd_out, losses, {}

    def _backward(self, batch: dict[str, Any], last: bool) -> tuple[dict, dict]:
        """Adds the gradients of a minibatch to those of the parameters; returns outputs and losses by module."""
        fwd_out = self._forward(batch)
        for outputs in fwd_out.values():  # No loss reads it, and backward needs the memory: 43 MB on Pong.
            outputs.pop(Columns.STATE_OUT, None)
        losses = {}
        for module_id, outputs in fwd_out.items():
            losses[module_id], measured = self.loss_and_metrics(
                module_id=module_id,
                config=self.config.get_config_for_module(module_id),
                batch=batch[module_id],
                fwd_out=outputs,
                measure=last,
            )
            if measured:
                self.metrics.log_dict(measured, key=module_id, window=1)
        total = functools.reduce(operator.add, losses.values())
        if total.requires_grad:  # not where all parameters are frozen
            total.backward()
        return fwd_out, {module_id: loss.detach() for module_id, loss in losses.items()}

    def _forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        if type(self.module)._forward_train is not MultiRLModule._forward_train:
            return self.module.forward_train(batch)
        # Each module's `forward_train` would put it into training mode again, part by part.
        return {module_id: self.module[module_id]._forward_train(part) for module_id, part in batch.items()}

    # --- what surrounds it --------------------------------------------------------------------------------------

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Fused Adam, at the rate ``lr`` and, where the algorithm has it, with ``adam_epsilon``."""
        parameters = self.get_parameters(self._module[module_id])
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(parameters, eps=getattr(config, "adam_epsilon", 1e-8), fused=fused),
            params=parameters,
            lr_or_lr_schedule=config.lr,
        )

    def _set_optimizer_state(self, state: dict[str, Any]) -> None:
        # torch restores the implementation, too, and that of the checkpoint may be RLlib's.
        before = {name: [group.get("fused") for group in o.param_groups] for name, o in self._named_optimizers.items()}
        super()._set_optimizer_state(state)
        for name, implementations in before.items():
            for group, fused in zip(self._named_optimizers[name].param_groups, implementations, strict=True):
                group["fused"] = fused

    def _log_steps_trained_metrics(self, batch: MultiAgentBatch) -> None:
        minibatches = batch.policy_batches
        if not isinstance(minibatches, Minibatches):
            super()._log_steps_trained_metrics(batch)
            return
        for module_id, steps in minibatches.steps.items():
            self.metrics.log_value((module_id, WEIGHTS_SEQ_NO), self._weights_seq_no, window=1)
            mean = sum(steps) / len(steps)
            self.metrics.log_value((module_id, MODULE_TRAIN_BATCH_SIZE_MEAN), mean, reduce="mean")
            for whose in (module_id, ALL_MODULES):
                self._count((whose, NUM_MODULE_STEPS_TRAINED), sum(steps), whose == ALL_MODULES)
                self._count((whose, NUM_MODULE_STEPS_TRAINED_LIFETIME), sum(steps), True)
        # As RLlib's, which counts all of the batch for each of its minibatches.
        env_steps = batch.env_steps() * minibatches.number
        self._count((ALL_MODULES, NUM_ENV_STEPS_TRAINED), env_steps, True)
        self._count((ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), env_steps, True)

    def _count(self, key: tuple[str, str], steps: int, with_throughput: bool) -> None:
        reduce = "lifetime_sum" if key[1].endswith("_lifetime") else "sum"
        self.metrics.log_value(key, steps, reduce=reduce, with_throughput=with_throughput)


def masked_mean(batch: dict[str, Any]):
    """Returns the function from values of each step to their mean over the steps that count."""
    mask = batch.get(Columns.LOSS_MASK)
    if mask is None:
        return torch.mean
    count = mask.sum()
    return lambda values: values.masked_fill(~mask, 0.0).sum() / count


def _norms(gradients: list[torch.Tensor]) -> list[float]:
    """Each one's 2-norm."""
    return torch.stack(torch._foreach_norm(gradients)).tolist() if gradients else []


def _clip(gradients: list[torch.Tensor], norms: list[float], limit: float | None, kind: str) -> float:
    """Clips in place, as RLlib does; returns the norm that it logs."""
    norm = math.hypot(*norms)
    if not limit:
        return norm
    if kind == "global_norm":
        if norm + 1e-6 > limit:
            torch._foreach_mul_(gradients, limit / (norm + 1e-6))
        return norm
    if kind == "norm":
        for gradient, its_norm in zip(gradients, norms, strict=True):
            if its_norm > limit:
                gradient.mul_(limit / its_norm)
    else:
        for gradient in gradients:
            gradient.clamp_(-limit, limit)
    return math.hypot(*_norms(gradients))


def _logs_norm(config: Any) -> bool:
    return config.log_gradients or bool(config.grad_clip and config.grad_clip_by == "global_norm")
