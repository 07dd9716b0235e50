"""RLlib's own EnvRunner that records the episodes it samples."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from ray.rllib.core.columns import Columns

from rllib_stpn.rollouts.episode_runner import EpisodeEnvRunner

EPISODES = "item"
"""The one column of a recording of episodes, as RLlib's reader expects it."""


class RecordingEnvRunner(EpisodeEnvRunner):
    """``EpisodeEnvRunner`` that writes the episodes of each sample to a Parquet file in the config's ``output``.

    The files are those of RLlib's ``OfflineSingleAgentEnvRunner``. RLlib's waits for a CPU that a trial has taken,
    writes every episode again with each sample, and writes all recurrent states. Here the file is written at once, with
    each episode once and without states: those of the model that acts are of no use to one that learns from it.

    Their folders, ``output/ENV/run-TIME-RUNNER-ID-FILE``, sort by the time (UTC) at which a runner began, and then in
    the order in which it wrote. The ID is that of one runner, in one process: runs that go on, other trials and actors
    that Ray restarts add to what is there.

    With ``output_max_rows_per_file`` a file has so many episodes; the last ones are written when the runner stops.
    Evaluation is not recorded: its episodes would be among those of training.
    """

    without_output = None

    def _construct(self, *, config, **kwargs) -> None:
        super()._construct(config=config, **kwargs)
        self._packed: list[bytes] = []
        self._files = 0
        begun = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._run = f"run-{begun}-{self._number:06}-{uuid.uuid4().hex[:12]}"  # no seed repeats it

    def sample(self, **arguments):
        """Samples and records; nothing is recorded of a sample that failed, nor of evaluation."""
        episodes = super().sample(**arguments)
        if self._failure is None and not self.config.in_evaluation:
            self._packed += [_pack(episode) for episode in episodes]
            most = self.config.output_max_rows_per_file
            while self._packed and len(self._packed) >= (most or 1):
                self._write(self._packed[:most])
                del self._packed[:most]
        return episodes

    def _write(self, packed: list[bytes]) -> None:
        import pyarrow
        from pyarrow import parquet

        self._files += 1
        env = self.config.env if isinstance(self.config.env, str) else type(self.env.unwrapped).__name__
        folder = Path(self.config.output) / env.lower().replace(":", "-") / f"{self._run}-{self._files:05}"
        folder.mkdir(parents=True)
        parquet.write_table(pyarrow.table({EPISODES: packed}), folder / "episodes.parquet")

    def stop(self) -> None:
        """Writes what is left."""
        if getattr(self, "_packed", None) and self.config.output_write_remaining_data:
            self._write(self._packed)
            self._packed = []
        super().stop()


def _pack(episode) -> bytes:
    import msgpack
    import msgpack_numpy

    state = episode.get_state()
    state["extra_model_outputs"] = {
        name: values for name, values in (state["extra_model_outputs"] or {}).items() if name != Columns.STATE_OUT
    }
    return msgpack.packb(state, default=msgpack_numpy.encode)
