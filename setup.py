"""The packages of a wheel: those that are found, and the examples; all else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["rllib_stpn*"]), "rllib_stpn.tuned_examples", *find_packages("envs")])
