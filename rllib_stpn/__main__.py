"""``python -m rllib_stpn`` is the command ``rllib``."""

from rllib_stpn.cli.main import command

if __name__ == "__main__":
    command()
