#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains a ternary network to read handwritten digits, and runs it in the library.

usage: digits.py [--torch] [--epochs 10] [--hidden 256] [--seed 1]

1,258 images of 8 x 8 pixels to learn from, 539 held out. Every weight acts as -1, 0 or +1 times one
scale a layer, every layer's input as int8; gradients pass straight through both roundings into float
shadow weights, which AdamW moves. Without --torch this is NumPy alone, the few lines below; with it
the same network of rotor.torch.TernaryLinear. After each epoch the shadow weights go to the library's
own network (two bits a weight), and it is that network which is asked about the held-out images.
"""
import argparse
import gzip
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "python"))
from rotor.ternary import Mlp  # noqa: E402

BEFORE = 0.8813          # best held-out share of an earlier ternary trainer, which then collapsed
FLOOR = np.float32(1e-5)
BATCH, RATE, DECAY, BETAS = 32, 2e-3, 0.01, (0.9, 0.95)


def data(seed):
    """Images [n, 64] in 0 … 1 and labels [n]: to learn from, held out."""
    with gzip.open(os.path.join(HERE, "digits.csv.gz"), "rt") as f:
        table = np.loadtxt(f, delimiter=",", dtype=np.float32)
    order = np.random.default_rng(seed).permutation(len(table))
    x, y = table[order, :64] / 16, table[order, 64].astype(int)
    return (x[539:], y[539:]), (x[:539], y[:539])


# ---- A ternary layer -------------------------------------------------------------------------------------------------


def codes_of_weights(w):
    a = max(np.float32(np.abs(w).mean(dtype=np.float64)), FLOOR)
    v = w * (1 / a)
    return (v > 0.5).astype(np.float32) - (v < -0.5), a


def codes_of_inputs(x):
    s = 127 / np.maximum(np.abs(x).max(axis=1, keepdims=True), FLOOR)
    return np.rint(x * s), s


class Ternary:
    def __init__(self, rng, n_in, n_out, relu):
        self.w = rng.normal(0, (2 / n_in) ** 0.5, (n_out, n_in)).astype(np.float32)
        self.b = np.zeros(n_out, np.float32)
        self.relu = relu

    def forward(self, x):
        (t, a), (q, s) = codes_of_weights(self.w), codes_of_inputs(x)
        self.xq, self.wq = q / s, t * a                         # what the codes stand for
        y = q @ t.T * (a / s) + self.b                          # q @ t.T: whole numbers, exact
        self.on = y > 0
        return y * self.on if self.relu else y

    def backward(self, dy):
        """The roundings count as the identity."""
        dy = dy * self.on if self.relu else dy
        self.dw, self.db = dy.T @ self.xq, dy.sum(axis=0)
        return dy @ self.wq


class NumpyNet:
    def __init__(self, sizes, seed):
        rng = np.random.default_rng(seed)
        self.layers = [Ternary(rng, a, b, i < len(sizes) - 2) for i, (a, b) in enumerate(zip(sizes, sizes[1:]))]
        self.moments = {}

    def loss(self, x, y):
        """Mean loss of a batch; leaves the gradients in the layers."""
        for layer in self.layers:
            x = layer.forward(x)
        p = np.exp(x - x.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        at = np.arange(len(y)), y
        loss = -np.log(p[at]).mean()
        p[at] -= 1
        d = p / len(y)
        for layer in reversed(self.layers):
            d = layer.backward(d)
        return loss

    def step(self, n, rate):
        for i, layer in enumerate(self.layers):
            for name in "wb":
                p, g = getattr(layer, name), getattr(layer, "d" + name)
                m, v = self.moments.setdefault((i, name), [np.zeros_like(p), np.zeros_like(p)])
                m += (1 - BETAS[0]) * (g - m)
                v += (1 - BETAS[1]) * (g * g - v)
                p -= rate * (m / (1 - BETAS[0] ** n) / (np.sqrt(v / (1 - BETAS[1] ** n)) + 1e-8) + DECAY * (name == "w") * p)

    def parameters(self):
        return [(layer.w, layer.b) for layer in self.layers]


class TorchNet:
    def __init__(self, sizes, seed):
        import torch
        from rotor.torch import TernaryLinear
        torch.manual_seed(seed)
        self.torch, parts = torch, []
        for a, b in zip(sizes, sizes[1:]):
            layer = TernaryLinear(a, b, bias=True)
            torch.nn.init.normal_(layer.weight, std=(2 / a) ** 0.5)
            torch.nn.init.zeros_(layer.bias)
            parts += [layer, torch.nn.ReLU()]
        self.net = torch.nn.Sequential(*parts[:-1])
        weights = [p for p in self.net.parameters() if p.dim() == 2]
        biases = [p for p in self.net.parameters() if p.dim() == 1]
        self.optimiser = torch.optim.AdamW([{"params": weights, "weight_decay": DECAY}, {"params": biases, "weight_decay": 0}],
                                           betas=BETAS)

    def loss(self, x, y):
        self.optimiser.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.net(self.torch.from_numpy(x)), self.torch.from_numpy(y))
        loss.backward()
        return loss.item()

    def step(self, n, rate):
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()

    def parameters(self):
        return [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in self.net if hasattr(m, "weight")]


# ---- Training --------------------------------------------------------------------------------------------------------


def in_the_library(net):
    layers, mlp = net.parameters(), None
    for i, (w, b) in enumerate(layers):
        mlp = mlp or Mlp(w.shape[1])
        mlp.add(w, b, "relu" if i < len(layers) - 1 else "linear")
    return mlp


def train(net, seed, epochs):
    """Yields after each epoch: its number, mean loss, held-out share, the library's network."""
    (x, y), (x_out, y_out) = data(seed)
    rng, n, n_steps = np.random.default_rng(seed), 0, epochs * (len(x) // BATCH)
    for epoch in range(1, epochs + 1):
        order, losses = rng.permutation(len(x)), []
        for at in range(0, len(x) - BATCH + 1, BATCH):
            rows = order[at:at + BATCH]
            losses.append(net.loss(x[rows], y[rows]))
            n += 1
            net.step(n, RATE * (0.55 + 0.45 * np.cos(np.pi * n / n_steps)))
        mlp = in_the_library(net)
        yield epoch, float(np.mean(losses)), float((mlp(x_out).argmax(axis=1) == y_out).mean()), mlp


def main():
    parser = argparse.ArgumentParser(description="Trains a ternary network to read handwritten digits.")
    parser.add_argument("--torch", action="store_true", help="use PyTorch")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    net = (TorchNet if a.torch else NumpyNet)([64, a.hidden, a.hidden, 10], a.seed)
    print("epoch    loss  held out  (before: %.2f %%, then a collapse)" % (100 * BEFORE))
    for epoch, loss, share, mlp in train(net, a.seed, a.epochs):
        print("%5d  %6.3f   %5.2f %%" % (epoch, loss, 100 * share), flush=True)
    s = mlp.stats
    print("%d weights, %.0f %% of them 0; %.1f KB, in float %.1f KB" % (s["n_weights"], 100 * s["sparsity"],
                                                                     s["weight_bytes"] / 1e3, s["float_bytes"] / 1e3))


if __name__ == "__main__":
    main()
