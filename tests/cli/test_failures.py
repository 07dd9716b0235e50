"""Finding the error in a trial's traceback."""

import pytest

from rllib_stpn.cli.failures import root_error

CHAIN = """\
Failure # 1 (occurred at 2026-01-01_00-00-00)
\x1b[36mray::PPO.train()\x1b[39m (pid=1, ip=10.0.0.1)
Traceback (most recent call last):
  File "x.py", line 1, in step
    raise RuntimeError("the simulator died")
RuntimeError: the simulator died

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "y.py", line 2, in sample
    raise RuntimeError from e
{last}
"""


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("RuntimeError", ("RuntimeError", "the simulator died")),
        ("ValueError: first\n  second", ("ValueError", "first second")),
        ("rllib_stpn.errors.UsageError: model: no", ("UsageError", "model: no")),
        (
            "gymnasium.error.NameNotFound: Environment `X` doesn't exist.",
            ("NameNotFound", "Environment `X` doesn't exist."),
        ),
    ],
)
def test_the_last_error_with_a_message(last, expected):
    assert root_error(CHAIN.format(last=last)) == expected


def test_a_usage_error_anywhere_in_the_chain():
    text = CHAIN.format(last="RuntimeError: wrapped").replace(
        "\nRuntimeError: the simulator died", "\nrllib_stpn.errors.UsageError: env 3, step 7: nan"
    )
    assert root_error(text) == ("UsageError", "env 3, step 7: nan")


def test_an_actor_that_died_in_its_constructor():
    text = (
        "The actor died because of an error raised in its creation task, ray::PPO.__init__() (pid=1)\n"
        "Traceback (most recent call last):\n  File 'z.py', line 1\nValueError: too small\n"
    )
    assert root_error(text) == ("ValueError", "too small")


def test_text_without_an_error_is_told_as_it_is():
    assert root_error("the worker was killed") == ("Error", "the worker was killed")
