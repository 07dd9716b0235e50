"""Settings of RLlib's old ``tuned_examples``, under their old names: which pass the checks, and why others do not."""

from pathlib import Path

import pytest

from rllib_stpn.cli.experiments import load
from rllib_stpn.cli.validation import check
from rllib_stpn.errors import UsageError

FILES = sorted((Path(__file__).parent / "old_examples").glob("*.yaml"))
REFUSED = {
    "cartpole-appo": "vtrace=False",
    "cartpole-pg": "unknown algorithm 'PG': RLlib has dropped it",
    "mountaincarcontinuous-ddpg": "unknown algorithm 'DDPG': RLlib has dropped it",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_passes_the_checks_or_names_what_rllib_no_longer_has(path):
    (experiment,) = load(path)
    if path.stem not in REFUSED:
        check(experiment)
        return
    with pytest.raises(UsageError) as error:
        check(experiment)
    assert REFUSED[path.stem] in str(error.value)
    assert "\n" not in str(error.value)
