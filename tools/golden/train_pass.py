# SPDX-License-Identifier: MIT
"""Makes tests/data/train: one training pass in float64 and 200 training steps in float32, by PyTorch.

usage: train_pass.py [pass|steps]        (default: both; run in the source tree)

Made with torch 2.15.0 (CPU), numpy 2.4.6, Python 3.11.

pass_ternary.bin, pass_float.bin: a small decoder with grouped heads and more than one block of
attention, with the roundings and without: parameters, loss, the residual stream before and after each
layer, logits and the gradient of every parameter, by autograd. Layout: shape_words (below) as uint32;
ids and targets as uint32; then float64 in the order of the trainer's flat vector. tests/unit/train
compares the trainer's formulas with them to 1e-10 of each tensor's largest value.
   The same numbers are computed twice here, by rotor.torch (an autograd function) and by plain
   expressions whose roundings are cut out of the graph with detach; the script stops where they
   differ by more than 1e-12.
   Ties. PyTorch, the library and the tests all round x 127 / max|x| half to even, and take |w| of
   exactly half the mean as 0; but x 127 / max|x| may itself fall on either side of a half by the last
   bit, depending on the order of the three factors. So seeds are tried until no value lies within
   1e-9 of a tie, where the implementations must agree.

steps.txt: the losses of 200 steps of AdamW in float32 (clipping, warm-up, both stages of the
schedule). Parameters and batches come from a generator of whole numbers that both sides have, so that
only losses are stored. Here ties are not avoided. The losses agree to 1e-6 until the first code falls
the other way in one of the two (here in step 7), which moves the loss by 1e-4 to 1e-3; from there the
runs are two samples of the same training. With a warm-up of 20 or 50 steps instead of 100 that happens
within the first five steps: AdamW's first updates are +-lr whatever the gradient's size, so that lr
decides how many weights stand near a rounding. Bounds: 1e-4 on the first five, 1 % on the mean of the
last 20.
"""
import copy
import math
import os
import sys

import numpy as np
import torch
from torch.nn import functional as F

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
OUT = os.path.join(ROOT, "tests", "data", "train")
sys.path.insert(0, os.path.join(ROOT, "python"))
import rotor.torch as rt  # noqa: E402
from rotor.torch import BitNetDecoder, Shape, flat_parameters, load_flat_parameters  # noqa: E402

EPS = float(np.float32(1e-5))
IGNORE = 0xFFFFFFFF

# ---- One pass ----------------------------------------------------------------------------------------------------------

PASS = Shape(n_vocab=23, n_embd=12, n_layer=2, n_head=4, n_head_kv=2, d_head=6, n_ff=20, n_ctx=70, rope_base=100.0, eps=EPS)
ROWS = 2


def plain_linear(x, w, ternary):
    if not ternary:
        return x @ w.t()
    a = w.abs().mean().clamp_min(1e-5)
    s = 127 / x.abs().amax(-1, keepdim=True).clamp_min(1e-5)
    wq = w + ((w / a).round().clamp(-1, 1) * a - w).detach()
    xq = x + ((x * s).round().clamp(-128, 127) / s - x).detach()
    return xq @ wq.t()


def plain_norm(x, g, eps):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * g


def plain_forward(p, s, ids, ternary):
    """The network once more, from its description alone. p: dict of tensors; -> loss's logits."""
    n_tok, d = ids.shape[1], s.head
    at = torch.arange(n_tok, dtype=torch.float64)[:, None] * s.rope_base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    turn = torch.polar(torch.ones_like(at), at)

    def heads(x, n):
        return x.view(len(ids), n_tok, n, d).transpose(1, 2)

    def rope(x):
        z = torch.complex(x[..., :d // 2], x[..., d // 2:]) * turn
        return torch.cat((z.real, z.imag), -1)
    x = p["model.embed_tokens.weight"][ids]
    hide = torch.ones(n_tok, n_tok, dtype=torch.bool).triu(1)
    for n in range(s.n_layer):
        def w(name):
            return p["model.layers.%d.%s.weight" % (n, name)]
        h = plain_norm(x, w("input_layernorm"), s.eps)
        q, k, v = (plain_linear(h, w("self_attn.%s_proj" % c), ternary) for c in "qkv")
        q, k, v = rope(heads(q, s.n_head)), rope(heads(k, s.n_head_kv)), heads(v, s.n_head_kv)
        out = []
        for head in range(s.n_head):
            kv = head // (s.n_head // s.n_head_kv)
            score = (q[:, head] @ k[:, kv].transpose(1, 2) / math.sqrt(d)).masked_fill(hide, -math.inf)
            out.append(score.softmax(-1) @ v[:, kv])
        a = plain_norm(torch.cat(out, -1), w("self_attn.attn_sub_norm"), s.eps)
        x = x + plain_linear(a, w("self_attn.o_proj"), ternary)
        h = plain_norm(x, w("post_attention_layernorm"), s.eps)
        g, u = (plain_linear(h, w("mlp.%s_proj" % c), ternary) for c in ("gate", "up"))
        f = plain_norm(g.clamp_min(0) ** 2 * u, w("mlp.ffn_sub_norm"), s.eps)
        x = x + plain_linear(f, w("mlp.down_proj"), ternary)
    return plain_norm(x, p["model.norm.weight"], s.eps) @ p["model.embed_tokens.weight"].t()


def tie_distance(model, ids):
    """How near any value comes to a rounding tie, in units of a code."""
    near = []
    int8, mean = rt.absmax_int8, rt.absmean

    def watch_int8(x):
        q, s = int8(x)
        near.append(((x * s) % 1 - 0.5).abs().min().item())
        return q, s

    def watch_mean(w):
        t, a = mean(w)
        near.append(((w / a).abs() - 0.5).abs().min().item())
        return t, a
    rt.absmax_int8, rt.absmean = watch_int8, watch_mean
    try:
        model(ids)
    finally:
        rt.absmax_int8, rt.absmean = int8, mean
    return min(near, default=1.0)


def make_pass(ternary):
    for seed in range(1, 100):
        torch.manual_seed(seed)
        model = BitNetDecoder(PASS, full_float=not ternary).double()
        for p in model.parameters():
            torch.nn.init.normal_(p, 0.0 if p.dim() == 2 else 1.0, 0.3)
        ids = torch.randint(0, PASS.n_vocab, (ROWS, PASS.n_ctx))
        targets = torch.randint(0, PASS.n_vocab, (ROWS, PASS.n_ctx))
        targets.view(-1)[3::5] = -100
        if tie_distance(model, ids) > 1e-9:
            break
    loss = model(ids, targets)
    loss.backward()
    grads = flat_parameters(model, gradients=True)
    again = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    plain = F.cross_entropy(plain_forward(again, PASS, ids, ternary).flatten(0, 1), targets.flatten(), ignore_index=-100)
    plain.backward()
    assert abs(plain.item() - loss.item()) < 1e-12 * loss.item()
    for name, p in model.named_parameters():
        assert (p.grad - again[name].grad).abs().max() <= 1e-12 * p.grad.abs().max(), name
    with torch.no_grad():
        hidden, logits = torch.stack(model.hidden(ids)), model(ids)
    s = PASS
    shape_words = [s.n_vocab, s.n_embd, s.n_layer, s.n_head, s.n_head_kv, s.head, s.n_ff, s.n_ctx, int(s.rope_base), ROWS]
    words = torch.cat([ids.flatten(), targets.flatten()]).numpy()
    words = np.where(words == -100, IGNORE, words).astype("<u4")
    path = os.path.join(OUT, "pass_%s.bin" % ("ternary" if ternary else "float"))
    with open(path, "wb") as f:
        f.write(np.array(shape_words, "<u4").tobytes() + words.tobytes())
        for part in (flat_parameters(model), loss.detach()[None], hidden, logits, grads):
            f.write(part.detach().numpy().astype("<f8").tobytes())
    print("%s: seed %d, loss %.12f, %d parameters" % (path, seed, loss.item(), len(grads)))


# ---- 200 steps ---------------------------------------------------------------------------------------------------------

STEPS = Shape(n_vocab=64, n_embd=64, n_layer=2, n_head=4, n_head_kv=2, n_ff=128, n_ctx=32, rope_base=10000.0, eps=EPS)
N_STEPS, N_ROWS, LR, DECAY, WARM, BETAS, CLIP = 200, 8, 4e-3, 0.1, 100, (0.9, 0.95), 1.0


class Generator:
    """The whole numbers that tests/unit/train makes too."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return self.state >> 40                                   # 24 bits


def first_parameters(model, generator):
    parts = []
    for (name, _, _), size in zip(rt._files.names(STEPS), rt._files.sizes(STEPS)):
        n = math.prod(size)
        one = [1.0] * n if len(size) == 1 else [(generator.next() - 2**23) * 2.0**-27 for _ in range(n)]
        parts.append(torch.tensor(one, dtype=torch.float32))
    load_flat_parameters(model, torch.cat(parts))


def batch(generator):
    """Rows in which one of two tokens follows each."""
    rows = []
    for _ in range(N_ROWS):
        row = [generator.next() % 64]
        for _ in range(STEPS.n_ctx):
            row.append((5 * row[-1] + 1 + 17 * (generator.next() >> 23)) % 64)
        rows.append(row)
    ids = torch.tensor(rows)
    return ids[:, :-1], ids[:, 1:]


def schedule(step):
    at = (step - 1) / N_STEPS
    rate = LR * (0.55 + 0.45 * math.cos(math.pi * at))
    second = at >= 0.5
    return (rate * 2 / 3 if second else rate) * min(1, step / WARM), 0.0 if second else DECAY


def make_steps():
    generator, model = Generator(1), BitNetDecoder(STEPS)
    first_parameters(model, generator)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    norms = [p for p in model.parameters() if p.dim() == 1]
    optimiser = torch.optim.AdamW([{"params": matrices}, {"params": norms}], betas=BETAS, eps=1e-8)
    losses, start = [], copy.deepcopy(model.state_dict())
    for step in range(1, N_STEPS + 1):
        ids, targets = batch(generator)
        loss = model(ids, targets)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        lr, decay = schedule(step)
        for group, wd in zip(optimiser.param_groups, (decay, 0.0)):
            group["lr"], group["weight_decay"] = lr, wd
        optimiser.step()
        losses.append(loss.item())
    assert any(not torch.equal(a, b) for a, b in zip(start.values(), model.state_dict().values()))
    with open(os.path.join(OUT, "steps.txt"), "w") as f:
        f.writelines("%.9g\n" % loss for loss in losses)
    print("steps: %s ... mean of the last 20 %.6f" % (losses[:5], np.mean(losses[-20:])))


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    if sys.argv[1:] != ["steps"]:
        make_pass(True)
        make_pass(False)
    if sys.argv[1:] != ["pass"]:
        make_steps()
