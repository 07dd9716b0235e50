"""One module for each subcommand of ``rllib``, named as the user types it.

A module here has ``HELP`` (one line), ``add_arguments(parser)`` and ``run(args) -> int`` (the exit code). It
imports Ray and torch inside ``run`` only, so that help and errors in the command line come at once.
"""
