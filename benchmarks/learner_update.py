"""An update of PPO, 4 epochs of 8 minibatches: RLlib's learner and the lean one, with torch on one thread and on all.

    python benchmarks/learner_update.py                          # LSTM 47 on the maze's observations
    python benchmarks/learner_update.py --layer stpn --hidden 55 --envs 64 512
    python benchmarks/learner_update.py --json

Our kernels take all threads, but in rows of "one thread". The rows take turns in one process. Times are wall-clock
medians; with them stand quartiles and the time of all threads, which tells more where other processes use the cores.
"""

import argparse
import json
import statistics
import time

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_stpn import recurrent_spec
from rllib_stpn.learners import LeanPPOTorchLearner
from rllib_stpn.rollouts import Fragment
from rllib_stpn.rollouts.setup import fragments_to_batch

OBSERVATIONS, ACTIONS = 17, 4  # the maze's


def learner(kind, layer, hidden, envs, steps, torch_threads):
    """A learner with the settings of tuned_examples/maze_*_ppo.yaml."""
    options = {"normalize": "post", "clamp": 1.0} if layer == "stpn" else {}
    config = (
        PPOConfig()
        .environment(
            observation_space=gym.spaces.Box(-1, 1, (OBSERVATIONS,), np.float32),
            action_space=gym.spaces.Discrete(ACTIONS),
        )
        .training(
            lr=1e-3,
            grad_clip=4.0,
            use_kl_loss=False,
            minibatch_size=envs * steps // 8,
            num_epochs=4,
            train_batch_size=envs * steps,
        )
        .rl_module(rl_module_spec=recurrent_spec(layer, hidden_size=hidden, max_seq_len=steps, **options))
        .learners(
            learner_class=kind,
            add_default_connectors_to_learner_pipeline=False,
            learner_connector=fragments_to_batch,
        )
        .update_from_dict({"learner_config_dict": {"torch_threads": torch_threads}})
        .debugging(seed=0)
    )
    return config.build_learner(spaces={DEFAULT_MODULE_ID: (config.observation_space, config.action_space)})


def fragment(learner, envs, steps):
    """What a sampling brings, from a random policy."""
    rng = np.random.default_rng(0)
    module = learner.module[DEFAULT_MODULE_ID].unwrapped()
    logits = rng.standard_normal((envs, steps, ACTIONS), dtype=np.float32)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    actions = rng.integers(ACTIONS, size=(envs, steps))
    return Fragment(
        mask=np.ones((envs, steps), dtype=bool),
        is_first=np.zeros((envs, steps), dtype=bool),
        columns={
            "obs": rng.random((envs, steps, OBSERVATIONS), dtype=np.float32),
            "actions": actions,
            "action_logp": np.take_along_axis(log_p, actions[..., None], -1)[..., 0],
            "action_dist_inputs": logits,
            "advantages": rng.standard_normal((envs, steps), dtype=np.float32),
            "value_targets": rng.standard_normal((envs, steps), dtype=np.float32),
        },
        state_in={
            name: np.zeros((envs, 1, *leaf.shape), dtype=np.float32)
            for name, leaf in module.get_initial_state().items()
        },
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layer", default="lstm")
    parser.add_argument("--hidden", type=int, default=47)
    parser.add_argument("--envs", type=int, nargs="+", default=[16, 64, 128, 256, 512])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    threads = torch.get_num_threads()
    contenders = {  # learner, torch_threads, threads of everything
        "RLlib's, one thread": (PPOTorchLearner, None, 1),
        "lean, one thread": (LeanPPOTorchLearner, 1, 1),
        "lean, torch on one": (LeanPPOTorchLearner, 1, threads),
        "lean, torch on all": (LeanPPOTorchLearner, threads, threads),
    }
    for envs in arguments.envs:
        learners = {
            name: learner(kind, arguments.layer, arguments.hidden, envs, arguments.steps, torch_threads)
            for name, (kind, torch_threads, _) in contenders.items()
        }
        data = fragment(learners["lean, one thread"], envs, arguments.steps)
        times = {name: [] for name in learners}
        for turn in range(arguments.rounds + 2):  # the first two warm up
            for name, taken in times.items():
                torch.set_num_threads(contenders[name][2])
                begun, worked = time.perf_counter(), time.process_time()
                learners[name].update(
                    episodes=[data],
                    timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0},
                    num_epochs=4,
                    minibatch_size=envs * arguments.steps // 8,
                    shuffle_batch_per_epoch=True,
                )
                if turn > 1:
                    taken.append((1e3 * (time.perf_counter() - begun), 1e3 * (time.process_time() - worked)))
        for name, taken in times.items():
            wall, worked = zip(*taken, strict=True)
            low, median, high = statistics.quantiles(wall, n=4)
            row = {
                "who": name,
                "layer": f"{arguments.layer} {arguments.hidden}",
                "envs": envs,
                "steps": arguments.steps,
                "ms": round(median, 1),
                "ms_quartiles": [round(low, 1), round(high, 1)],
                "ms_fastest": round(min(wall), 1),
                "ms_of_all_threads": round(statistics.median(worked), 1),
            }
            print(json.dumps(row) if arguments.json else "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
