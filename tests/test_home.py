"""The tests leave nothing in the home of who runs them."""

import os
import pwd
from pathlib import Path

from ray.train.constants import DEFAULT_STORAGE_PATH


def test_results_that_name_no_storage_stay_in_the_tests_home():
    assert Path(DEFAULT_STORAGE_PATH) == Path.home() / "ray_results"
    assert Path.home() != Path(pwd.getpwuid(os.getuid()).pw_dir)
