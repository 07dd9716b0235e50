"""Trains the agents that come with the package anew, and writes their files.

    python results/pretrain.py                     # all that are missing
    python results/pretrain.py maze_stpn --storage-path /tmp/pretrain --again

Each is trained by a command of its own, which the file tells beside the versions and the returns of 200 episodes with
greedy actions. A training that has left a checkpoint below the storage path is not run again. Files go to
``rllib_stpn/pretrained``.
"""

import argparse
import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path

from rllib_stpn import checks, provenance
from rllib_stpn.agents import evaluate, load
from rllib_stpn.agents.agent_files import write
from rllib_stpn.agents.checkpoints import find_checkpoint
from rllib_stpn.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "rllib_stpn/pretrained"
FIRST_SEED = 1000  # of the episodes whose returns a file states


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an agent is trained.

    Attributes:
        file: The tuned example.
        seed: Its seed.
        stop: Stop criteria in place of the file's.
        config: Settings over the file's.
        episodes: How many are played to state the return.
    """

    file: str
    seed: int = 0
    stop: dict[str, float] | None = None
    config: dict | None = None
    episodes: int = 200

    def command(self) -> list[str]:
        """The command line, without where its results go."""
        words = ["rllib", "train", "-f", f"tuned_examples/{self.file}.yaml", "--seed", str(self.seed)]
        for option, value in (("--stop", self.stop), ("--config", self.config)):
            words += [option, json.dumps(value)] if value else []
        return [*words, "--ray-num-cpus", "1"]


_SHORT_MAZE = {"lr": [[0, 2.0e-3], [15_000_000, 1.0e-4]]}  # the file's falls over 40M steps
AGENTS = {
    "maze_stpn": Recipe("maze_stpn_ppo", stop={"num_env_steps_sampled_lifetime": 15_000_000}, config=_SHORT_MAZE),
    "maze_lstm": Recipe("maze_lstm_ppo", stop={"num_env_steps_sampled_lifetime": 15_000_000}, config=_SHORT_MAZE),
    "retrieval_stpn": Recipe("art_rl_stpn", episodes=1000),
    "cue_reward_modulated": Recipe("cue_reward_modulated"),
    "pendulum_stpnf": Recipe("inverted_pendulum_stpnf", episodes=20),
}


def main() -> None:
    """Makes what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(AGENTS)} (default: those missing)")
    parser.add_argument("--storage-path", type=Path, default=Path("~/ray_results/pretrained"), metavar="DIR")
    parser.add_argument("--again", action="store_true", help="train again what has been trained")
    args = parser.parse_args()
    for name in args.names:
        checks.choice("NAME", name, AGENTS)
    for name in args.names or [name for name in AGENTS if not (FOLDER / f"{name}.safetensors").exists()]:
        make(name, args.storage_path.expanduser(), args.again)


def make(name: str, storage: Path, again: bool) -> None:
    """Trains one agent, plays it, and writes its file."""
    recipe = AGENTS[name]
    place = storage / name
    try:
        checkpoint = find_checkpoint(place)
    except UsageError:
        checkpoint = None
    if checkpoint is None or again:
        command = [str(Path(sys.executable).with_name("rllib")), *recipe.command()[1:]]
        subprocess.run([*command, "--storage-path", str(storage), "-n", name], check=True, cwd=REPOSITORY)
        checkpoint = find_checkpoint(place)
    played = evaluate(load(checkpoint), recipe.episodes, seed=FIRST_SEED, num_envs=64, energy=True)
    summary = played.summary()
    origin = {
        "file": f"tuned_examples/{recipe.file}.yaml",
        "seed": recipe.seed,
        "command": shlex.join(recipe.command()),
        "versions": provenance.versions(),
        "episodes": recipe.episodes,
        "first_seed": FIRST_SEED,
        **{key: summary[key] for key in ("return_mean", "return_std", "energy_per_step")},
    }
    file = FOLDER / f"{name}.safetensors"
    write(checkpoint, file, origin)
    told = f"return {summary['return_mean']:.6g} ± {summary['return_std']:.4g} over {recipe.episodes} episodes"
    print(f"{file}: {file.stat().st_size:,} bytes, {told}", flush=True)


if __name__ == "__main__":
    main()
