# SPDX-License-Identifier: MIT
"""Ternary networks in PyTorch, with the numbers of Rotor's engine and trainer.

    from rotor.torch import BitNetDecoder, Shape, TernaryLinear, convert_to_ternary, export

TernaryLinear computes y = W x with codes of W (absmean, one scale a matrix) and of x (int8 absmax, one
scale a row); its gradient is the straight-through one: dx = Wq' dy, dW = dy xq', where Wq and xq are
what the codes stand for, and both roundings count as the identity.

Rounding. Activations: x 127 / max|x| to the nearest, a half to even; max|x| is at least 1e-5. Weights:
beyond half of mean|W| (at least 1e-5) is +-1, exactly half is 0; in float32 the mean is summed in
double and W multiplied by its float32 reciprocal, as the library does. In float32 the codes are the
library's own, and their product is an exact sum as long as 127 times the inputs stays below 2^24
(132,104 inputs), so a layer gives the same bits as the engine's.
"""
import os

import torch
from torch import nn
from torch.nn import functional as F

from . import _files
from ._files import Shape

__all__ = ["BitNetDecoder", "Shape", "TernaryLinear", "absmax_int8", "absmean", "convert_to_ternary", "export",
           "flat_parameters", "load_flat_parameters"]

FLOOR = 1e-5       # least mean|W| and max|x|


def absmean(w):
    """Codes -1, 0, +1 (in the type of w) and the scale that multiplies them."""
    a = w.abs().sum(dtype=torch.float64).div(w.numel()).to(w.dtype).clamp_min(FLOOR)
    v = w * (1 / a)
    return (v > 0.5).to(w.dtype) - (v < -0.5).to(w.dtype), a


def absmax_int8(x):
    """Codes -127 to 127 (in the type of x) of the last dimension's rows, and 127 / max|x| of each."""
    s = 127 / x.abs().amax(-1, keepdim=True).clamp_min(FLOOR)
    return torch.round(x * s), s


class _TernaryProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        (t, a), (q, s) = absmean(w), absmax_int8(x)
        ctx.save_for_backward(q / s, t * a)
        return F.linear(q, t) * (a / s)

    @staticmethod
    def backward(ctx, dy):
        xq, wq = ctx.saved_tensors
        dx = dy @ wq if ctx.needs_input_grad[0] else None
        dw = dy.flatten(0, -2).t() @ xq.flatten(0, -2) if ctx.needs_input_grad[1] else None
        return dx, dw


class TernaryLinear(nn.Linear):
    """nn.Linear whose weights act as -1, 0, +1 times a scale and whose inputs act as int8. `weight`
    holds the float shadow weights that the optimiser moves. bias is off unless asked for."""

    def __init__(self, in_features, out_features, bias=False, **more):
        super().__init__(in_features, out_features, bias=bias, **more)

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            w = self.weight
            wide = torch.float64 if torch.float64 in (x.dtype, w.dtype) else torch.float32
            y = _TernaryProduct.apply(x.to(wide), w.to(wide)).to(x.dtype)
            return y if self.bias is None else y + self.bias.to(y.dtype)

    @torch.no_grad()
    def ternary(self):
        """Codes (int8, on the processor) and scale, as they are exported."""
        t, a = absmean(self.weight.float())
        return t.to("cpu", torch.int8), float(a)


def convert_to_ternary(module, skip=()):
    """Makes every nn.Linear below module a TernaryLinear over the same parameters; what is named in
    skip (a name like "head", or a full path) stays. Returns the module, which may be a Linear itself."""
    if type(module) is nn.Linear:
        new = TernaryLinear.__new__(TernaryLinear)
        new.__dict__ = module.__dict__.copy()
        return new
    for path, parent in list(module.named_modules()):
        for name, child in list(parent.named_children()):
            full = path + "." + name if path else name
            if type(child) is nn.Linear and name not in skip and full not in skip:
                setattr(parent, name, convert_to_ternary(child))
    return module


# ---- The decoder -----------------------------------------------------------------------------------------------------


class RMSNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x):
        return x * (1 / torch.sqrt(x.square().mean(-1, keepdim=True) + self.eps)) * self.weight


def rotate(x, cos, sin):
    """x [.., T, d]: pairs (i, i + d/2) turned by the angle of their position."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


class Attention(nn.Module):
    def __init__(self, s, linear):
        super().__init__()
        self.n_head, self.n_head_kv, self.d = s.n_head, s.n_head_kv, s.head
        self.q_proj = linear(s.n_embd, s.n_head * s.head, bias=False)
        self.k_proj = linear(s.n_embd, s.n_head_kv * s.head, bias=False)
        self.v_proj = linear(s.n_embd, s.n_head_kv * s.head, bias=False)
        self.attn_sub_norm = RMSNorm(s.n_head * s.head, s.eps)
        self.o_proj = linear(s.n_head * s.head, s.n_embd, bias=False)

    def forward(self, h, cos, sin):
        rows, n_tok, _ = h.shape

        def heads(x, n):
            return x.view(rows, n_tok, n, self.d).transpose(1, 2)                # [B,n,T,d]
        q = rotate(heads(self.q_proj(h), self.n_head), cos, sin)
        k = rotate(heads(self.k_proj(h), self.n_head_kv), cos, sin)
        v = heads(self.v_proj(h), self.n_head_kv)
        group = self.n_head // self.n_head_kv                                     # query head i reads key head i / group
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(self.attn_sub_norm(a.transpose(1, 2).reshape(rows, n_tok, -1)))


class FeedForward(nn.Module):
    def __init__(self, s, linear):
        super().__init__()
        self.gate_proj = linear(s.n_embd, s.n_ff, bias=False)
        self.up_proj = linear(s.n_embd, s.n_ff, bias=False)
        self.ffn_sub_norm = RMSNorm(s.n_ff, s.eps)
        self.down_proj = linear(s.n_ff, s.n_embd, bias=False)

    def forward(self, h):
        return self.down_proj(self.ffn_sub_norm(F.relu(self.gate_proj(h)).square() * self.up_proj(h)))


class Layer(nn.Module):
    def __init__(self, s, linear):
        super().__init__()
        self.input_layernorm = RMSNorm(s.n_embd, s.eps)
        self.self_attn = Attention(s, linear)
        self.post_attention_layernorm = RMSNorm(s.n_embd, s.eps)
        self.mlp = FeedForward(s, linear)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class BitNetDecoder(nn.Module):
    """The engine's "bitnet-b1.58", as `rotor train` trains it: pre-norm, rotary positions with halves
    paired, grouped attention, sub-norms before o and down, relu^2(gate) * up, tied head. Parameters
    carry the names of Hugging Face's BitNet checkpoints. full_float: nothing is quantised, for
    comparison."""

    def __init__(self, shape, full_float=False):
        super().__init__()
        self.shape = s = shape
        linear = nn.Linear if full_float else TernaryLinear
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(s.n_vocab, s.n_embd)
        self.model.layers = nn.ModuleList(Layer(s, linear) for _ in range(s.n_layer))
        self.model.norm = RMSNorm(s.n_embd, s.eps)
        pair = torch.arange(s.head // 2, dtype=torch.float64) / (s.head // 2)
        angle = torch.arange(s.n_ctx, dtype=torch.float64)[:, None] * s.rope_base ** -pair
        self.register_buffer("angle", angle, persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 / (2 * s.n_layer) ** 0.5 if last else 0.02)

    def _apply(self, fn, *more):
        """Angles stay in double whatever the parameters become."""
        angle = self.angle
        super()._apply(fn, *more)
        self.angle = angle.to(self.angle.device)
        return self

    def hidden(self, ids):
        """[B,T] to the residual stream before the last norm: a list of what enters each layer, and
        what leaves the last."""
        x = self.model.embed_tokens(ids)
        angle = self.angle[:ids.shape[1]]
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        out = [x]
        for layer in self.model.layers:
            out.append(layer(out[-1], cos, sin))
        return out

    def forward(self, ids, targets=None):
        """Logits [B,T,V]; with targets [B,T] (-100: does not count) the mean loss in nats."""
        x = self.model.norm(self.hidden(ids)[-1])
        logits = F.linear(x, self.model.embed_tokens.weight)
        if targets is None:
            return logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def _in_order(module):
    parameters = dict(module.named_parameters())
    return [parameters[name] for name, _, _ in _files.names(module.shape)]


def flat_parameters(module, gradients=False):
    """Parameters (or gradients) of a BitNetDecoder as one vector, in the order of the C trainer."""
    return torch.cat([(p.grad if gradients else p.detach()).reshape(-1) for p in _in_order(module)])


@torch.no_grad()
def load_flat_parameters(module, flat):
    """The other way round."""
    tensors = _in_order(module)
    if flat.numel() != sum(p.numel() for p in tensors):
        raise ValueError("%d numbers for %d parameters" % (flat.numel(), sum(p.numel() for p in tensors)))
    for p, part in zip(tensors, flat.split([p.numel() for p in tensors])):
        p.copy_(part.view_as(p))


def export(module, path, tokenizer=None, name="ternary", embed="F32"):
    """Writes a BitNetDecoder for Rotor: to PATH.gguf (I2_S), or to a Hugging Face folder (packed
    safetensors). tokenizer: for GGUF another GGUF file, for a folder a tokenizer.json or its folder;
    None: one token a byte. The quantised matrices are exactly the ones the module computes with;
    embed="F16" halves the embedding."""
    shape = module.shape
    arrays = {key: value.detach().to("cpu", torch.float32).numpy() for key, value in module.state_dict().items()}
    if os.fspath(path).endswith(".gguf"):
        _files.write_gguf(path, shape, arrays, tokenizer, name, embed)
    else:
        _files.write_folder(path, shape, arrays, tokenizer, embed)
