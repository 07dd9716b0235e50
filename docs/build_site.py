"""Builds the site of the documentation from the pages of the repository: ``make docs``.

The pages are copied with the files that they link to, in the same places, so that links are the same on the site. The
reference of the API is made from the docstrings of what ``rllib_stpn`` exports. A link that leads nowhere fails the
build.
"""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import rllib_stpn

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "build/site_pages"
SOURCES = ROOT / "build/site_sources"
COPIED = (
    "*.md",
    "CITATION.cff",
    "LICENSE",
    "docs/*.*",
    "results/**/*.md",
    "results/**/*.png",
    "rllib_stpn/kernels/README.md",
    "tests/rollouts/faulty_env.py",
)
#: The sections of the reference, and what each has.
API = {
    "Layers": ("make_layer",),
    "Trained agents": ("load", "Agent", "evaluate"),
    "Your own RLlib config": ("recurrent_spec", "use_batched_rollouts", "thin_states", "register"),
    "Energy": ("EnergyMetricsCallback",),
    "A2C": ("A2CConfig", "A2C"),
    "Files": ("experiments.checked_experiment.load", "experiments.checked_experiment.CheckedExperiment"),
    "Errors": ("UsageError",),
}


def main() -> int:
    """Copies the pages and runs mkdocs; returns its exit code."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for pattern in COPIED:
        for file in ROOT.glob(pattern):
            target = PAGES / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    (PAGES / "docs/api.md").write_text(reference(), encoding="utf-8")
    copy_sources()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}).returncode


def copy_sources() -> None:
    """Copies the modules whose docstrings the reference has, as Markdown wants them."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    for file in (ROOT / "rllib_stpn").rglob("*.py"):
        target = SOURCES / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(in_markdown(file.read_text(encoding="utf-8")), encoding="utf-8")


def in_markdown(source: str) -> str:
    """A module whose docstrings have no roles, no ``::`` before code, and prompts where code stands."""
    source = re.sub(r":[a-z]+:`~?([\w.]+)`", r"`\1`", source)
    source = re.sub(r"^ +::\n", "", source, flags=re.MULTILINE)
    prompts = re.compile(r"^( +)>>> .*\n(?:\1\S.*\n)*", re.MULTILINE)
    return prompts.sub(lambda found: textwrap.indent(found[0], "    "), source)


def reference() -> str:
    """The page of the API, for mkdocstrings.

    Raises:
        ValueError: ``rllib_stpn`` exports what no section has.
    """
    told = {name for names in API.values() for name in names}
    if missing := set(rllib_stpn.__all__) - told - {"experiments", "pretrained"}:
        raise ValueError(f"docs/build_site.py: API has no {', '.join(sorted(missing))}")
    lines = ["# API", "", "What `rllib_stpn` exports, and `load` of `rllib_stpn.experiments`.", ""]
    for section, names in API.items():
        lines += [f"## {section}", ""]
        for name in names:
            home, _, short = f"rllib_stpn.{name}".rpartition(".")
            if home == "rllib_stpn":
                home = getattr(rllib_stpn, short).__module__
            lines += [f"::: {home}.{short}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
