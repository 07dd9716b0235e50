"""What environments are told about the env runner that they are in."""

import gymnasium as gym
import pytest
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.env.env_context import EnvContext
from ray.tune.registry import ENV_CREATOR, _global_registry, register_env
from stpn_envs.maze import MazeVectorEnv

from rllib_stpn.agents.environments import make_env
from rllib_stpn.errors import UsageError
from rllib_stpn.ray_names import register_class
from rllib_stpn.rollouts import BatchedEnvRunner
from rllib_stpn.rollouts.vector import context_of
from tests.rollouts.faulty_env import FaultyEnv, FaultyVectorEnv, make_faulty
from tests.rollouts.scripted_env import make_scripted
from tests.rollouts.test_failures import RUNNERS, make_config, make_runner

pytestmark = pytest.mark.usefixtures("ray_session")
PATH = "tests.rollouts.faulty_env.FaultyEnv"


class Contexts(RLlibCallback):
    seen: list = []

    def on_environment_created(self, *, env_context, **kwargs):
        self.seen.append(env_context)


@pytest.fixture(autouse=True)
def forget():
    FaultyEnv.made.clear()
    Contexts.seen.clear()
    register_env("faulty", make_faulty)
    register_class(PATH)


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("env", ["faulty", PATH, FaultyEnv], ids=["creator", "path", "class"])
@pytest.mark.parametrize("worker", [0, 2])
def test_each_environment_is_told_which_it_is(kind, env, worker):
    config = make_config(kind).environment(env).env_runners(num_env_runners=worker and 3)
    make_runner(config.callbacks(Contexts), worker).stop()
    assert FaultyEnv.made == [(worker, index, worker and 3) for index in range(3)]
    (context,) = Contexts.seen
    assert (context.worker_index, context.vector_index, dict(context)) == (worker, 0, config.env_config)


@pytest.mark.parametrize("env", ["faulty", PATH], ids=["creator", "path"])
def test_a_vector_form_is_told_the_env_runner(env):
    config = make_config("batched").environment(env).env_runners(gym_env_vectorize_mode="vector_entry_point")
    runner = make_runner(config.env_runners(num_env_runners=3), 2)
    if env == PATH:
        assert FaultyEnv.made == [(2, index, 3) for index in range(3)]
    else:
        assert isinstance(runner.env.unwrapped, FaultyVectorEnv)


LENGTH = 5


def of_vectors(env, **env_config):
    config = make_config("stock").environment(env)
    config.env_config = env_config
    return config.env_runners(gym_env_vectorize_mode="vector_entry_point", num_envs_per_env_runner=2)


@pytest.mark.parametrize("through", ["id", "creator"])
def test_rllibs_own_runner_has_every_step_of_a_vector_form(through):
    """It knows no reset in the step that ends an episode, which the vector forms of this package have by default."""
    register_env("maze of its own", lambda context: MazeVectorEnv(**context))
    env = {"id": "stpn_envs:stpn/Maze-v0", "creator": "maze of its own"}[through]
    episodes = make_runner(of_vectors(env, episode_length=LENGTH)).sample(num_timesteps=40)
    assert {len(episode) for episode in episodes if episode.is_done} == {LENGTH}
    assert [episode.get_observations(0)[11] for episode in episodes] == [0] * len(episodes)  # the share of its steps


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_a_vector_form_that_resets_otherwise_is_refused_there(mode):
    register_env("scripted", make_scripted)
    with pytest.raises(UsageError, match="RLlib's own env runner allows AutoresetMode.NEXT_STEP"):
        make_runner(of_vectors("scripted", autoreset=mode))
    with pytest.raises(UsageError, match=f"autoreset_mode: got '{mode}'"):
        make_runner(of_vectors("stpn_envs:stpn/CueReward-v0", autoreset_mode=mode))
    with pytest.raises(UsageError, match="RLlib's own env runner allows AutoresetMode.NEXT_STEP"):
        make_runner(of_vectors("stpn_envs:stpn/Trials-v0"))  # which has no such mode
    make_runner(of_vectors("scripted", autoreset="NextStep"))


def test_environments_in_processes_of_their_own_are_told_too():
    register_env("asks", lambda context: _Asks(context))
    config = make_config("batched").environment("asks").env_runners(gym_env_vectorize_mode="async")
    runner = make_runner(config, worker_index=4)
    assert runner.env.unwrapped.call("port") == (400, 401, 402)
    runner.stop()


class _Asks(FaultyEnv):
    def __init__(self, context):
        super().__init__(context)
        self.port = 100 * context.worker_index + context.vector_index


@pytest.mark.parametrize(("runners", "envs"), [(4, 1), (3, 2)])
def test_folded_environments_are_told_what_they_would_have_been_told(runners, envs):
    config = make_config("batched").env_runners(num_envs_per_env_runner=runners * envs)
    config._folded_env_runners = runners
    make_runner(config).stop()
    assert FaultyEnv.made == [(r + 1, e, runners) for r in range(runners) for e in range(envs)]
    evaluation = config.copy(copy_frozen=False)
    evaluation.in_evaluation = True
    context = context_of(evaluation, {}, 0, 1, 0)
    assert (context.worker_index, context.vector_index) == (0, 1)


def test_an_id_gets_keyword_arguments():
    gym.register("Keywords-v0", lambda fault, faulty: FaultyEnv(EnvContext({"fault": fault}, 0)))
    config = make_config("batched", faulty=7).environment("Keywords-v0")
    runner = BatchedEnvRunner(config=config.callbacks(Contexts), worker_index=1, num_workers=1)
    assert runner.num_envs == 3
    assert Contexts.seen[0].worker_index == 1


@pytest.mark.parametrize("num_envs", [None, 2])
def test_an_environment_made_for_an_agent_is_told_that_it_is_local(num_envs):
    assert _global_registry.contains(ENV_CREATOR, PATH)
    make_env(PATH, {"fault": None}, num_envs=num_envs).close()
    assert FaultyEnv.made == [(0, index, 0) for index in range(num_envs or 1)]
