"""Layers of the user's own: named by path or class, with whatever they leave out."""

import inspect
import pickle
import re

import pytest
import torch

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import (
    LAYERS,
    STPN,
    Layer,
    PlasticRecurrence,
    check_layer,
    layer_class,
    layer_options,
    layer_path,
    make_layer,
)
from tests import own_layers as own


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Modules that cannot be imported."""
    (tmp_path / "users_broken_layers.py").write_text("import torch\n\n1 / 0\n")
    (tmp_path / "users_missing_layers.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_path_and_a_class_make_the_same():
    for layer in ("tests.own_layers.Plain", own.Plain):
        made = make_layer(layer, input_size=5, hidden_size=4)
        assert type(made) is own.Plain
        assert layer_class(layer) is own.Plain
        assert layer_path(layer) == "tests.own_layers.Plain"
        assert made.name == "Plain"
        check_layer(made)


@pytest.mark.parametrize("layer", ["stpn", STPN, "rllib_stpn.layers.STPN", "rllib_stpn.layers.stpn.STPN"])
def test_a_layer_of_the_package_keeps_its_name(layer):
    assert layer_path(layer) == "stpn"
    assert type(make_layer(layer, input_size=5, hidden_size=4)) is STPN


def test_the_name_is_that_of_the_class_unless_it_gives_one():
    class Mine(STPN):
        pass

    class Named(STPN):
        name = "mine"

    assert (Mine.name, Named.name, STPN.name) == ("Mine", "mine", "stpn")


def test_options_need_neither_docstring_nor_default():
    options = layer_options(own.Options)
    assert list(options)[:4] == ["needed", "keep", "num_layers", "scale"]
    assert options["keep"] == (0.5, "Described over two lines.")
    assert options["needed"] == (inspect.Parameter.empty, "")
    assert options["num_layers"] == (3, "")  # its own, which goes before the option of every layer
    assert options["layer_norm"][0] is False
    layer = make_layer(own.Options, input_size=5, hidden_size=4, needed=2)
    assert layer.needed.shape == (4, 3)
    assert repr(layer) == "Options(input_size=5, hidden_size=4)"
    stack = make_layer(own.Options, input_size=5, hidden_size=4, needed=2, layer_norm=True)
    check_layer(stack)
    assert set(layer_options("tests.own_layers.Plain")) == {"num_layers", "input_projection", "layer_norm"}


def test_outputs_of_another_size():
    layer = make_layer(own.Wide, input_size=5, hidden_size=4)
    assert (layer.hidden_size, layer.output_size, layer(torch.zeros(2, 3, 5))[0].shape[-1]) == (4, 8, 8)
    assert pickle.loads(pickle.dumps(layer)).output_size == 8
    stack = make_layer(own.Wide, input_size=5, hidden_size=4, num_layers=3, layer_norm=True, input_projection=2)
    assert [part.input_size for part in stack.layers] == [2, 8, 8]
    assert stack.output_size == 8
    for each in (layer, stack):
        check_layer(each)


def test_a_rule_is_one_method():
    check_layer(make_layer("tests.own_layers.Rule", input_size=5, hidden_size=4))
    assert issubclass(own.Rule, PlasticRecurrence)


def test_energy_that_is_left_out_is_refused_where_it_is_asked_for():
    layer = make_layer(own.Wide, input_size=5, hidden_size=4)
    for each in (layer, make_layer(own.Wide, input_size=5, hidden_size=4, num_layers=2)):
        with pytest.raises(UsageError, match="Wide: got a layer that leaves its energy out, allowed is one whose step"):
            each(torch.zeros(2, 3, 5), return_energy=True)
        with pytest.raises(UsageError, match="leaves its energy out"):
            each.energy_without(torch.zeros(2, 1, 5), None)


def test_energy_that_is_left_out_in_chunks_of_time(monkeypatch):
    monkeypatch.setattr("rllib_stpn.kernels.recomputed.GRAPH_BYTES", 1)
    layer = make_layer(own.Wide, input_size=5, hidden_size=4)
    with pytest.raises(UsageError, match="leaves its energy out"):
        layer(torch.zeros(2, 30, 5), return_energy=True)


@pytest.mark.parametrize(
    "layer, message",
    [
        (
            "tests.own_layers.Plane",
            r"'tests.own_layers.Plane': tests.own_layers has no class 'Plane'; did you mean Plain\?",
        ),
        (
            "no_such_module.Plain",
            "cannot be imported: No module named 'no_such_module'; allowed are modules in the cur",
        ),
        ("tests.own_layers.sub.Plain", "cannot be imported: No module named 'tests.own_layers.sub'"),
        ("users_broken_layers.Plain", r"cannot be imported: ZeroDivisionError: division by zero \(.*layers.py:3\)"),
        ("users_missing_layers.Plain", "cannot be imported: No module named 'a_module_that_is_not_there'"),
        (
            "tests.own_layers.NoLayer",
            "got 'tests.own_layers.NoLayer', allowed are .* derive from rllib_stpn.layers.Layer",
        ),
        ("tests.own_layers.a_function", "got 'tests.own_layers.a_function', allowed are .* derive from"),
        ("torch.nn.LSTM", "got 'torch.nn.LSTM', allowed are .* derive from"),
        ("rllib_stpn.layers.Layer", "got Layer, allowed are layers that define state_shapes, step"),
        ("tests.own_layers.NoRule", "got NoRule, allowed are layers that define update"),
        ("tests.own_layers.NoStep", r"got NoStep, allowed are layers that define step \(or run\)"),
        ("tests.own_layers.NoShapes", "got NoShapes, allowed are layers that define state_shapes$"),
        (
            "tests.own_layers.AnyOptions",
            r"constructor \(input_size, hidden_size, \*\*options\), allowed are .* by its name",
        ),
        (
            "tests.own_layers.OtherSizes",
            r"constructor \(features, units\), allowed are .* input_size and hidden_size first",
        ),
        ("tests.own_layers.Outer.Inner", "No module named 'tests.own_layers.Outer'"),
        ("__main__.Plain", "got '__main__.Plain', which other processes cannot import; .* file of its own"),
        ("Plain", "got 'Plain', allowed are 'stpn', .*or the path of a class of your own, such as 'my_layers.MyLayer'"),
        (".", "'.' cannot be imported"),
        ("plain.", "'plain.' cannot be imported"),
        (7, "got 7, allowed are names of layers"),
        (None, "got None, allowed are names of layers"),
        (torch.nn.LSTM, "allowed are names of layers, and classes that derive from"),
    ],
    ids=str,
)
def test_what_is_no_layer_is_refused_in_a_sentence(broken, layer, message):
    with pytest.raises(UsageError, match=f"^custom_model: .*{message}"):
        layer_path(layer, "custom_model")


def test_a_class_that_other_processes_cannot_import_is_refused():
    class Local(own.Plain):
        pass

    main = type("OfANotebook", (own.Plain,), {"__module__": "__main__"})
    script = type("OfAScript", (own.Plain,), {"__module__": "<run_path>"})
    gone = type("Plain", (own.Plain,), {"__module__": "tests.own_layers"})  # another class than the one of that path
    for kind, place in (
        (Local, f"{__name__}.test_a_class_that_other_processes_cannot_import_is_refused"),
        (main, "__main__"),
        (script, "<run_path>"),
        (gone, "tests.own_layers"),
        (own.Outer.Inner, "tests.own_layers.Outer"),
    ):
        name = kind.__name__
        told = f"custom_model: got {name} of {place}, which other processes cannot import; allowed is a class at the "
        told += f"top of a module: put it into a file of its own, such as my_layers.py, and give my_layers.{name}"
        with pytest.raises(UsageError, match=re.escape(told)):
            layer_path(kind, "custom_model")


@pytest.mark.parametrize(
    "given, message",
    [
        ({}, "tests.own_layers.Options: needed: got no value, allowed is one, as it has no default"),
        ({"needed": 1, "kept": 2}, "tests.own_layers.Options: got the unknown option 'kept', .*; did you mean keep"),
        (
            {"needed": 1, "keep": 2},
            r"Options: its constructor failed with input_size=5, hidden_size=4: RuntimeError: keep is too large "
            r"\(.*own_layers.py:\d+\)",
        ),
    ],
)
def test_wrong_options_are_told_in_a_sentence(given, message):
    with pytest.raises(UsageError, match=message):
        make_layer("tests.own_layers.Options", input_size=5, hidden_size=4, **given)


def test_no_number_of_parameters_without_parameters():
    with pytest.raises(UsageError, match="tests.own_layers.Plain: num_parameters: got 100, allowed are numbers that"):
        make_layer("tests.own_layers.Plain", input_size=5, num_parameters=100)
    layer = make_layer("tests.own_layers.Wide", input_size=5, num_parameters=100)
    assert layer.hidden_size == 20


def test_a_step_that_forgets_its_state_says_so():
    class Forgetful(Layer):
        def state_shapes(self):
            return {"h": (self.hidden_size,)}

        def step(self, x, drive, state, return_energy):
            return state["h"], {}, None

    with pytest.raises(
        UsageError, match=r"Forgetful: step: got a dict of \[\] as the next state, allowed is a dict of"
    ):
        Forgetful(5, 4)(torch.zeros(2, 3, 5))


def test_names_are_still_those_of_the_package():
    assert all(layer_path(kind) == name for name, kind in LAYERS.items())
