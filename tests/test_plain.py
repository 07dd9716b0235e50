"""NumPy's numbers become Python's."""

import json

import numpy as np

from rllib_stpn.plain import plain


def test_numpys_numbers_and_arrays_become_pythons_at_any_depth():
    given = {"a": np.float32(0.5), np.str_("b"): [np.int64(3), (np.bool_(True), {"c": np.eye(2)})], "d": None}
    expected = {"a": 0.5, "b": [3, (True, {"c": [[1.0, 0.0], [0.0, 1.0]]})], "d": None}
    assert plain(given) == expected
    assert json.loads(json.dumps(plain(given))) == json.loads(json.dumps(expected))
    assert {type(key) for key in plain(given)} == {str}
    assert type(plain(given)["a"]) is float


def test_all_else_stays_as_it_is():
    other = object()
    assert plain([other, "1e-3", 2]) == [other, "1e-3", 2]
