"""The files of ``tuned_examples`` that train supervised: the sizes of the papers, and rivals of the same size."""

from pathlib import Path

import pytest

from rllib_stpn.experiments.loading import load
from rllib_stpn.supervised import SupervisedConfig

DIRECTORY = Path(__file__).parents[2] / "tuned_examples"


def num_parameters(name):
    (experiment,) = load(DIRECTORY / f"{name}.yaml")
    config = SupervisedConfig.from_settings(experiment.config)
    task = config.make_task()
    if task.carries_state:  # The vocabulary comes from the text.
        task.make_data(0)
    return sum(parameter.numel() for parameter in task.make_module(config.make_layer(task)).parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("art_stpn", 2039),
        ("art_lstm", 2062),
        ("art_rnn", 1937),
        ("art_fast_weights", 1977),
        ("art_modulated", 1908),
        ("art_stpn_scalar", 1939),
        ("art_stpnf", 1974),
        ("art_hebbff", 1989),
        ("art_mlp", 2062),
    ],
)
def test_retrieval_has_the_papers_sizes(name, expected):
    assert num_parameters(name) == expected


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("familiarity_stpn", "familiarity_hebbff", 0.03),
        ("familiarity_hebbff", "familiarity_mlp", 0.01),
        ("lm_plastic_lstm", "lm_lstm", 0.005),
    ],
)
def test_rivals_have_as_many_parameters(one, other, apart):
    assert num_parameters(one) == pytest.approx(num_parameters(other), rel=apart)
