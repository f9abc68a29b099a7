# SPDX-License-Identifier: MIT
"""rotor.torch against the library and the program. Without PyTorch these are skipped; what the bridge
computes is held by golden files in tests/unit/train and by test_files.py all the same."""
import ctypes
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no torch")
import rotor  # noqa: E402
from rotor import _files  # noqa: E402
from rotor._library import lib  # noqa: E402
from rotor.torch import (BitNetDecoder, Shape, TernaryLinear, absmax_int8, absmean, convert_to_ternary, export,  # noqa: E402
                         flat_parameters, load_flat_parameters)

SHAPE = Shape(n_vocab=260, n_embd=64, n_layer=2, n_head=4, n_head_kv=2, n_ff=96, n_ctx=128, d_head=32)


def decoder(seed=1, **more):
    torch.manual_seed(seed)
    model = BitNetDecoder(SHAPE, **more)
    for p in model.parameters():
        torch.nn.init.normal_(p, 0.0 if p.dim() == 2 else 1.0, 0.3)
    return model


def library(name, x, *out):
    """Calls a quantiser of rotor_ternary.h."""
    function = getattr(lib, name)
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    x, q = np.ascontiguousarray(x, np.float32), np.empty(x.size, np.int8)
    return q, function(x.ctypes.data, x.size, q.ctypes.data)


def ties(n, unit):
    """Values of which many lie exactly half way between two codes."""
    return unit * np.random.default_rng(3).integers(-254, 255, n).astype(np.float32) / 2


@pytest.mark.parametrize("kind", ["normal", "tiny", "zero", "ties"])
def test_codes_are_the_librarys(kind):
    rng = np.random.default_rng(1)
    x = {"normal": rng.standard_normal(4099), "tiny": 1e-7 * rng.standard_normal(300), "zero": np.zeros(64),
         "ties": np.concatenate([[127.0], ties(999, 1.0)])}[kind].astype(np.float32)
    q, s = absmax_int8(torch.from_numpy(x))
    want, step = library("rotor_ternary_int8", x)
    assert np.array_equal(q.numpy(), want) and abs(float(s) * step - 1) < 1e-6
    if kind == "ties":      # mean 1 exactly, halves in plenty: 1.5 s and 0.5 s
        x = np.array([1.5, -0.5] * 500, np.float32)
    t, a = absmean(torch.from_numpy(x))
    want, scale = library("rotor_ternary_absmean", x)
    assert np.array_equal(t.numpy(), want) and float(a) == scale
    mine, scale = _files.absmean(x)
    assert np.array_equal(mine, want) and scale == float(a)


def test_half_of_the_mean_is_zero_and_half_codes_round_to_even():
    t, a = absmean(torch.tensor([1.5, -0.5, -1.5, 0.5]))
    assert t.tolist() == [1, 0, -1, 0] and float(a) == 1
    q, _ = absmax_int8(torch.tensor([127.0, 0.5, 1.5, -2.5, -126.5]))
    assert q.tolist() == [127, 0, 2, -2, -126]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_and_its_gradients(dtype):
    """Against the plain way to write it: roundings whose gradient is cut out of the graph."""
    torch.manual_seed(2)
    layer = TernaryLinear(48, 20).to(dtype)
    x = torch.randn(3, 5, 48, dtype=dtype, requires_grad=True)
    y = layer(x)
    dy = torch.randn_like(y)
    dx, dw = torch.autograd.grad(y, (x, layer.weight), dy)
    a = layer.weight.abs().mean().clamp_min(1e-5)
    wq = layer.weight + ((layer.weight / a).round().clamp(-1, 1) * a - layer.weight).detach()
    s = 127 / x.abs().amax(-1, keepdim=True).clamp_min(1e-5)
    xq = x + ((x * s).round().clamp(-128, 127) / s - x).detach()
    z = xq @ wq.t()
    ex, ew = torch.autograd.grad(z, (x, layer.weight), dy)
    bound = 1e-5 if dtype == torch.float32 else 1e-13
    for got, want in ((y, z), (dx, ex), (dw, ew)):
        assert (got - want).abs().max() <= bound * want.abs().max()


def test_a_layer_is_exact():
    """The integer product in any order: the rows of a batch alone, and in numpy."""
    torch.manual_seed(4)
    layer, x = TernaryLinear(1000, 30), torch.randn(7, 1000)
    y = layer(x)
    assert torch.equal(y, torch.cat([layer(row[None]) for row in x]))
    (q, s), (t, a) = absmax_int8(x), layer.ternary()
    sums = q.numpy().astype(np.int64) @ t.numpy().astype(np.int64).T
    assert np.array_equal(y.detach().numpy(), sums.astype(np.float32) * (np.float32(a) / s.numpy()))


def test_convert_to_ternary():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16, bias=False))
            self.head = torch.nn.Linear(16, 4)
    net = Net()
    before = dict(net.named_parameters())
    assert convert_to_ternary(net, skip=("head",)) is net
    assert [type(m) for m in (net.body[0], net.body[2], net.head)] == [TernaryLinear, TernaryLinear, torch.nn.Linear]
    assert all(p is before[name] for name, p in net.named_parameters())
    net.body(torch.randn(3, 8)).sum().backward()
    assert net.body[0].weight.grad.abs().sum() > 0 and net.body[0].bias.grad is not None
    assert type(convert_to_ternary(torch.nn.Linear(4, 4))) is TernaryLinear


def test_a_converted_twin_is_the_decoder():
    twin, ids = decoder(full_float=True), torch.randint(0, 260, (2, 9))
    model = decoder()
    assert not torch.allclose(twin(ids), model(ids))
    assert torch.equal(convert_to_ternary(twin)(ids), model(ids))


def test_half_precision_and_autocast():
    layer, x = TernaryLinear(64, 8), torch.randn(5, 64)
    y = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), y)
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert (layer(x.bfloat16()).float() - y).abs().max() < 0.05 * y.abs().max()


@pytest.mark.parametrize("form", ["m.gguf", "folder"])
@pytest.mark.parametrize("embed", ["F32", "F16"])
def test_an_export_gives_the_modules_logits(form, embed, tmp_path, rotor_program):
    model, n_tok = decoder(), 60
    with torch.no_grad():
        if embed == "F16":
            weight = model.model.embed_tokens.weight
            weight.copy_(weight.half())
        ids = torch.randint(0, SHAPE.n_vocab, (1, n_tok), generator=torch.Generator().manual_seed(8))
        want = model(ids)[0].numpy()
    path = tmp_path / form
    export(model, path, embed=embed)
    rotor_program("logits", path, "--tokens", ",".join(map(str, ids[0].tolist())), "--all", "-o", tmp_path / "l.npy",
                  "--kv", "f32", "--head", "file")
    got = np.load(tmp_path / "l.npy")
    far = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
    assert np.median(far) <= 1e-3 and np.linalg.norm(got - want) <= 5e-2 * np.linalg.norm(want)   # docs/numerics.md
    assert far[0] < 1e-5
    with rotor.Engine(path) as engine:
        assert engine.detokenize(engine.tokenize("naïve")) == "naïve"


def test_export_copies_a_vocabulary(tmp_path, story):
    shape = Shape(n_vocab=512, n_embd=64, n_layer=1, n_head=2, n_head_kv=1, n_ff=64, n_ctx=64)
    export(BitNetDecoder(shape), tmp_path / "m.gguf", tokenizer=story)
    with rotor.Engine(tmp_path / "m.gguf") as engine, rotor.Engine(story) as other:
        assert engine.tokenize("Lily", bos=True) == other.tokenize("Lily", bos=True)


def test_export_refuses_what_it_cannot_hold(tmp_path):
    odd = Shape(n_vocab=260, n_embd=36, n_layer=1, n_head=3, n_head_kv=1, n_ff=20, n_ctx=16)
    with pytest.raises(ValueError, match="multiple"):
        export(BitNetDecoder(odd), tmp_path / "m.gguf")
    export(BitNetDecoder(odd), tmp_path / "folder")
    rotor.Engine(tmp_path / "folder").close()
    small = Shape(n_vocab=100, n_embd=64, n_layer=1, n_head=2, n_head_kv=1, n_ff=64, n_ctx=16)
    with pytest.raises(ValueError, match="name a tokenizer"):
        export(BitNetDecoder(small), tmp_path / "m.gguf")
    broken = decoder()
    with torch.no_grad():
        broken.model.norm.weight[0] = math.nan
    with pytest.raises(ValueError, match="not a number"):
        export(broken, tmp_path / "m.gguf")


def test_flat_parameters_go_round():
    model, other = decoder(1), decoder(2)
    load_flat_parameters(other, flat_parameters(model))
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(ids), other(ids))
    with pytest.raises(ValueError):
        load_flat_parameters(model, torch.zeros(3))


def test_a_decoder_learns_a_pattern():
    torch.manual_seed(1)
    shape = Shape(n_vocab=32, n_embd=32, n_layer=2, n_head=4, n_head_kv=2, n_ff=64, n_ctx=32)
    model = BitNetDecoder(shape)
    ids = (torch.arange(33) * 7 + torch.arange(4)[:, None]) % 32
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    losses = []
    for _ in range(60):
        loss = model(ids[:, :-1], ids[:, 1:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert abs(losses[0] - math.log(32)) < 0.1 and losses[-1] < 0.5


def test_the_training_example(source_root, tmp_path):
    import runpy
    text = (source_root / "README.md").read_text()
    (tmp_path / "text").write_text(text * 3)
    example = runpy.run_path(str(source_root / "examples" / "torch_ternary" / "train.py"))
    losses, far = example["main"]([str(tmp_path / "text"), "-o", str(tmp_path / "m.gguf"), "--steps", "30", "--layers", "1",
                                   "--embd", "64", "--ff", "128", "--ctx", "64"])
    assert abs(losses[0] - math.log(258)) < 0.2 and losses[-1] < losses[0] - 1
    assert np.median(far) <= 1e-3
