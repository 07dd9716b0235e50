"""What works with our layers: spaces, env runners and algorithms, and what users do beside them.

    python benchmarks/what_works.py            # runs the cells that are not in what_works.jsonl beside it
    python benchmarks/what_works.py --write    # writes docs/what_works.md from that file

A cell is two short iterations with an STPN in this process, after which weights have changed and are finite: it
"trains". Or it is refused before Ray starts, with the sentence that a user reads. The exit code is 1 where a cell is
neither. Interrupted, the same command goes on; a line that is deleted from the file is run again.
"""

import argparse
import functools
import json
import logging
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import ray
import torch
from gymnasium import spaces
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.env_to_module import FlattenObservations, PrevActionsPrevRewards
from ray.rllib.connectors.env_to_module.frame_stacking import FrameStackingEnvToModule
from ray.rllib.connectors.learner.frame_stacking import FrameStackingLearner
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.examples.connectors.classes.count_based_curiosity import CountBasedCuriosity
from ray.rllib.examples.connectors.classes.euclidian_distance_based_curiosity import EuclidianDistanceBasedCuriosity
from ray.rllib.examples.learners.classes.custom_ppo_loss_fn_learner import PPOTorchLearnerWithWeightRegularizerLoss
from ray.rllib.examples.learners.classes.intrinsic_curiosity_learners import (
    ICM_MODULE_ID,
    PPOTorchLearnerWithCuriosity,
)
from ray.rllib.examples.learners.classes.separate_vf_lr_and_optimizer_learner import (
    PPOTorchLearnerWithSeparateVfOptimizer,
)
from ray.rllib.examples.rl_modules.classes.intrinsic_curiosity_model_rlm import IntrinsicCuriosityModel
from ray.rllib.examples.rl_modules.classes.lstm_containing_rlm import LSTMContainingRLModule
from ray.tune import register_env

import rllib_stpn
from rllib_stpn import recurrent_spec, use_batched_rollouts
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import compatibility
from rllib_stpn.experiments.building import build_config, validate

DOCUMENT = Path(__file__).parents[1] / "docs" / "what_works.md"
CELLS = Path(__file__).with_suffix(".jsonl")
TRAINS, REFUSED, FAILS = "trains", "refused", "fails"
BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (8, 8, 3), np.uint8)
OBSERVATIONS = {
    "`Box`, vector": BOX,
    "`Box`, image": IMAGE,
    "`Box`, matrix": spaces.Box(-1.0, 1.0, (3, 2), np.float32),
    "`Discrete`": spaces.Discrete(4),
    "`MultiDiscrete`": spaces.MultiDiscrete([3, 4]),
    "`MultiBinary`": spaces.MultiBinary(4),
    "`Dict`, image and vector": spaces.Dict({"image": IMAGE, "vector": BOX}),
    "`Tuple`": spaces.Tuple([spaces.Discrete(3), BOX]),
    "`Dict` with `Text`": spaces.Dict({"mission": spaces.Text(5), "vector": BOX}),
    "`Dict` with `action_mask`": spaces.Dict({"action_mask": spaces.MultiBinary(2), "vector": BOX}),
    "`Text`": spaces.Text(5),
    "`Sequence`": spaces.Sequence(BOX),
}
ACTIONS = {
    "`Discrete`": spaces.Discrete(2),
    "`Discrete`, from 5": spaces.Discrete(2, start=5),
    "`MultiDiscrete`": spaces.MultiDiscrete([2, 3]),
    "`MultiBinary`": spaces.MultiBinary(2),
    "`Box`": spaces.Box(-2.0, 3.0, (2,), np.float32),
    "`Dict`": spaces.Dict({"move": spaces.Discrete(2), "push": spaces.Box(-1.0, 1.0, (1,), np.float32)}),
}
FIRST_OBSERVATION, FIRST_ACTION = next(iter(OBSERVATIONS)), next(iter(ACTIONS))
RUNNERS = {"batched": "batched rollouts", "single_agent": "RLlib's own env runner"}
#: Family: its algorithms, each with its env runners, and which spaces are tried: every observation with every action,
#: each of them with the first of the others, or one pair, where the model is refused whatever the spaces are.
FAMILIES: dict[str, tuple[dict[str, tuple[str | None, ...]], str]] = {
    "PPO and A2C": ({"PPO": ("batched", "single_agent"), "A2C": ("batched", "single_agent")}, "every"),
    "IMPALA and APPO": ({"IMPALA": (None,), "APPO": (None,)}, "each"),
    "DQN": ({"DQN": (None,)}, "each"),
    "BC and MARWIL": ({"BC": (None,), "MARWIL": (None,)}, "each"),
    "Others": (dict.fromkeys(("SAC", "TQC", "CQL", "IQL", "DreamerV3"), (None,)), "one"),
}
RECORDED = ("BC", "MARWIL")


class Sampled(gym.Env):
    """Observations drawn from a space, episodes of seven steps."""

    def __init__(self, observations: spaces.Space, actions: spaces.Space) -> None:
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        return self._shown(), float(self.t % 3), False, self.t >= 7, {}

    def _shown(self) -> Any:
        shown = self.observation_space.sample()
        if isinstance(shown, dict) and "action_mask" in shown:
            shown["action_mask"][:] = 1
            shown["action_mask"][0] = self.t % 2
        return shown


# --- a cell -----------------------------------------------------------------------------------------------------------


def outcome(make: Callable[[], Any], prepared: bool) -> tuple[str, str]:
    """How a configuration fares: ``TRAINS``, ``REFUSED`` with the sentence or ``FAILS`` with the error."""
    try:
        config = make()
        compatibility.check(config, prepared=prepared, known={})
        validate(config)
    except UsageError as error:
        return REFUSED, " ".join(str(error).split())
    except Exception as error:
        return FAILS, _told(error)
    try:
        algo = config.build_algo()
        try:
            return (TRAINS, "") if learns(algo) else (FAILS, "weights stay, or are not finite")
        finally:
            algo.stop()
    except Exception as error:
        return FAILS, _told(error)


def learns(algo: Any) -> bool:
    """Whether two iterations change the weights; algorithms whose results come late have more."""

    def weights() -> dict[str, np.ndarray]:
        of_modules = algo.learner_group.get_weights()
        return {f"{m}/{key}": np.array(value) for m, each in of_modules.items() for key, value in each.items()}

    before = weights()
    for iteration in range(100):
        algo.train()
        after = weights()
        if iteration and any((after[key] != value).any() for key, value in before.items()):
            return all(np.isfinite(value).all() for value in after.values())
    return False


def _told(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[-300:]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno})"


# --- spaces -----------------------------------------------------------------------------------------------------------


def settings(run: str, runner: str | None, observations: spaces.Space) -> dict[str, Any]:
    """The smallest training of an algorithm, as a YAML file would have it."""
    model: dict[str, Any] = {"custom_model": "stpn", "custom_model_config": {"hidden_size": 4}, "max_seq_len": 4}
    parts = observations.spaces.values() if isinstance(observations, spaces.Dict) else [observations]
    if IMAGE in parts:
        model["conv_filters"] = [[4, 4, 2]]
    own = {"env": "sampled", "model": model, "lr": 0.01, "num_env_runners": 0, "num_envs_per_env_runner": 2}
    own |= {"train_batch_size": 32, "rollout_fragment_length": 8, "min_time_s_per_iteration": 0}
    if runner:
        own["env_runner_cls"] = runner
    if run == "PPO":
        own |= {"train_batch_size": 32, "minibatch_size": 16, "num_epochs": 1}
    elif run == "A2C":
        own |= {"train_batch_size": 16}
    elif run in ("IMPALA", "APPO"):
        own |= {"num_learners": 0, "min_sample_timesteps_per_iteration": 32}
        own |= {"num_aggregator_actors_per_learner": 0}
    elif run == "DQN":
        own |= {"num_steps_sampled_before_learning_starts": 16, "min_sample_timesteps_per_iteration": 32}
        own |= {"rollout_fragment_length": 4, "burn_in_len": 1}
    elif run in RECORDED:
        own |= {"num_envs_per_env_runner": 1, "train_batch_size": 16, "dataset_num_iters_per_learner": 1}
        del own["rollout_fragment_length"]
    else:
        own = {"env": "sampled", "model": model}
    return own


def of_spaces(run: str, runner: str | None, observations: spaces.Space, actions: spaces.Space) -> tuple[str, str]:
    """A cell of the tables of spaces; a mask is one of all values of the actions."""
    if isinstance(observations, spaces.Dict) and "action_mask" in observations.spaces:
        counts = getattr(actions, "nvec", [2] * actions.n if isinstance(actions, spaces.MultiBinary) else [2])
        observations = spaces.Dict({**observations.spaces, "action_mask": spaces.MultiBinary(int(np.sum(counts)))})
    register_env("sampled", functools.partial(_sampled, observations, actions))
    own = settings(run, runner, observations)
    if run not in RECORDED:
        return outcome(lambda: build_config(run, own), prepared=True)
    folder = tempfile.mkdtemp()
    try:
        recorder = {**settings("PPO", "single_agent", observations), "output": folder, "output_max_rows_per_file": 4}
        how, why = outcome(lambda: build_config("PPO", recorder), prepared=True)
        return outcome(lambda: build_config(run, {**own, "input_": folder}), True) if how == TRAINS else (how, why)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sampled(observations: spaces.Space, actions: spaces.Space, context: Any) -> gym.Env:
    return Sampled(observations, actions)


# --- habits -----------------------------------------------------------------------------------------------------------


class NewCallbacks(RLlibCallback):
    """As RLlib documents them today."""

    def on_episode_step(self, *, episode: Any, env: Any, env_index: int, **kwargs: Any) -> None:
        episode.custom_data.setdefault("seen", []).append(float(np.sum(episode.get_observations(-1))))

    def on_episode_end(self, *, episode: Any, metrics_logger: Any, **kwargs: Any) -> None:
        metrics_logger.log_value("seen", float(np.mean(episode.custom_data["seen"])))

    def on_train_result(self, *, result: dict, **kwargs: Any) -> None:
        result["mine"] = 1


class OldCallbacks(RLlibCallback):
    """With the arguments of the old API stack."""

    def on_episode_end(self, *, worker: Any, base_env: Any, policies: Any, episode: Any, **kwargs: Any) -> None:
        episode.custom_metrics["length"] = episode.length


class Piece(ConnectorV2):
    """A connector that only knows episodes."""

    def __call__(self, *, batch: Any, **kwargs: Any) -> Any:
        return batch


class BatchedPiece(Piece):
    """The same with a form on arrays."""

    def batched(self, array: np.ndarray) -> np.ndarray:
        return array


class Short(gym.Wrapper):
    """A wrapper of one's own, with an argument of its own."""

    def __init__(self, env: gym.Env, steps: int = 9) -> None:
        super().__init__(gym.wrappers.TimeLimit(env, steps))


def _wrapped(context: Any) -> gym.Env:
    return Short(gym.make("CartPole-v1"))


def _images(context: Any) -> gym.Env:
    return Sampled(spaces.Box(0.0, 1.0, (8, 8, 1), np.float32), ACTIONS[FIRST_ACTION])


def _evaluate(algorithm: Any, env_runner_group: Any) -> tuple[dict, int, int]:
    env_runner_group.foreach_env_runner(lambda runner: runner.sample(num_episodes=1), local_env_runner=False)
    return {"mine": 1}, 10, 10


def base() -> PPOConfig:
    """A PPO with an STPN, as short as can be."""
    config = PPOConfig().environment("CartPole-v1").training(train_batch_size=32, minibatch_size=16, num_epochs=1)
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=2, rollout_fragment_length=8)
    return config.rl_module(rl_module_spec=recurrent_spec("stpn", hidden_size=4, max_seq_len=4)).training(lr=0.01)


def _icm(config: PPOConfig) -> PPOConfig:
    hiddens = {f"{net}_net_{what}": value for net in ("feature", "inverse", "forward") for what, value in _NET.items()}
    model = RLModuleSpec(module_class=IntrinsicCuriosityModel, learner_only=True, model_config=hiddens)
    model.model_config["feature_dim"] = 4
    specs = {"default_policy": recurrent_spec("stpn", hidden_size=4, max_seq_len=4), ICM_MODULE_ID: model}
    config.rl_module(
        rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs),
        algorithm_config_overrides_per_module={ICM_MODULE_ID: PPOConfig.overrides(lr=0.0005)},
    )
    weights = {"intrinsic_reward_coeff": 0.05, "forward_loss_weight": 0.2}
    return config.training(learner_config_dict=weights, learner_class=PPOTorchLearnerWithCuriosity)


_NET = {"hiddens": (4,), "activation": "relu"}


def _separate_values(config: PPOConfig) -> PPOConfig:
    config.rl_module(rl_module_spec=recurrent_spec("stpn", hidden_size=4, max_seq_len=4, vf_share_layers=False))
    learner = PPOTorchLearnerWithSeparateVfOptimizer
    return config.training(learner_class=learner, learner_config_dict={"lr_vf": 0.002})


def _own_loss(config: PPOConfig) -> PPOConfig:
    learner = PPOTorchLearnerWithWeightRegularizerLoss
    return config.training(learner_class=learner, learner_config_dict={"regularizer_coeff": 0.02})


def _stacked_frames(config: PPOConfig) -> PPOConfig:
    spec = recurrent_spec("stpn", hidden_size=4, max_seq_len=4, conv_filters=[[4, 4, 2]])
    config.environment("images").rl_module(rl_module_spec=spec)
    register_env("images", _images)
    config.env_runners(env_to_module_connector=lambda env, spaces, device: FrameStackingEnvToModule(num_frames=2))
    return config.learners(learner_connector=lambda *spaces: FrameStackingLearner(num_frames=2))


def _own_lstm(config: PPOConfig) -> PPOConfig:
    model = {"lstm_cell_size": 4, "dense_layers": [4], "max_seq_len": 4}
    return config.rl_module(rl_module_spec=RLModuleSpec(module_class=LSTMContainingRLModule, model_config=model))


def _recorded(config: PPOConfig) -> PPOConfig:
    return config.offline_data(output=tempfile.mkdtemp(), output_write_episodes=True)


def _registered(config: PPOConfig) -> PPOConfig:
    register_env("wrapped", _wrapped)
    return config.environment("wrapped")


def _wrappers_by_name(config: PPOConfig) -> PPOConfig:
    wrappers = [{"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 9}}, "gymnasium.wrappers.NormalizeReward"]
    return config.environment("stpn_envs.Wrapped", env_config={"env": "CartPole-v1", "wrappers": wrappers})


def _previous(env: Any, spaces: Any, device: Any) -> list[ConnectorV2]:
    return [PrevActionsPrevRewards(n_prev_actions=1, n_prev_rewards=1), FlattenObservations()]


def _scheduled(config: PPOConfig) -> PPOConfig:
    schedule = functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)
    return config.experimental(_torch_lr_scheduler_classes=[schedule])


_PARALLEL = {"evaluation_num_env_runners": 1, "evaluation_parallel_to_training": True}
_EVALUATED = {"evaluation_interval": 1, "evaluation_duration": 2}
HABITS: dict[str, Callable[[Any], Any]] = {
    "wrappers, `stpn_envs.Wrapped`": _wrappers_by_name,
    "wrappers in a registered environment": _registered,
    "callbacks, a class": lambda c: c.callbacks(NewCallbacks),
    "callbacks, a list of classes": lambda c: c.callbacks([NewCallbacks, RLlibCallback]),
    "callbacks, functions": lambda c: c.callbacks(on_train_result=lambda *, result, **kwargs: None),
    "callbacks with the old stack's arguments": lambda c: c.callbacks(OldCallbacks),
    "`env_to_module_connector` of one's own": lambda c: c.env_runners(env_to_module_connector=lambda *a, **k: Piece()),
    "the same with a method `batched`": lambda c: c.env_runners(env_to_module_connector=lambda *a, **k: BatchedPiece()),
    "`module_to_env_connector` of one's own": lambda c: c.env_runners(module_to_env_connector=lambda *a, **k: Piece()),
    "`learner_connector` of one's own": lambda c: c.learners(learner_connector=Piece),
    "RLlib's `PrevActionsPrevRewards`": lambda c: c.env_runners(env_to_module_connector=_previous),
    "RLlib's frame stacking, images": _stacked_frames,
    "RLlib's curiosity by counts": lambda c: c.learners(learner_connector=CountBasedCuriosity),
    "RLlib's curiosity by distances": lambda c: c.learners(learner_connector=EuclidianDistanceBasedCuriosity),
    "RLlib's curiosity by a model (ICM)": _icm,
    "RLlib's separate rate for the values": _separate_values,
    "RLlib's loss of one's own": _own_loss,
    "torch's schedules of the rate": _scheduled,
    "RLlib's module with an LSTM of its own": _own_lstm,
    "`torch_compile_learner`": lambda c: c.framework(torch_compile_learner=True),
    "`torch_compile_worker`": lambda c: c.framework(torch_compile_worker=True),
    "evaluation in the trial's process": lambda c: c.evaluation(**_EVALUATED),
    "evaluation in parallel": lambda c: c.evaluation(**_EVALUATED, **_PARALLEL),
    "an evaluation function of one's own": lambda c: c.evaluation(
        **_EVALUATED, evaluation_num_env_runners=1, custom_evaluation_function=_evaluate
    ),
    "recorded episodes, `output`": _recorded,
    "whole episodes, `batch_mode`": lambda c: c.env_runners(batch_mode="complete_episodes"),
    "two remote env runners": lambda c: c.env_runners(num_env_runners=2),
    "environments in processes": lambda c: c.env_runners(gym_env_vectorize_mode="async"),
    "a remote learner": lambda c: c.learners(num_learners=1),
}


def of_habit(name: str, runner: str) -> tuple[str, str]:
    """A cell of the table of habits, set up in a Python file."""

    def make() -> Any:
        config = HABITS[name](base())
        return build_config("PPO", {}, use_batched_rollouts(config) if runner == "batched" else config)

    return outcome(make, prepared=False)


# --- all of them ------------------------------------------------------------------------------------------------------


def cells() -> Iterator[tuple[list[Any], Callable[[], tuple[str, str]]]]:
    """Every cell: what it is of, and how it is run."""
    for name in HABITS:
        for runner in RUNNERS:
            yield ["habit", name, runner], functools.partial(of_habit, name, runner)
    for algorithms, tried in FAMILIES.values():
        for observation, action in pairs(tried):
            for run, runners in algorithms.items():
                for runner in runners:
                    spaces_of = (OBSERVATIONS[observation], ACTIONS[action])
                    yield [run, runner, observation, action], functools.partial(of_spaces, run, runner, *spaces_of)


def pairs(tried: str) -> list[tuple[str, str]]:
    """Observations and actions that are tried together."""
    first_row = [(FIRST_OBSERVATION, action) for action in ACTIONS]
    first_column = [(observation, FIRST_ACTION) for observation in OBSERVATIONS]
    every = [(observation, action) for observation in OBSERVATIONS for action in ACTIONS]
    return {"every": every, "each": list(dict.fromkeys([*first_row, *first_column])), "one": first_row[:1]}[tried]


def run(file: Path) -> None:
    """Runs the cells that are not in the file yet."""
    known = read(file)
    with file.open("a", encoding="utf-8") as out:
        for key, cell in cells():
            if json.dumps(key) in known:
                continue
            how, why = cell()
            print(f"{how:8} {key} {why}", flush=True)
            out.write(json.dumps([key, how, why]) + "\n")
            out.flush()


def read(file: Path) -> dict[str, tuple[str, str]]:
    """What the file has: how each cell fared, and why."""
    if not file.exists():
        return {}
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {json.dumps(key): (how, why) for key, how, why in lines}


# --- the page ---------------------------------------------------------------------------------------------------------


class Notes:
    """Footnotes of a table: each sentence once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def cell(self, found: dict[str, tuple[str, str]], keys: dict[str, list[Any]]) -> str:
        """How one or several runs fared, which stand apart by their labels where they differ."""
        told = {label: self._one(*found.get(json.dumps(key), ("", ""))) for label, key in keys.items()}
        if len(set(told.values())) == 1:
            return next(iter(told.values()))
        return "; ".join(f"{label}: {text}" for label, text in told.items())

    def _one(self, how: str, why: str) -> str:
        if how != REFUSED:
            return how or "not run"
        number = self._numbers.setdefault(why, len(self._numbers) + 1)
        return f"refused ({number})"

    def text(self) -> str:
        """The sentences, numbered."""
        return "\n".join(f"{number}. {why}" for why, number in self._numbers.items())


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def of_family(found: dict[str, tuple[str, str]], family: str) -> str:
    """The section of a family of algorithms."""
    algorithms, tried = FAMILIES[family]
    notes = Notes()
    short = {"batched": "batched", "single_agent": "RLlib's", None: ""}

    def cell(observation: str, action: str) -> str:
        keys = {
            f"{run} {short[runner]}".strip(): [run, runner, observation, action]
            for run, runners in algorithms.items()
            for runner in runners
        }
        return notes.cell(found, keys)

    if tried == "one":
        tables = [cell(*pairs(tried)[0]) + "."]
    elif tried == "every":
        tables = [table(["observations", *ACTIONS], [[o, *(cell(o, a) for a in ACTIONS)] for o in OBSERVATIONS])]
    else:
        rows = [[observation, cell(observation, FIRST_ACTION)] for observation in OBSERVATIONS]
        more = [[action, cell(FIRST_OBSERVATION, action)] for action in ACTIONS]
        tables = [
            table([f"observations, with {FIRST_ACTION} actions", family], rows),
            table([f"actions, with {FIRST_OBSERVATION} observations", family], more),
        ]
    return "\n\n".join(part for part in [f"## {family}", *tables, notes.text()] if part)


def of_habits(found: dict[str, tuple[str, str]]) -> str:
    """The section of habits."""
    notes = Notes()
    rows = [[name, *(notes.cell(found, {"": ["habit", name, runner]}) for runner in RUNNERS)] for name in HABITS]
    return "\n\n".join(["## Beside the model", table(["PPO with", *RUNNERS.values()], rows), notes.text()])


HEAD = """
# What works

Written by `benchmarks/what_works.py` from what it ran: two short iterations with an STPN for each cell, in one process;
BC and MARWIL on episodes that a PPO recorded. *trains*: weights changed and are finite. *refused*: before Ray starts,
with the numbered sentence below the table. How well something is learned is in [results.md](results.md) and
[learning.md](learning.md).
"""


def document(found: dict[str, tuple[str, str]]) -> str:
    """docs/what_works.md."""
    head = HEAD.strip()
    sections = [of_family(found, family) for family in FAMILIES]
    return "\n\n".join([head, of_habits(found), *sections]) + "\n"


def main() -> int:
    """Runs, and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="run nothing, write docs/what_works.md")
    args = parser.parse_args()
    if not args.write:
        warnings.simplefilter("ignore")
        ray.init(num_cpus=6, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        logging.getLogger("ray").setLevel(logging.ERROR)
        rllib_stpn.register()
        run(CELLS)
    found = read(CELLS)
    if args.write:
        DOCUMENT.write_text(document(found), encoding="utf-8")
    failed = [(key, why) for key, (how, why) in found.items() if how == FAILS]
    for key, why in failed:
        print(f"{FAILS}    {key} {why}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
