"""Training, stopping and going on."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from rllib_stpn.errors import UsageError
from rllib_stpn.supervised import Supervised, evaluate, load
from tests import own_layers


def settings(task="associative_retrieval", layer="stpn", **more):
    small = {
        "associative_retrieval": {"num_pairs": 1, "train_size": 700, "validation_size": 100, "test_size": 200},
        "familiarity": {"dim": 10, "length": 12, "train_size": 40, "validation_size": 20, "test_size": 20},
        "language_modelling": {"vocabulary_size": 100, "embedding_size": 5, "bptt": 30},
    }
    return {
        "task": task,
        "task_config": small[task],
        "model": {"custom_model": layer, "custom_model_config": {"hidden_size": 6}},
        "lr": [[0, 0.02], [4, 0.001]],
        "train_batch_size": 32,
        "seed": 3,
        **more,
    }


TIMES = ("time", "timestamp", "date", "iterations_since_restore")


def timeless(result):
    return {k: v for k, v in result.items() if not any(k.startswith(t) or k.endswith("_s") for t in TIMES)}


CASES = {
    "retrieval": {},
    "no-seed": {"seed": None},
    "familiarity": {"task": "familiarity", "layer": "hebbff", "lr": 0.01},
    "language-modelling": {
        "task": "language_modelling",
        "layer": "plastic_lstm",
        "optimizer": "sgd",
        "lr": 1.0,
        "grad_clip": 0.5,
        "train_batch_size": 16,
    },  # fmt: skip
}


@pytest.mark.parametrize("case", CASES)
def test_a_restored_trial_goes_on_bit_for_bit(tmp_path, text, case):
    case = settings(**CASES[case])
    if case["task"] == "language_modelling":
        case["task_config"] |= text
    straight = Supervised(copy.deepcopy(case))
    straight.train()
    straight.save(str(tmp_path))
    expected = [straight.train() for _ in range(2)]
    restored = Supervised(copy.deepcopy(case))
    restored.train()  # It has a life of its own before.
    restored.restore(str(tmp_path))
    for one, two in zip(expected, [restored.train(), restored.train()], strict=True):
        assert timeless(one) == timeless(two)
    other = dict(restored.module.named_parameters())
    for name, parameter in straight.module.named_parameters():
        assert torch.equal(parameter, other[name]), name


def test_it_learns_and_reports():
    case = settings(lr=0.01)
    case["model"]["custom_model_config"]["hidden_size"] = 16
    case["task_config"]["train_size"] = 1400
    trainable = Supervised(case)
    first, *_, last = [trainable.train() for _ in range(8)]
    assert first["train_accuracy"] < 0.5
    assert last["train_accuracy"] > 0.9
    assert last["train_loss"] < first["train_loss"]
    assert last["validation_accuracy"] > 0.75
    assert last["test_accuracy"] > 0.75
    assert last["num_parameters"] == 16 * (37 + 16) * 3 + 16 + 17 * 37
    assert last["num_sequences_trained_lifetime"] == 8 * 1400
    assert 0 < last["epoch_time_s"] <= last["time_this_iter_s"]
    assert last["energy_per_sequence"] > 0


def test_the_test_is_that_of_the_epoch_with_the_best_validation(tmp_path):
    trainable = Supervised(settings())
    results = []
    for epoch in range(1, 7):
        if epoch == 4:
            with torch.no_grad():  # From now on it answers what is no answer of this task.
                trainable.module.readout.bias[-1] = 1e6
        results.append(trainable.train())
        trainable.save(str(tmp_path / str(epoch)))
    accuracies = [result["validation_accuracy"] for result in results]
    best = accuracies.index(max(accuracies)) + 1
    assert accuracies[3:] == [0, 0, 0]
    assert results[-1]["best_epoch"] == best < 4
    task, module = load(tmp_path / str(best))
    tested = evaluate(task, module, "test", batch_size=32)
    assert tested == {key: results[-1][key] for key in ("test_loss", "test_accuracy")}


def test_seeds_differ_and_repeat():
    losses = [Supervised(settings(seed=seed)).train()["train_loss"] for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_a_checkpoint_gives_task_and_module(tmp_path):
    trainable = Supervised(settings("familiarity", seed=None))
    result = trainable.train()
    trainable.save(str(tmp_path))
    task, module = load(tmp_path)
    assert not module.training
    measured = evaluate(task, module, "validation", batch_size=32, measure_energy=True)
    assert measured == {key: result[key] for key in measured}
    assert Supervised.from_checkpoint(tmp_path).train()["training_iteration"] == 2


def test_a_checkpoint_of_another_model_or_none(tmp_path):
    trainable = Supervised(settings())
    trainable.save(str(tmp_path))
    with pytest.raises(UsageError, match="another model: got .*'stpn'.* allowed is .*'gru'"):
        Supervised(settings(layer="gru")).restore(str(tmp_path))
    with pytest.raises(UsageError, match="no checkpoint of supervised training"):
        load(tmp_path / "elsewhere")
    (tmp_path / "supervised.pt").write_bytes(b"half a fi")
    with pytest.raises(UsageError, match=r"broken: supervised\.pt has 9 bytes"):
        load(tmp_path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_no_number_ends_the_run(value):
    trainable = Supervised(settings())
    with torch.no_grad():
        trainable.module.readout.bias[0] = value
    with pytest.raises(UsageError, match="epoch 1: the training loss is (nan|inf); a smaller lr"):
        trainable.train()


def test_a_loss_without_a_perplexity_ends_the_run(text):
    case = settings("language_modelling", layer="mlp", lr=1e-6, train_batch_size=16)
    case["task_config"] |= text
    trainable = Supervised(case)
    with torch.no_grad():
        trainable.module.readout.bias[0] = 2e30  # Any other word then has this loss, whose exponential is no number.
    with pytest.raises(UsageError, match=r"epoch 1: the training loss is .*e\+(29|30); a smaller lr"):
        trainable.train()


def test_a_loss_that_is_no_number_after_the_epoch_ends_the_run():
    trainable = Supervised(settings())

    def break_evaluation(module, arguments, results):
        return results if torch.is_grad_enabled() else (results[0] * torch.nan, *results[1:])

    trainable.module.register_forward_hook(break_evaluation)
    with pytest.raises(UsageError, match="epoch 1: the validation loss is nan; a smaller lr"):
        trainable.train()


def test_a_layer_of_the_users_own_learns_without_telling_its_energy(tmp_path):
    trial = Supervised(settings(layer="tests.own_layers.Wide"))
    result = trial.train()
    assert "energy_per_sequence" not in result
    assert "energy_per_sequence" in Supervised(settings(layer="rnn")).train()
    trial.save(str(tmp_path))
    task, module = load(tmp_path)
    found = evaluate(task, module, "validation", 32)
    assert found["validation_loss"] == pytest.approx(result["validation_loss"])
    with pytest.raises(UsageError, match="Wide: got a layer that leaves its energy out"):
        evaluate(task, module, "validation", 32, measure_energy=True)


def trained(directory, **more):
    """A trial of an epoch, which left a checkpoint."""
    trial = Supervised(settings(**more))
    trial.train()
    trial.save(str(directory))
    return trial


def of_text(text, **more):
    """Settings of language modelling on files."""
    case = settings("language_modelling", layer="rnn", train_batch_size=4, **more)
    return case | {"task_config": case["task_config"] | text}


def perplexity(path):
    task, module = load(path)
    return evaluate(task, module, "test", 4)["test_perplexity"]


def test_settings_may_have_numpys_numbers_and_a_checkpoint_can_be_read(tmp_path):
    case = settings(lr=np.float64(0.01), seed=np.int64(3), train_batch_size=np.int32(32), grad_clip=np.float32(1))
    case["task_config"] = {key: np.int64(value) for key, value in case["task_config"].items()}
    case["model"]["custom_model_config"] = {"hidden_size": np.int64(6), "gamma_init_scale": np.float64(0.5)}
    trial = Supervised(case)
    expected = trial.train()
    trial.save(str(tmp_path))
    task, module = load(tmp_path)
    measured = evaluate(task, module, "validation", 32, measure_energy=True)
    assert measured == {key: expected[key] for key in measured}
    assert timeless(Supervised.from_checkpoint(tmp_path).train()) == timeless(trial.train())


def test_a_schedule_may_be_an_array():
    case = settings(lr=np.array([[0, 0.02], [4, 0.001]]))
    assert Supervised(case).train()["train_loss"] == Supervised(settings()).train()["train_loss"]


def test_a_layer_given_as_a_class_is_found_again_from_a_checkpoint(tmp_path):
    trained(tmp_path, layer=own_layers.Wide)
    assert load(tmp_path)[1].layer.name == "Wide"
    Supervised(settings(layer="tests.own_layers.Wide")).restore(str(tmp_path))


@pytest.mark.parametrize("odd", [Path("x"), lambda: 1], ids=["no-plain-value", "no-pickle"])
def test_a_setting_that_no_checkpoint_can_hold_is_refused_before_training(odd):
    case = settings(layer="tests.own_layers.Options")
    case["model"]["custom_model_config"] |= {"needed": 1, "scale": odd}
    with pytest.raises(UsageError, match=r"config: a checkpoint cannot hold .*(Path|lambda).*, allowed are numbers"):
        Supervised(case)


def test_a_state_that_could_not_be_read_again_is_not_written(tmp_path):
    trial = trained(tmp_path, layer="tests.own_layers.Noting")
    trial.module.layer.noted = Path("x")
    with pytest.raises(UsageError, match="a checkpoint cannot hold .*Path.*in a layer's own state"):
        trial.save(str(tmp_path))
    assert Supervised.from_checkpoint(tmp_path).train()["training_iteration"] == 2  # from the one before


def test_a_trial_that_begins_from_anothers_checkpoint_has_the_data_and_order_of_its_own_seed(tmp_path):
    trained(tmp_path, seed=3)
    losses = []
    for seed in (3, 4, 5, None):
        trial = Supervised(settings(seed=seed))
        trial.restore(str(tmp_path))
        losses.append(trial.train()["train_loss"])
    assert losses[3] == losses[0]  # without a seed of its own it takes the checkpoint's
    assert len(set(losses)) == 3
    own, begun = Supervised(settings(seed=4)), Supervised(settings(seed=4))
    begun.restore(str(tmp_path))
    for one, two in zip(own._task.batches("test", 32), begun._task.batches("test", 32), strict=True):
        assert all(map(torch.equal, one, two))
    begun.train()
    begun.save(str(tmp_path / "of its own"))
    own.restore(str(tmp_path / "of its own"))
    assert timeless(own.train()) == timeless(begun.train())


def test_the_best_of_a_checkpoint_with_other_data_does_not_count(tmp_path):
    first = Supervised(settings(seed=3))
    first.train()
    first._best_score = 2.0  # better than any accuracy
    first.save(str(tmp_path))
    for seed, epoch in ((3, 1), (4, 2)):
        trial = Supervised(settings(seed=seed))
        trial.restore(str(tmp_path))
        assert trial.train()["best_epoch"] == epoch


@pytest.mark.parametrize("change", [lambda words: words.replace("a", "z"), lambda words: words + " new words \n"])
def test_words_keep_their_ids_where_the_training_text_has_changed(tmp_path, text, change):
    trial = Supervised(of_text(text))
    trial.train()
    trial.save(str(tmp_path / "checkpoint"))
    before = perplexity(tmp_path / "checkpoint")
    kept = dict(trial._task.vocabulary)
    training = Path(text["train"])
    training.write_text(change(training.read_text()))
    assert perplexity(tmp_path / "checkpoint") == before
    other = Supervised(of_text(text))
    assert other._task.vocabulary != kept
    other.restore(str(tmp_path / "checkpoint"))
    for going_on in (other, Supervised.from_checkpoint(tmp_path / "checkpoint")):
        assert going_on._task.vocabulary == kept
        going_on.train()
    other.save(str(tmp_path / "again"))
    assert load(tmp_path / "again")[0].vocabulary == kept


def test_a_checkpoint_without_its_vocabulary_takes_that_of_the_text(tmp_path, text):
    trial = Supervised(of_text(text))
    trial.train()
    trial.save(str(tmp_path / "new"))
    state = torch.load(tmp_path / "new/supervised.pt", weights_only=True)
    assert state.pop("vocabulary") == ["<unk>", "a", "b", "<eos>", "c"]
    del state["files"]
    (tmp_path / "old").mkdir()
    torch.save(state, tmp_path / "old/supervised.pt")
    assert perplexity(tmp_path / "old") == perplexity(tmp_path / "new")
    training = Path(text["train"])
    training.write_text(training.read_text() + " new words \n")
    going_on = Supervised(of_text(text))
    for read in (load, Supervised.from_checkpoint, lambda path: going_on.restore(str(path))):
        with pytest.raises(UsageError, match="old: the training text is another than it was: .*size mismatch") as told:
            read(tmp_path / "old")
        assert "\n" not in str(told.value)


def test_relative_files_are_found_from_another_directory(tmp_path, text, monkeypatch):
    relative = {split: Path(path).name for split, path in text.items()}
    monkeypatch.chdir(tmp_path)
    trial = Supervised(of_text(relative))
    trial.train()
    trial.save(str(tmp_path / "checkpoint"))
    before = perplexity("checkpoint")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert perplexity(tmp_path / "checkpoint") == before
    assert Supervised.from_checkpoint(tmp_path / "checkpoint").train()["training_iteration"] == 2
    Supervised(of_text(text)).restore(str(tmp_path / "checkpoint"))  # the same files, by their absolute paths
    # A whole folder that was moved is used from within.
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(moved)
    monkeypatch.chdir(moved)
    assert perplexity("checkpoint") == before
    monkeypatch.chdir(moved / "elsewhere")
    with pytest.raises(UsageError, match=f"language_modelling: train: {tmp_path}/train: no such file"):
        load(moved / "checkpoint")
