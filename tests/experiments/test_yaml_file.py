"""Reading YAML: keys that stand twice. No Ray."""

import pytest

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.loading import load

TWICE = """\
one:
  run: PPO
  env: E-v0
  config:
    lr: {first}
    gamma: 0.9
    lr: {second}
"""


@pytest.mark.parametrize(("first", "second"), [("0.1", "0.2"), ("[1, 2]", "[1, 3]"), ("{a: 1}", "{a: '1'}")])
def test_a_key_with_two_values_is_refused_with_its_lines(write, first, second):
    with pytest.raises(UsageError, match="'lr' stands twice, in lines 5 and 7, and with two values"):
        load(write(TWICE.format(first=first, second=second)))


@pytest.mark.parametrize(("first", "second"), [("no", '"no"'), ("{a: [1]}", "{a: [2]}")])
def test_a_string_is_no_boolean_and_a_list_is_compared_by_what_it_holds(write, first, second):
    with pytest.raises(UsageError, match="two values"):
        load(write(TWICE.format(first=first, second=second)))


@pytest.mark.parametrize(("first", "second"), [("0.1", "0.1"), ("adam", '"adam"'), ("{a: [1]}", "{a: [1]}")])
def test_the_same_value_twice_is_noted(write, first, second):
    (experiment,) = load(write(TWICE.format(first=first, second=second)))
    assert "lr stands twice, in lines 5 and 7, with the same value" in experiment.notes[0]


def test_two_experiments_of_one_name_are_refused(write):
    text = "one: {run: PPO, env: A-v0}\ntwo: {run: PPO, env: A-v0}\none: {run: PPO, env: B-v0}\n"
    with pytest.raises(UsageError, match="'one' stands twice, in lines 1 and 3"):
        load(write(text))


def test_anchors_and_merges_are_no_repetition(write):
    text = """
one: &one {run: PPO, env: E-v0, config: &config {lr: 0.1, gamma: 0.9}}
two: {<<: *one, config: {<<: *config, lr: 0.2}}
"""
    first, second = load(write(text))
    assert (first.config["lr"], second.config["lr"], second.config["gamma"]) == (0.1, 0.2, 0.9)
    assert not first.notes + second.notes
