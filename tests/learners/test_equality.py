"""The lean learner takes the gradient steps of RLlib's: same parameters after the same batches, same results."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch.utils._pytree import tree_map

from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.algorithms.a2c import A2CTorchLearner
from rllib_stpn.learners import LeanPPOTorchLearner
from rllib_stpn.models import IS_FIRST, MemoryRLModule, recurrent_spec

UPDATES = 20
SEQUENCES, STEPS, FEATURES = 12, 5, 3
OBSERVATIONS = gym.spaces.Box(-10, 10, (FEATURES,), np.float32)
BOX = gym.spaces.Box(-1, 1, (2,), np.float32)
ACTIONS = {
    "discrete": gym.spaces.Discrete(4),
    "multi-discrete": gym.spaces.MultiDiscrete([2, 3, 2]),
    "box": BOX,
    "tuple": gym.spaces.Tuple([gym.spaces.Discrete(2), BOX]),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class PlainA2C(A2CTorchLearner):
    """A2C's loss with RLlib's distributions; overriding it brings RLlib's update."""

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        module = self.module[module_id]
        counted = batch.get(Columns.LOSS_MASK, torch.ones_like(batch["advantages"], dtype=torch.bool))
        distribution = module.get_train_action_dist_cls().from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        values = module.compute_values(batch, embeddings=fwd_out[Columns.EMBEDDINGS])
        targets = batch["value_targets"]
        advantages = batch["advantages"] if config.standardize_advantages else targets - values.detach()
        policy_loss = -(distribution.logp(batch[Columns.ACTIONS]) * advantages)[counted].mean()
        value_loss = torch.nn.functional.mse_loss(values[counted], targets[counted])
        entropy = distribution.entropy()[counted].mean()
        return policy_loss + config.vf_loss_coeff * value_loss - config.entropy_coeff * entropy


def configured(learner_class, algorithm=PPOConfig, actions="discrete", layer="lstm", model=None, **training):
    """Settings with a clipping of gradients and a KL penalty that act."""
    if layer is None:  # RLlib's own model
        spec = RLModuleSpec(module_class=MemoryRLModule, model_config={"fcnet_hiddens": [8], **(model or {})})
    else:
        spec = recurrent_spec(layer, hidden_size=6, max_seq_len=STEPS, **(model or {}))
    settings = {"lr": 1e-2, "grad_clip": 0.5, "grad_clip_by": "global_norm", "entropy_coeff": 0.05}
    if algorithm is PPOConfig:
        settings |= {"vf_clip_param": 1.0, "kl_target": 0.05, "minibatch_size": 4 * STEPS, "num_epochs": 2}
    return (
        algorithm()
        .environment(observation_space=OBSERVATIONS, action_space=ACTIONS[actions])
        .training(**settings | training)
        .rl_module(rl_module_spec=spec)
        .learners(learner_class=learner_class)
        .debugging(seed=0)
    )


def built(config):
    """A learner, whose Adam does not blow up rounding: with its usual epsilon a gradient of 1e-9 moves as far as one
    of 1.
    """
    learner = config.build_learner(spaces={DEFAULT_MODULE_ID: (config.observation_space, config.action_space)})
    for optimizer in learner._named_optimizers.values():
        for group in optimizer.param_groups:
            group["eps"] = 1e-3
    return learner


def learners(kinds, **settings):
    """Learners of these classes with the same parameters."""
    one, other = (built(configured(kind, **settings)) for kind in kinds)
    other.module.set_state(one.module.get_state())
    return one, other


def batches(learner, masked=False, seed=0):
    """Train batches as they come from fragments; actions and their log-probabilities are of a policy nearby."""
    torch.manual_seed(seed)
    module = learner.module[DEFAULT_MODULE_ID]
    distribution = module.get_train_action_dist_cls()
    stateful = module.is_stateful()
    for _ in range(UPDATES):
        shape = (SEQUENCES, STEPS) if stateful else (SEQUENCES * STEPS,)
        columns = {Columns.OBS: torch.randn(*shape, FEATURES)}
        if stateful:
            columns[Columns.STATE_IN] = tree_map(
                lambda leaf: torch.as_tensor(leaf)[None].repeat(SEQUENCES, *[1] * np.ndim(leaf)),
                module.get_initial_state(),
            )
            columns[IS_FIRST] = torch.rand(shape) < 0.2
            lengths = torch.full((SEQUENCES,), STEPS)
            if masked:
                lengths = torch.randint(1, STEPS + 1, (SEQUENCES,))
                columns[Columns.LOSS_MASK] = torch.arange(STEPS) < lengths[:, None]
            columns[Columns.SEQ_LENS] = lengths.int()
        with torch.no_grad():
            logits = module.forward_train(columns)[Columns.ACTION_DIST_INPUTS]
        logits = logits + 0.3 * torch.randn_like(logits)
        acting = distribution.from_logits(logits)
        columns[Columns.ACTIONS] = acting.sample()
        columns[Columns.ACTION_LOGP] = acting.logp(columns[Columns.ACTIONS])
        columns[Columns.ACTION_DIST_INPUTS] = logits
        columns["advantages"] = torch.randn(shape)
        columns["value_targets"] = torch.randn(shape)
        yield columns


def update(learner, columns, number=0):
    """One update of the learner; returns its results."""
    batch = SampleBatch(dict(columns), _zero_padded=Columns.SEQ_LENS in columns)
    return learner.update(
        batch=MultiAgentBatch({DEFAULT_MODULE_ID: batch}, env_steps=SEQUENCES * STEPS),
        timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: number * SEQUENCES * STEPS},
        num_epochs=learner.config.num_epochs,
        minibatch_size=learner.config.minibatch_size,
        shuffle_batch_per_epoch=learner.config.shuffle_batch_per_epoch,
    )


def trained(learner, batches_of_updates):
    """Updates the learner with each batch; returns its results."""
    np.random.seed(1)  # noqa: NPY002, RLlib's shuffling
    return [update(learner, columns, number) for number, columns in enumerate(batches_of_updates)]


def parameters(learner):
    return {name: value.detach().clone() for name, value in learner.module[DEFAULT_MODULE_ID].named_parameters()}


def difference(mine, theirs):
    """The largest of any parameter tensor, by 2-norms, relative to the tensor itself."""
    assert set(mine) == set(theirs)
    return max(((mine[name] - theirs[name]).norm() / theirs[name].norm()).item() for name in mine)


def flat(results, path=()):
    """Results by their paths, as numbers."""
    numbers = {}
    for key, value in results.items():
        if isinstance(value, dict):
            numbers |= flat(value, (*path, key))
        elif "learner_connector" not in path and not key.endswith("_throughput"):  # times
            numbers[(*path, key)] = float(value.peek())
    return numbers


CASES = {
    **{f"PPO, {actions}": {"actions": actions} for actions in ACTIONS},
    "PPO, softplus Gaussian": {"actions": "box", "model": {"custom_action_dist": "softplus_gaussian"}},
    "PPO, free log std": {"actions": "box", "layer": "mlp", "model": {"free_log_std": True, "fcnet_hiddens": [8]}},
    **{f"PPO, {layer}": {"layer": layer} for layer in ("stpn", "gru", "hebbff", "plastic_rnn", "mlp")},
    "PPO, RLlib's own model": {"layer": None},
    "PPO, a critic of its own": {"model": {"vf_share_layers": False}},
    "PPO, loss mask": {"masked": True},
    "PPO, loss mask, box": {"masked": True, "actions": "box"},
    "PPO, clip by value": {"grad_clip_by": "value", "grad_clip": 0.05},
    "PPO, clip by norm": {"grad_clip_by": "norm", "grad_clip": 0.05},
    "PPO, no clipping": {"grad_clip": None},
    "PPO, no KL": {"use_kl_loss": False},
    "PPO, no critic": {"use_critic": False},
    "PPO, values clipped": {"vf_clip_param": 0.1},
    "PPO, schedules": {"entropy_coeff": [[0, 0.1], [1000, 0.0]], "lr": [[0, 1e-2], [1000, 1e-3]]},
    "PPO, the whole batch once": {"num_epochs": 1, "minibatch_size": None},
    "PPO, the whole batch three times": {"num_epochs": 3, "minibatch_size": None},
    "PPO, minibatches over the end of an epoch": {"num_epochs": 3, "minibatch_size": 25},
    "PPO, minibatches of steps over the end of an epoch": {"num_epochs": 3, "minibatch_size": 25, "layer": "mlp"},
    "PPO, without shuffling": {"shuffle_batch_per_epoch": False},
    "A2C": {"algorithm": A2CConfig},
    "A2C, box": {"algorithm": A2CConfig, "actions": "box"},
    "A2C, loss mask": {"algorithm": A2CConfig, "masked": True, "layer": "stpn"},
    "A2C, advantages standardised": {"algorithm": A2CConfig, "standardize_advantages": True},
    "A2C, minibatches": {"algorithm": A2CConfig, "minibatch_size": 25, "masked": True},
    "A2C, minibatches of micro-batches": {"algorithm": A2CConfig, "minibatch_size": 30, "micro_batch_size": 10},
    "A2C, micro-batches": {"algorithm": A2CConfig, "micro_batch_size": 15, "masked": True},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_parameters_after_20_updates_are_those_of_rllibs_learner(settings):
    settings = dict(settings)
    masked = settings.pop("masked", False)
    a2c = settings.get("algorithm") is A2CConfig
    rllibs, lean = learners((PlainA2C, A2CTorchLearner) if a2c else (PPOTorchLearner, LeanPPOTorchLearner), **settings)
    before = parameters(lean)
    given = list(batches(rllibs, masked))
    theirs, mine = trained(rllibs, given), trained(lean, given)
    assert rllibs._reason_for_rllibs_update() is not None if a2c else not hasattr(rllibs, "loss_and_metrics")
    assert lean._reason_for_rllibs_update() is None
    assert difference(parameters(lean), before) > 0.05
    # Adam divides gradients by their size, and so makes rounding larger: with most seeds 1e-7, with some 2e-6.
    assert difference(parameters(lean), parameters(rllibs)) < 1e-5
    if a2c:  # the loss above logs nothing
        assert flat(mine[-1])[DEFAULT_MODULE_ID, "total_loss"] == pytest.approx(
            flat(theirs[-1])[DEFAULT_MODULE_ID, "total_loss"], rel=1e-4, abs=1e-5
        )
        return
    for one, other in zip(mine, theirs, strict=True):
        assert flat(one) == pytest.approx(flat(other), rel=1e-3, abs=1e-5, nan_ok=True)
