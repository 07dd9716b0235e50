"""``python -m rllib_stpn`` is the command ``rllib``."""

import sys

from rllib_stpn.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
