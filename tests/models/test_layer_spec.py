"""A spec that Tune's searches take for a text."""

import copy

import pytest
from ray import cloudpickle
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.tune import grid_search
from ray.tune.impl.placeholder import create_resolvers_map, inject_placeholders
from ray.tune.search.variant_generator import format_vars, generate_variants

from rllib_stpn import recurrent_spec
from rllib_stpn.report.trials import Trial


def test_tune_names_the_trials_of_a_search_over_specs():
    specs = [recurrent_spec("stpn", hidden_size=8), recurrent_spec("lstm", num_parameters=500, fcnet_hiddens=[4, 2])]
    space = inject_placeholders({"_rl_module_spec": grid_search(specs)}, create_resolvers_map())
    assert [format_vars(drawn) for drawn, _ in generate_variants(space)] == [
        "rl_module_spec=hidden_size_8_stpn",
        "rl_module_spec=fcnet_hiddens_4_2_num_parameters_500_lstm",
    ]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda spec: cloudpickle.loads(cloudpickle.dumps(spec))])
def test_it_stays_the_spec_that_it_is(copied):
    spec = recurrent_spec("stpn", hidden_size=8, normalize="pre", max_seq_len=7)
    again = copied(spec)
    assert isinstance(again, RLModuleSpec)
    assert again == spec
    assert str(again) == str(spec) == "normalize=pre hidden_size=8 stpn"
    assert vars(again) == vars(spec)
    assert again != recurrent_spec("stpn", hidden_size=9, normalize="pre", max_seq_len=7)


def test_reports_find_the_layer_in_its_text(tmp_path):
    for layer in ("stpn", "mlp"):
        settings = {"_rl_module_spec": str(recurrent_spec(layer, hidden_size=8, fcnet_hiddens=[4]))}
        assert Trial(tmp_path, settings, {}).layer == layer
