"""From a YAML or Python file to an ``AlgorithmConfig``, a Tune run and its results."""
