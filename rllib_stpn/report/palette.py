"""How a layer looks: the same colour, dash and marker in every figure of every report, on white and in the dark."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.colors import to_hex, to_rgb

COLOURS = {
    "stpn": "#0072B2",
    "lstm": "#D55E00",
    "rnn": "#CC79A7",
    "gru": "#E69F00",
    "fast_weights": "#56B4E9",
    "modulated_plastic_rnn": "#009E73",
    "mlp": "#000000",
    "hebbff": "#690078",
    "plastic_rnn": "#963C00",
    "plastic_lstm": "#A569FF",
    "retroactive_plastic_rnn": "#2D00D2",
    "RLlib LSTM": "#695A69",
    "RLlib default": "#B0B8A0",
}
"""Okabe and Ito's palette, and colours as far from these as they are from each other for the colour-blind."""
COLOURS_IN_THE_DARK = COLOURS | {
    "mlp": "#FFFFFF",
    "hebbff": "#F5CCF5",
    "plastic_rnn": "#99523D",
    "retroactive_plastic_rnn": "#7A33F5",
    "RLlib LSTM": "#7A5C7A",
}
"""The same, where these are bright enough for a dark page."""
DARK: dict[Any, Any] = {
    "figure.facecolor": "#1a1a1a",
    "axes.facecolor": "#1a1a1a",
    "grid.color": "#3a3a3a",
} | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), "#dddddd")
"""Matplotlib's settings for a figure on a dark page."""
_MARKERS = "osD^vPX*<>phd"
_DASHES = ("-", "--", ":", "-.")
_LAST_SHADE = 0.6  # share of black, or of white, in it


class Look(NamedTuple):
    """Of a group in a figure: a colour, Matplotlib's name of a dash and that of a marker."""

    colour: str
    dash: str
    marker: str


def looks(layers: Sequence[str], dark: bool) -> list[Look]:
    """The looks of a section's groups.

    Groups with the same layer have shades of its colour, further and further from the page's, and other dashes and
    markers. A layer that the table does not hold, such as one of the user's, has a colour that its name chooses among
    those which no other layer here has.

    Args:
        layers: The names of the groups' layers.
        dark: Whether the page is.
    """
    colours, names = COLOURS_IN_THE_DARK if dark else COLOURS, list(COLOURS)
    chosen = {layer: layer for layer in layers if layer in colours}
    for layer in sorted(set(layers) - chosen.keys()):
        free = [name for name in names if name not in chosen.values()] or names
        chosen[layer] = free[zlib.crc32(layer.encode()) % len(free)]
    own = [chosen[layer] for layer in layers]
    found = []
    for index, name in enumerate(own):
        number, shades = own[:index].count(name), own.count(name)
        full = to_rgb(colours[name])
        towards = float(dark)
        if abs(sum(full) / 3 - towards) < 0.3:  # too close to it for shades
            towards = 1 - towards
        share = _LAST_SHADE * number / max(shades - 1, 1)
        red, green, blue = (part + (towards - part) * share for part in full)
        marker = _MARKERS[(names.index(name) + number) % len(_MARKERS)]
        found.append(Look(to_hex((red, green, blue)), _DASHES[number % len(_DASHES)], marker))
    return found
