import importlib.util
from pathlib import Path

import pytest

from rllib_stpn.layers import LAYERS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("layer_table", ROOT / "benchmarks" / "layer_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def document(table):
    return table.document()


def test_the_page_on_layers_is_current(document):
    assert document in (ROOT / "docs" / "layers.md").read_text(), "python benchmarks/layer_table.py --write"


def test_every_layer_has_a_size_and_a_section(table, document):
    assert {name for name, _, _ in table.ROWS.values()} == set(LAYERS)
    assert all(f"\n### `{name}`\n" in document for name in LAYERS)
