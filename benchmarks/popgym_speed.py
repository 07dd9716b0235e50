"""POPGym's environments here against those of the popgym package: CPU time per environment step.

    python benchmarks/popgym_speed.py [--envs 64 512] [--seconds 1]

Both give the same observations, previous action and first-step flag included, flat. Actions are random, episodes that
end are reset. A step of a vector of n environments counts as n steps; the package has no vectors, and gymnasium's would
add to its time. All of it is one thread, so that other programs on the machine hardly matter.
"""

from __future__ import annotations

import argparse
import time

import popgym.envs
import stpn_envs
from env_speed import scalar_speed, vector_speed
from popgym.wrappers import Antialias, Flatten, PreviousAction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", type=int, nargs="+", default=[64, 512], help="sizes of vectors (default 64 512)")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds per measurement (default 1)")
    arguments = parser.parse_args()

    sizes = arguments.envs
    print("| environment | popgym, us | " + " | ".join(f"{n} here, us | times as fast" for n in sizes) + " |")
    print("|---|---:|" + "---:|---:|" * len(sizes))
    for env_id in stpn_envs.ENV_IDS:
        original = getattr(popgym.envs, env_id[len("stpn/") : -len("-v0")], None)
        if original is None:
            continue
        theirs = 1e6 / scalar_speed(
            Flatten(Antialias(PreviousAction(original()))), arguments.seconds, time.process_time
        )
        cells = [f"{theirs:.1f}"]
        for num_envs in sizes:
            ours = 1e6 / vector_speed(env_id, num_envs, arguments.seconds, time.process_time)
            cells += [f"{ours:.3f}", f"{theirs / ours:.0f}"]
        print(f"| {env_id} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
