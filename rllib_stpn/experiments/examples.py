"""The tuned examples that come with the package: YAML files that are found by name."""

from pathlib import Path

import rllib_stpn
from rllib_stpn.errors import UsageError, did_you_mean

_PACKAGE = Path(rllib_stpn.__file__).parent
_NAME = "tuned_examples"


def directory() -> Path:
    """The directory of the files: inside the installed package, or beside it in a checkout.

    Raises:
        UsageError: They are missing.
    """
    for place in (_PACKAGE / _NAME, _PACKAGE.parent / _NAME):
        if any(place.glob("*.yaml")):
            return place
    raise UsageError(f"example: no YAML files in {_PACKAGE / _NAME}: this installation has no examples; install again")


def names() -> list[str]:
    """The examples' names, sorted.

    Raises:
        UsageError: They are missing.
    """
    return sorted(path.stem for path in directory().glob("*.yaml"))


def find(name: str) -> Path:
    """The file of an example.

    Args:
        name: One of :func:`names`; ``.yaml`` at its end and dashes for underscores are taken, too.

    Raises:
        UsageError: There is none of this name, or none at all.
    """
    stem = name.removesuffix(".yaml").replace("-", "_")
    known = names()
    if stem in known:
        return directory() / f"{stem}.yaml"
    hint = did_you_mean(stem, known, likeness=0.5) or "; `rllib example list` shows them all"
    raise UsageError(f"example: got {name!r}, which is none{hint}")


def about(name: str) -> str:
    """The first sentence of an example's file."""
    words: list[str] = []
    with find(name).open(encoding="utf-8") as file:
        for line in file:
            words.append(line.removeprefix("#").strip())
            if not words[-1] or words[-1].endswith((".", "?")):
                break
    return " ".join(words).strip()
