"""The tasks: their data, and what they measure."""

import itertools
import math

import numpy as np
import pytest
import torch

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import make_layer
from rllib_stpn.supervised import TASKS, evaluate
from rllib_stpn.supervised.corpora import END, UNKNOWN, make_vocabulary, python_topics
from rllib_stpn.supervised.task import SPLITS

SMALL = {
    "associative_retrieval": {"train_size": 50, "validation_size": 30, "test_size": 20},
    "familiarity": {"dim": 12, "length": 15, "train_size": 50, "validation_size": 30, "test_size": 20},
    "language_modelling": {"vocabulary_size": 300, "embedding_size": 6, "bptt": 7},
}


def make(name, seed=0, **options):
    task = TASKS[name](**{**SMALL[name], **options})
    task.make_data(seed)
    return task


def drawn(task, split, rng=None):
    """All inputs and targets of a pass."""
    inputs, targets = zip(*task.batches(split, 8, rng), strict=True)
    return torch.cat(inputs, 1 if task.carries_state else 0), torch.cat(targets, 1 if task.carries_state else 0)


@pytest.mark.parametrize("name", TASKS)
def test_data_follow_from_the_seed_and_splits_differ(name):
    first, again, other = make(name), make(name), make(name, seed=1)
    for split in SPLITS:
        assert all(map(torch.equal, drawn(first, split), drawn(again, split)))
        if name != "language_modelling":
            assert not torch.equal(drawn(first, split)[0], drawn(other, split)[0])
            assert len(drawn(first, split)[0]) == SMALL[name][f"{split}_size"]
    inputs = [drawn(first, split)[0] for split in SPLITS]
    for one, two in itertools.combinations(inputs, 2):
        number, length = min(len(one), len(two)), min(one.shape[1], two.shape[1])
        assert not torch.equal(one[:number, :length], two[:number, :length])


@pytest.mark.parametrize("name", TASKS)
def test_a_pass_has_as_many_batches_as_told(name):
    task = make(name)
    for split in SPLITS:
        assert len(list(task.batches(split, 8))) == task.num_batches(split, 8)


def test_training_goes_through_the_same_sequences_in_another_order_each_epoch():
    task = make("associative_retrieval")
    kept, answers = drawn(task, "train")
    one, two = (drawn(task, "train", np.random.default_rng(epoch)) for epoch in (1, 2))
    assert not torch.equal(one[0], two[0])
    for tokens, targets in (one, two):
        rows = {(*map(int, row), int(answer)) for row, answer in zip(tokens, targets, strict=True)}
        assert rows == {(*map(int, row), int(answer)) for row, answer in zip(kept, answers, strict=True)}


def test_associative_retrieval_asks_for_the_digit_behind_the_letter():
    tokens, answers = drawn(make("associative_retrieval", num_pairs=4), "validation")
    assert tokens.shape == (30, 11)
    for row, answer in zip(tokens.tolist(), answers.tolist(), strict=True):
        assert row[8:10] == [36, 36]
        assert row[row.index(row[-1]) + 1] == answer


def test_familiarity_marks_what_came_before_and_draws_anew_every_epoch():
    task = make("familiarity", delay=2)
    inputs, repeats = drawn(task, "validation")
    same = (inputs[:, 2:] == inputs[:, :-2]).all(-1)
    assert torch.equal(same, repeats[:, 2:])
    assert not repeats[:, :2].any()
    assert 0.25 < repeats[:, 2:].float().mean() < 0.42
    one, two = (drawn(task, "train", np.random.default_rng(epoch))[0] for epoch in (1, 2))
    assert not (one[:, None] == two[None]).flatten(2).all(-1).any()


def test_familiarity_with_one_data_set_repeats_it():
    task = make("familiarity", fresh=False, train_size=1)
    assert torch.equal(drawn(task, "train", np.random.default_rng(1))[0], drawn(task, "train")[0])


def test_language_modelling_reads_streams_window_by_window(text):
    task = make("language_modelling", **text)
    ids = [task.vocabulary[word] for word in ("a b c a b <eos> a <unk> b <eos> " * 9).split()]
    inputs, targets = drawn(task, "train")
    length = len(ids) // 8
    for row in range(8):
        stream = ids[row * length : (row + 1) * length]
        assert inputs[row].tolist() == stream[:-1]
        assert targets[row].tolist() == stream[1:]
    assert all(batch.shape[1] <= 7 for batch, _ in task.batches("train", 8))


def test_words_that_training_lacks_are_unknown(text):
    task = make("language_modelling", **text)
    assert task.vocabulary == {UNKNOWN: 0, "b": 1, "a": 2, END: 3, "c": 4} or set(task.vocabulary) == {
        UNKNOWN,
        END,
        *"abc",
    }
    assert (drawn(task, "validation")[0] == task.vocabulary[UNKNOWN]).float().mean() > 0.2
    assert make_vocabulary(["b", "b", "a", "c", "c", "c"], 3) == {UNKNOWN: 0, "c": 1, "b": 2}


def test_pythons_topics_are_split_without_overlap():
    splits = python_topics()
    paragraphs = {split: set(" ".join(words).split(END)) - {""} for split, words in splits.items()}
    for one, two in itertools.combinations(SPLITS, 2):
        assert not {p for p in paragraphs[one] & paragraphs[two] if len(p.split()) > 12}
    share = len(splits["train"]) / sum(map(len, splits.values()))
    assert 0.7 < share < 0.9
    assert len(splits["test"]) > 3000


@pytest.mark.parametrize("name", TASKS)
def test_what_is_measured_over_batches_is_what_all_at_once_gives(name):
    task = make(name)
    torch.manual_seed(0)
    module = task.make_module(make_layer("stpn", input_size=task.input_size, hidden_size=5))
    measured = evaluate(task, module, "validation", batch_size=8, measure_energy=True)
    inputs, targets = drawn(task, "validation")
    with torch.no_grad():
        logits, _, energy = module(inputs, return_energy=True)
    if name == "familiarity":
        loss = torch.nn.functional.softplus(torch.where(targets, -logits, logits)).mean().item()
        accuracy = ((torch.sigmoid(logits) > 0.5) == targets).float().mean().item()
    else:
        loss = -logits.log_softmax(-1).gather(-1, targets[..., None]).mean().item()
        accuracy = (logits.argmax(-1) == targets).float().mean().item()
    sequences = math.ceil(inputs.shape[1] / 7) * 8 if task.carries_state else len(inputs)
    assert measured["validation_loss"] == pytest.approx(loss, rel=1e-5)
    assert measured["validation_accuracy"] == pytest.approx(accuracy, rel=1e-5)
    assert measured["energy_per_sequence"] == pytest.approx(energy.sum().item() / sequences, rel=1e-4)
    if name == "language_modelling":
        assert measured["validation_perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)


def test_the_mean_readout_has_one_weight_for_all_units():
    task = make("familiarity", readout="mean")
    module = task.make_module(make_layer("hebbff", input_size=12, hidden_size=5))
    outputs = torch.rand(2, 3, 5)
    assert torch.allclose(module.readout(outputs), -10 * outputs.mean(-1) + 5)
    assert sum(parameter.numel() for parameter in module.readout.parameters()) == 2


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("associative_retrieval", {"num_pairs": 27}, "num_pairs: got 27, allowed is a whole number from 1 to 26"),
        ("associative_retrieval", {"train_size": 0}, "train_size: got 0"),
        ("familiarity", {"delay": 15}, "length: got 15, allowed is more than the delay of 15"),
        ("familiarity", {"readout": "max"}, "readout: got 'max', allowed are 'linear', 'mean'"),
        ("familiarity", {"fresh": "no"}, "fresh: got 'no', allowed is true or false"),
        ("language_modelling", {"bptt": 2.5}, "bptt: got 2.5"),
        ("language_modelling", {"train": "nowhere.txt", "validation": "x", "test": "y"}, "nowhere.txt: no such file"),
        ("language_modelling", {"train": "nowhere.txt"}, "validation: missing"),
    ],
    ids=str,
)
def test_options_that_cannot_be(name, options, told):
    with pytest.raises(UsageError, match=f"{name}: .*{told}"):
        TASKS[name](**{**SMALL[name], **options})


def test_a_text_too_short_for_the_batch(text):
    with pytest.raises(UsageError, match="validation: 60 words are too few for a batch of 50"):
        next(make("language_modelling", **text).batches("validation", 50))
