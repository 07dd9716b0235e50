"""Results as Tune leaves them, made up."""

import json
from pathlib import Path
from typing import Any

import pytest

RETURN = "env_runners/episode_return_mean"
STEPS = "num_env_steps_sampled_lifetime"


@pytest.fixture
def train(tmp_path):
    """Writes a trial: its directory below ``tmp_path``, its length, metrics that are its iterations, and settings."""

    def write(
        trial: str,
        iterations: int = 3,
        metrics: tuple[str, ...] = (RETURN, STEPS, "time_total_s"),
        layer: str = "stpn",
        timestamp: int = 0,
        **settings: Any,
    ) -> Path:
        path = tmp_path / trial
        path.mkdir(parents=True)
        model = {"custom_model": layer}
        (path / "params.json").write_text(json.dumps({"env": "CartPole-v1", "model": model, **settings}))
        rows = [
            {"training_iteration": i, "timestamp": timestamp + i, **dict.fromkeys(metrics, float(i))}
            for i in range(1, iterations + 1)
        ]
        (path / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write
