"""Steps per second of every registered environment: one scalar environment, and a vector of them.

    python benchmarks/env_speed.py [stpn/Maze-v0 ...] [--envs 64] [--seconds 3] [--json results.json]

A step of a vector of n environments counts as n steps. Actions are random, episodes that end are reset, the
first reset is not timed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import stpn_envs
from gymnasium import spaces

Clock = Callable[[], float]


def steps_per_second(
    step: Callable[[Any], None], space: spaces.Space, num_envs: int, seconds: float, clock: Clock
) -> float:
    """Call `step` with random actions of the space, one for each of the environments, for so many seconds."""
    space.seed(0)
    actions = itertools.cycle([space.sample() for _ in range(1000)])
    for _ in range(10):
        step(next(actions))
    count, start = 0, clock()
    while (elapsed := clock() - start) < seconds:
        for _ in range(10):
            step(next(actions))
        count += 10
    return count * num_envs / elapsed


def scalar_speed(env: gymnasium.Env, seconds: float, clock: Clock = time.perf_counter) -> float:
    env.reset(seed=0)

    def step(action: Any) -> None:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()

    speed = steps_per_second(step, env.action_space, 1, seconds, clock)
    env.close()
    return speed


def vector_speed(env_id: str, num_envs: int, seconds: float, clock: Clock = time.perf_counter) -> float:
    vec = gymnasium.make_vec(env_id, num_envs, vectorization_mode="vector_entry_point")
    vec.reset(seed=0)
    speed = steps_per_second(vec.step, vec.action_space, num_envs, seconds, clock)
    vec.close()
    return speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "ids", nargs="*", metavar="id", default=stpn_envs.ENV_IDS, help="what to measure (default: every registered id)"
    )
    parser.add_argument("--envs", type=int, default=64, help="environments in the vector (default 64)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds per measurement (default 3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()

    rows = []
    print(f"| environment | scalar, steps/s | vector of {arguments.envs}, steps/s |\n|---|---:|---:|")
    for env_id in arguments.ids:
        scalar = scalar_speed(gymnasium.make(env_id).unwrapped, arguments.seconds)
        vector = vector_speed(env_id, arguments.envs, arguments.seconds)
        rows.append({"env": env_id, "scalar_steps_per_s": round(scalar), "vector_steps_per_s": round(vector)})
        print(f"| {env_id} | {scalar:,.0f} | {vector:,.0f} |")
    if arguments.json:
        machine = {"machine": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()}
        kept = {**machine, "num_envs": arguments.envs, "results": rows}
        arguments.json.write_text(json.dumps(kept, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
