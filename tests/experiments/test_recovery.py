"""Damaged files of an experiment: what is gone on with, and what is said of the rest."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from ray.tune.schedulers import FIFOScheduler

from rllib_stpn import manifest
from rllib_stpn.agents.checkpoints import damage as damage_of
from rllib_stpn.agents.checkpoints import newest_whole
from rllib_stpn.cli.main import main
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import recovery, resuming, running
from rllib_stpn.experiments.interruption import Interruption
from rllib_stpn.experiments.stopping import StoppingScheduler
from tests.experiments.of_settings import SMALL

BEGIN = ["train", "--run", "PPO", "--env", "CartPole-v1", "--config", json.dumps(SMALL), "-n", "x"]
WEIGHTS = "learner_group/learner/rl_module/default_policy/module_state.pkl"


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def flip(file: Path) -> None:
    """One bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def garble(file: Path) -> None:
    """As a disk returns a block that it has lost."""
    file.write_bytes(b"\0" * file.stat().st_size)


@pytest.fixture(scope="module")
def written(tmp_path_factory, ray_session):
    """The storage path of an experiment of three iterations, with a checkpoint after each."""
    storage = tmp_path_factory.mktemp("written")
    arguments = ["--storage-path", str(storage), "--checkpoint-freq", "1", "--stop", '{"training_iteration": 3}']
    assert main([*BEGIN, *arguments]) == 0
    return storage


@pytest.fixture
def storage(written, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(written, tmp_path / "copy"))


def trial_of(storage: Path) -> Path:
    (trial,) = (path for path in (storage / "x").iterdir() if path.is_dir())
    return trial


def recover(storage: Path) -> list[str]:
    return recovery.recover(resuming.recall(str(storage), "x"))


def gone_on_from(storage: Path) -> str:
    """The checkpoint that Tune would go on from: by the snapshot that it would read."""
    snapshot = json.loads(max((storage / "x").glob("experiment_state-*.json")).read_text())
    ((state, metadata),) = snapshot["trial_data"]
    trial = recovery.Trial.from_json_state(state, stub=True)
    trial.restore_run_metadata(metadata)
    checkpoint = Path(trial.checkpoint.path)
    assert checkpoint.parent == trial_of(storage)
    assert trial.run_metadata.last_result["training_iteration"] == int(checkpoint.name[-1]) + 1
    return checkpoint.name


def iterations(file: Path) -> list[int]:
    if file.suffix == ".csv":
        head, *rows = file.read_text().splitlines()
        return [int(row.split(",")[head.split(",").index("training_iteration")]) for row in rows]
    return [json.loads(line)["training_iteration"] for line in file.read_text().splitlines()]


@pytest.mark.parametrize("damage", [cut, empty, garble, os.unlink], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(
    "pattern", ["experiment_state-*.json", "basic-variant-state-*.json", "callback-states-*.pkl", "tuner.pkl"]
)
def test_whatever_is_wrong_with_tunes_own_files_nothing_begins_anew(storage, pattern, damage):
    (file,) = (storage / "x").glob(pattern)
    damage(file)
    notes = recover(storage)
    assert gone_on_from(storage) == "checkpoint_000002"
    if damage is not os.unlink and pattern != "tuner.pkl":  # which nobody reads
        assert f"{file}: cannot be read: gone on without it" in notes[0]
        assert file.with_name(f"{file.name}.broken").exists()
    if pattern.startswith("basic"):  # one trial, which has begun
        assert len(notes) == (damage is not os.unlink)


@pytest.mark.parametrize("damage", [cut, empty, garble, flip, os.unlink], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["algorithm_state.pkl", WEIGHTS, "env_runner/state.pkl", manifest.FILE])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_gone_on_from(storage, name, damage):
    newest = trial_of(storage) / "checkpoint_000002"
    damage(newest / name)
    notes = recover(storage)
    if (name, damage) == (manifest.FILE, os.unlink):  # of a version that wrote none
        assert gone_on_from(storage) == "checkpoint_000002"
        return
    assert gone_on_from(storage) == "checkpoint_000001"
    assert f"{newest}: broken: " in notes[0] and "gone on from checkpoint_000001" in notes[0]
    assert name in notes[0] or name == manifest.FILE  # which may name another file then
    assert iterations(trial_of(storage) / "result.json") == [1, 2]
    assert iterations(trial_of(storage) / "progress.csv") == [1, 2]


def test_every_flipped_bit_is_noticed_and_its_file_named(storage):
    checkpoint, draw = trial_of(storage) / "checkpoint_000002", random.Random(0)
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != manifest.FILE)
    files = [path for path in files if path.stat().st_size]
    assert len(files) > 10
    for file in [*files, *draw.choices(files, k=100)]:
        whole = file.read_bytes()
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)
        told = damage_of(checkpoint)
        assert told is not None and str(file.relative_to(checkpoint)) in told
        file.write_bytes(whole)
    assert damage_of(checkpoint) is None


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("algorithm_state.pkl", cut),
        (WEIGHTS, empty),
        (WEIGHTS, os.unlink),
        ("rllib_checkpoint.json", garble),
        ("class_and_ctor_args.pkl", cut),
        ("env_runner", shutil.rmtree),
    ],
)
def test_so_is_one_of_a_version_that_wrote_no_checksums(storage, name, damage):
    for checkpoint in trial_of(storage).glob("checkpoint_*"):
        (checkpoint / manifest.FILE).unlink()
        (checkpoint / recovery.RESULT).unlink()
    assert newest_whole(trial_of(storage)).path == trial_of(storage) / "checkpoint_000002"
    path = trial_of(storage) / "checkpoint_000002" / name
    damage(path)
    assert f"checkpoint_000002: broken: {name.partition('.')[0]}" in recover(storage)[0]
    assert gone_on_from(storage) == "checkpoint_000001"


LEARNER = "learner_group/learner"


@pytest.mark.parametrize(
    ("wrong", "damage"),
    [
        (f"{LEARNER}/class_and_ctor_args.pkl", empty),
        (f"{LEARNER}/rl_module", shutil.rmtree),
        (WEIGHTS, os.unlink),
        (f"{LEARNER}/state.pkl", os.unlink),
        (f"{LEARNER}/state.pkl", cut),
    ],
    ids=lambda value: getattr(value, "__name__", str(value).removeprefix(LEARNER)),
)
def test_so_is_one_that_was_kept_without_the_part_of_a_killed_learner(storage, wrong, damage):
    newest = trial_of(storage) / "checkpoint_000002"
    damage(newest / wrong)
    manifest.write(newest)
    (note,) = recover(storage)
    assert gone_on_from(storage) == "checkpoint_000001"
    assert f"{newest}: broken: {wrong.removesuffix('.pkl')}" in note


def test_checkpoints_that_tune_has_not_heard_of_count(storage):
    """It notes what there is every ten seconds; here nothing but the trial's beginning was noted."""
    for file in (storage / "x").glob("*state*"):
        file.unlink()
    assert recover(storage) == []
    assert gone_on_from(storage) == "checkpoint_000002"


def test_where_the_experiment_was_moved_its_checkpoints_are_found(storage, tmp_path):
    moved = storage.rename(tmp_path / "moved")
    assert recover(moved) == []
    assert gone_on_from(moved) == "checkpoint_000002"


def test_where_nothing_is_left_to_go_on_from_nothing_begins(storage):
    for checkpoint in trial_of(storage).glob("checkpoint_*"):
        empty(checkpoint / WEIGHTS)
    with pytest.raises(UsageError, match=f"none of the checkpoints .* whole; .*checkpoint_000002: broken: {WEIGHTS}"):
        recover(storage)
    for file in (storage / "x").glob("*state*"):
        file.unlink()
    (storage / "x/rllib_trials.jsonl").unlink()
    with pytest.raises(UsageError, match="nothing in .* tells what trials there were; allowed are --restore"):
        recover(storage)


def test_checkpoints_that_were_taken_away_are_missed(storage):
    empty(trial_of(storage) / "checkpoint_000002" / WEIGHTS)
    recover(storage)  # It is to go on now, from the one before.
    for checkpoint in trial_of(storage).glob("checkpoint_*"):
        shutil.rmtree(checkpoint)
    with pytest.raises(UsageError, match="its checkpoints are gone, the last was checkpoint_000001"):
        recover(storage)


@pytest.mark.parametrize("name", ["result.json", "progress.csv"])
def test_garbled_lines_are_left_out_and_gaps_are_told(storage, name):
    file = trial_of(storage) / name
    lines = file.read_bytes().splitlines(keepends=True)
    lines[-2] = b'"' + lines[-2][: len(lines[-2]) // 8] + b"\0\0\n"
    file.write_bytes(b"".join(lines))
    (note,) = recover(storage)
    assert note == f"{file}: 1 garbled line left out, it has no iteration 2"
    assert iterations(file) == [1, 3]
    file.write_bytes(file.read_bytes()[: -len(lines[-1]) // 2])
    (note,) = recover(storage)
    assert note == f"{file}: it has no iteration 2 to 3"


def test_it_runs_on_from_there(storage, capsys):
    (snapshot,) = (storage / "x").glob("experiment_state-*.json")
    cut(snapshot)
    flip(trial_of(storage) / "checkpoint_000002" / WEIGHTS)
    (trial_of(storage) / recovery.UNFINISHED).mkdir()
    arguments = ["--storage-path", str(storage), "--stop", '{"training_iteration": 5}']
    assert main(["train", "--resume", "-n", "x", *arguments]) == 0
    told = capsys.readouterr().out
    assert f"note: {snapshot}: cannot be read" in told and "gone on from checkpoint_000001" in told
    for name in ("result.json", "progress.csv"):
        assert iterations(trial_of(storage) / name) == [1, 2, 3, 4, 5]
    assert not (trial_of(storage) / recovery.UNFINISHED).exists()
    assert newest_whole(trial_of(storage)).path == trial_of(storage) / "checkpoint_000005"


def test_tune_may_not_begin_in_the_place_of_what_it_cannot_go_on_with():
    scheduler = StoppingScheduler(FIFOScheduler(), {}, Interruption())
    with pytest.raises(UsageError, match="nothing was begun"):
        resuming.Bookkeeping(scheduler, goes_on=True).setup()


def test_evaluate_takes_the_newest_whole_one_and_says_so(storage, capsys):
    newest = trial_of(storage) / "checkpoint_000002"
    flip(newest / WEIGHTS)
    assert main(["evaluate", str(storage / "x"), "--episodes", "1"]) == 0
    told = capsys.readouterr().out
    assert f"note: checkpoint {newest}: broken: {WEIGHTS} is not what was written" in told
    assert f"checkpoint  {newest.with_name('checkpoint_000001')}\n" in told
    assert main(["evaluate", str(newest)]) == 2
    assert "broken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "damage"), [(WEIGHTS, flip), ("class_and_ctor_args.pkl", cut), ("env_runner", shutil.rmtree)]
)
def test_a_broken_checkpoint_is_not_begun_with(storage, capsys, name, damage):
    checkpoint = trial_of(storage) / "checkpoint_000002"
    damage(checkpoint / name)
    assert main([*BEGIN, "--storage-path", str(storage / "new"), "--restore", str(checkpoint)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{checkpoint}: broken: {name}" in line and "checkpoint_000001 beside it is whole" in line
    assert not (storage / "new").exists()


def test_a_second_run_in_the_same_place_is_told(storage):
    begun = resuming.recall(str(storage), "x")
    _, (note,) = running.prepare(begun)
    assert note.startswith(f"{storage}/x has a run already: it stays there, but --resume will know only this new one")
    shutil.rmtree(storage / "x")
    assert running.prepare(begun)[1] == []
