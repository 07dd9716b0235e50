"""The layers side by side: state, parameters at the sizes they are compared at, equations, options.

    python benchmarks/layer_table.py            # prints it
    python benchmarks/layer_table.py --write    # writes it into docs/layers.md, between its two markers

Everything comes from the layers themselves: counts from made layers, texts from docstrings, options from signatures.
"""

import argparse
import inspect
import re
import runpy
from pathlib import Path

import torch

from rllib_stpn.layers import LAYERS, Layer, Stack, layer_options, make_layer
from rllib_stpn.layers.torch_recurrent import TorchRecurrent

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "layers.md"
BEGIN, END = "<!-- layer_table.py: begin -->\n", "<!-- layer_table.py: end -->\n"

# task: input features, features of the read-outs
TASKS = {
    "retrieval": (37, 37),  # one-hot symbols in and out
    "maze": (17, 5),  # four actions and the value
    "Pong core": (2592, 0),  # behind the convolutions, heads not counted
}

# label: layer, options, hidden size per task where published or chosen; elsewhere the size closest to STPN's total
ROWS = {
    "`stpn`": ("stpn", {}, {"retrieval": 11, "maze": 55, "Pong core": 64}),
    "`stpn`, scalar Λ and Γ": ("stpn", {"per_synapse": False}, {"retrieval": 20, "maze": 55}),
    "`stpn`, feed-forward": ("stpn", {"recurrent": False}, {"retrieval": 13, "maze": 76}),
    "`stpn`, smaller": ("stpn", {}, {"retrieval": None, "maze": 30, "Pong core": None}),
    "`rnn`, one bias vector": ("rnn", {"bias": "single"}, {"retrieval": 20, "maze": 100}),
    "`lstm`": ("lstm", {}, {"maze": 47, "Pong core": 48}),
    "`lstm`, one bias vector": ("lstm", {"bias": "single"}, {"retrieval": 9}),
    "`gru`": ("gru", {}, {}),
    "`mlp`": ("mlp", {}, {}),
    "`fast_weights`": ("fast_weights", {}, {"retrieval": 20}),
    "`plastic_rnn`": ("plastic_rnn", {}, {}),
    "`modulated_plastic_rnn`": ("modulated_plastic_rnn", {}, {"retrieval": 17, "maze": 73}),
    "`retroactive_plastic_rnn`": ("retroactive_plastic_rnn", {}, {}),
    "`plastic_lstm`": ("plastic_lstm", {}, {}),
    "`hebbff`": ("hebbff", {}, {"retrieval": 26, "maze": 181}),
}


def total(name: str, options: dict, task: str, hidden_size: int) -> int:
    """Parameters of the layer and of the read-outs."""
    input_size, read_out = TASKS[task]
    with torch.device("meta"):
        layer = make_layer(name, input_size=input_size, hidden_size=hidden_size, **options)
    return sum(parameter.numel() for parameter in layer.parameters()) + read_out * (hidden_size + 1)


def closest(name: str, options: dict, task: str) -> int:
    """The hidden size with the total closest to STPN's."""
    _, _, sizes = ROWS["`stpn`"]
    goal = total("stpn", {}, task, sizes[task])
    hidden_size = 1
    while total(name, options, task, hidden_size + 1) <= goal:
        hidden_size += 1
    return min((hidden_size, hidden_size + 1), key=lambda size: abs(total(name, options, task, size) - goal))


def sizes() -> str:
    """Hidden sizes and parameters per task."""
    lines = [
        "| layer | " + " | ".join(f"{task} (I={i})" for task, (i, _) in TASKS.items()) + " |",
        "|---|" + "---|" * len(TASKS),
    ]
    for label, (name, options, given) in ROWS.items():
        cells = []
        for task in TASKS:
            size = given[task] if task in given else closest(name, options, task)
            shown = f"H={size}" if task in given else f"*H={size}*"
            cells.append(f"{shown}: {total(name, options, task, size):,}" if size else "")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def state(kind: type[Layer]) -> str:
    """The state with its default options, in letters."""
    letters = {5: "I", 3: "H", 8: "I+H"}
    shapes = kind(5, 3).state_shapes()
    return ", ".join(f"`{key}` [{', '.join(letters[n] for n in shape)}]" for key, shape in shapes.items()) or "none"


def computed_by(kind: type[Layer]) -> str:
    """What runs the steps."""
    if issubclass(kind, TorchRecurrent):
        return "torch's own kernel"
    if kind.step is Layer.step and "implementation" not in layer_options(kind.name):
        return "torch, all steps at once"
    looping = kind.run is Layer.run
    return "a loop over steps in torch" if looping else "fused CPU kernel, or plain torch"


def overview() -> str:
    """One line per layer."""
    lines = ["| layer | class | state | computed by |", "|---|---|---|---|"]
    lines += [f"| `{n}` | `{k.__name__}` | {state(k)} | {computed_by(k)} |" for n, k in LAYERS.items()]
    return "\n".join(lines)


def trained() -> str:
    """Which algorithms train the layers, by API stack and env runners, as the tests have it."""
    tests = runpy.run_path(str(ROOT / "tests" / "trained.py"))
    algorithms = tests["ALGORITHMS"]
    lines = ["| API stack | env runners | " + " | ".join(algorithms) + " |", "|---|---|" + "---|" * len(algorithms)]
    for where, every in tests["EVERY_LAYER"].items():
        one = tests["ONE_LAYER"].get(where, {})
        cells = ["every layer" if a in every else f"`{one[a]}`" if a in one else "" for a in algorithms]
        lines.append("| " + " | ".join((*where, *cells)) + " |")
    return "\n".join(lines)


def markdown(docstring: str) -> str:
    """A docstring without its example and its sections of arguments and errors."""
    text = re.split(r"\n(?:Args|Raises):\n", docstring)[0]
    text = re.sub(r"\n>>> .+(?:\n.+)*", "", text)
    text = re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r"(?:\n::|(:):)\n\n((?: {4}.*\n)+)", _fenced, text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _fenced(match: re.Match) -> str:
    """An indented block of equations as a fenced one."""
    return f"{match[1] or ''}\n\n```\n{inspect.cleandoc(match[2])}\n```\n"


def options_table(options: dict) -> str:
    """Defaults and descriptions."""
    lines = ["| option | default | |", "|---|---|---|"]
    return "\n".join(
        lines + [f"| `{key}` | `{default!r}` | {text.replace('``', '`')} |" for key, (default, text) in options.items()]
    )


def section(kind: type[Layer]) -> str:
    """Summary, source, equations, parameters and own options of one layer."""
    shared = layer_options_of_all()
    own = {key: value for key, value in layer_options(kind.name).items() if key not in shared}
    parts = [f"### `{kind.name}`", markdown(inspect.getdoc(kind) or "")]
    return "\n\n".join([*parts, options_table(own)] if own else parts)


def layer_options_of_all() -> dict:
    """The options that every layer takes."""
    names = inspect.signature(Stack).parameters
    return {key: value for key, value in layer_options("mlp").items() if key in names}


def document() -> str:
    """The generated part of docs/layers.md."""
    parts = [
        overview(),
        "## Algorithms",
        "Where `pytest -m slow tests/algorithms/test_stock.py tests/models/test_model_v2.py` trains them. RLlib has no "
        "A2C on the\nold API stack. Several agents, each with a layer of its own, need RLlib's own env runners. "
        "DQN, BC and MARWIL:\n[your_config.md](your_config.md).",
        trained(),
        "## Options of every layer",
        options_table(layer_options_of_all()),
        "## Sizes with as many parameters",
        "Biases, read-outs and value heads are counted. Sizes in italics are ours: the hidden size whose total comes "
        "closest to\nthat of STPN; the others are those of the published comparisons. The maze's ablation compares the "
        "scalar and the\nfeed-forward STPN and HebbFF with the smaller STPN.",
        sizes(),
        "## Equations",
        *(section(kind) for kind in LAYERS.values()),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="update docs/layers.md")
    if not parser.parse_args().write:
        print(document())
        return
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + "\n" + document() + "\n" + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
