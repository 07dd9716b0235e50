"""Settings as they stand in a YAML file."""

import pytest

from rllib_stpn.errors import UsageError
from rllib_stpn.supervised import SupervisedConfig

SETTINGS = {
    "task": "associative_retrieval",
    "model": {"custom_model": "stpn", "custom_model_config": {"hidden_size": 11}},
}


def test_numbers_may_be_texts_as_yaml_reads_them():
    config = SupervisedConfig.from_settings({**SETTINGS, "lr": "1e-3", "train_batch_size": "64", "grad_clip": "5"})
    assert (config.lr, config.train_batch_size, config.grad_clip) == (0.001, 64, 5.0)


def test_a_schedule_is_linear_within_epochs_and_constant_after_its_end():
    config = SupervisedConfig.from_settings({**SETTINGS, "lr": [[0, 1.0], [2, "0.5"], [4, 0.1]]})
    assert config.learning_rates(0, 4) == pytest.approx([1.0, 0.9375, 0.875, 0.8125])
    assert config.learning_rates(2, 2) == pytest.approx([0.5, 0.4])
    assert config.learning_rates(9, 2) == pytest.approx([0.1, 0.1])


def _model(name="stpn", **options):
    return {"model": {"custom_model": name, "custom_model_config": {"hidden_size": 11, **options}}}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"learning_rate": 1}, "config: got the unknown key 'learning_rate', allowed are 'task', .*'lr'"),
        ({"env": "CartPole-v1"}, "config: got the unknown key 'env'"),
        ({"task": "sorting"}, "config: task: got 'sorting', allowed are 'associative_retrieval', 'familiarity'"),
        ({"task_config": {"pairs": 3}}, "associative_retrieval: got the unknown option 'pairs', .*mean num_pairs"),
        ({"task_config": 3}, "config: task_config: got 3, allowed is a mapping"),
        ({"lr": "fast"}, "config: lr: got 'fast', allowed is a number greater than 0"),
        ({"lr": 0}, "config: lr: got 0"),
        ({"lr": True}, "config: lr: got True"),
        ({"lr": float("nan")}, "config: lr: got nan"),
        ({"lr": []}, r"config: lr: got \[\]"),
        ({"lr": [[0, 0.1], [5]]}, r"config: lr: .*allowed is a number or \[\[0, rate\]"),
        ({"lr": [[1, 0.1], [5, 0.1]]}, "config: lr: .*rising epochs"),
        ({"lr": [[0, 0.1], [5, 0.1], [5, 0.2]]}, "config: lr: .*rising epochs"),
        ({"lr": [[0, -0.1]]}, r"config: lr: got \[\[0, -0.1\]\]"),
        ({"optimizer": "adamw"}, "config: optimizer: got 'adamw', allowed are 'adam', 'sgd'"),
        ({"grad_clip": 0}, "config: grad_clip: got 0"),
        ({"train_batch_size": 0}, "config: train_batch_size: got 0, allowed is a whole number from 1 to 100000000"),
        ({"train_batch_size": 1.5}, "config: train_batch_size: got 1.5"),
        ({"seed": -1}, "config: seed: got -1"),
        ({"model": None}, "config: model: got None"),
        ({"model": {"fcnet_hiddens": [4]}}, "config: model: got the unknown key 'fcnet_hiddens'"),
        (_model("stpm"), "config: model: custom_model: got 'stpm', allowed are"),
        (_model(normalise="pre"), "stpn: got the unknown option 'normalise', .*did you mean normalize"),
        (_model(normalize="sideways"), "stpn: normalize: got 'sideways'"),
        ({"model": {"custom_model": "stpn"}}, "stpn: hidden_size"),
    ],
    ids=str,
)
def test_mistakes_are_told_in_a_line(settings, told):
    with pytest.raises(UsageError, match=told) as error:
        SupervisedConfig.from_settings({**SETTINGS, **settings})
    assert "\n" not in str(error.value)
