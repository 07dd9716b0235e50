"""Trains the agents that come with the package anew, and writes their files.

    python results/pretrain.py                     # all that are missing
    python results/pretrain.py maze_stpn --storage-path /tmp/pretrain --again

Each is trained by a command of its own, which the file tells beside the versions and the returns of 200 episodes with
greedy actions. A training that was interrupted goes on, and one that has ended is not run again. Files go to
``rllib_stpn/pretrained``.
"""

import argparse
import dataclasses
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import rllib_stpn
from rllib_stpn import A2CConfig, checks, pretrained, provenance, supervised
from rllib_stpn.agents import evaluate, load
from rllib_stpn.agents.agent_files import origin, write
from rllib_stpn.agents.checkpoints import find_checkpoint
from rllib_stpn.models.spec import spec_from_model_dict

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs/agents.md"
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
        plays: The environment, where training is supervised: the read-out becomes the policy.
    """

    file: str
    seed: int = 0
    stop: dict[str, float] | None = None
    config: dict | None = None
    episodes: int = 200
    plays: str | None = None

    def command(self) -> list[str]:
        """The command line, without where its results go."""
        words = ["rllib", "train", "-f", f"tuned_examples/{self.file}.yaml", "--seed", str(self.seed)]
        for option, value in (("--stop", self.stop), ("--config", self.config)):
            words += [option, json.dumps(value)] if value else []
        return [*words, "--ray-num-cpus", "1"]


_SHORT_MAZE = {"lr": [[0, 2.0e-3], [15_000_000, 1.0e-4]]}  # the file's falls over 40M steps
_SHORTER_MAZE = {"lr": [[0, 2.0e-3], [6_000_000, 1.0e-4]]}
AGENTS = {
    "maze_stpn": Recipe("maze_stpn_ppo", stop={"num_env_steps_sampled_lifetime": 15_000_000}, config=_SHORT_MAZE),
    "maze_lstm": Recipe("maze_lstm_ppo", stop={"num_env_steps_sampled_lifetime": 6_000_000}, config=_SHORTER_MAZE),
    "retrieval_stpn": Recipe("art_stpn", episodes=1000, plays="stpn_envs:stpn/AssociativeRetrieval-v0"),
    "cue_reward_modulated": Recipe("cue_reward_modulated"),
    "pendulum_stpnf": Recipe(
        "inverted_pendulum_stpnf", seed=2, stop={"num_env_steps_sampled_lifetime": 194913}, episodes=20
    ),
}


def main() -> None:
    """Makes what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(AGENTS)} (default: those missing)")
    parser.add_argument("--storage-path", type=Path, default=Path("~/ray_results/pretrained"), metavar="DIR")
    parser.add_argument("--table", action="store_true", help="only write the table of docs/agents.md")
    parser.add_argument("--again", action="store_true", help="train again what has been trained")
    args = parser.parse_args()
    for name in args.names:
        checks.choice("NAME", name, AGENTS)
    missing = [name for name in AGENTS if name not in pretrained.names()]
    for name in [] if args.table else args.names or missing:
        make(name, args.storage_path.expanduser(), args.again)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(r"^\| name \|.*?(?=\n\n)", table(), page, flags=re.M | re.S), encoding="utf-8")


def table() -> str:
    """What the files that are there state, as docs/agents.md has it."""
    lines = ["| name | plays | trained by | greedy return |", "|---|---|---|---|"]
    for name in pretrained.names():
        file = pretrained.find(name)
        told = origin(file)
        spread = f" ± {told['return_std']:.3g}" if told["return_std"] else ""
        played = f"{told['return_mean']:.4g}{spread} ({told['episodes']:,} episodes)"
        example = f"`{told['file']}`, seed {told['seed']}"
        env = rllib_stpn.load(name).env_id.removeprefix("stpn_envs:")
        lines.append(f"| `{name}` | `{env}` | {example} | {played} |")
    return "\n".join(lines)


def make(name: str, storage: Path, again: bool) -> None:
    """Trains one agent, plays it, and writes its file."""
    recipe = AGENTS[name]
    trained = storage / name / "trained"
    if again or not trained.exists():
        command = [str(Path(sys.executable).with_name("rllib")), *recipe.command()[1:]]
        command += ["--storage-path", str(storage), "-n", name, *([] if again else ["--resume"])]
        subprocess.run(command, check=True, cwd=REPOSITORY)
        trained.touch()
    checkpoint = find_checkpoint(storage / name)
    if recipe.plays is not None:
        checkpoint = as_agent(recipe, checkpoint, storage / f"{name}_agent")
    played = evaluate(load(checkpoint), recipe.episodes, seed=FIRST_SEED, num_envs=64, energy=True)
    summary = played.summary()
    stated = {
        "file": f"tuned_examples/{recipe.file}.yaml",
        "seed": recipe.seed,
        "command": shlex.join(recipe.command()),
        "versions": provenance.versions(),
        "episodes": recipe.episodes,
        "first_seed": FIRST_SEED,
        **{key: summary[key] for key in ("return_mean", "return_std", "energy_per_step")},
    }
    file = FOLDER / f"{name}.safetensors"
    write(checkpoint, file, stated)
    told = f"return {summary['return_mean']:.6g} ± {summary['return_std']:.4g} over {recipe.episodes} episodes"
    print(f"{file}: {file.stat().st_size:,} bytes, {told}", flush=True)


def as_agent(recipe: Recipe, checkpoint: Path, folder: Path) -> Path:
    """Writes the checkpoint of an agent with the layer and read-out of supervised training; its value is untrained."""
    _, module = supervised.load(checkpoint)
    (experiment,) = rllib_stpn.experiments.load(REPOSITORY / f"tuned_examples/{recipe.file}.yaml")
    config = A2CConfig().environment(recipe.plays).env_runners(num_env_runners=0)
    config.rl_module(rl_module_spec=spec_from_model_dict(experiment.config["model"]))
    algo = config.build_algo()
    try:
        weights = {f"encoder.encoder.layer.{name}": value for name, value in module.layer.state_dict().items()}
        weights |= {f"pi.net.mlp.0.{name}": value for name, value in module.readout.state_dict().items()}
        learned = algo.learner_group._learner.module["default_policy"]
        assert learned.load_state_dict(weights, strict=False).unexpected_keys == []
        algo.save_to_path(folder)
    finally:
        algo.stop()
    return folder


if __name__ == "__main__":
    main()
