"""Where the slow tests train the layers; ``benchmarks/layer_table.py`` writes it into docs/layers.md."""

ALGORITHMS = ("PPO", "A2C", "IMPALA", "APPO")

# (API stack, env runners): the algorithms
EVERY_LAYER = {
    ("new", "RLlib's own"): ALGORITHMS,  # tests/algorithms/test_stock.py
    ("new", "batched"): ("PPO", "A2C"),  # tests/algorithms/test_stock.py
    ("old", "RLlib's own"): ("PPO",),  # tests/models/test_model_v2.py
}
ONE_LAYER = {("old", "RLlib's own"): {"APPO": "stpn"}}  # tests/models/test_model_v2.py
