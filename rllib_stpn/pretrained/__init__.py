"""Trained agents that come with the package, as files of weights.

``rllib_stpn.load("maze_stpn")`` loads one, ``rllib evaluate --pretrained maze_stpn`` plays it. ``results/pretrain.py``
trains them anew. Importing this imports neither Ray nor torch.
"""

from pathlib import Path
from typing import Any

from rllib_stpn.errors import one_of

SUFFIX = ".safetensors"
_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The agents, such as ``"maze_stpn"``."""
    return sorted(file.stem for file in _FOLDER.glob(f"*{SUFFIX}"))


def is_name(given: Any) -> bool:
    """Whether that is the name of one, and of nothing in the current directory."""
    return isinstance(given, str) and given in names() and not Path(given).exists()


def find(name: str) -> Path:
    """The file of an agent.

    Raises:
        UsageError: There is none of this name.
    """
    if name not in names():
        raise one_of("pretrained", name, names())
    return _FOLDER / f"{name}{SUFFIX}"
