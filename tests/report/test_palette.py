"""The looks of layers in figures."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from rllib_stpn.layers.registry import LAYERS
from rllib_stpn.report import palette

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB: what is seen without one kind of cone.
SIGHTS = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def seen(colour, sight: str) -> np.ndarray:
    """CIE L*a*b* of a colour."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ (np.array(SIGHTS[sight]) @ linear(colour)).clip(0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_layers_are_told_apart_with_any_sight(sight, dark):
    layers = list(LAYERS)
    colours = {layer: look.colour for layer, look in zip(layers, palette.looks(layers, dark), strict=True)}
    colours["page"] = palette.DARK["figure.facecolor"] if dark else "#ffffff"
    for one, other in itertools.combinations(colours, 2):
        difference = np.linalg.norm(seen(colours[one], sight) - seen(colours[other], sight))
        assert difference > 10, (one, other, difference)


def test_a_layer_looks_the_same_in_whatever_company():
    for layer, look in zip(LAYERS, palette.looks(list(LAYERS), dark=False), strict=True):
        assert palette.looks(["another", layer], dark=False)[1] == look
        assert palette.looks([layer, "lstm"], dark=False)[0].colour == look.colour


def test_layers_of_users_have_colours_of_their_own():
    layers = ["stpn", "mine", "yours", "lstm", "mine"]
    colours = [look.colour for look in palette.looks(layers, dark=False)]
    assert len(set(colours)) == 5  # two shades for mine
    assert colours == [look.colour for look in palette.looks(layers, dark=False)]
    assert len(palette.looks([f"layer {i}" for i in range(30)], dark=True)) == 30


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("layer", palette.COLOURS)
def test_groups_with_one_layer_have_shades_of_its_colour(layer, dark):
    looks = palette.looks([layer] * 6, dark)
    assert looks[0] == palette.looks([layer], dark)[0]
    assert len({look.colour for look in looks}) == 6 and len({look.dash for look in looks}) == 4
    page = palette.DARK["figure.facecolor"] if dark else "#ffffff"
    assert all(np.linalg.norm(seen(look.colour, "all") - seen(page, "all")) > 20 for look in looks)
