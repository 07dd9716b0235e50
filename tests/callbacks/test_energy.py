"""Energy metrics against sums worked by hand, the agent, and each other, with both env runners."""

import functools

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.tune.registry import register_env

import rllib_stpn
from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.callbacks import EnergyMetricsCallback
from rllib_stpn.cli.building import build_config
from rllib_stpn.layers import make_layer
from rllib_stpn.models import recurrent_spec
from rllib_stpn.models.energy import energies_of
from rllib_stpn.rollouts import BatchedEnvRunner, use_batched_rollouts
from tests.rollouts.scripted_env import ScriptedEnv, make_scripted

NUM_ENVS, STEPS = 5, 12
RUNNERS = {"batched": BatchedEnvRunner, "stock": SingleAgentEnvRunner}


def runner(kind, layer="stpn", callbacks=EnergyMetricsCallback, mode="sync", evaluates=False, **options):
    """A runner on scripted episodes, whose observations do not depend on the actions."""
    register_env("scripted", make_scripted)
    config = (
        use_batched_rollouts(PPOConfig())
        .environment("scripted", env_config={} if mode == "sync" else {"autoreset": mode})
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=NUM_ENVS,
            rollout_fragment_length=STEPS,
            gym_env_vectorize_mode="sync" if mode == "sync" else "vector_entry_point",
        )
        .rl_module(rl_module_spec=recurrent_spec(layer, **{"hidden_size": 4, "max_seq_len": 5, **options}))
        .reporting(metrics_num_episodes_for_smoothing=1000)
        .callbacks(callbacks)
        .debugging(seed=5)
    )
    config.in_evaluation = evaluates
    made = RUNNERS[kind](config=config, worker_index=0)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in made.module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return made


def metrics_of(made) -> dict:
    """RLlib's metrics of the env runner since the last call, those of energy by flat names."""
    metrics = made.get_metrics()
    energy = metrics.pop("energy", {})
    layers = {f"layers/{name}": value for name, value in energy.pop("layers", {}).items()}
    return {key: stats.peek() for key, stats in (energy | layers | {"return": metrics["episode_return_mean"]}).items()}


def spent_on(layer, steps) -> np.ndarray:
    """The energy of each step of a sequence, by the layer alone."""
    with torch.no_grad():
        return layer(torch.from_numpy(np.array(steps))[None], return_energy=True)[2][0].sum(1).numpy()


def steps_so_far(made) -> list[list[tuple[int, float, bool]]]:
    """Of each environment's steps since it was made: episode, energy, whether the episode ended there."""
    (encoder,) = rllib_stpn.models.encoders(made.module).values()
    found = []
    for env in (wrapped.unwrapped for wrapped in made.env.unwrapped.envs):
        steps: list = []
        for episode in range(env.episode + 1):
            length = env.length(episode)
            spent = spent_on(encoder.layer, [env.observation(episode, t) for t in range(length)])
            steps += [(episode, float(energy), t == length - 1) for t, energy in enumerate(spent)]
        found.append(steps[: env.steps_in_all])
    return found


# Two neurons, one step from a state that is not zero, worked by hand: |G| u² with the G of each rule.
X, H = (2.0, -1.0), (0.5, 0.25)
W = torch.tensor([[3.0, 0.0, 0.0, 0.0], [1.0, -1.0, 1.0, -1.0]])
F = torch.tensor([[0.0, 4.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
# W + F = [[3, 4, 0, 0], [2, 0, 2, 0]], u² = [4, 1, .25, .0625]; rows' norms 5 and 2.8284
HAND = {
    "stpn-pre": ("stpn", {"normalize": "pre"}, [16 / 5, 8.5 / 8**0.5]),
    "stpn-post": ("stpn", {"normalize": "post"}, [16 / 5, 8.5 / 8**0.5]),
    "stpn-None": ("stpn", {"normalize": None}, [16.0, 8.5]),
    "rnn": ("rnn", {}, [12.0, 5.3125]),
    "lstm": ("lstm", {}, [12.0, 5.3125] * 4),  # each gate has these rows
    "mlp": ("mlp", {}, [12.0, 5.0]),
}


@pytest.mark.parametrize("case", HAND)
def test_two_neurons_worked_by_hand(case):
    name, options, expected = HAND[case]
    layer = make_layer(name, input_size=2, hidden_size=2, **options)
    state = {"h": torch.tensor([H])} if name != "mlp" else {}
    with torch.no_grad():
        if name == "stpn":
            layer.weight.copy_(W)
            state["F"] = F[None]
        elif name == "mlp":
            layer.weight.copy_(W[:, :2])
        else:
            gates = 4 if name == "lstm" else 1
            layer.weight_ih.copy_(W[:, :2].repeat(gates, 1))
            layer.weight_hh.copy_(W[:, 2:].repeat(gates, 1))
            state |= {"c": torch.tensor([[0.3, -0.2]])} if name == "lstm" else {}
        with energies_of([layer], recurrent=True) as spent:
            layer(torch.tensor([[X]]), state)
        with energies_of([layer], ignore_inputs=[0]) as without_the_first:
            layer(torch.tensor([[X]]), state)
    assert spent[0].total.flatten().tolist() == pytest.approx(expected, rel=1e-5)
    scale = (1 / 5, 1 / 8**0.5) if options.get("normalize") else (1.0, 1.0)
    G = (W + F if name == "stpn" else W).abs()
    recurrent = [0.0 if name == "mlp" else float(G[i, 2] * 0.25 + G[i, 3] * 0.0625) * scale[i] for i in range(2)]
    units = len(expected) // 2
    assert spent[0].recurrent.flatten().tolist() == pytest.approx(recurrent * units, abs=1e-5)
    rest = [total - 4 * float(G[i % 2, 0]) * scale[i % 2] for i, total in enumerate(expected)]
    assert without_the_first[0].total.flatten().tolist() == pytest.approx(rest, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "mode", "layer"),
    [
        *[("batched", mode, "stpn") for mode in ("sync", "NextStep", "SameStep", "Disabled")],
        ("batched", "sync", "lstm"),
        ("batched", "sync", "mlp"),
        ("stock", "sync", "stpn"),
        ("stock", "sync", "lstm"),
        ("stock", "sync", "mlp"),
    ],
)
def test_steps_and_episodes_of_a_script(kind, mode, layer, ray_session):
    made = runner(kind, layer, mode=mode)
    before = [0] * NUM_ENVS
    for fragment in range(3):  # episodes end inside fragments, and go on over their ends
        made.sample()
        metrics, steps = metrics_of(made), steps_so_far(made)
        fresh = [energy for each, count in zip(steps, before, strict=True) for _, energy, _ in each[count:]]
        before = [len(each) for each in steps]
        assert metrics["per_step"] == pytest.approx(np.mean(fresh), rel=1e-5)
        assert metrics[f"layers/{layer}"] == pytest.approx(np.mean(fresh), rel=1e-5)
        assert (metrics["recurrent_share"] > 0) == (layer != "mlp")
        ended = [[episode for episode, _, ends in each if ends] for each in steps]
        episodes = [
            sum(energy for e, energy, _ in each if e == episode)
            for each, episodes in zip(steps, ended, strict=True)
            for episode in episodes
        ]
        assert len(episodes) > NUM_ENVS
        assert metrics["per_episode"] == pytest.approx(np.mean(episodes), rel=1e-5)
        if fragment == 0:  # RLlib's runner forgets earlier returns
            assert metrics["per_reward"] == pytest.approx(np.mean(episodes) / metrics["return"], rel=1e-5)


@pytest.mark.parametrize("kind", RUNNERS)
def test_whole_episodes_in_evaluation(kind, ray_session):
    made = runner(kind, evaluates=True)
    (encoder,) = rllib_stpn.models.encoders(made.module).values()
    for episode in range(2):  # the second sample begins new episodes where others had not ended
        made.sample(num_episodes=1, explore=False)
        (first,) = (env for env in map(ScriptedEnv, range(NUM_ENVS)) if env.length(episode) == 1)
        expected = spent_on(encoder.layer, [first.observation(episode, 0)])
        assert metrics_of(made)["per_episode"] == pytest.approx(expected[0], rel=1e-5)


@pytest.mark.parametrize("kind", RUNNERS)
def test_the_agent_measures_the_same(kind, ray_session, tmp_path):
    register_env("scripted", make_scripted)
    config = A2CConfig() if kind == "batched" else PPOConfig().env_runners(env_runner_cls=SingleAgentEnvRunner)
    config.environment("scripted")
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=NUM_ENVS, rollout_fragment_length=STEPS)
    config.rl_module(rl_module_spec=recurrent_spec("stpn", hidden_size=4)).callbacks(EnergyMetricsCallback)
    config.training(train_batch_size=60, **({} if kind == "batched" else {"minibatch_size": 60, "num_epochs": 1}))
    algorithm = config.build_algo()
    try:
        algorithm.env_runner.sample(num_timesteps=60, explore=False)
        spent = metrics_of(algorithm.env_runner)["per_step"]
        steps = steps_so_far(algorithm.env_runner)
        algorithm.save_to_path(tmp_path)
        names = [env.unwrapped.number for env in algorithm.env_runner.env.unwrapped.envs]
    finally:
        algorithm.stop()
    agent = rllib_stpn.load(tmp_path)
    by_agent = []
    for number, each in zip(names, steps, strict=True):
        env = ScriptedEnv(number)
        state, before, t = None, None, 0
        for episode, _, _ in each:
            t = 0 if episode != before else t + 1
            first, before = np.array([t == 0]), episode
            _, state, energy = agent.step(env.observation(episode, t)[None], state, first, return_energy=True)
            by_agent.append(float(energy))
    assert spent == pytest.approx(np.mean(by_agent), rel=1e-5)


@pytest.mark.parametrize("kind", RUNNERS)
def test_measuring_every_third_step_estimates_episodes(kind, ray_session):
    callback = functools.partial(EnergyMetricsCallback, every_n_steps=3)
    made, exact = runner(kind, callbacks=callback), runner(kind)
    for each in (made, exact):
        each.sample(num_timesteps=NUM_ENVS * 150)
    estimated, measured = metrics_of(made), metrics_of(exact)
    assert estimated["per_step"] != measured["per_step"]
    for name in ("per_step", "per_episode", "recurrent_share"):
        assert estimated[name] == pytest.approx(measured[name], rel=0.1)


@pytest.mark.parametrize("kind", RUNNERS)
def test_ignored_inputs_cost_nothing_and_change_nothing(kind, ray_session):
    callback = functools.partial(EnergyMetricsCallback, ignore_inputs=[0, 1, 2])
    made, whole = runner(kind, callbacks=callback), runner(kind)
    for each in (made, whole):
        torch.manual_seed(0)
        each.sample()
    less, all_of_it = metrics_of(made), metrics_of(whole)
    assert less["return"] == all_of_it["return"]  # the same actions
    assert less["recurrent_share"] == pytest.approx(1.0)
    assert 0 < less["per_step"] < all_of_it["per_step"]


class CountsSteps(RLlibCallback):
    steps = 0

    def on_episode_step(self, **kwargs):
        type(self).steps += 1


def test_beside_a_callback_on_episodes_steps_count_once(ray_session):
    made, alone = runner("batched", callbacks=[EnergyMetricsCallback, CountsSteps]), runner("batched")
    assert made._keeps_episodes and not alone._keeps_episodes
    for each in (made, alone):
        each.sample()
    assert CountsSteps.steps == sum(env.unwrapped.steps_in_all for env in made.env.unwrapped.envs)
    ours, theirs = metrics_of(made), metrics_of(alone)
    assert ours["per_episode"] == pytest.approx(theirs["per_episode"], rel=1e-6)


def test_layers_of_a_stack_are_told_apart(ray_session):
    made = runner("batched", "lstm", num_layers=2)
    made.sample()
    metrics = metrics_of(made)
    assert metrics["layers/lstm_0"] + metrics["layers/lstm_1"] == pytest.approx(metrics["per_step"])
    assert metrics["layers/lstm_0"] != metrics["layers/lstm_1"]


def test_results_of_training_and_evaluation_have_it(ray_session):
    settings = {
        "env": "CartPole-v1",
        "num_env_runners": 1,
        "num_envs_per_env_runner": 4,
        "rollout_fragment_length": 50,
        "train_batch_size": 200,
        "evaluation_interval": 1,
        "evaluation_duration": 2,
        "model": {"custom_model": "stpn", "custom_model_config": {"hidden_size": 4}},
        "callbacks_class": {"energy": {"every_n_steps": 2}},
    }
    algorithm = build_config("A2C", settings).build_algo()
    try:
        results = algorithm.train()
    finally:
        algorithm.stop()
    for part in (results, results["evaluation"]):
        energy = part["env_runners"]["energy"]
        assert energy["per_step"] > 0 and 0 < energy["recurrent_share"] < 1
        assert energy["layers"]["stpn"] == pytest.approx(energy["per_step"])
    assert energy["per_episode"] > energy["per_step"]
    assert energy["per_reward"] == pytest.approx(
        energy["per_episode"] / results["evaluation"]["env_runners"]["episode_return_mean"], rel=1e-4
    )


def test_off_it_computes_nothing(ray_session, monkeypatch):
    made = runner("batched", callbacks=RLlibCallback)
    calls = []
    (encoder,) = rllib_stpn.models.encoders(made.module).values()
    encoder.layer.register_forward_pre_hook(lambda *args: calls.append(args[2]), with_kwargs=True)
    made.sample()
    assert calls and not any(keywords.get("return_energy") for keywords in calls)
    assert "energy" not in made.get_metrics()


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ("enregy", ["callbacks", "'enregy'", "energy"]),
        ({"energy": {"every": 2}}, ["callbacks: energy", "every_n_steps"]),
        ({"energy": {"every_n_steps": 0}}, ["every_n_steps: got 0", "from 1"]),
        ({"energy": {"ignore_inputs": [-1]}}, ["ignore_inputs: got [-1]"]),
    ],
)
def test_wrong_options_are_refused(block, parts):
    with pytest.raises(rllib_stpn.UsageError) as error:
        build_config("PPO", {"env": "CartPole-v1", "callbacks_class": block})
    assert all(part in str(error.value) for part in parts)


@pytest.mark.parametrize(
    ("options", "ignored", "message"),
    [({}, [3], "got 3, allowed are 0 to 2"), ({"fcnet_hiddens": [8]}, [0], "fcnet_hiddens")],
)
def test_inputs_that_are_not_there_are_refused(options, ignored, message, ray_session):
    made = runner("batched", callbacks=functools.partial(EnergyMetricsCallback, ignore_inputs=ignored), **options)
    with pytest.raises(rllib_stpn.UsageError, match=message):
        made.sample()
