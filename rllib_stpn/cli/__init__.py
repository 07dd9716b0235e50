"""The command line ``rllib``: see :mod:`rllib_stpn.cli.main`."""
