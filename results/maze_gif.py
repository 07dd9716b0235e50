"""Makes docs/maze.gif, the README's picture: the maze and the fast weights of the agent that comes with the package.

    python results/maze_gif.py
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

import rllib_stpn
from rllib_stpn.agents.video import Recorder

FILE = Path(__file__).resolve().parents[1] / "docs/maze.gif"
SEED = 3  # of the episode
STEPS = 32  # shown: found, and found again
COLOURS = 32
LARGEST = 300_000  # bytes


def main() -> None:
    """Plays an episode, and writes its first steps small."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "maze.gif"
        recorder = Recorder(whole)
        played = rllib_stpn.evaluate("maze_stpn", 1, seed=SEED, num_envs=1, recorder=recorder)
        recorder.save()
        with Image.open(whole) as image:
            frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)][:STEPS]
    several = Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames[:: STEPS // 4]]))
    palette = several.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)
    pictures = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [120] * (len(pictures) - 1) + [1500]
    pictures[0].save(FILE, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)
    size_of_file = FILE.stat().st_size
    print(f"{FILE}: {size_of_file:,} bytes, seed {SEED}, return {played.returns[0]:g} of the whole episode")
    assert size_of_file < LARGEST, f"at most {LARGEST:,} bytes"


if __name__ == "__main__":
    main()
