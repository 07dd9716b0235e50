"""Learning from recorded data, and recording: what is found out before Ray starts."""

import importlib.util
import json

import numpy as np
import pytest

from rllib_stpn.cli.main import main
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.building import build_config, validate
from rllib_stpn.experiments.recorded_data import OFFLINE
from rllib_stpn.experiments.validation import check
from rllib_stpn.rollouts import RecordingEnvRunner
from tests.experiments.of_settings import experiment_of

STPN = {"custom_model": "stpn", "custom_model_config": {"hidden_size": 4}, "max_seq_len": 5}


def experiment(run, **config):
    return experiment_of(run, "Pendulum-v1" if run in ("CQL", "IQL", "SAC") else "CartPole-v1", **config)


@pytest.mark.parametrize("run", OFFLINE)
def test_the_recording_is_what_is_missing(run, tmp_path):
    for given in ("nowhere", [str(tmp_path), "nowhere"], {"grid_search": [str(tmp_path), "nowhere"]}):
        with pytest.raises(UsageError, match="config: input: there is nothing at 'nowhere'"):
            check(experiment(run, input_=given))
    for given in ({}, {"input_": "sampler"}, {"input_": None}):
        with pytest.raises(UsageError, match=f"config: input is missing: {run} learns from recorded data"):
            check(experiment(run, **given))
    with pytest.raises(UsageError, match="config: input: got 3, allowed is a folder or a list of files"):
        check(experiment(run, input_=3))


@pytest.mark.parametrize("run", OFFLINE)
def test_with_a_recording_nothing_else_has_to_be_given(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "episodes").mkdir()
    made = check(experiment(run, input_="episodes"))
    assert made.notes == ()
    assert made.config["input_"] == str(tmp_path / "episodes")  # trials run in folders of their own
    config = build_config(run, made.config)
    assert (config.dataset_num_iters_per_learner, config.observation_space is not None) == (1, True)
    given = build_config(run, {**made.config, "dataset_num_iters_per_learner": 7, "evaluation_interval": 1})
    assert (given.dataset_num_iters_per_learner, given.observation_space) == (7, None)


def test_the_way_to_read_follows_from_the_files(tmp_path):
    (tmp_path / "a.json").touch()
    assert "input_read_method: read_json" in check(experiment("BC", input_=str(tmp_path))).notes[0]
    given = experiment("BC", input_="dataset", input_config={"format": "csv", "paths": [str(tmp_path)]})
    made = check(given)
    (note,) = made.notes
    assert "input: dataset -> input: " in note
    assert (made.config["input_read_method"], made.config["input_"]) == ("read_csv", [str(tmp_path)])
    assert "input_config" not in made.config


@pytest.mark.parametrize("run", ["DQN", "PPO", "SAC", "A2C"])
def test_who_samples_reads_nothing(run, tmp_path):
    with pytest.raises(UsageError, match=f"config: input: got .*, allowed is sampler: {run} learns from what it samp"):
        check(experiment(run, input_={"choice": ["sampler", str(tmp_path)]}))
    assert check(experiment(run, input_="sampler")).notes == ()


def test_recordings_that_would_not_be_written():
    for word in ("dataset", "logdir", 3):
        with pytest.raises(UsageError, match=f"config: output: got {word!r}, allowed is the folder"):
            check(experiment("PPO", output=word))
    for run in ("PPO", "A2C"):
        with pytest.raises(UsageError, match="output: batched env runners record nothing"):
            check(experiment(run, output="/tmp/x", model=STPN))
    if importlib.util.find_spec("msgpack_numpy") is None:
        with pytest.raises(UsageError, match="output: RLlib writes episodes with msgpack-numpy, which is missing"):
            check(experiment("PPO", output="/tmp/x"))


def test_what_records_samples_whole_episodes():
    config = build_config("PPO", {"output": "/tmp/x"})
    assert (config.batch_mode, config.env_runner_cls) == ("complete_episodes", RecordingEnvRunner)
    named = build_config("PPO", {"output": "/tmp/x", "env_runner_cls": "single_agent"})
    assert named.env_runner_cls is RecordingEnvRunner
    steps = build_config("PPO", {"output": "/tmp/x", "output_write_episodes": False})
    assert (steps.batch_mode, steps.env_runner_cls) == ("truncate_episodes", None)  # RLlib's writes single steps
    assert build_config("PPO", {"output": "s3://x"}).env_runner_cls is None


@pytest.mark.parametrize("run, given", [("PPO", {"output": "/tmp/x"}), ("BC", {"input_": "/tmp/x.json"})])
def test_a_filter_does_not_go_with_recordings(run, given):
    with pytest.raises(UsageError, match="observation_filter: got MeanStdFilter with (in|out)put, allowed is NoFilter"):
        build_config(run, {"env": "CartPole-v1", "observation_filter": "MeanStdFilter", **given})


@pytest.mark.parametrize("model", [STPN, {"use_lstm": True, "max_seq_len": 5}], ids=["layer", "use_lstm"])
def test_a_batch_holds_a_sequence_at_least(model, tmp_path):
    with pytest.raises(UsageError, match="train_batch_size_per_learner: got 4 with max_seq_len 5, allowed is at least"):
        check(experiment("BC", input_=str(tmp_path), train_batch_size_per_learner=4, model=model))


@pytest.mark.parametrize("run", ["BC", "MARWIL"])
@pytest.mark.parametrize("model", [STPN, {"use_lstm": True, "max_seq_len": 5}], ids=["layer", "use_lstm"])
def test_a_burn_in_leaves_steps_to_learn_from(run, model, tmp_path):
    def given(**settings):
        return experiment(run, input_=str(tmp_path), model=model, **settings)

    for steps in (5, 9):
        for settings in ({"burnin_len": steps}, {"learner_config_dict": {"burnin_len": steps}}):
            with pytest.raises(UsageError, match=f"burnin_len: got {steps}, allowed is less than max_seq_len, 5"):
                check(given(**settings))
    for steps in (-1, 1.5):
        for settings in ({"burnin_len": steps}, {"learner_config_dict": {"burnin_len": steps}}):
            with pytest.raises(UsageError, match=f"burnin_len: got {steps}, allowed"):
                check(given(**settings))
    check(given(burnin_len=4))


@pytest.mark.parametrize("run", ["BC", "MARWIL"])
def test_a_burn_in_may_be_longer_than_rllibs_usual_sequence(run, tmp_path):
    check(experiment(run, input_=str(tmp_path), model={**STPN, "max_seq_len": 40}, burnin_len=30))


def test_settings_that_a_scheduler_brought_together_are_checked_as_well(tmp_path):
    config = build_config("BC", {"env": "CartPole-v1", "input_": str(tmp_path), "model": STPN, "burnin_len": 5})
    with pytest.raises(UsageError, match="burnin_len: got 5, allowed is less than max_seq_len, 5"):
        validate(config)


def test_recordings_that_are_there_are_told_and_kept(tmp_path):
    pytest.importorskip("msgpack_numpy")
    given = experiment("PPO", output=str(tmp_path), num_env_runners=0, model={"fcnet_hiddens": [4]})
    assert check(given).notes == ()
    config = build_config("PPO", {"env": "stpn_envs:stpn/MazeSmall-v0", **check(given).config})  # a slash in its name
    runner = RecordingEnvRunner(config=config, worker_index=0)
    runner.sample(num_episodes=1, explore=True)
    runner.stop()
    (told,) = check(given).notes
    assert told == f"command line: config: output: {tmp_path} has recordings, and these come beside them"


def test_a_recording_of_evaluation_is_refused(tmp_path):
    for output in ({}, {"output": str(tmp_path)}):
        with pytest.raises(UsageError, match="evaluation_config: output: evaluation is not recorded, output beside"):
            check(experiment("PPO", evaluation_config={"output": str(tmp_path)}, **output))


def test_output_config_is_named():
    (told,) = check(experiment("PPO", output_config={"format": "json"})).notes
    assert told == "command line: config: output_config has no effect: output_write_method and its like take its place"


@pytest.mark.slow
def test_it_clones_what_was_recorded(ray_session, tmp_path):
    import pandas

    generator = np.random.default_rng(0)
    rows = [
        {
            "eps_id": str(episode),
            "obs": observation.tolist(),
            "new_obs": observation.tolist(),
            "actions": int(observation[2] > 0),
            "rewards": 1.0,
            "terminateds": step == 9,
            "truncateds": False,
        }
        for episode in range(20)
        for step, observation in enumerate(generator.normal(size=(10, 4)).astype(np.float32))
    ]
    (tmp_path / "data").mkdir()
    pandas.DataFrame(rows).to_parquet(tmp_path / "data" / "steps.parquet")
    settings = {"input": str(tmp_path / "data"), "train_batch_size_per_learner": 64, "model": {"fcnet_hiddens": [8]}}
    options = ["--config", json.dumps(settings), "--stop", '{"training_iteration": 2}']
    assert main(["train", "--run", "BC", "--env", "CartPole-v1", *options, "--local-dir", str(tmp_path / "out")]) == 0
    (results,) = (tmp_path / "out").rglob("result.json")
    last = json.loads(results.read_text().splitlines()[-1])
    assert last["learners"]["default_policy"]["num_module_steps_trained_lifetime"] > 0
