"""What several tests of env runners share."""

import pytest


@pytest.fixture
def build():
    """Builds algorithms, and stops them."""
    built = []

    def build(config):
        built.append(config.build_algo())
        return built[-1]

    yield build
    for algorithm in built:
        algorithm.stop()
