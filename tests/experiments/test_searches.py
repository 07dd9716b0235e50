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
        (2, "b"),
        (1, "b"),
        (2, "a"),
    ]
    assert searches.size(settings) == 4


def test_the_first_points_have_each_value_of_each_search():
    settings = {"model": {"grid_search": list(range(20))}, "env": {"grid_search": list("abcdefg")}, "lr": 0.1}
    points = list(searches.points(settings))
    assert {point["model"] for point in points[:20]} == set(range(20))
    assert {point["env"] for point in points[:20]} == set("abcdefg")
    assert len({(point["model"], point["env"]) for point in points}) == len(points) == searches.size(settings) == 140


def test_settings_without_a_grid_are_one_point():
    assert list(searches.points({"a": [1, {"b": 2}]})) == [{"a": [1, {"b": 2}]}]
