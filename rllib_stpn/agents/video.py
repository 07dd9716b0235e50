"""An episode as an animated GIF: the environment, and beside it the fast weights of a plastic layer."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rllib_stpn.agents.environments import side_by_side
from rllib_stpn.errors import UsageError

if TYPE_CHECKING:
    from rllib_stpn.agents.agent import Agent
    from rllib_stpn.agents.episode import Episode

_HEIGHT = 336  # pixels of the pictures
_WIDEST_MAP = 420
_MOST_COLUMNS = 140
_CELL = 14  # the largest
_SHADES = 8  # of each colour; few make small files
_MARGIN, _LINE, _LEGEND = 12, 20, 70
_MOST_FRAMES = 120  # when there are twice as many, every second one goes
_SATURATED = 99.5  # percentile of the magnitudes that gets the full colour
_INK, _PAPER = (40, 40, 40), (255, 255, 255)
_NEGATIVE, _POSITIVE = np.array([33, 102, 172.0]), np.array([178, 24, 43.0])


class _Frame(NamedTuple):
    picture: np.ndarray  # [height, width, 3] uint8
    weights: np.ndarray | None  # [units, columns] float32
    step: int
    reward: float


class Recorder:
    """Collects frames of one episode of a vector environment's first environment, and writes them as a GIF.

    Long episodes are thinned to at most 240 frames.

    Args:
        file: Where to write.

    Raises:
        UsageError: The name of the file does not end in .gif.
    """

    def __init__(self, file: str | Path) -> None:
        self._file = Path(file).expanduser()
        if self._file.suffix.lower() != ".gif":
            raise UsageError(f"video: got {str(file)!r}, allowed is a file name that ends in .gif")
        self._frames: list[_Frame] = []
        self._every = 1
        self._seen = 0

    def make_env(self, agent: "Agent", num_envs: int) -> gym.vector.VectorEnv:
        """Makes the agent's environments, of which the first one can be rendered.

        Raises:
            UsageError: It cannot.
        """
        self._agent = agent
        first: Any = agent.make_env(render_mode="rgb_array")
        self._fps = first.metadata.get("render_fps") or 30
        makers: list[Any] = [lambda: first, *[agent.make_env] * (num_envs - 1)]
        return side_by_side(makers)

    def add(self, env: Any, state: Any, episode: "Episode") -> None:
        """Takes a frame of the first environment, with the agent's state for it and how far the episode is."""
        self._seen += 1
        if (self._seen - 1) % self._every:
            return
        try:
            picture = np.asarray(env.envs[0].render())
        except Exception as error:  # of the user's own environment, or of a display that is not there
            reason = " ".join(str(error).split())
            raise UsageError(f"video: {self._agent.env_id} cannot be rendered: {reason}") from error
        if picture.ndim != 3 or picture.shape[2] != 3:
            raise UsageError(
                f"video: {self._agent.env_id} renders {type(picture).__name__} of shape {picture.shape}, allowed are "
                "pictures [height, width, 3]"
            )
        plastic = self._agent.fast_weights(state)
        weights = None
        if plastic:
            name, matrices = next(iter(plastic.items()))
            weights = _fewer_columns(matrices[0].numpy())
            units, synapses = matrices.shape[1:]
            of = "" if synapses == weights.shape[1] else f", the largest of {-(-synapses // _MOST_COLUMNS)} a column"
            self._title = f"fast weights {name}: {units} neurons x {synapses} synapses{of}"
        self._frames.append(_Frame(picture.copy(), weights, episode.length, episode.reward))
        if len(self._frames) == 2 * _MOST_FRAMES:
            self._frames, self._every = self._frames[::2], 2 * self._every

    def end(self, episode: "Episode") -> None:
        """Repeats the last picture with what the whole episode brought."""
        last = self._frames[-1]
        self._frames.append(last._replace(step=episode.length, reward=episode.reward))
        self._seed = episode.seed

    def save(self) -> str:
        """Writes the file, and returns how many frames of how many steps it has."""
        scale = 1.0
        if self._frames[0].weights is not None:
            magnitudes = np.abs(np.stack([frame.weights for frame in self._frames if frame.weights is not None]))
            scale = float(np.percentile(magnitudes, _SATURATED)) or float(magnitudes.max()) or 1.0
        images = [self._image(frame, scale).quantize(method=Image.Quantize.MAXCOVERAGE) for frame in self._frames]
        milliseconds = int(np.clip(1000 * self._every / self._fps, 20, 100))
        images[0].save(
            self._file,
            save_all=True,
            append_images=images[1:],
            duration=[milliseconds] * (len(images) - 1) + [2000],
            loop=0,
        )
        return f"{len(images)} frames of {self._frames[-1].step} steps, {self._file.stat().st_size / 1e6:.1f} MB"

    def _image(self, frame: _Frame, scale: float) -> Image.Image:
        picture = Image.fromarray(frame.picture.astype(np.uint8))
        zoom = _HEIGHT / picture.height
        how = Image.Resampling.NEAREST if zoom == int(zoom) else Image.Resampling.LANCZOS
        picture = picture.resize((round(picture.width * zoom), _HEIGHT), how)
        top = 2 * _MARGIN + _LINE
        width = picture.width + 2 * _MARGIN
        heat = None if frame.weights is None else _heat_map(frame.weights, scale)
        if heat is not None:
            width += heat.width + _MARGIN + _LEGEND
        image = Image.new("RGB", (width, top + _HEIGHT + _MARGIN), _PAPER)
        draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
        caption = f"seed {self._seed}   step {frame.step}   return {frame.reward:.4g}"
        draw.text((_MARGIN, _MARGIN), caption, _INK, font)
        image.paste(picture, (_MARGIN, top))
        if heat is None:
            return image
        left = picture.width + 2 * _MARGIN
        draw.text((left, _MARGIN), self._title, _INK, font)
        image.paste(heat, (left, top))
        draw.rectangle((left - 1, top - 1, left + heat.width, top + heat.height), outline=_INK)
        _draw_legend(draw, font, (left + heat.width + _MARGIN, top, heat.height), scale)
        return image


def _fewer_columns(weights: np.ndarray) -> np.ndarray:
    """The matrix, or where it is too wide to draw, the entry of largest magnitude of neighbouring columns."""
    bins = -(-weights.shape[1] // _MOST_COLUMNS)
    if bins == 1:
        return weights.astype(np.float32)
    padded = np.pad(weights, ((0, 0), (0, -weights.shape[1] % bins))).reshape(len(weights), -1, bins)
    chosen = np.abs(padded).argmax(axis=2)
    return np.take_along_axis(padded, chosen[..., None], axis=2)[..., 0].astype(np.float32)


def _colours(values: np.ndarray) -> np.ndarray:
    """-1 blue, 0 white, 1 red: ``[...]`` to uint8 ``[..., 3]``."""
    strength = np.clip(np.round(values * _SHADES) / _SHADES, -1, 1)[..., None]
    far = np.where(strength < 0, _NEGATIVE, _POSITIVE)
    return (255 + np.abs(strength) * (far - 255)).round().astype(np.uint8)


def _heat_map(weights: np.ndarray, scale: float) -> Image.Image:
    units, columns = weights.shape
    size = (
        columns * max(1, min(_CELL, _WIDEST_MAP // columns)),
        units * max(1, min(_CELL, _HEIGHT // units)) if units <= _HEIGHT else _HEIGHT,
    )
    return Image.fromarray(_colours(weights / scale)).resize(size, Image.Resampling.NEAREST)


def _draw_legend(draw: ImageDraw.ImageDraw, font: Any, place: tuple[int, int, int], scale: float) -> None:
    left, top, height = place
    for y in range(height):
        colour = _colours(np.array(1 - 2 * y / max(1, height - 1)))
        draw.line((left, top + y, left + 12, top + y), tuple(int(c) for c in colour))
    draw.rectangle((left - 1, top - 1, left + 13, top + height), outline=_INK)
    for fraction, value in ((0.0, scale), (0.5, 0.0), (1.0, -scale)):
        anchor = {0.0: "la", 0.5: "lm", 1.0: "ld"}[fraction]
        text = "0" if value == 0 else f"{value:+.2g}"
        draw.text((left + 18, top + fraction * height), text, _INK, font, anchor=anchor)
