# SPDX-License-Identifier: MIT
"""The reference and its file reader against published examples and against themselves. Runs without the program."""
import os

import numpy as np
import pytest

import gguf_mini as g
import hf_to_gguf
import make_models
import reference

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")

# The example of 256 codes used to describe the ternary layouts.
EXAMPLE = np.array([(i * i + i // 5) % 3 for i in range(256)]).reshape(1, 256) - 1
I2S_X86 = "154a562958a462908840210184051215"
I2S_ARM = "14514619669a69a49042082080010514"
TQ2 = "54a19568251a890622014840125084 54".replace(" ", "")
TQ1 = ("2c70825087ee95c8bf573d05b70e252c70825087ee95c8bf573d05b70e252c70"
       "1339ac050d27786735a1e2a5eeca5c13" "36987239")


def test_layouts_match_the_published_example():
    assert g.encode_i2s(EXAMPLE, 1.0)[:16].hex() == I2S_X86
    assert g.encode_i2s(EXAMPLE, 1.0, "arm")[:16].hex() == I2S_ARM
    assert g.encode_tq2(EXAMPLE, 1.0)[:16].hex() == TQ2
    assert g.encode_tq1(EXAMPLE, 1.0)[:52].hex() == TQ1
    packed = np.array([[0xA1, 0x18], [0x90, 0x0A]], np.uint8)
    assert reference.unpack_rows(packed).tolist() == [[0, -1], [-1, 1], [-1, 1], [-1, 1], [1, 0], [0, -1], [1, -1], [1, -1]]


@pytest.mark.parametrize("order", ["x86", "arm", "4row"])
def test_i2s_round_trip(order):
    t = np.random.default_rng(1).integers(-1, 2, (16, 96))
    back, scale = g.decode_i2s(g.encode_i2s(t, 0.75, order), 16, 96, order)
    assert (back == t).all() and scale == 0.75


def test_ternary_round_trip():
    t = np.random.default_rng(2).integers(-1, 2, (4, 512))
    for encode, decode in ((g.encode_tq1, g.decode_tq1), (g.encode_tq2, g.decode_tq2)):
        back, scale = decode(encode(t, 0.5), 4, 512)
        assert (back == t).all() and (scale == 0.5).all()
    assert (reference.unpack_rows(make_models.pack_rows(t)) == t).all()


def test_activation_rounding():
    scaled, unit = reference.quantise_token(np.array([[127.0, 0.5, 1.5, 2.5, -0.5, -126.5], [1e-7, 0, 0, 0, 0, -1e-6]]))
    assert np.rint(scaled[0]).tolist() == [127, 0, 2, 2, 0, -126] and unit[0] == 1
    assert unit[1] == pytest.approx(1e-5 / 127) and np.rint(scaled[1]).tolist() == [1, 0, 0, 0, 0, -13]
    scaled, unit = reference.quantise_blocks(np.concatenate([np.zeros((1, 32)), np.full((1, 32), -2.0)], axis=1))
    assert unit[0].tolist() == [0, float(np.float32(2 / 127))] and (scaled[0] == [[0] * 32, [-127] * 32]).all()


def test_models_are_the_same_bytes_every_time(tmp_path):
    for name in ("bitnet-25-tq2.gguf", "hf-bitnet-packed"):
        spec = next(s for s in make_models.SPECS if s.name == name)
        first = read_all(make_models.write(spec, tmp_path))
        assert read_all(make_models.write(spec, tmp_path)) == first


def read_all(path):
    files = [path] if os.path.isfile(path) else [os.path.join(path, n) for n in sorted(os.listdir(path))]
    out = []
    for name in files:
        with open(name, "rb") as f:
            out.append(f.read())
    return out


@pytest.mark.parametrize("name", ["hf-llama-bf16", "hf-llama-f32", "hf-llama-1.58"])
def test_folder_and_gguf_agree(name, tmp_path):
    """Half-split rotation of a folder equals pairwise rotation of the permuted GGUF (unrounded: the GGUF's f32 scale and eps
    differ from the folder's in the eighth digit, enough to turn an int8 code over)."""
    spec = next(s for s in make_models.SPECS if s.name == name)
    folder, path = make_models.write(spec, tmp_path), str(tmp_path / "m.gguf")
    hf_to_gguf.convert(folder, path)
    ids = list(range(3, 60, 4))
    a, b = reference.forward(reference.load(folder), ids, "f32"), reference.forward(reference.load(path), ids, "f32")
    assert reference.relative_l2(b, a).max() < 1e-6
    assert reference.relative_l2(b[5:], a[:-5]).max() > 1e-2


@pytest.mark.parametrize("mistake", ["rope", "activation", "sub_norm", "theta", "window", "head"])
def test_bounds_catch_mistakes(mistake, tmp_path):
    """The comparison must refuse the classic errors, in the wide mode too."""
    spec = next(s for s in make_models.SPECS if s.name == "bitnet-25-tq2.gguf")
    path = make_models.write(spec, tmp_path)
    right, wrong = reference.load(path), reference.load(path)
    if mistake == "rope":
        wrong.rope = "pairs"
    elif mistake == "activation":
        wrong.activation = "silu"
    elif mistake == "sub_norm":
        for layer in wrong.layers:
            del layer["attn_sub_norm"]
    elif mistake == "theta":
        wrong.theta = 10000.0
    elif mistake == "window":
        wrong.window = 16
    else:
        wrong.head = wrong.embed
    ids = np.random.default_rng(3).integers(0, spec.n_vocab, 40)
    for act in ("q8", "f32"):
        assert reference.compare(reference.forward(wrong, ids, act), reference.forward(right, ids, act), act)


def test_bundled_model_tells_its_story():
    path = os.path.join(ROOT, "tests", "data", "model", "stories260K.gguf")
    model, (meta, _) = reference.load(path), g.read_gguf(path)
    ids = [meta["tokenizer.ggml.bos_token_id"]]
    for _ in range(44):
        ids.append(int(reference.forward(model, ids)[-1].argmax()))
    text = "".join(meta["tokenizer.ggml.tokens"][i] for i in ids[1:]).replace("\u2581", " ")
    assert text.startswith(" Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day")
