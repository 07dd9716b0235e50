"""Nested settings: merging and grids."""

from rllib_stpn.experiments import searches


def test_merge_goes_level_by_level_and_replaces_grids():
    base = {"a": 1, "model": {"x": 1, "y": 2}, "lr": {"grid_search": [1, 2]}}
    over = {"model": {"y": 3}, "lr": 0.5, "b": {"grid_search": [0]}}
    merged = searches.merge(base, over)
    assert merged == {"a": 1, "model": {"x": 1, "y": 3}, "lr": 0.5, "b": {"grid_search": [0]}}
    assert base["model"] == {"x": 1, "y": 2}


def test_a_grid_over_a_mapping_is_not_merged_into_it():
    assert searches.merge({"m": {"x": 1}}, {"m": {"grid_search": [{}]}}) == {"m": {"grid_search": [{}]}}


def test_points_are_the_product_of_all_grids():
    settings = {"lr": {"grid_search": [1, 2]}, "model": {"layers": [{"size": {"grid_search": ["a", "b"]}}]}}
    points = list(searches.points(settings))
    assert [(p["lr"], p["model"]["layers"][0]["size"]) for p in points] == [
        (1, "a"),
        (1, "b"),
        (2, "a"),
        (2, "b"),
    ]
    assert searches.size(settings) == 4


def test_settings_without_a_grid_are_one_point():
    assert list(searches.points({"a": [1, {"b": 2}]})) == [{"a": [1, {"b": 2}]}]
