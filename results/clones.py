"""Clones of an expert that remembers: behaviour cloning from its recorded episodes, with and without memory.

    python results/clones.py --storage-path ~/studies

For each seed a PPO with an LSTM learns CartPole without velocities, plays on with a learning rate of 0 and records its
episodes, and BC trains each layer on them. The mean returns of experts and clones go to results/clones. Interrupted at
any time, the same command goes on where it was. Other options, such as --ray-num-cpus 2, go to `rllib train`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import yaml

import rllib_stpn
from rllib_stpn.report.palette import COLOURS

RLLIB = Path(sys.executable).with_name("rllib")
OUT = Path(__file__).parent / "clones"
LAYERS = ("stpn", "lstm", "mlp")
STEPS = "num_env_steps_sampled_lifetime"
RECORDED = 60_000  # steps, for the clones to learn from
EPISODES = 200  # that each agent is judged by

SAMPLING = {"num_env_runners": 0, "num_envs_per_env_runner": 16, "rollout_fragment_length": 32}
#: Those of tests/algorithms/test_learning_ppo.py, without the filter: what is recorded has to be what BC is shown.
PPO = {
    "gamma": 0.99,
    "lambda_": 0.95,
    "lr": 0.002,
    "vf_loss_coeff": 0.002,  # returns up to 500 would drown the policy's gradient
    "vf_clip_param": float("inf"),
    "clip_param": 0.2,
    "use_kl_loss": False,
    "entropy_coeff": 0.01,
    "grad_clip": 0.5,
    "train_batch_size": 512,
    "minibatch_size": 256,
    "num_epochs": 4,
}


def model(layer: str) -> dict:
    """A ``model`` block: everything but the layer is the same."""
    sizes = {"custom_model_config": {"hidden_size": 32}, "max_seq_len": 32, "fcnet_hiddens": [64]}
    return {"custom_model": layer, **sizes}


def train(name: str, run: str, config: dict, stop: dict, storage: Path, options: list[str]) -> Path:
    """Runs what is left of a training, and returns its directory."""
    experiment = {name: {"run": run, "env": "StatelessCartPole", "stop": stop, "config": config}}
    (storage / f"{name}.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")
    command = [RLLIB, "train", "-f", storage / f"{name}.yaml", "--storage-path", storage, "--resume", *options]
    subprocess.run([*command, "--checkpoint-freq", "20", "--keep-checkpoints-num", "1"], check=True)
    (trial,) = (found.parent for found in (storage / name).glob("*/result.json"))
    return trial


def mean_return(trial: Path) -> float:
    """The mean return of an agent's newest checkpoint, with actions drawn as in training."""
    agent = rllib_stpn.load(trial)
    return float(np.mean(rllib_stpn.evaluate(agent, episodes=EPISODES, explore=True, seed=0).returns))


def table(returns: dict[str, list[float]]) -> str:
    """The mean returns, a column for each seed, in Markdown."""
    seeds = range(len(returns["expert"]))
    names = {"expert": "expert: PPO, LSTM"} | {layer: f"clone: BC, {layer.upper()}" for layer in LAYERS}
    rows = [[names[name], *(f"{value:.0f}" for value in values)] for name, values in returns.items()]
    lines = [["", *(f"seed {seed}" for seed in seeds)], ["---"] * (1 + len(seeds)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Trains, plays, draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage-path", type=Path, default=Path("~/ray_results/studies"))
    parser.add_argument("--seeds", type=int, default=3)
    args, options = parser.parse_known_args()
    storage = args.storage_path.expanduser().absolute() / "clones"
    storage.mkdir(parents=True, exist_ok=True)
    returns: dict[str, list[float]] = {name: [] for name in ("expert", *LAYERS)}
    for seed in range(args.seeds):
        ppo = {**SAMPLING, **PPO, "model": model("lstm"), "seed": seed}
        good = {"env_runners/episode_return_mean": 400, STEPS: 1_000_000}
        expert = train(f"expert_{seed}", "PPO", ppo, good, storage, options)
        (newest,) = expert.glob("checkpoint_*")
        recorded = storage / f"recorded_{seed}"
        playing = {"lr": 0.0, "env_runner_cls": "single_agent", "output": str(recorded)}
        begun = json.loads((newest / "last_result.json").read_text(encoding="utf-8"))[STEPS]
        enough = {STEPS: begun + RECORDED}
        train(f"record_{seed}", "PPO", ppo | playing, enough, storage, [*options, "--restore", str(newest)])
        returns["expert"].append(mean_return(expert))
        for layer in LAYERS:
            cloning = {"input": str(recorded), "train_batch_size": 32, "lr": 0.002, "grad_clip": 0.5, "seed": seed}
            cloning |= {"model": model(layer), **({"burnin_len": 8} if layer != "mlp" else {"train_batch_size": 1024})}
            clone = train(f"{layer}_{seed}", "BC", cloning, {"training_iteration": 300}, storage, options)
            returns[layer].append(mean_return(clone))
        print({name: [round(value, 1) for value in values] for name, values in returns.items()}, flush=True)

    figure, axis = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for place, (name, values) in enumerate(returns.items()):
        axis.bar(place, np.mean(values), color=COLOURS.get(name, "grey"), alpha=0.5)
        axis.plot([place] * len(values), values, "o", color=COLOURS.get(name, "grey"), markeredgecolor="black")
    labels = ["expert\n(PPO, LSTM)", *(f"{layer}\n(BC)" for layer in LAYERS)]
    axis.set(xticks=range(len(returns)), xticklabels=labels, ylabel="mean return", ylim=(0, 500))
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / "clones.png", dpi=90)
    (OUT / "clones.json").write_text(json.dumps(returns, indent=1) + "\n", encoding="utf-8")
    print(table(returns))


if __name__ == "__main__":
    main()
