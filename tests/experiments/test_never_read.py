"""What is said of settings that RLlib takes and nothing reads: the table against the source of the installed RLlib."""

import ast
import functools
import re
from pathlib import Path

import pytest
import ray.rllib
from ray.rllib.models.catalog import MODEL_DEFAULTS

import rllib_stpn
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import never_read
from rllib_stpn.experiments.building import algorithm_class, build_config, default_config
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.old import names as old_names
from rllib_stpn.experiments.overrides import Overrides
from rllib_stpn.experiments.validation import check
from tests.experiments.of_settings import experiment_of

RLLIB = Path(ray.rllib.__file__).parent
OURS = Path(rllib_stpn.__file__).parent
#: Of the old API stack alone.
OLD_STACK = re.compile(
    r"/(policy|evaluation|models|execution|examples|tests|benchmarks|tuned_examples|scripts)/|/connectors/(agent|action)/"
    r"|/utils/exploration/|/core/learner/(torch/)?(torch_)?differentiable_learner|/offline/(estimators/|dataset_(reader|writer)|io_context|resource)|_policy(_v2)?\.py|_(tf|torch)_(model|policy)\.py"
)
#: Functions of the old API stack, or with a branch of its own, in files of both.
OLD_STACK_FUNCTIONS = {
    "before_learn_on_batch": {"_training_step_old_api_stack", "_training_step_old_and_hybrid_api_stack"},
    "learner_queue_timeout": {"make_learner_thread"},
    "minibatch_buffer_size": {"make_learner_thread"},
    "num_multi_gpu_tower_stacks": {"make_learner_thread", "validate"},
    "replay_buffer_num_slots": {"setup"},  # where enable_rl_module_and_learner is off
    "noisy": {"validate", "_test"},  # where parameter noise explores; RLlib's tests
    "sigma0": {"_model_config_auto_includes"},  # into a key of the model's settings that no model reads
    "input_config": {"_validate_input_settings"},  # of input: dataset, which is translated
    **dict.fromkeys(("minibatch_size", "num_epochs"), {"shard"}),  # an argument of the same name
}
#: Where settings are set, not read.
SETTERS = {"training", "_serialize_dict"}

#: What offline algorithms alone read, and what users do not set.
OFFLINE_OR_PRIVATE = "_|.*offline|dataset_|input_|output_|prelearner_|materialize_|map_batches|enable_tf1"


class _Reads(ast.NodeVisitor):
    """Collects which names are read as attributes or as keys, and in which functions."""

    def __init__(self):
        self.found: dict[str, set[str]] = {}
        self._functions = [""]

    def visit_FunctionDef(self, node):
        self._functions.append(node.name)
        self.generic_visit(node)
        self._functions.pop()

    def visit_Attribute(self, node):
        if isinstance(node.ctx, ast.Load):
            self._add(node.attr)
        self.generic_visit(node)

    def visit_Subscript(self, node):
        if isinstance(node.ctx, ast.Load) and isinstance(node.slice, ast.Constant):
            self._add(node.slice.value)
        self.generic_visit(node)

    def visit_Call(self, node):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called in ("get", "getattr", "pop"):
            for argument in node.args:
                if isinstance(argument, ast.Constant):
                    self._add(argument.value)
        self.generic_visit(node)

    def _add(self, name):
        self.found.setdefault(name, set()).add(self._functions[-1])


@functools.cache
def reads(file: Path) -> dict[str, set[str]]:
    visitor = _Reads()
    visitor.visit(ast.parse(file.read_text()))
    return visitor.found


@functools.cache
def files_of(run: str | None) -> list[Path]:
    """The files of the new stack that an algorithm runs through: its own, its bases', and what is common."""
    algorithms = RLLIB / "algorithms"
    common = [file for file in RLLIB.rglob("*.py") if algorithms not in file.parents or file.parent == algorithms]
    own = list(algorithms.rglob("*.py"))
    if run is not None:
        kinds = (algorithm_class(run), default_config(run).get_default_learner_class())
        bases = [base.__module__.split(".") for kind in kinds for base in kind.__mro__]
        modules = {module[3] for module in bases if module[:3] == ["ray", "rllib", "algorithms"]}
        own = [file for file in own if file.relative_to(algorithms).parts[0] in modules]
    ours = (
        [file for folder in ("algorithms", "learners", "rollouts") for file in (OURS / folder).rglob("*.py")]
        if run == "A2C"
        else []
    )
    return [*ours, *(file for file in {*common, *own} if not OLD_STACK.search(f"/{file.relative_to(RLLIB)}"))]


def readers(name: str, run: str | None) -> set[str]:
    passed = SETTERS | OLD_STACK_FUNCTIONS.get(name, set())
    found = [(file, function) for file in files_of(run) for function in reads(file).get(name, ())]
    return {f"{file}: {function}" for file, function in found if function not in passed}


TABLE = [(None, name) for name in never_read.OF_EVERY_ALGORITHM]
TABLE += [("PPO", name) for name in never_read.OF_SYNCHRONOUS_ALGORITHMS]
TABLE += [(run, name) for run, names in never_read.OF_ALGORITHM.items() for name in names]


@pytest.mark.parametrize(("run", "name"), TABLE, ids=str)
def test_nothing_of_the_new_stack_reads_it(run, name):
    assert hasattr(default_config(run or "PPO"), name)
    assert readers(name, run) == set()


@pytest.mark.parametrize("run", ["PPO", "A2C", *never_read.OF_ALGORITHM])
def test_what_nothing_reads_is_in_the_table_or_translated(run):
    known = {*never_read.reasons(run), *old_names.CONFIG_DROPPED, *old_names.CONFIG_DROPPED_NEW_STACK}
    known |= {*old_names.CONFIG, *old_names.CONFIG_NEW_STACK, *old_names.CONFIG_OF_ALGORITHM.get(run, {})}
    settings = {name for name in vars(default_config(run)) if not re.match(OFFLINE_OR_PRIVATE, name)}
    assert {name for name in settings - known if not readers(name, run)} == set()


def test_a_given_setting_without_effect_is_named_and_another_is_not():
    settings = {"opt_type": "rmsprop", "lr": 0.1, "evaluation_config": {"decay": 0.5}}
    assert check(experiment_of("IMPALA", "CartPole-v1", **settings)).notes == (
        "command line: config: opt_type has no effect: the optimiser is Adam, with lr",
        "command line: config.evaluation_config: decay has no effect: the optimiser is Adam, with lr",
    )
    assert check(experiment_of("DQN", "CartPole-v1", epsilon=[[0, 1.0], [100, 0.1]])).notes == ()


def test_it_is_named_in_mutations_and_python_files(write):
    text = "x: {run: PPO, env: CartPole-v1, scheduler: pbt, scheduler_config: {hyperparam_mutations: "
    (experiment,) = load(write(text + "{lr: [0.1, 0.2], policy_map_capacity: [1, 2]}}}"))
    (told,) = check(Overrides().apply(experiment)).notes
    assert "hyperparam_mutations: policy_map_capacity has no effect" in told
    python = "from ray.rllib.algorithms.ppo import PPOConfig\nconfig = PPOConfig().environment('CartPole-v1')\n"
    (experiment,) = load(write(python + "config.sampler_perf_stats_ema_coef = 0.5", "mine.py"))
    (told,) = check(experiment).notes
    assert "sampler_perf_stats_ema_coef has no effect" in told


def test_the_old_stack_reads_it():
    old_stack = dict.fromkeys(old_names.SWITCHES, False)
    assert check(experiment_of("IMPALA", "CartPole-v1", **old_stack, opt_type="rmsprop")).notes == ()


@pytest.mark.parametrize("key", sorted(MODEL_DEFAULTS))
def test_each_key_of_the_old_model_is_taken_translated_or_told(key):
    value = True if key in old_names.MODEL_REFUSED else MODEL_DEFAULTS[key]
    model, notes = old_names.translate_config("x", {"model": {key: value}}, "PPO")
    experiment = experiment_of("PPO", "CartPole-v1", **model)
    if key in old_names.MODEL_REFUSED:
        with pytest.raises(UsageError, match=f"config.model: {key}: got True: the new API stack"):
            check(experiment)
    elif key != "custom_action_dist":
        told = [*check(experiment).notes, *notes]
        assert model["model"].keys() == {key} or told


def test_what_an_lstm_alone_reads_is_told_without_one():
    model = {"use_lstm": False, "lstm_cell_size": 8, "max_seq_len": 5}
    assert [told.split(": ")[2] for told in check(experiment_of("PPO", "CartPole-v1", model=model)).notes] == [
        "lstm_cell_size has no effect without use_lstm",
        "max_seq_len has no effect without use_lstm",
    ]


@pytest.mark.parametrize("run", ["PPO", "APPO", "IMPALA", "DQN"])
def test_an_lstm_has_rllibs_own_sequence_length(run):
    config = build_config(run, {"env": "CartPole-v1", "model": {"use_lstm": True}})
    assert config.model_config["max_seq_len"] == 20
    assert build_config(run, {"model": {"use_lstm": True, "max_seq_len": 7}}).model_config["max_seq_len"] == 7
