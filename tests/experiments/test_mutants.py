"""Every file of experiments with something wrong in it: told in a sentence, never a traceback, and no key ignored."""

import contextlib
import io
import math
import random
from pathlib import Path

import pytest
import yaml

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import running, validation
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.overrides import Overrides
from rllib_stpn.experiments.resources import Cluster
from rllib_stpn.experiments.schedulers import make_scheduler, tune_space
from tests.experiments.mutants import NUMBERS, Mutant, mutants

HERE = Path(__file__).parent
FOLDERS = (HERE.parents[1] / "tuned_examples", HERE / "old_files", HERE / "old_examples")
FILES = [file for folder in FOLDERS for file in sorted(folder.glob("*.yaml"))]
#: No YAML, or no mapping with experiments in it.
FILES = [file for file in FILES if file.stem not in ("flatland-broken-list", "wandb-record")]
#: Whatever is in these, an environment or a machine reads.
FREE = {"env_config", "custom_resources_per_env_runner", "resources_per_trial", "trial_resources"}


def checked(path):
    """What ``rllib train`` does with a file before it starts Ray."""
    experiments = []
    for experiment in load(path):
        experiment = validation.check(Overrides().apply(experiment))
        make_scheduler(experiment)
        experiment, _ = running.fit(experiment, Cluster([2]), whole=True)
        tune_space(experiment.folded)
        experiments.append(experiment)
    return experiments


def is_told(mutant: Mutant, notes: str) -> bool:
    """Whether notes name a key, or say of the setting that it is or stands in that nothing reads it."""
    unread = [key for key in mutant.path if f"{key} no longer means" in notes or f"{key} has no effect" in notes]
    return bool(unread) or (isinstance(mutant.value, str) and mutant.value in notes)


def fault_of(mutant: Mutant, path: Path, was_right: bool) -> str | None:
    """What is wrong with how a mutant was taken, None where nothing is."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            experiments = checked(path)
    except UsageError as error:
        told = str(error)
        return None if str(path) in told and "\n" not in told else f"does not name the file in one line: {told}"
    notes = "\n".join(note for experiment in experiments for note in experiment.notes)
    if not was_right or FREE & set(mutant.path) or is_told(mutant, notes):
        return None
    if mutant.slip in ("misspelt", "unknown") and mutant.path:  # else it is an experiment's name
        return "ignored in silence"
    if mutant.slip == "not finite" and not ("clip" in str(mutant.path[-1]) and mutant.value != "-inf"):
        return f"taken: {experiments}"
    return None


def faults(file: Path, directory: Path, number: int, seed: int) -> list[str]:
    found, path = [], directory / file.name
    path.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()), sort_keys=False))
    was_right = True
    try:
        checked(path)
    except UsageError:
        was_right = False
    for mutant in mutants(file, number, random.Random(f"{seed} {file.name}")):
        path.write_text(mutant.text)
        try:
            fault = fault_of(mutant, path, was_right)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        if fault:
            found.append(f"{file.name}: {mutant}: {fault}")
    return found


def outcome(path):
    try:
        return [experiment.config for experiment in checked(path)]
    except UsageError as error:
        return str(error).replace(str(path), "")


def test_what_is_right_stays_right_when_it_is_written_anew(tmp_path):
    """So that what is refused below is refused for its slip."""
    taken = 0
    for file in FILES[::7]:
        same = tmp_path / file.name
        same.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()), sort_keys=False))
        assert outcome(same) == outcome(file)
        taken += isinstance(outcome(same), list)
    assert taken > 5


def test_slips_are_told_in_a_sentence(tmp_path):
    found = [fault for file in FILES[::5] for fault in faults(file, tmp_path, number=3, seed=0)]
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_two_thousand_slips_are_told_in_a_sentence(tmp_path):
    number = math.ceil(2000 / len(FILES))
    found = [fault for file in FILES for fault in faults(file, tmp_path, number=number, seed=100)]
    assert not found, "\n".join(found)


def test_the_tool_makes_each_kind_of_slip():
    file = FOLDERS[0] / "maze_stpn.yaml"
    made = list(mutants(file, 300, random.Random(0)))
    assert {mutant.slip for mutant in made} >= {"misspelt", "unknown", "twice", *NUMBERS, "other type"}
    for mutant in made:
        assert mutant.text != file.read_text()
        yaml.safe_load(mutant.text)
    assert any(".nan" in mutant.text for mutant in made) and any(" 1e999" in mutant.text for mutant in made)
