"""Results for TensorBoard and for services."""

import sys
from types import SimpleNamespace

import pytest
from ray.tune.logger import LoggerCallback

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import loggers
from rllib_stpn.experiments.differences import names_of_differences
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.keys import TRACKERS
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.overrides import Overrides

FILE = "x: {run: PPO, env: CartPole-v1, track: %s}"


def trial(tmp_path, config):
    return SimpleNamespace(config=config, evaluated_params={}, local_path=str(tmp_path), init_local_path=lambda: None)


def events(tmp_path, all_points=False):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0} if all_points else None)
    accumulator.Reload()
    return accumulator


def hash_by_identity(made):
    """A trial that can be a key, as Tune's are."""
    return type("Trial", (SimpleNamespace,), {"__hash__": object.__hash__, "__eq__": object.__eq__})(**vars(made))


def parameters_in(accumulator):
    from tensorboard.plugins.hparams import metadata

    content = accumulator.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    return set(metadata.parse_session_start_info_plugin_data(content).hparams)


def test_the_axis_is_environment_steps_and_a_single_run_has_hparams(tmp_path):
    board = loggers.TensorBoard({})
    one = hash_by_identity(trial(tmp_path, {"lr": 0.1, "model": {"custom_model": "stpn", "hiddens": [4]}, "env": "x"}))
    for iteration in (1, 2):
        result = {"training_iteration": iteration, "num_env_steps_sampled_lifetime": 320.0 * iteration, "score": 2.0}
        board.log_trial_result(iteration, one, result)
    board.log_trial_end(one)
    written = events(tmp_path)
    assert [event.step for event in written.Scalars("ray/tune/score")] == [320, 640]
    assert parameters_in(written) == {"lr", "model.custom_model", "env"}


def test_what_is_compared_comes_first_in_the_table_of_hparams(tmp_path):
    from tensorboard.plugins.hparams import metadata

    board = loggers.TensorBoard({})
    one = hash_by_identity(trial(tmp_path, {"lr": 0.1}))
    episodes = {"agent_steps": 3, "episode_len_mean": 4.0, "episode_return_mean": 5.0}
    result = {"done": True, "time_this_iter_s": 1.0, "num_env_steps_sampled_lifetime": 64, "env_runners": episodes}
    board.log_trial_result(1, one, {"training_iteration": 1, **result})
    board.log_trial_end(one)
    content = events(tmp_path).summary_metadata["_hparams_/experiment"].plugin_data.content
    names = [metric.name.tag for metric in metadata.parse_experiment_plugin_data(content).metric_infos]
    assert [name.split("/")[-1] for name in names[:3]] == [
        "episode_return_mean", "episode_len_mean", "num_env_steps_sampled_lifetime",
    ]  # fmt: skip
    assert {name.split("/")[-1] for name in names[3:]} >= {"done", "time_this_iter_s", "agent_steps"}


def test_an_infinite_setting_is_an_hparam_without_a_warning(tmp_path, caplog):
    board = loggers.TensorBoard({})
    one = hash_by_identity(trial(tmp_path, {"lr": 0.1, "vf_clip_param": float("inf")}))
    board.log_trial_result(1, one, {"training_iteration": 1, "score": 2.0})
    board.log_trial_end(one)
    assert parameters_in(events(tmp_path)) == {"lr", "vf_clip_param"}
    assert not caplog.records


def test_the_hparams_of_a_sweep_are_what_differs(tmp_path):
    configs = [{"lr": lr, "gamma": 0.9, "model": {"custom_model": name}} for lr, name in ((0.1, "a"), (0.2, "b"))]
    board = loggers.TensorBoard(names_of_differences(configs))
    one = hash_by_identity(trial(tmp_path, configs[0]))
    board.log_trial_result(1, one, {"training_iteration": 1, "num_sequences_trained_lifetime": 5, "score": 2.0})
    board.log_trial_end(one)
    written = events(tmp_path)
    assert [event.step for event in written.Scalars("ray/tune/score")] == [5]
    assert parameters_in(written) == {"layer", "lr"}


def test_a_long_run_has_more_points_than_are_shown_with_the_last_one_and_all_evaluations(tmp_path):
    board = loggers.TensorBoard({})
    one = hash_by_identity(trial(tmp_path, {"lr": 0.1}))
    evaluated = {2999, 3001}
    for iteration in range(1, 4004):
        evaluation = {"evaluation": {"score": 3.0}} if iteration in evaluated else {}
        board.log_trial_result(iteration, one, {"training_iteration": iteration, "score": 2.0, **evaluation})
    board.log_trial_end(one)
    written = events(tmp_path, all_points=True)
    assert {event.step for event in written.Scalars("ray/tune/evaluation/score")} == evaluated
    steps = [event.step for event in written.Scalars("ray/tune/score")]
    assert steps[:1001] == [*range(1, 1000), 1000, 1002]
    assert steps[-2:] == [4000, 4003]
    assert evaluated < set(steps)
    assert len(steps) == 999 + 500 + 333 + 250 + 2 + 2


@pytest.mark.parametrize(
    ("written", "track"),
    [
        ("wandb", {"wandb": {}}),
        ("[wandb, mlflow]", {"wandb": {}, "mlflow": {}}),
        ("{wandb: {project: mine}, aim: null}", {"wandb": {"project": "mine"}, "aim": {}}),
        ("null", {}),
    ],
)
def test_services_in_a_file(write, written, track):
    (loaded,) = load(write(FILE % written))
    assert loaded.track == track
    assert Overrides(track=["comet"]).apply(loaded).track == track | {"comet": {}}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("wandbb", "track: got 'wandbb', allowed are 'wandb', 'mlflow', 'aim', 'comet'; did you mean wandb?"),
        ("[1]", "track: got a list, allowed is a name, a list of names"),
        ("{wandb: mine}", "track: wandb: got the string 'mine', allowed is a mapping of options"),
    ],
)
def test_what_is_no_service_is_refused(write, written, told):
    with pytest.raises(UsageError) as error:
        load(write(FILE % written))
    assert told in str(error.value)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_refused_with_the_command(monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    experiment = Experiment(where="x.yaml: x", name="x", algorithm="PPO", config={}, track={name: {}})
    with pytest.raises(UsageError, match=f"x.yaml: x: track: {name} needs its package: pip install [a-z-]+$"):
        loggers.check(experiment)


def test_every_service_has_a_callback_of_tunes():
    assert tuple(loggers.SERVICES) == TRACKERS
    for service in loggers.SERVICES.values():
        assert issubclass(getattr(__import__(service.home, fromlist=["x"]), service.callback), LoggerCallback)


class Kept(LoggerCallback):
    """A service that keeps what it gets."""

    def __init__(self, project, dir=None, mode="online"):
        if mode == "broken":
            raise ValueError("no such\nmode")
        self.project, self.folder, self.results = project, dir, []

    def log_trial_start(self, trial):
        if trial == "refused":
            raise ValueError("no key,\nno log")

    def log_trial_result(self, iteration, trial, result):
        self.results.append(result)


@pytest.fixture
def kept(monkeypatch):
    """``wandb`` with the callback above in place of the service's own, which wants an account."""
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda module: module)
    monkeypatch.setattr(sys.modules[__name__], "WandbLoggerCallback", Kept, raising=False)
    service = loggers.SERVICES["wandb"]._replace(home=__name__)
    monkeypatch.setitem(loggers.SERVICES, "wandb", service)
    monkeypatch.setattr(loggers.importlib, "import_module", sys.modules.__getitem__)


def test_a_service_gets_results_under_the_experiments_name_and_over_steps(kept):
    experiment = Experiment(where="x", name="maze", algorithm="PPO", config={}, track={"wandb": {}})
    (callback,) = loggers.services(experiment)
    callback.log_trial_result(1, None, {"num_env_steps_sampled_lifetime": 7.0})
    assert (callback.project, callback.results[0]["timesteps_total"]) == ("maze", 7)


@pytest.mark.parametrize(
    ("storage", "options", "folder"),
    [("/runs", {}, "/runs/maze"), ("/runs", {"dir": "/mine"}, "/mine"), ("s3://bucket", {}, None)],
)
def test_what_a_service_writes_on_this_machine_is_kept_with_the_run(kept, storage, options, folder):
    experiment = Experiment("x", "maze", "PPO", {}, storage_path=storage, track={"wandb": options})
    (callback,) = loggers.services(experiment)
    assert callback.folder == folder


@pytest.mark.parametrize(("options", "told"), [({"mode": "broken"}, "wandb: no such mode"), ({"mood": 1}, "'mood'")])
def test_options_that_a_service_does_not_take_are_told(kept, options, told):
    experiment = Experiment(where="x", name="maze", algorithm="PPO", config={}, track={"wandb": options})
    with pytest.raises(UsageError, match=told):
        loggers.services(experiment)


def test_what_a_service_refuses_when_a_trial_begins_is_told(kept):
    (callback,) = loggers.services(Experiment("x.yaml: x", "maze", "PPO", {}, track={"wandb": {}}))
    callback.log_trial_start("taken")
    with pytest.raises(UsageError, match="^x.yaml: x: track: wandb: no key, no log$"):
        callback.log_trial_start("refused")
