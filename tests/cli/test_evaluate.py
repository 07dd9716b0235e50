"""``rllib evaluate``: the same returns as a loop written by hand and as evaluation inside training."""

import json
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.env.env_errors import StepFailedRecreateEnvError
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.tune.registry import register_env

import rllib_stpn
from rllib_stpn.agents import video
from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.cli import evaluating
from rllib_stpn.cli.main import main
from rllib_stpn.models import recurrent_spec
from rllib_stpn.supervised import Supervised, evaluate, load

NUM_ENVS, SEED = 3, 7
EVALUATION_SEED = 1_000_000 + SEED  # RLlib's of the first environment that evaluates
MAZE = "stpn_envs:stpn/MazeSmall-v0"
STOCK = PPOConfig().env_runners(env_runner_cls=SingleAgentEnvRunner)
# name: (config, environment, model (None: RLlib's own)); episodes have a fixed length
CASES = {
    "batched-maze": (
        A2CConfig().environment(env_config={"wall_penalty": np.float32(0.5)}),
        MAZE,
        recurrent_spec("stpn", hidden_size=8, gamma_init_scale=1.0),
    ),
    "batched-pendulum": (A2CConfig(), "Pendulum-v1", recurrent_spec("rnn", hidden_size=8, vf_share_layers=False)),
    "stock-pendulum": (STOCK, "Pendulum-v1", None),
}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, ray_session):
    """A checkpoint of each case, and the mean return of evaluation inside training."""
    root = tmp_path_factory.mktemp("evaluated")
    returns = {}
    for case, (config, env, spec) in CASES.items():
        config = config.copy(copy_frozen=False).environment(env).debugging(seed=SEED)
        config.env_runners(num_env_runners=0, num_envs_per_env_runner=NUM_ENVS, rollout_fragment_length=10)
        config.evaluation(evaluation_duration=NUM_ENVS, evaluation_interval=100, evaluation_config={"explore": False})
        if spec is not None:
            config.rl_module(rl_module_spec=spec)
        algo = config.build_algo()
        try:
            returns[case] = algo.evaluate()["env_runners"]["episode_return_mean"]
            algo.save_to_path(root / case)
        finally:
            algo.stop()
    return root, returns


def by_hand(checkpoint, seed) -> tuple[float, int]:
    """Return and length of one greedy episode."""
    agent = rllib_stpn.load(checkpoint)
    env = agent.make_env()
    observation, _ = env.reset(seed=seed)
    state, total, length, done = None, 0.0, 0, False
    while not done:
        (action,), state = agent.step(observation[None], state)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, length, done = total + reward, length + 1, terminated or truncated
    return total, length


class Played(list):
    """The episodes as they end."""

    def ended(self, episode):
        self.append(episode)

    def stepped(self, steps):
        pass


def play(checkpoint, **options):
    """The episodes of an evaluation, in the order of their seeds."""
    played = Played()
    rllib_stpn.evaluate(checkpoint, watch=played, **options)
    return sorted(played, key=lambda episode: episode.seed)


@pytest.mark.parametrize("case", CASES)
def test_the_command_training_and_a_loop_by_hand_agree_on_the_returns_of_listed_seeds(evaluated, tmp_path, case):
    root, returns = evaluated
    file = tmp_path / "results.json"
    options = ["--episodes", str(NUM_ENVS), "--seed", str(EVALUATION_SEED), "--out", str(file)]
    assert main(["evaluate", str(root / case), *options]) == 0
    episodes = json.loads(file.read_text())["episodes"]
    assert [episode["seed"] for episode in episodes] == [EVALUATION_SEED + i for i in range(NUM_ENVS)]
    assert np.mean([episode["return"] for episode in episodes]) == pytest.approx(returns[case], rel=1e-5)
    for episode in episodes:
        assert (episode["return"], episode["length"]) == pytest.approx(by_hand(root / case, episode["seed"]), rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_returns_are_the_same_with_any_number_of_environments(evaluated, case):
    root, _ = evaluated
    runs = [play(root / case, episodes=9, seed=3, num_envs=k, energy=case != "stock-pendulum") for k in (1, 4, 9)]
    assert [episode.seed for episode in runs[0]] == list(range(3, 12))
    energies = [[episode.energy for episode in run] for run in runs]
    assert energies[1:] == [pytest.approx(energies[0], rel=1e-5)] * 2  # a sum over another batch rounds otherwise
    played = [[(episode.seed, episode.reward, episode.length) for episode in run] for run in runs]
    assert played[0] == played[1] == played[2]
    if case != "batched-maze":  # where all start at the centre
        assert len({episode.reward for episode in runs[0]}) == 9


@pytest.mark.parametrize("case", ["batched-pendulum", "stock-pendulum"])
def test_an_episode_of_sampled_actions_does_not_depend_on_the_others(evaluated, case):
    root, _ = evaluated
    runs = [play(root / case, episodes=n, seed=3, num_envs=k, explore=True) for n, k in ((11, 11), (11, 4), (11, 1))]
    runs.append(play(root / case, episodes=2, seed=12, explore=True))
    played = [[(episode.seed, episode.reward, episode.length) for episode in run] for run in runs]
    assert played[0] == played[1] == played[2]
    assert played[0][9:] == played[3]
    assert len({reward for _, reward, _ in played[0]}) == 11


def test_sampled_actions_come_from_the_seed(evaluated):
    root, _ = evaluated
    first, again, other = (
        [e.reward for e in play(root / "stock-pendulum", episodes=3, seed=seed, explore=True)] for seed in (3, 3, 4)
    )
    assert first == again
    assert first[1:] == other[:2]  # the same seeds
    assert first != [e.reward for e in play(root / "stock-pendulum", episodes=3, seed=3)]


def test_the_command_prints_and_writes_what_came_of_it(evaluated, rllib, tmp_path):
    root, _ = evaluated
    done = rllib(
        "evaluate", root / "batched-maze", "--episodes", 5, "--seed", 20, "--energy", "--out", "r.json", "-v",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "r.json").read_text())
    expected = play(root / "batched-maze", episodes=5, seed=20, energy=True)
    assert results["episodes"] == [
        {"seed": e.seed, "return": e.reward, "length": 100, "energy": e.energy} for e in expected
    ]
    returns, energy = [e.reward for e in expected], sum(e.energy for e in expected)
    assert (results["return_mean"], results["return_std"]) == pytest.approx((np.mean(returns), np.std(returns, ddof=1)))
    assert results["energy_per_step"] == pytest.approx(energy / 500)
    assert results["energy_per_episode"] == pytest.approx(energy / 5)
    assert ("energy_per_reward" in results) == (sum(returns) > 0)
    assert (results["env"], results["algorithm"]) == (MAZE, "A2C")
    assert results["env_config"] == {"wall_penalty": 0.5}  # a number, though NumPy's
    assert {"ray", "torch", "rllib-stpn"} <= set(results["versions"])
    assert "A2C on stpn_envs:stpn/MazeSmall-v0: 5 episodes, seeds 20 to 24, greedy actions" in done.stdout
    told = re.search(r"^return +(-?[\d.]+)(?: ± ([\d.]+))? \(least", done.stdout, re.MULTILINE)
    assert told, done.stdout
    deviation = np.std(returns, ddof=1)
    near = pytest.approx((np.mean(returns), deviation), abs=0.06 * deviation + 1e-6)  # two digits of the deviation
    assert tuple(float(each or 0) for each in told.groups()) == near
    assert "length      100 steps" in done.stdout
    assert f"energy      {energy / 500:.4g} per step" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("   ")] == [
        "seed", "20", "21", "22", "23", "24"
    ]  # fmt: skip


def test_the_video_shows_environment_and_fast_weights(evaluated, tmp_path, capsys, monkeypatch):
    root, _ = evaluated
    monkeypatch.setattr(evaluating, "_PROGRESS_EVERY", 0.0)
    file = tmp_path / "maze.gif"
    assert main(["evaluate", str(root / "batched-maze"), "--episodes", "2", "--seed", "4", "--video", str(file)]) == 0
    told = capsys.readouterr()
    assert "101 frames of 100 steps" in told.out
    assert "  0 of 2 episodes, 20 steps, filming the first, 0:0" in told.err
    agent = rllib_stpn.load(root / "batched-maze")
    env = agent.make_env(render_mode="rgb_array")
    observation, _ = env.reset(seed=4)
    state, frames = None, []
    with Image.open(file) as film:
        assert film.n_frames == 101
        for number in range(60):
            (action,), state = agent.step(observation[None], state)
            film.seek(number)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
            picture = Image.fromarray(env.render()).resize((336, 336), Image.Resampling.LANCZOS)
            shown = frames[-1][44 : 44 + 336, 12 : 12 + 336]
            assert np.abs(shown - np.asarray(picture)).mean() < 12
            observation, *_ = env.step(action)
    fast = agent.fast_weights(state)["F"][0].numpy()  # [8, 25] in cells of 14 pixels
    cells = frames[-1][44 + 7 : 44 + 8 * 14 : 14, 360 + 7 : 360 + 25 * 14 : 14]  # their centres
    redder = cells[..., 0] - cells[..., 2]
    strong = np.abs(fast) > np.quantile(np.abs(fast), 0.8)
    assert np.sign(redder[strong]).tolist() == np.sign(fast[strong]).tolist()


def test_a_long_episode_is_thinned(evaluated, tmp_path, monkeypatch):
    root, _ = evaluated
    monkeypatch.setattr(video, "_MOST_FRAMES", 20)
    recorder = video.Recorder(str(tmp_path / "thin.gif"))
    rllib_stpn.evaluate(root / "batched-maze", episodes=1, recorder=recorder)
    assert recorder.save().startswith("26 frames of 100 steps")


def test_python_gets_the_same_numbers_as_arrays(evaluated):
    root, _ = evaluated
    found = rllib_stpn.evaluate(root / "batched-maze", episodes=3, seed=20, energy=True)
    episodes = play(root / "batched-maze", episodes=3, seed=20, energy=True)
    assert found.seeds.tolist() == [20, 21, 22]
    assert found.returns.tolist() == [episode.reward for episode in episodes]
    assert found.lengths.tolist() == [episode.length for episode in episodes]
    assert found.energies.tolist() == [episode.energy for episode in episodes]
    of_one = rllib_stpn.evaluate(rllib_stpn.load(root / "batched-maze"), episodes=1, num_envs=1)
    assert of_one.energies is None
    assert "return_std" not in of_one.summary()


def test_one_episode_is_told_without_a_deviation(evaluated, capsys):
    root, _ = evaluated
    assert main(["evaluate", str(root / "batched-maze"), "--episodes", "1"]) == 0
    told = capsys.readouterr().out
    assert "length      100 steps\n" in told
    assert "±" not in told


def test_python_gets_the_summary_that_the_command_writes(evaluated):
    root, _ = evaluated
    found = rllib_stpn.evaluate(root / "batched-maze", episodes=3, seed=20, energy=True)
    summary = found.summary()
    assert (summary["return_mean"], summary["return_max"]) == (found.returns.mean(), found.returns.max())
    assert (summary["length_mean"], summary["length_std"]) == (100, 0)
    assert summary["energy_per_episode"] == pytest.approx(100 * summary["energy_per_step"])
    assert [episode["return"] for episode in found.by_episode()] == found.returns.tolist()
    plain = rllib_stpn.evaluate(root / "batched-maze", episodes=1)
    assert not any(name.startswith("energy") for name in [*plain.summary(), *plain.by_episode()[0]])


@pytest.mark.parametrize("wrong", [{"episodes": 0}, {"seed": -1}, {"num_envs": True}])
def test_numbers_that_cannot_be_are_refused_in_python_too(evaluated, wrong):
    root, _ = evaluated
    with pytest.raises(rllib_stpn.UsageError, match=f"evaluate: {next(iter(wrong))}: got"):
        rllib_stpn.evaluate(root / "batched-maze", **wrong)


def error_of(capsys, *arguments) -> str:
    assert main(["evaluate", *map(str, arguments)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("rllib: error: "), err
    return err


def test_wrong_options_are_told_in_a_line(evaluated, tmp_path, capsys):
    maze, pendulum = evaluated[0] / "batched-maze", evaluated[0] / "stock-pendulum"
    for arguments, message in (
        ([tmp_path / "nowhere"], "no such directory"),
        ([tmp_path], "with nothing in it"),
        ([maze, "--episodes", 0], "--episodes: got 0, allowed is a whole number of at least 1"),
        ([maze, "--seed", -1], "--seed"),
        ([maze, "--video", "film.mp4"], "ends in .gif"),
        ([maze, "--out", tmp_path / "none/r.json"], "none/r.json cannot be written"),
        ([pendulum, "--energy"], "energy: got"),
    ):
        assert message in error_of(capsys, *arguments)


class Blind(gym.Env):
    """An environment without pictures."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 1.0, True, False, {}


def test_environments_that_are_not_known_or_cannot_be_shown_are_named(ray_session, rllib, tmp_path, capsys):
    register_env("registered-elsewhere", lambda context: Blind())
    config = A2CConfig().environment("registered-elsewhere").env_runners(num_env_runners=0)
    algo = config.rl_module(rl_module_spec=recurrent_spec("mlp", hidden_size=4)).build_algo()
    algo.save_to_path(tmp_path / "blind")
    algo.stop()
    assert [episode.reward for episode in play(tmp_path / "blind", episodes=2)] == [1.0, 1.0]
    assert "'rgb_array'" in error_of(capsys, tmp_path / "blind", "--video", tmp_path / "x.gif")
    elsewhere = rllib("evaluate", tmp_path / "blind")
    assert elsewhere.returncode == 2
    assert "environment 'registered-elsewhere': unknown here" in elsewhere.stderr


class Faulty(Blind):
    """Does at its second step, or as it is reset, in the episode of seed 5, what its class says."""

    fault = None

    def reset(self, *, seed=None, options=None):
        self.seed, self.t = seed, 0
        if seed == 5 and self.fault == "reset":
            raise ConnectionError("gone")
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.t += 1
        observation, reward, _, truncated, info = super().step(action)
        if self.seed == 5 and self.t == 2 and self.fault is not None:
            if isinstance(self.fault, Exception):
                raise self.fault
            reward = self.fault
        return observation, reward, self.t == 3, truncated, info


FAULTS = {
    "reset": ("reset", "ConnectionError: gone (the environment of seed 5, as it was reset; "),
    "raises": (ConnectionError("gone"), "ConnectionError: gone (the environment of seed 5, at step 2 of its episode; "),
    "wants to be made anew": (StepFailedRecreateEnvError("worn"), "worn (the environment of seed 5, at step 2 of its"),
    "reward": ("high", "the environment of seed 5 returned the reward 'high', which is no number, at step 2 of its"),
}


@pytest.fixture(scope="module")
def faulty(ray_session, tmp_path_factory):
    register_env("faulty-elsewhere", lambda context: Faulty())
    config = A2CConfig().environment("faulty-elsewhere").env_runners(num_env_runners=0)
    algo = config.rl_module(rl_module_spec=recurrent_spec("mlp", hidden_size=4)).build_algo()
    algo.save_to_path(path := tmp_path_factory.mktemp("faulty") / "checkpoint")
    algo.stop()
    return path


@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_environment_that_fails_is_told_with_seed_and_step(faulty, fault, num_envs, capsys, monkeypatch):
    what, message = FAULTS[fault]
    monkeypatch.setattr(Faulty, "fault", what)
    command = ["evaluate", str(faulty), "--episodes", "8", "--num-envs", str(num_envs)]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("rllib: failed: ") and message in err
    if fault != "reward":
        assert re.search(r"test_evaluate\.py:\d+\)$", err)
    assert main([*command, "--seed", "6"]) == 0


def test_supervised_checkpoints_are_evaluated_on_test_data(tmp_path, capsys):
    small = {"train_size": 300, "validation_size": 50, "test_size": 50}
    model = {"custom_model": "stpn", "custom_model_config": {"hidden_size": 5}}
    trainable = Supervised({"task": "associative_retrieval", "task_config": small, "model": model, "seed": 1})
    trainable.train()
    (tmp_path / "trial/checkpoint_000000").mkdir(parents=True)
    trainable.save_checkpoint(str(tmp_path / "trial/checkpoint_000000"))
    assert main(["evaluate", str(tmp_path / "trial"), "--energy", "--out", str(tmp_path / "r.json")]) == 0
    task, module = load(tmp_path / "trial/checkpoint_000000")
    metrics = evaluate(task, module, "test", 128, measure_energy=True)
    results = json.loads((tmp_path / "r.json").read_text())
    assert {name: results[name] for name in metrics} == pytest.approx(metrics)
    assert f"accuracy    {metrics['test_accuracy']:.6g}" in capsys.readouterr().out
    with pytest.raises(rllib_stpn.UsageError, match="supervised training"):
        rllib_stpn.load(tmp_path / "trial")
    assert "supervised" in error_of(capsys, tmp_path / "trial", "--video", tmp_path / "x.gif")


def test_a_language_model_has_the_numbers_of_its_training_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = ("train", "validation", "test")
    for split in splits:
        (tmp_path / f"{split}.txt").write_text("the cat sees the dog and the dog sees the cat \n" * 30)
    case = {"task": "language_modelling", "task_config": {split: f"{split}.txt" for split in splits}, "seed": 0}
    case["model"] = {"custom_model": "rnn", "custom_model_config": {"hidden_size": 5}}
    trainable = Supervised(case | {"train_batch_size": 7})
    expected = {key: value for key, value in trainable.train().items() if key.startswith("test_")}
    trainable.save(str(tmp_path / "checkpoint"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", str(tmp_path / "checkpoint"), "--out", "r.json"]) == 0
    results = json.loads((tmp_path / "elsewhere/r.json").read_text())
    assert {name: results[name] for name in expected} == pytest.approx(expected)


@pytest.fixture
def supervised(tmp_path):
    """A checkpoint of supervised training."""
    small = {"train_size": 300, "validation_size": 50, "test_size": 50}
    model = {"custom_model": "rnn", "custom_model_config": {"hidden_size": 5}}
    trainable = Supervised({"task": "associative_retrieval", "task_config": small, "model": model, "seed": 1})
    trainable.save(str(tmp_path / "supervised"))
    return tmp_path / "supervised"


def test_options_of_agents_are_told_to_have_no_effect_on_supervised_training(supervised, capsys):
    assert main(["evaluate", str(supervised)]) == 0
    without = capsys.readouterr().out
    assert "note" not in without
    options = ["--episodes", "10", "--seed", "0", "--num-envs", "8", "--explore"]  # the defaults, too
    assert main(["evaluate", str(supervised), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("note: ")]
    assert [line.split()[1] for line in told] == ["--episodes", "--seed", "--num-envs", "--explore"]
    assert all("has no effect: a checkpoint of supervised training" in line for line in told)
    assert lines[len(told) :] == without.splitlines()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which is as a full disk")
def test_a_full_disk_is_told_in_a_line_after_the_summary(evaluated, supervised, tmp_path, capsys):
    film = tmp_path / "film.gif"
    film.symlink_to("/dev/full")
    for checkpoint, option, file, printed in (
        (supervised, "--out", "/dev/full", "accuracy    "),
        (evaluated[0] / "batched-maze", "--out", "/dev/full", "return      "),
        (evaluated[0] / "batched-maze", "--video", film, "return      "),
    ):
        assert main(["evaluate", str(checkpoint), option, str(file)]) == 2
        out, err = capsys.readouterr()
        assert printed in out
        assert err.splitlines()[-1] == f"rllib: error: {option}: {file}: cannot be written: No space left on device"
        assert "Traceback" not in err
