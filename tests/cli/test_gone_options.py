"""Options and commands of RLlib's own command line."""

import pytest

from rllib_stpn.cli import gone_options
from rllib_stpn.cli.commands import evaluate, train
from rllib_stpn.cli.main import main

NOBODY = ("--ray-address", "127.0.0.1:1")


@pytest.mark.parametrize("command", [train, evaluate], ids=["train", "evaluate"])
def test_what_an_option_is_told_to_be_replaced_by_is_there(command):
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    table = gone_options.OF_TRAIN if command is train else gone_options.OF_EVALUATE
    live = {name for action in parser._actions for name in action.option_strings} - {
        n for names in table for n in names
    }
    named = {word.strip("(),") for _, instead in table.values() for word in instead.split() if word.startswith("-")}
    assert named <= live


@pytest.mark.parametrize("names", gone_options.OF_TRAIN, ids=" ".join)
def test_each_is_taken_and_named(capsys, names):
    values, instead = gone_options.OF_TRAIN[names]
    for name in names:
        assert main(["train", "--run", "Nothing", "--env", "CartPole-v1", name, *["x"] * values, *NOBODY]) == 2
        told = capsys.readouterr()
        assert told.out.startswith(f"note: {name} no longer means anything: {instead}")
        assert "unknown algorithm 'Nothing'" in told.err


@pytest.mark.parametrize("names", gone_options.OF_EVALUATE, ids=" ".join)
def test_each_of_evaluation_is_taken_and_named(capsys, names):
    values, instead = gone_options.OF_EVALUATE[names]
    for name in names:
        assert main(["evaluate", "/nowhere", name, *["x"] * values]) == 2
        told = capsys.readouterr()
        assert told.out.startswith(f"note: {name} no longer means anything: {instead}")
        assert "/nowhere" in told.err


def test_failures_allowed_are_those_of_the_command_line(capsys):
    assert main(["train", "--run", "PPO", "--env", "CartPole-v1", "--max-failures", "-2", *NOBODY]) == 2
    assert "--max-failures: got -2, allowed is a whole number of at least -1" in capsys.readouterr().err
