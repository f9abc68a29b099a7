#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains a small ternary language model in PyTorch and runs it in Rotor.

usage: train.py TEXT -o MODEL.gguf [--vocab-of VOCAB.gguf] [--steps 300] [--layers 2] [--embd 128] ...

The network is rotor.torch.BitNetDecoder: the same architecture, numbers and parameter order as `rotor
train`. Without --vocab-of a token is a byte. At the end the model is exported, opened by the engine,
its logits are compared with the module's, and it writes a few lines. Runs on a GPU where there is one.
"""
import argparse
import math
import os
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "python"))
import torch  # noqa: E402
import rotor  # noqa: E402
from rotor.torch import BitNetDecoder, Shape, export  # noqa: E402


def read_tokens(path, vocab):
    with open(path, "rb") as f:
        data = f.read()
    if vocab is None:
        return np.frombuffer(data, np.uint8).astype(np.int64), 258
    with rotor.Engine(vocab, max_layers=1, ctx=64) as engine:
        return np.array(engine.tokenize(data), np.int64), engine.info.n_vocab


def rate(step, steps, most):
    """Learning rate and weight decay: warm-up, cosine, and at the half both cut, as BitNet is trained."""
    at = (step - 1) / steps
    lr = most * (0.55 + 0.45 * math.cos(math.pi * at)) * min(1, step / max(1, steps // 20))
    return (lr * 2 / 3, 0.0) if at >= 0.5 else (lr, 0.1)


def learn(model, ids, a, device):
    groups = [{"params": [p for p in model.parameters() if (p.dim() == 2) == matrix]} for matrix in (True, False)]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    rng, held, start = np.random.default_rng(a.seed), ids[-len(ids) // 20:], time.monotonic()
    ids = ids[:-len(held)]

    def rows(of, n):
        at = rng.integers(0, len(of) - a.ctx, n)
        batch = torch.from_numpy(np.stack([of[i:i + a.ctx + 1] for i in at])).to(device)
        return batch[:, :-1], batch[:, 1:]
    losses = []
    for step in range(1, a.steps + 1):
        loss = model(*rows(ids, a.batch))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group, decays in zip(optimiser.param_groups, (True, False)):
            group["lr"], decay = rate(step, a.steps, a.lr)
            group["weight_decay"] = decay if decays else 0.0
        optimiser.step()
        losses.append(loss.item())
        if step % max(1, a.steps // 10) == 0 or step == 1:
            with torch.no_grad():
                held_loss = model(*rows(held, 16)).item()
            speed = step * a.batch * a.ctx / (time.monotonic() - start)
            print("step %5d  loss %.3f  held out %.3f  %.0f tokens/s" % (step, losses[-1], held_loss, speed), flush=True)
    return losses


def compare(model, path, ids, device):
    """Relative distance of the engine's logits from the module's, at each position."""
    with torch.no_grad():
        want = model(torch.from_numpy(ids)[None].to(device))[0].cpu().numpy()
    with rotor.Engine(path, head="file", kv="f32") as engine, engine.session() as session:
        got = session.eval_all(ids)
    return np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Trains a small ternary language model in PyTorch.")
    parser.add_argument("text")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--vocab-of")
    for name, value in dict(steps=300, layers=2, embd=128, heads=4, kv_heads=2, ff=384, ctx=128, batch=8, seed=1).items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    parser.add_argument("--lr", type=float, default=4e-3)
    a = parser.parse_args(arguments)
    torch.manual_seed(a.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ids, n_vocab = read_tokens(a.text, a.vocab_of)
    model = BitNetDecoder(Shape(n_vocab, a.embd, a.layers, a.heads, a.kv_heads, a.ff, a.ctx)).to(device)
    print("%d tokens, %d weights, on %s" % (len(ids), sum(p.numel() for p in model.parameters()), device))
    losses = learn(model, ids, a, device)
    export(model, a.output, tokenizer=a.vocab_of)
    far = compare(model, a.output, ids[:a.ctx], device)
    print("logits in Rotor differ by %.1e (median), %.1e (most)" % (np.median(far), far.max()))
    with rotor.Engine(a.output) as engine:
        print(engine.generate(ids[:8], max_tokens=100, temperature=0.7, seed=1))
    return losses, far


if __name__ == "__main__":
    main()
