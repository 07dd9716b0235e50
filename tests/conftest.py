import pytest


@pytest.fixture(scope="session")
def ray_session():
    """One small Ray for all tests that need actors."""
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    yield
    ray.shutdown()
