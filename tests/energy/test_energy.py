"""Energy metrics against sums worked by hand, the agent, and each other, with both env runners."""

import functools
from collections import Counter

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.evaluation.metrics import summarize_episodes
from ray.tune.registry import register_env

import rllib_stpn
from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.energy import EnergyMetricsCallback, old_stack
from rllib_stpn.energy.meter import Meter, Reading
from rllib_stpn.energy.spent import energies_of
from rllib_stpn.experiments.building import build_config
from rllib_stpn.kernels.synaptic_energy import synaptic_energy
from rllib_stpn.layers import LAYERS, Layer, make_layer
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import BatchedEnvRunner, use_batched_rollouts
from tests.rollouts.scripted_env import ScriptedEnv, make_scripted

NUM_ENVS, STEPS = 5, 12
RUNNERS = {"batched": BatchedEnvRunner, "stock": SingleAgentEnvRunner}


def runner(
    kind, layer="stpn", callbacks=EnergyMetricsCallback, mode="sync", evaluates=False, env="scripted", **options
):
    """A runner on scripted episodes, whose observations do not depend on the actions."""
    register_env("scripted", make_scripted)
    config = (
        use_batched_rollouts(PPOConfig())
        .environment(
            env, env_config={} if mode == "sync" else {"autoreset" if env == "scripted" else "autoreset_mode": mode}
        )
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


# Two neurons, one step from a state that is not zero, worked by hand: Σ_j |G_ij| u_j² with the G of each rule.
# x² = [4, 1] and h² = [.25, .0625]; norms of the rows of W + F = [[3, 4, 0, 0], [2, 0, 2, 0]] are 5 and √8.
X, H = [2.0, -1.0], [0.5, 0.25]
WX, WH = [[3.0, 0.0], [1.0, -1.0]], [[0.0, 0.0], [1.0, -1.0]]
F = [[0.0, 4.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
W = [[*x, *h] for x, h in zip(WX, WH, strict=True)]
ALPHA, HEBB = [[0.5, 0.5], [0.5, 0.5]], [[2.0, 0.0], [0.0, 4.0]]  # Wh + α Hebb = [[1, 0], [1, 1]]
PLASTIC = {"weight_x": WX, "weight_h": WH, "weight_alpha": ALPHA}
ROOT8 = 8**0.5
# layer, options, parameters, state without h; energy of all synapses, of recurrent ones, of all but the first input's
HAND = {
    "stpn-pre": ("stpn", {}, {"weight": W}, {"F": F}, [16 / 5, 8.5 / ROOT8], [0, 0.5 / ROOT8], [4 / 5, 0.5 / ROOT8]),
    "stpn-post": (
        *("stpn", {"normalize": "post"}, {"weight": W}, {"F": F}),
        *([16 / 5, 8.5 / ROOT8], [0, 0.5 / ROOT8], [4 / 5, 0.5 / ROOT8]),
    ),
    "stpn-None": ("stpn", {"normalize": None}, {"weight": W}, {"F": F}, [16, 8.5], [0, 0.5], [4, 0.5]),
    # |Wx| x² = [12, 5], |Wh| h² = [0, .3125]
    "rnn": ("rnn", {}, {"weight_ih": WX, "weight_hh": WH}, {}, [12, 5.3125], [0, 0.3125], [0, 1.3125]),
    "lstm": (  # each gate has these rows
        *("lstm", {}, {"weight_ih": WX * 4, "weight_hh": WH * 4}, {"c": [0.3, -0.2]}),
        *([12, 5.3125] * 4, [0, 0.3125] * 4, [0, 1.3125] * 4),
    ),
    "gru": (
        *("gru", {}, {"weight_ih": WX * 3, "weight_hh": WH * 3}, {}),
        *([12, 5.3125] * 3, [0, 0.3125] * 3, [0, 1.3125] * 3),
    ),
    "mlp": ("mlp", {}, {"weight": WX}, None, [12, 5], [0, 0], [0, 1]),
    # |Wh + α Hebb| h² = [.25, .3125]
    "plastic_rnn": ("plastic_rnn", {}, PLASTIC, {"Hebb": HEBB}, [12.25, 5.3125], [0.25, 0.3125], [0.25, 1.3125]),
    "modulated_plastic_rnn": (
        *("modulated_plastic_rnn", {}, PLASTIC, {"Hebb": HEBB}),
        *([12.25, 5.3125], [0.25, 0.3125], [0.25, 1.3125]),
    ),
    "retroactive_plastic_rnn": (
        *("retroactive_plastic_rnn", {}, PLASTIC, {"P": HEBB, "E": [[9.0, 9.0], [9.0, 9.0]]}),
        *([12.25, 5.3125], [0.25, 0.3125], [0.25, 1.3125]),
    ),
    "plastic_lstm": (  # gates i, f, g, o, of which g is plastic
        *("plastic_lstm", {}, {"weight_x": WX * 4, "weight_h": WH * 4, "weight_alpha": ALPHA}),
        {"c": [0.3, -0.2], "Hebb": HEBB},
        [12, 5.3125, 12, 5.3125, 12.25, 5.3125, 12, 5.3125],
        [0, 0.3125, 0, 0.3125, 0.25, 0.3125, 0, 0.3125],
        [0, 1.3125, 0, 1.3125, 0.25, 1.3125, 0, 1.3125],
    ),
    # W + A = [[3, 4], [2, 0]]
    "hebbff": ("hebbff", {}, {"weight": WX}, {"A": [[0.0, 4.0], [1.0, 1.0]]}, [16, 8], [0, 0], [4, 0]),
    # A = .5 h hᵀ = [[.125, .0625], [.0625, .03125]]; of two units LN is ±1, and tanh(1)² = .580026: |A| s² =
    # [.108755, .054377], on top of |W| u² = [12, 5.3125]
    "fast_weights": (
        *("fast_weights", {}, {"weight": W, "bias": [0.0, 0.0]}, {"A": [[0.0, 0.0], [0.0, 0.0]]}),
        *([12.108755, 5.366877], [0.108755, 0.366877], [0.108755, 1.366877]),
    ),
}


@pytest.mark.parametrize("case", HAND)
def test_two_neurons_worked_by_hand(case):
    name, options, parameters, state, total, recurrent, without_the_first = HAND[case]
    layer = make_layer(name, input_size=2, hidden_size=2, **options)
    layer.load_state_dict({key: torch.tensor(value) for key, value in parameters.items()}, strict=False)
    full = {key: torch.tensor([value]) for key, value in ({"h": H} | (state or {})).items()}
    given = {key: full[key] for key in layer.state_shapes()}
    with torch.no_grad():
        with energies_of([layer], recurrent=(0, 1)) as spent:
            layer(torch.tensor([[X]]), given)
        with energies_of([layer], ignore_inputs=[0]) as ignoring:
            layer(torch.tensor([[X]]), given)
    assert spent[0].total.flatten().tolist() == pytest.approx(total, rel=1e-5)
    assert spent[0].recurrent.flatten().tolist() == pytest.approx(recurrent, abs=2e-5)
    assert ignoring[0].total.flatten().tolist() == pytest.approx(without_the_first, abs=2e-5)


class Decaying(Layer):
    """A layer as a user writes one; that it can be measured is up to the last line of ``step``."""

    name = "decaying"

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight = torch.nn.Parameter(torch.randn(hidden_size, input_size))

    def state_shapes(self):
        return {"trace": (self.hidden_size,)}

    def step(self, x, drive, state, return_energy):
        trace = 0.5 * state["trace"] + x @ self.weight.T
        return torch.tanh(trace), {"trace": trace}, synaptic_energy(self.weight, x) if return_energy else None


def test_a_layer_of_the_users_own_is_measured(ray_session, monkeypatch):
    monkeypatch.setitem(LAYERS, "decaying", Decaying)
    made = runner("batched", "decaying")
    (encoder,) = rllib_stpn.models.encoders(made.module).values()
    made.sample()
    steps = [spent for each in steps_so_far(made) for _, spent, _ in each]
    assert metrics_of(made)["layers/decaying"] == pytest.approx(np.mean(steps), rel=1e-5)
    weight = encoder.layer.weight.detach().numpy()
    x = np.array([1.0, -2.0, 3.0], np.float32)
    assert spent_on(encoder.layer, [x])[0] == pytest.approx((np.abs(weight) @ x**2).sum(), rel=1e-5)


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
    before, shares = [0] * NUM_ENVS, []
    for fragment in range(3):  # episodes end inside fragments, and go on over their ends
        made.sample()
        metrics, steps = metrics_of(made), steps_so_far(made)
        fresh = [energy for each, count in zip(steps, before, strict=True) for _, energy, _ in each[count:]]
        before = [len(each) for each in steps]
        assert metrics["per_step"] == pytest.approx(np.mean(fresh), rel=1e-5)
        assert metrics[f"layers/{layer}"] == pytest.approx(np.mean(fresh), rel=1e-5)
        ended = [[episode for episode, _, ends in each if ends] for each in steps]
        episodes = [
            sum(energy for e, energy, _ in each if e == episode)
            for each, episodes in zip(steps, ended, strict=True)
            for episode in episodes
        ]
        assert len(episodes) > NUM_ENVS
        assert metrics["per_episode"] == pytest.approx(np.mean(episodes), rel=1e-5)
        if fragment == 0:  # RLlib's runner forgets earlier returns
            assert metrics["return_per_episode"] == pytest.approx(metrics["return"], rel=1e-5)
        shares.append(metrics.get("recurrent_share", np.nan))
    assert (np.nanmax(shares) > 0) == (layer != "mlp")


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
    (encoder,) = rllib_stpn.models.encoders(agent.module).values()
    evaluation = rllib_stpn.evaluate(agent, episodes=NUM_ENVS, num_envs=NUM_ENVS, energy=True)
    for seed, energy in zip(evaluation.seeds, evaluation.energies, strict=True):
        env = ScriptedEnv(seed)
        expected = spent_on(encoder.layer, [env.observation(0, t) for t in range(env.length(0))])
        assert energy == pytest.approx(expected.sum(), rel=1e-5)


def test_the_old_stack_measures_the_same(ray_session):
    rllib_stpn.register()
    register_env("by_index", lambda context: ScriptedEnv(context.vector_index))
    config = PPOConfig().api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
    config.environment("by_index").callbacks(EnergyMetricsCallback).debugging(seed=5)
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=NUM_ENVS, rollout_fragment_length=4 * STEPS)
    model = {"custom_model": "stpn", "custom_model_config": {"hidden_size": 4}, "fcnet_hiddens": []}
    algorithm = config.training(model=model, train_batch_size=240, minibatch_size=240).build_algo()
    try:
        (encoder,) = rllib_stpn.models.encoders(algorithm.get_policy().model).values()
        weights = runner("batched").module.state_dict()  # as on the new stack
        algorithm.get_policy().model.rl_module.load_state_dict(weights)
        algorithm.env_runner.sample()
        episodes = algorithm.env_runner.get_metrics()
    finally:
        algorithm.stop()
    expected = {}
    for number in range(NUM_ENVS):
        env = ScriptedEnv(number)
        for episode in range(40):
            observations = [env.observation(episode, t) for t in range(env.length(episode))]
            expected[number, episode] = float(spent_on(encoder.layer, observations).sum())
    energies = [episode.hist_data["energy"][0].total() for episode in episodes]
    found = [min(expected, key=lambda key, spent=spent: abs(expected[key] - spent)) for spent in energies]
    assert len(set(found)) == len(found) > NUM_ENVS
    assert energies == pytest.approx([expected[key] for key in found], rel=1e-5)
    results = summarize_episodes(episodes)
    old_stack.summarise(results)
    metrics = results["energy"]
    lengths, rewards = (sum(getattr(e, f"episode_{what}") for e in episodes) for what in ("length", "reward"))
    assert metrics["per_step"] == metrics["layers"]["stpn"] == pytest.approx(sum(energies) / lengths)
    assert metrics["per_episode"] == pytest.approx(np.mean(energies))
    assert metrics["per_reward"] == pytest.approx(sum(energies) / rewards)
    assert 0 < metrics["recurrent_share"] < 1


def test_whole_greedy_episodes_agree_between_the_runners(ray_session):
    found = []
    for kind in RUNNERS:  # all episodes have 100 steps, and what is seen depends on the actions
        made = runner(kind, evaluates=True, env="stpn_envs:stpn/MazeSmall-v0", normalize="post", clamp=1.0)
        made.sample(num_episodes=NUM_ENVS, explore=False)
        found.append(metrics_of(made))
    for name in ("return", "per_step", "per_episode", "layers/stpn"):
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-5)
    assert found[0]["per_episode"] == pytest.approx(100 * found[0]["per_step"])


@pytest.mark.parametrize("kind", RUNNERS)
def test_measuring_every_third_step_estimates_episodes(kind, ray_session):
    callback = functools.partial(EnergyMetricsCallback, every_n_steps=3)
    made, exact = runner(kind, callbacks=callback), runner(kind)
    for each in (made, exact):
        each.sample(num_timesteps=NUM_ENVS * 150)
    estimated, measured = metrics_of(made), metrics_of(exact)
    assert estimated["per_step"] != measured["per_step"]
    for name in ("per_step", "per_episode"):
        assert estimated[name] == pytest.approx(measured[name], rel=0.1)


class NotesSteps(EnergyMetricsCallback):
    measured = Counter()

    def on_vector_step(self, *, lengths, **kwargs):
        super().on_vector_step(lengths=lengths, **kwargs)
        type(self).measured[int(lengths[0])] += self._meter.reading is not None


def test_episodes_of_one_length_are_not_met_at_the_same_steps(ray_session):
    callback = functools.partial(NotesSteps, every_n_steps=5)
    made = runner("batched", callbacks=callback, mode="SameStep", env="stpn_envs:stpn/MazeSmall-v0")
    made.sample(num_timesteps=NUM_ENVS * 100 * 20)  # 20 episodes of 100 steps, in phase
    counts = NotesSteps.measured
    assert sum(counts.values()) == 400  # one in each five
    assert sorted(counts) == list(range(1, 101)) and sum(count > 0 for count in counts.values()) > 90


def test_returns_around_zero_are_summed_before_energy_is_divided_by_them():
    # Two env runners' means, as RLlib merges them; one has negative returns.
    for returns, expected in (([0.1, -5.0], None), ([3.0, -1.0], 8.0)):
        results = {"energy": {"per_episode": 8.0, "return_per_episode": np.mean(returns)}}
        EnergyMetricsCallback().on_train_result(result={"env_runners": results})
        assert results["energy"].get("per_reward") == expected


def test_old_stack_episodes_too_short_to_be_measured_count():
    short, long = (old_stack.EpisodeEnergy(every_n_steps=5, reward=1.0) for _ in range(2))
    long.add(Reading(["stpn"], np.array([[10.0]]), None), row=0)
    results = {"hist_stats": {"energy": [short, long]}}
    old_stack.summarise(results)
    assert results["energy"]["per_step"] == results["energy"]["layers"]["stpn"] == 10
    assert results["energy"]["per_episode"] == 25


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


class ByInput(Layer):
    """Measures what each of its inputs spends."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight = torch.nn.Parameter(torch.randn(hidden_size, input_size))

    def state_shapes(self):
        return {}

    def step(self, x, drive, state, return_energy):
        return torch.tanh(x @ self.weight.T), {}, self.weight.detach().abs().sum(0) * x.detach() ** 2


@pytest.mark.parametrize("ignored", [[], [1]], ids=str)
@pytest.mark.parametrize("input_size", [5, 6])
def test_layers_of_a_stack_may_differ_in_units(input_size, ignored):
    stack = make_layer(ByInput, input_size=input_size, hidden_size=8, num_layers=2)
    inputs = torch.randn(3, 1, input_size)
    meter = Meter(ignored, 1)
    with torch.no_grad(), meter.measuring(torch.nn.ModuleDict({"encoder": stack})):
        stack(inputs)
    first, second = stack.layers
    less = inputs.clone()
    less[..., ignored] = 0
    energies = first(less, return_energy=True)[2], second(first(inputs)[0], return_energy=True)[2]
    np.testing.assert_allclose(meter.reading.layers, [energy.sum((1, 2)).numpy() for energy in energies], rtol=1e-5)


def test_layers_of_a_stack_are_told_apart(ray_session):
    made = runner("batched", "lstm", num_layers=2)
    made.sample()
    metrics = metrics_of(made)
    assert metrics["layers/lstm_0"] + metrics["layers/lstm_1"] == pytest.approx(metrics["per_step"])
    assert metrics["layers/lstm_0"] != metrics["layers/lstm_1"]


@pytest.mark.parametrize("stack", ["new", pytest.param("old", marks=pytest.mark.slow)])
def test_results_of_training_and_evaluation_have_it(stack, ray_session):
    settings = {
        "env": "CartPole-v1",
        "num_env_runners": 1,
        "num_envs_per_env_runner": 4,
        "rollout_fragment_length": 50,
        "train_batch_size": 200,
        "evaluation_interval": 1,
        "evaluation_duration": 4,
        "model": {"custom_model": "stpn", "custom_model_config": {"hidden_size": 4}, "fcnet_hiddens": []},
        "callbacks_class": {"energy": {"every_n_steps": 2}},
    }
    if stack == "old":
        settings |= {"enable_rl_module_and_learner": False, "enable_env_runner_and_connector_v2": False}
        settings |= {"min_time_s_per_iteration": 0, "minibatch_size": 100}
    rllib_stpn.register()  # the old stack's models
    algorithm = build_config("A2C" if stack == "new" else "PPO", settings).build_algo()
    try:
        results = algorithm.train()
    finally:
        algorithm.stop()
    for part in (results, results["evaluation"]):
        energy = part["env_runners"]["energy"]
        assert energy["per_step"] > 0 and 0 < energy["recurrent_share"] < 1
        assert energy["layers"]["stpn"] == pytest.approx(energy["per_step"])
        assert "energy" not in part["env_runners"].get("hist_stats", {})
        assert "return_per_episode" not in energy
    assert energy["per_episode"] > energy["per_step"]
    assert energy["per_reward"] == pytest.approx(
        energy["per_episode"] / results["evaluation"]["env_runners"]["episode_return_mean"], rel=1e-4
    )


def test_evaluation_alone_may_have_it(ray_session):
    settings = {
        "env": "CartPole-v1",
        "num_env_runners": 0,
        "num_envs_per_env_runner": 4,
        "rollout_fragment_length": 10,
        "evaluation_interval": 1,
        "evaluation_duration": 4,
        "model": {"custom_model": "stpn", "custom_model_config": {"hidden_size": 4}, "fcnet_hiddens": []},
        "evaluation_config": {"callbacks_class": "energy"},
    }
    algorithm = build_config("A2C", settings).build_algo()
    try:
        results = algorithm.train()
    finally:
        algorithm.stop()
    assert "energy" not in results["env_runners"]
    energy = results["evaluation"]["env_runners"]["energy"]
    assert energy["per_step"] > 0 and energy["per_reward"] > 0 and "return_per_episode" not in energy


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
        ({"energy": {"every_n_steps": 0}}, ["every_n_steps: got 0", "at least 1"]),
        ({"energy": {"ignore_inputs": [-1]}}, ["ignore_inputs", "got -1"]),
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
