"""docs/what_works.md: the script that writes it tells what trains from what is refused and what fails."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks/what_works.py"))
PAGE = ROOT / "docs/what_works.md"
OBSERVATIONS, ACTIONS = SCRIPT["OBSERVATIONS"], SCRIPT["ACTIONS"]


def test_the_page_is_made_from_the_cells_and_none_fails():
    cells = SCRIPT["read"](SCRIPT["CELLS"])
    assert PAGE.read_text() == SCRIPT["document"](cells), "python benchmarks/what_works.py --write"
    assert {how for how, _ in cells.values()} == {"trains", "refused"}
    assert all("\n" not in why and len(why) < 500 for _, why in cells.values())


def test_a_cell_trains_is_refused_or_fails(ray_session):
    of_spaces, outcome, box = SCRIPT["of_spaces"], SCRIPT["outcome"], OBSERVATIONS["`Box`, vector"]
    assert of_spaces("PPO", "batched", OBSERVATIONS["`MultiDiscrete`"], ACTIONS["`Dict`"]) == ("trains", "")
    how, why = of_spaces("DQN", None, box, ACTIONS["`Box`"])
    assert how == "refused" and "DQN" in why
    how, why = outcome(lambda: 1 / 0, prepared=True)
    assert (how, why.partition(" (")[0]) == ("fails", "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    "runner, how", [("batched", "refused"), ("single_agent", "trains")], ids=["batched", "single_agent"]
)
def test_habits_depend_on_the_env_runner(runner, how, ray_session):
    assert SCRIPT["of_habit"]("`learner_connector` of one's own", runner)[0] == how


def test_footnotes_have_each_sentence_once():
    notes = SCRIPT["Notes"]()
    found = {'["a"]': ("refused", "why"), '["b"]': ("trains", ""), '["c"]': ("refused", "why not")}
    assert notes.cell(found, {"x": ["a"], "y": ["a"]}) == "refused (1)"
    assert notes.cell(found, {"x": ["a"], "y": ["b"], "z": ["c"]}) == "x: refused (1); y: trains; z: refused (2)"
    assert notes.cell(found, {"": ["d"]}) == "not run"
    assert notes.text() == "1. why\n2. why not"
