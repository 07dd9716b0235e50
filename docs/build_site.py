"""Builds the site of the documentation from the pages of the repository: ``make docs``.

The pages are copied with the files that they link to, in the same places, so that links are the same on the site. The
reference of the API is made from the docstrings of what ``rllib_stpn`` exports. A link that leads nowhere fails the
build.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import rllib_stpn

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "build/site_pages"
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


def main() -> int:
    """Copies the pages and runs mkdocs; returns its exit code."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for pattern in COPIED:
        for file in ROOT.glob(pattern):
            target = PAGES / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    (PAGES / "docs/api.md").write_text(reference(), encoding="utf-8")
    return subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"], cwd=ROOT).returncode


def reference() -> str:
    """The page of the API, for mkdocstrings."""
    named = [name for name in rllib_stpn.__all__ if name not in ("experiments", "pretrained")]
    homes = [f"{getattr(rllib_stpn, name).__module__}.{name}" for name in named]
    homes += [f"rllib_stpn.experiments.checked_experiment.{name}" for name in ("load", "CheckedExperiment")]
    lines = ["# API", "", "What `rllib_stpn` exports, then what `rllib_stpn.experiments` does.", ""]
    return "\n".join([*lines, *(f"::: {home}\n" for home in homes)])


if __name__ == "__main__":
    sys.exit(main())
