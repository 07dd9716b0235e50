"""What differs between the trials of an experiment, under names that can be read."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.utils.util import date_str

from rllib_stpn.experiments import searches
from rllib_stpn.experiments.experiment import Experiment

Path = tuple[str, ...]
SEED: Path = ("seed",)
_LAYER: Path = ("model", "custom_model")
_LONGEST_NAME = 130  # letters of a directory's name, as Tune has it


def names_of_differences(settings: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
    """The settings that differ: their paths and the shortest names that tell them apart.

    Such as ``{("model", "custom_model"): "layer", ("lr",): "lr"}``. What has one value for each layer, such as its
    options, follows from the layer and is left out.

    Args:
        settings: Those of each trial.
    """
    flat = [dict(_flat(each)) for each in settings]
    paths = list(dict.fromkeys(path for each in flat for path in each))
    differing = [path for path in paths if len({_text(each.get(path)) for each in flat}) > 1]
    if _LAYER in differing:
        differing = [_LAYER, *(path for path in differing if path != _LAYER and not _follows(path, flat))]
    return {path: _name(path, differing) for path in differing}


def values_of(names: Mapping[Path, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The values of these settings under their names, None for one that is not given."""
    flat = dict(_flat(settings))
    return {name: flat.get(path) for path, name in names.items()}


def names_in(experiment: Experiment) -> dict[Path, str]:
    """The settings that differ between the trials that an experiment will have, as :func:`names_of_differences`."""
    return names_of_differences(list(searches.points(experiment.config)))


def brief(value: Any) -> str:
    """A setting's value as lines and tables show it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def directory_names(names: Mapping[Path, str]) -> Callable[[Any], str] | None:
    """The function by which Tune names the directories of trials; None where nothing differs, for Tune's own."""
    return functools.partial(_directory_name, dict(names)) if names else None


def _directory_name(names: Mapping[Path, str], trial: Any) -> str:
    """Such as ``PPO_CartPole-v1_17393_00001_2_layer=lstm,lr=0.001_2026-11-30_01-55-17``."""
    plain = (bool, int, float, str)  # Tune has something else in place of other objects
    values = values_of(names, trial.config).items()
    told = ",".join(f"{name}={brief(value)}" for name, value in values if isinstance(value, plain))
    number = trial.experiment_tag.partition("_")[0]
    name = f"{trial}_{number}_{told}"[:_LONGEST_NAME]
    return f"{name}_{date_str()}".replace(os.sep, "_").replace(" ", "_")


def _follows(path: Path, flat: Sequence[Mapping[Path, Any]]) -> bool:
    """Whether a setting of the model has one value for each layer."""
    pairs = {(_text(each.get(_LAYER)), _text(each.get(path))) for each in flat}
    return path[0] == "model" and len(pairs) == len({layer for layer, _ in pairs})


def _name(path: Path, others: Sequence[Path]) -> str:
    if path == _LAYER:
        return "layer"
    length = 1
    while length < len(path) and sum(other[-length:] == path[-length:] for other in others) > 1:
        length += 1
    return ".".join(path[-length:])


def _flat(settings: Mapping[str, Any], prefix: Path = ()):
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, (*prefix, str(key)))
        else:
            yield (*prefix, str(key)), value


def _text(value: Any) -> str:
    """A value as text, without the address of an object, which is another one in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
