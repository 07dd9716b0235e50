"""Finding the error in a trial's traceback."""

import errno
import json
import os

import gymnasium
import pytest
from ray.tune.error import TuneError

from rllib_stpn import errors
from rllib_stpn.causes import root_error
from rllib_stpn.errors import in_words, users_place
from rllib_stpn.experiments.failures import broken_off

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
        ("SimulatorGone", ("RuntimeError", "the simulator died")),
        ("package.env.<locals>.Gone: bye", ("Gone", "bye")),
        ("ValueError: first\n  second", ("ValueError", "first second")),
        ("rllib_stpn.errors.UsageError: model: no", ("UsageError", "model: no")),
        (
            "ValueError: `beta` is wrong!\nTo suppress all validation errors, set `config.x(y=False)`!",
            ("ValueError", "`beta` is wrong!"),
        ),
        (
            "gymnasium.error.NameNotFound: Environment `X` doesn't exist.",
            ("NameNotFound", "Environment `X` doesn't exist."),
        ),
    ],
)
def test_the_last_error_with_a_message(last, expected):
    assert root_error(CHAIN.format(last=last))[:2] == expected


def test_without_any_message_it_is_the_error_that_caused_the_others():
    text = CHAIN.format(last="RuntimeError").replace("RuntimeError: the simulator died", "TimeoutError")
    assert root_error(text)[:2] == ("TimeoutError", "")
    assert str(root_error(text)) == "TimeoutError (x.py:1)"


def test_the_place_is_in_the_users_own_code():
    installed = os.path.dirname(os.path.dirname(gymnasium.__file__))
    frames = [
        ("/home/user/env.py", 3),
        (f"{installed}/gymnasium/core.py", 5),
        (f"{installed}/minigrid/core.py", 6),
        (json.__file__, 7),
        (errors.__file__, 8),
        ("python/ray/_raylet.pyx", 9),
    ]
    assert users_place(frames) == "/home/user/env.py:3"
    assert users_place(frames[1:]) == f"{installed}/minigrid/core.py:6"  # an environment that was installed
    assert users_place(frames[1:2] + frames[3:]) is None


def test_a_usage_error_anywhere_in_the_chain():
    text = CHAIN.format(last="RuntimeError: wrapped").replace(
        "\nRuntimeError: the simulator died", "\nrllib_stpn.errors.UsageError: env 3, step 7: nan"
    )
    assert root_error(text)[:2] == ("UsageError", "env 3, step 7: nan")


def test_an_actor_that_died_in_its_constructor():
    text = (
        "The actor died because of an error raised in its creation task, ray::PPO.__init__() (pid=1)\n"
        "Traceback (most recent call last):\n  File 'z.py', line 1\nValueError: too small\n"
    )
    assert root_error(text)[:2] == ("ValueError", "too small")


@pytest.mark.parametrize(
    ("raised", "name", "whose"),
    [
        ("", "PPO", "the trial's process (PPO"),
        ("ActorDiedError: ", "create_executable_class.<locals>._WrappedExecutable", "a learner's process"),
        ("ray.exceptions.ActorDiedError: ", "AggregatorActor", "the process of an aggregator"),
        ("ray.exceptions.ActorDiedError: ", "MultiAgentEnvRunner", "an env runner's process"),
    ],
)
def test_a_process_that_was_killed_is_told_as_that(raised, name, whose):
    cause = root_error(
        f"Failure # 1 (occurred at 2026-01-01_00-00-00)\n{raised}The actor died unexpectedly before finishing this "
        f"task.\n\tclass_name: {name}\n\tactor_id: 9dd0\n\tpid: 25714\n\tnamespace: 9f4d\n\tip: 10.0.0.1\n"
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
        "Worker unexpectedly exits. Some common causes include: (1) the process was killed by the OOM killer due to "
        "high memory usage, or (2) the worker crashed due to SIGSEGV or another unexpected error.\n"
    )
    assert str(cause).startswith(whose)
    assert "pid 25714 on 10.0.0.1) died without an error of its own" in str(cause)
    assert "memory" in str(cause)


def test_a_text_without_an_error_is_cut_between_words():
    told = str(root_error("word " * 200))
    assert told.startswith("Error: ... word word") and len(told) < 320


def test_an_env_runner_that_was_killed_is_not_taken_for_the_trial():
    died = "The actor died unexpectedly before finishing this task.\n\tclass_name: BatchedEnvRunner\n\tpid: 7\n"
    text = CHAIN.format(last="rllib_stpn.errors.RolloutError: env runner 2 ended: its process died")
    assert root_error(died + text)[:2] == ("RolloutError", "env runner 2 ended: its process died")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "/runs/x: the disk is full: [Errno 28]"),
        (OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"), "disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "/runs/x: the disk quota is used up: [Errno 122]"),
        (OSError(errno.EROFS, "Read-only file system", "/runs/x/trial/result.json"), "the disk is read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs/x/trial"), "/runs/x: it cannot be written to"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/runs/x"), "/runs/x: it is not there any more"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/home/user/level.txt"), None),
        (RuntimeError("the simulator died"), None),
    ],
)
def test_a_disk_that_fails_is_told_from_other_errors_whether_raised_here_or_handed_on_as_text(error, told):
    inside = TuneError(f'Traceback (most recent call last):\n  File "x.py", line 1\n{in_words(error)}\n')
    for each in (error, inside):
        found = broken_off(each, "/runs/x")
        assert found is None if told is None else told in found


def test_text_without_an_error_is_told_as_it_is():
    assert root_error("the worker was killed")[:2] == ("Error", "the worker was killed")
