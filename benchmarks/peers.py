"""PPO on the maze beside what else would train it: environment steps per second, learning included.

    python benchmarks/peers.py                                # 64 and 512 environments, 50 steps, minutes
    python benchmarks/peers.py --envs 64 --rounds 5 --json

Side by side: ours with an LSTM of 47 and an STPN of 55 units, the plain torch loop of ``plain_ppo.py``, RLlib's own
LSTM and, where it is installed (``pip install sb3-contrib``), the LSTM of SB3-contrib. All do 4 epochs of 8
minibatches. They take turns in one process; medians and ranges are over the rounds, ratios over the plain loop of the
same round. The plain loop and SB3 take one thread or all, whichever is faster; ours chooses for itself.
"""

import argparse
import contextlib
import importlib.util
import json
import statistics
import time

import torch
from plain_ppo import PlainPPO

MAZE = "stpn_envs:stpn/Maze-v0"


class Ours:
    """This package's; RLlib's own LSTM with ``layer=None``."""

    def __init__(self, envs: int, steps: int, layer: str | None, hidden: int, **options) -> None:
        from ray.rllib.algorithms.ppo import PPOConfig

        from rllib_stpn import recurrent_spec, register, use_batched_rollouts

        register()
        config = (
            PPOConfig()
            .environment(MAZE)
            .env_runners(num_env_runners=0, num_envs_per_env_runner=envs, rollout_fragment_length=steps)
            .training(
                train_batch_size=envs * steps,
                minibatch_size=envs * steps // 8,
                num_epochs=4,
                lr=1e-3,
                gamma=0.9,
                lambda_=0.95,
                clip_param=0.2,
                vf_clip_param=float("inf"),
                vf_loss_coeff=0.1,
                entropy_coeff=0.01,
                use_kl_loss=False,
                grad_clip=4.0,
            )
            .debugging(seed=0, log_level="ERROR")
        )
        if layer is None:
            config.rl_module(model_config={"use_lstm": True, "lstm_cell_size": hidden, "max_seq_len": steps})
        else:
            config.env_runners(gym_env_vectorize_mode="vector_entry_point")
            config.rl_module(rl_module_spec=recurrent_spec(layer, hidden_size=hidden, max_seq_len=steps, **options))
            use_batched_rollouts(config)
        self.algorithm = config.build_algo()

    def iterate(self) -> None:
        """One training iteration."""
        self.algorithm.train()


class SB3:
    """RecurrentPPO of SB3-contrib."""

    def __init__(self, envs: int, steps: int, hidden: int) -> None:
        import gymnasium as gym
        from sb3_contrib import RecurrentPPO
        from stable_baselines3.common.vec_env import DummyVecEnv

        self.steps = envs * steps
        self.model = RecurrentPPO(
            "MlpLstmPolicy",
            DummyVecEnv([lambda: gym.make(MAZE)] * envs),
            n_steps=steps,
            batch_size=envs * steps // 8,
            n_epochs=4,
            learning_rate=1e-3,
            gamma=0.9,
            gae_lambda=0.95,
            ent_coef=0.01,
            vf_coef=0.1,
            max_grad_norm=4.0,
            policy_kwargs={
                "lstm_hidden_size": hidden,
                "net_arch": [],
                "shared_lstm": True,
                "enable_critic_lstm": False,
            },
            device="cpu",
        )
        self.model.learn(1)

    def iterate(self) -> None:
        """One rollout and what is learned from it."""
        self.model.learn(self.steps, reset_num_timesteps=False)


def contenders(envs: int, steps: int, slow: bool) -> dict:
    """Those that are installed, by name."""
    found = {
        "plain torch loop, LSTM": PlainPPO(envs, steps, 8, 47),
        "ours, LSTM": Ours(envs, steps, "lstm", 47),
        "ours, STPN": Ours(envs, steps, "stpn", 55, normalize=None, clamp=1.0),
    }
    if slow and importlib.util.find_spec("sb3_contrib"):
        found["SB3-contrib, LSTM"] = SB3(envs, steps, 47)
    if slow:
        found["RLlib's own, LSTM"] = Ours(envs, steps, None, 47)
    return found


def timed(contender, iterations: int) -> float:
    """Seconds per iteration."""
    torch.use_deterministic_algorithms(isinstance(contender, Ours))  # slower; RLlib asks for it where a seed is set
    begun = time.perf_counter()
    for _ in range(iterations):
        contender.iterate()
    return (time.perf_counter() - begun) / iterations


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--envs", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=5, help="of each contender and round")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, torch.get_num_threads()}))
    parser.add_argument("--fast", action="store_true", help="only ours and the plain loop")
    parser.add_argument("--json", action="store_true", help="one line a row, and no table")
    arguments = parser.parse_args()
    rows = []
    for envs in arguments.envs:
        rows += measured(envs, arguments)
    if arguments.json:
        return
    print("| " + " | ".join(["environment steps/s", *(f"{envs} environments" for envs in arguments.envs)]) + " |")
    print("|---" * (1 + len(arguments.envs)) + "|")
    for name in dict.fromkeys(row["who"] for row in rows):
        cells = [
            f"{row['steps_per_s']:,} ({row['ratio']:.2f}x: {row['ratios'][0]:.2f}-{row['ratios'][1]:.2f})"
            for row in rows
            if row["who"] == name
        ]
        print("| " + " | ".join([name, *cells]) + " |")


def measured(envs: int, arguments) -> list[dict]:
    """Rows of results, printed as JSON lines where asked for."""
    with contextlib.ExitStack() as stack:
        if arguments.json:  # Ray writes to standard output
            stack.enter_context(contextlib.redirect_stdout(None))
        found = contenders(envs, arguments.steps, not arguments.fast)
        threads = {}
        for name, contender in found.items():
            timed(contender, 2)
            speeds = {}
            for count in arguments.threads if name.startswith(("plain", "SB3")) else arguments.threads[-1:]:
                torch.set_num_threads(count)
                speeds[count] = min(timed(contender, 1) for _ in range(3))
            threads[name] = min(speeds, key=speeds.get)
        seconds = {name: [] for name in found}
        for _ in range(arguments.rounds):
            for name, contender in found.items():
                torch.set_num_threads(threads[name])
                seconds[name].append(timed(contender, arguments.iterations))
        plain = seconds["plain torch loop, LSTM"]
        rows = []
        for name, taken in seconds.items():
            ratios = [of_plain / own for of_plain, own in zip(plain, taken, strict=True)]
            speeds = [round(envs * arguments.steps / own) for own in taken]
            rows.append(
                {
                    "who": name,
                    "envs": envs,
                    "steps": arguments.steps,
                    "threads": threads[name],
                    "steps_per_s": round(statistics.median(speeds)),
                    "range": [min(speeds), max(speeds)],
                    "ratio": round(statistics.median(ratios), 3),
                    "ratios": [round(min(ratios), 3), round(max(ratios), 3)],
                }
            )
    if arguments.json:
        print(*(json.dumps(row) for row in rows), sep="\n", flush=True)
    return rows


if __name__ == "__main__":
    main()
