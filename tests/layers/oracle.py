"""The layers' equations once more: one sample, plain loops over units in float64, written without the torch code.

Each function takes the parameters ``p``, the inputs ``[T, I]``, the start state and the layer's options, and returns
outputs ``[T, H]``, the final state and the energies ``[T, units]``.
"""

import math

import numpy as np


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def spend(row, u):
    """The energy of one row, ``Σ_j |G_j| u_j²``."""
    return sum(abs(g) * v * v for g, v in zip(row, u, strict=True))


def norm(row):
    return math.sqrt(sum(g * g for g in row)) + 1e-16


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def bounded(v, bound):
    return max(-bound, min(bound, v))


def result(outputs, state, energies):
    return np.array(outputs), {key: np.array(leaf) for key, leaf in state.items()}, np.array(energies)


def mlp(p, xs, state):
    outputs = [[math.tanh(dot(row, x) + b) for row, b in zip(p["weight"], p["bias"], strict=True)] for x in xs]
    return result(outputs, {}, [[spend(row, x) for row in p["weight"]] for x in xs])


def stpn(p, xs, state, recurrent=True, per_synapse=True, normalize="pre", clamp=None):
    W, F = p["weight"], state["F"].copy()
    H, D = W.shape
    retention, rate = np.broadcast_to(p["weight_lambda"], (H, D)), np.broadcast_to(p["weight_gamma"], (H, D))
    h = state.get("h")
    outputs, energies = [], []
    for x in xs:
        u = [*x, *h] if recurrent else x
        new, spent = [0.0] * H, [0.0] * H
        for i in range(H):
            G = [W[i, j] + F[i, j] for j in range(D)]
            n = norm(G) if normalize else 1.0
            new[i] = math.tanh(dot(G, u) / n + p["bias"][i])
            spent[i] = spend([g / n for g in G], u)
            for j in range(D):
                before = F[i, j] / n if normalize == "pre" else F[i, j]
                F[i, j] = bounded(retention[i, j] * before + rate[i, j] * new[i] * u[j], clamp or math.inf)
            if normalize == "post":
                F[i] /= norm([W[i, j] + F[i, j] for j in range(D)])
        h = new
        outputs.append(h)
        energies.append(spent)
    return result(outputs, {"h": h, "F": F} if recurrent else {"F": F}, energies)


def gates(p, x, h):
    """The two halves of every gate row's current, input and recurrent, and the row's energy."""
    from_x = [dot(row, x) + b for row, b in zip(p["weight_ih"], p["bias_ih"], strict=True)]
    bias = p.get("bias_hh", np.zeros(len(from_x)))
    from_h = [dot(row, h) + b for row, b in zip(p["weight_hh"], bias, strict=True)]
    spent = [spend(a, x) + spend(b, h) for a, b in zip(p["weight_ih"], p["weight_hh"], strict=True)]
    return from_x, from_h, spent


def rnn(p, xs, state, bias="double"):
    h, outputs, energies = state["h"], [], []
    for x in xs:
        from_x, from_h, spent = gates(p, x, h)
        h = [math.tanh(a + b) for a, b in zip(from_x, from_h, strict=True)]
        outputs.append(h)
        energies.append(spent)
    return result(outputs, {"h": h}, energies)


def lstm(p, xs, state, bias="double"):
    h, c, outputs, energies = state["h"], state["c"], [], []
    H = len(h)
    for x in xs:
        from_x, from_h, spent = gates(p, x, h)
        current = [a + b for a, b in zip(from_x, from_h, strict=True)]
        i, f = [sigmoid(v) for v in current[:H]], [sigmoid(v) for v in current[H : 2 * H]]
        g, o = [math.tanh(v) for v in current[2 * H : 3 * H]], [sigmoid(v) for v in current[3 * H :]]
        c = [f[k] * c[k] + i[k] * g[k] for k in range(H)]
        h = [o[k] * math.tanh(c[k]) for k in range(H)]
        outputs.append(h)
        energies.append(spent)
    return result(outputs, {"h": h, "c": c}, energies)


def gru(p, xs, state, bias="double"):
    h, outputs, energies = state["h"], [], []
    H = len(h)
    for x in xs:
        from_x, from_h, spent = gates(p, x, h)
        new = []
        for k in range(H):
            r = sigmoid(from_x[k] + from_h[k])
            z = sigmoid(from_x[H + k] + from_h[H + k])
            n = math.tanh(from_x[2 * H + k] + r * from_h[2 * H + k])
            new.append((1 - z) * n + z * h[k])
        h = new
        outputs.append(h)
        energies.append(spent)
    return result(outputs, {"h": h}, energies)


def fast_weights(p, xs, state, inner_steps=1, decay=0.9, rate=0.5):
    W, h, A = p["weight"], state["h"], state["A"].copy()
    H = len(h)

    def squash(v):
        mean = sum(v) / H
        deviation = math.sqrt(sum((a - mean) ** 2 for a in v) / H + 1e-5)
        gain, bias = p["layer_norm_gain"], p["layer_norm_bias"]
        return [math.tanh(gain[i] * (v[i] - mean) / deviation + bias[i]) for i in range(H)]

    outputs, energies = [], []
    for x in xs:
        u = [*x, *h]
        for i in range(H):
            for j in range(H):
                A[i, j] = decay * A[i, j] + rate * h[i] * h[j]
        current = [dot(W[i], u) + p["bias"][i] for i in range(H)]
        spent = [spend(W[i], u) for i in range(H)]
        s = squash(current)
        for _ in range(inner_steps):
            spent = [spent[i] + spend(A[i], s) for i in range(H)]
            s = squash([current[i] + dot(A[i], s) for i in range(H)])
        h = s
        outputs.append(h)
        energies.append(spent)
    return result(outputs, {"h": h, "A": A}, energies)


def plastic_step(p, x, h, plastic):
    """New hidden state and energies of a recurrent layer whose recurrent weights are w + α ⊙ plastic."""
    new, spent = [], []
    for i in range(len(h)):
        G = [w + a * m for w, a, m in zip(p["weight_h"][i], p["weight_alpha"][i], plastic[i], strict=True)]
        new.append(math.tanh(dot(p["weight_x"][i], x) + p["bias"][i] + dot(G, h)))
        spent.append(spend(p["weight_x"][i], x) + spend(G, h))
    return new, spent


def plastic_rnn(p, xs, state, rule="additive"):
    h, Hebb, outputs, energies = state["h"], state["Hebb"].copy(), [], []
    (eta,) = p["eta"]
    for x in xs:
        new, spent = plastic_step(p, x, h, Hebb)
        for i, post in enumerate(new):
            for j, pre in enumerate(h):
                if rule == "additive":
                    Hebb[i, j] = bounded(Hebb[i, j] + eta * post * pre, 1.0)
                elif rule == "decaying":
                    Hebb[i, j] = (1 - eta) * Hebb[i, j] + eta * post * pre
                else:
                    Hebb[i, j] = Hebb[i, j] + eta * post * (pre - post * Hebb[i, j])
        h = new
        outputs.append(h)
        energies.append(spent)
    return result(outputs, {"h": h, "Hebb": Hebb}, energies)


def modulator(p, h):
    return math.tanh(dot(p["weight_m"][0], h) + p["bias_m"][0])


def modulated_plastic_rnn(p, xs, state):
    h, Hebb, outputs, energies = state["h"], state["Hebb"].copy(), [], []
    for x in xs:
        new, spent = plastic_step(p, x, h, Hebb)
        M = modulator(p, new)
        for i, post in enumerate(new):
            for j, pre in enumerate(h):
                Hebb[i, j] = bounded(Hebb[i, j] + M * post * pre, 1.0)
        h = new
        outputs.append(h)
        energies.append(spent)
    return result(outputs, {"h": h, "Hebb": Hebb}, energies)


def retroactive_plastic_rnn(p, xs, state):
    h, P, E, outputs, energies = state["h"], state["P"].copy(), state["E"].copy(), [], []
    (eta,) = p["eta"]
    for x in xs:
        new, spent = plastic_step(p, x, h, P)
        M = modulator(p, new)
        for i, post in enumerate(new):
            for j, pre in enumerate(h):
                P[i, j] = bounded(P[i, j] + M * E[i, j], 1.0)
                E[i, j] = (1 - eta) * E[i, j] + eta * post * pre
        h = new
        outputs.append(h)
        energies.append(spent)
    return result(outputs, {"h": h, "P": P, "E": E}, energies)


def plastic_lstm(p, xs, state, modulation="simple", alpha="synapse"):
    h, c, Hebb, outputs, energies = state["h"], state["c"], state["Hebb"].copy(), [], []
    E = state["E"].copy() if modulation == "retroactive" else None
    H = len(h)
    strength = np.broadcast_to(p["weight_alpha"], (H, H))
    for x in xs:
        rows = [list(row) for row in p["weight_h"]]  # input, forget, cell, output
        for i in range(H):
            for j in range(H):
                rows[2 * H + i][j] += strength[i, j] * Hebb[i, j]
        current = [dot(p["weight_x"][r], x) + p["bias"][r] + dot(rows[r], h) for r in range(4 * H)]
        energies.append([spend(p["weight_x"][r], x) + spend(rows[r], h) for r in range(4 * H)])
        g = [math.tanh(current[2 * H + i]) for i in range(H)]
        c = [sigmoid(current[H + i]) * c[i] + sigmoid(current[i]) * g[i] for i in range(H)]
        new = [sigmoid(current[3 * H + i]) * math.tanh(c[i]) for i in range(H)]
        for i in range(H):
            rate = p["eta"][0] if modulation is None else p["weight_fan"][i, 0] * modulator(p, new) + p["bias_fan"][i]
            for j in range(H):
                written = E[i, j] if modulation == "retroactive" else g[i] * h[j]
                Hebb[i, j] = bounded(Hebb[i, j] + rate * written, 2.0)
                if modulation == "retroactive":
                    E[i, j] = (1 - p["eta"][0]) * E[i, j] + p["eta"][0] * g[i] * h[j]
        h = new
        outputs.append(h)
    matrices = {"Hebb": Hebb, "E": E} if modulation == "retroactive" else {"Hebb": Hebb}
    return result(outputs, {"h": h, "c": c, **matrices}, energies)


def hebbff(p, xs, state):
    W, A, outputs, energies = p["weight"], state["A"].copy(), [], []
    retention, rate = sigmoid(p["lambda_logit"][0]), -math.exp(p["log_eta"][0])
    for x in xs:
        h = []
        for i in range(len(W)):
            h.append(sigmoid(dot(W[i] + A[i], x) + p["bias"][i]))
        energies.append([spend(W[i] + A[i], x) for i in range(len(W))])
        for i, post in enumerate(h):
            for j, pre in enumerate(x):
                A[i, j] = retention * A[i, j] + rate * post * pre
        outputs.append(h)
    return result(outputs, {"A": A}, energies)
