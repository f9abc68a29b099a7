# SPDX-License-Identifier: MIT
"""Makes tests/data/golden/enc-*: one tiny random checkpoint per embedding model, with vectors made by `transformers`.

usage: encoder_models.py [FOLDER [NAME...]]        (default tests/data/golden, all)

Made with transformers 5.23.0, torch 2.15.0 (CPU), safetensors 0.8.0, gguf 0.19.0, numpy 2.4.6, Python 3.11.
Each folder holds config.json and model.safetensors in bfloat16 as save_pretrained writes them, the sentence-transformers files
that say how to pool (modules.json, 1_Pooling/config.json; for Gemma 2_Dense and 3_Dense too), golden.json (lists of ids,
versions) and embeddings.npy: float32 [N, E], each row pooled and of length one. enc-bert also holds embeddings_mean.npy, the
mean instead of the first token.

enc-bitnet-qwen3 and enc-bitnet-gemma3 hold model.gguf in the form of the BitNet embedding models: I2_S projections, each with
a norm on its input, embedding and all gains F16, gemma's gains with the one added except those of the input norms; no window
key, one base for all layers. Their vectors come from
the library's Qwen3Model and Gemma3TextModel with every projection replaced by its AutoBitLinear with use_rms_norm;
embeddings_f32.npy is the same with the rounding of activations taken out. The ids of these lie far from rounding ties.
"""
import json
import os
import platform
import shutil
import sys
import tempfile

os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import gguf  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers as tf  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers.integrations import bitnet as hf_bitnet  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import encoders_to_gguf  # noqa: E402
import gguf_mini as g  # noqa: E402
import reference  # noqa: E402
import reference_encoders  # noqa: E402

torch.set_num_threads(1)
N_VOCAB, LENGTHS = 128, (3, 9, 14, 24)
BASE = {"vocab_size": N_VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
DECODER = BASE | {"num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-6}
ROPES = {"full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
         "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
MODELS = {
    "enc-bert": (tf.BertConfig, tf.BertModel, BASE, "cls"),
    "enc-nomic": (tf.NomicBertConfig, tf.NomicBertModel, BASE | {"layer_norm_eps": 1e-5}, "mean"),
    "enc-qwen3": (tf.Qwen3Config, tf.Qwen3Model, DECODER | {"tie_word_embeddings": True}, "last"),
    "enc-gemma": (tf.Gemma3TextConfig, tf.Gemma3TextModel, DECODER | {
        "num_hidden_layers": 7, "intermediate_size": 32, "query_pre_attn_scalar": 16, "sliding_window": 8,
        "use_bidirectional_attention": True, "rope_parameters": ROPES}, "mean"),
}
TERNARY = {"vocab_size": N_VOCAB, "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
           "num_key_value_heads": 1, "head_dim": 64, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "pad_token_id": None,
           "bos_token_id": None, "eos_token_id": None}
BITNET = {
    "enc-bitnet-qwen3": (tf.Qwen3Config, tf.Qwen3Model, TERNARY | {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}),
    "enc-bitnet-gemma3": (tf.Gemma3TextConfig, tf.Gemma3TextModel, TERNARY | {
        "query_pre_attn_scalar": 64, "sliding_window": 512, "rope_parameters": {
            k: {"rope_type": "default", "rope_theta": 10000.0} for k in ROPES}}),
}
PROJECTIONS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
               "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def draw(name, shape, rng, gain_less_one):
    z = rng.standard_normal(shape)
    if name.endswith("bias"):
        return 0.3 * z
    if len(shape) == 1:
        unit = 1.5 if name.endswith(("q_norm.weight", "k_norm.weight")) else 0.8
        return unit * (1 + 0.25 * z) - (1 if gain_less_one and "rms_norm" not in name else 0)
    if "embed" in name:
        return (0.2 if gain_less_one else 0.7) * z
    wide = ("q_proj", "k_proj", "query", "key")
    return (2.5 if name.split(".")[-2] in wide else 1.3) / np.sqrt(shape[-1]) * z


def redraw(model, rng):
    gemma = model.config.model_type.startswith("gemma")
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(draw(name, tuple(p.shape), rng, gemma).astype(np.float32)).to(p.dtype))


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f, indent=1)


def write_modules(folder, how, width, dense):
    """The files of sentence-transformers."""
    kinds = ["Transformer", "Pooling"] + ["Dense"] * len(dense) + ["Normalize"]
    write_json(os.path.join(folder, "modules.json"), [
        {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{k}", "type": f"sentence_transformers.models.{k}"}
        for i, k in enumerate(kinds)])
    write_json(os.path.join(folder, "1_Pooling", "config.json"), {
        "word_embedding_dimension": width, "pooling_mode_cls_token": how == "cls", "pooling_mode_mean_tokens": how == "mean",
        "pooling_mode_max_tokens": False, "pooling_mode_lasttoken": how == "last", "include_prompt": True})
    for i, w in enumerate(dense):
        path = os.path.join(folder, f"{i + 2}_Dense")
        write_json(os.path.join(path, "config.json"), {
            "in_features": w.shape[1], "out_features": w.shape[0], "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity"})
        save_file({"linear.weight": w}, os.path.join(path, "model.safetensors"), metadata={"format": "pt"})


def embed(model, ids, how, dense=()):
    with torch.no_grad():
        h = model(torch.tensor([ids])).last_hidden_state[0].float()
        v = {"mean": h.mean(dim=0), "cls": h[0], "last": h[-1]}[how]
        for w in dense:
            v = torch.nn.functional.linear(v, w.float())
        return torch.nn.functional.normalize(v, dim=0).numpy()


def versions():
    return {"transformers": tf.__version__, "torch": torch.__version__, "numpy": np.__version__,
            "gguf": "0.19.0", "python": platform.python_version()}


def check_gguf(path):
    r = gguf.GGUFReader(path)
    arch = bytes(r.fields["general.architecture"].parts[-1]).decode()
    known = next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == arch)
    patterns = {gguf.TENSOR_NAMES[t] for t in gguf.MODEL_TENSORS[known]}
    for t in r.tensors:
        base = ".".join("{bid}" if part.isdigit() else part for part in t.name.rsplit(".", 1)[0].split("."))
        if base not in patterns:
            print(f"    GGUF: {t.name} is not a name the package lists for {arch}")
    return arch


def make(name, out):
    config_class, model_class, config, how = MODELS[name]
    seed = 200 + list(MODELS).index(name)
    rng, folder = np.random.default_rng(seed), os.path.join(out, name)
    torch.manual_seed(seed)
    shutil.rmtree(folder, ignore_errors=True)
    model = model_class(config_class(**config)).to(torch.bfloat16)
    redraw(model, rng)
    model.save_pretrained(folder)
    dense = []
    if name == "enc-gemma":
        for shape in ((96, 32), (32, 96)):
            dense.append(torch.from_numpy((rng.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32)).to(torch.bfloat16))
    write_modules(folder, how, 32, dense)
    loaded = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    texts = [rng.integers(1, N_VOCAB, n).tolist() for n in LENGTHS]
    text = ""
    for way in {how: 0} | ({"mean": 0} if name == "enc-bert" else {}):
        got = np.stack([embed(loaded, ids, way, dense) for ids in texts])
        np.save(os.path.join(folder, "embeddings.npy" if way == how else f"embeddings_{way}.npy"), got)
        err = reference.relative_l2(got, reference_encoders.vectors(folder, texts, way))
        text += f" {way}: largest error {err.max():.1e}, cosines {(got @ got.T)[np.triu_indices(len(got), 1)].round(2)}"
    write_json(os.path.join(folder, "golden.json"), {"texts": texts, "pooling": how, "made_with": versions()})
    with tempfile.TemporaryDirectory() as tmp:
        encoders_to_gguf.convert(folder, os.path.join(tmp, "m.gguf"))
        print(f"{name}:{text}; GGUF {check_gguf(os.path.join(tmp, 'm.gguf'))}", flush=True)


# ---- the ternary ones -----------------------------------------------------------------------------------------------


def to_bitlinear(model):
    """Every projection becomes the library's ternary module with a norm in front; codes and scale are set here."""
    for name, module in list(model.named_modules()):
        if name.endswith("_proj"):
            w = module.weight.detach()
            a = w.abs().mean()
            b = hf_bitnet.AutoBitLinear(w.shape[1], w.shape[0], bias=False, use_rms_norm=True, rms_norm_eps=1e-6)
            with torch.no_grad():
                b.weight.copy_((w / a).round().clamp(-1, 1))
                b.weight_scale.copy_(a.reshape(1))
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, b)


def vector(p, add=0.0):
    v = p.detach().numpy().astype(np.float64) + add
    return g.Raw(g.F16, v.shape, g.encode(g.F16, v))


def round_gains(model):
    """Gains, with gemma's one added, become values that F16 holds."""
    gemma = model.config.model_type.startswith("gemma")
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                add = 1.0 if gemma and "rms_norm" not in name else 0.0
                p.copy_((p + add).half().float() - add)


def write_bitnet_gguf(path, model, arch):
    c, gemma = model.config, arch == "gemma3"
    theta = c.rope_parameters["full_attention"]["rope_theta"] if gemma else c.rope_parameters["rope_theta"]
    keys = {"vocab_size": c.vocab_size, "context_length": c.max_position_embeddings, "embedding_length": c.hidden_size,
            "block_count": c.num_hidden_layers, "feed_forward_length": c.intermediate_size,
            "attention.head_count": c.num_attention_heads, "attention.head_count_kv": c.num_key_value_heads,
            "attention.key_length": c.head_dim, "attention.value_length": c.head_dim,
            "attention.layer_norm_rms_epsilon": c.rms_norm_eps, "rope.freq_base": float(theta), "pooling_type": 3}
    plus = 1.0 if gemma else 0.0
    emb = model.embed_tokens.weight.detach().numpy()
    out = {"token_embd.weight": g.Raw(g.F16, emb.shape, g.encode(g.F16, emb)), "output_norm.weight": vector(model.norm.weight, plus)}
    norms = {"input_layernorm": "attn_norm", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"} | (
        {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
         "post_feedforward_layernorm": "post_ffw_norm"} if gemma else {"post_attention_layernorm": "ffn_norm"})
    for n, layer in enumerate(model.layers):
        for hf, name in norms.items():
            out[f"blk.{n}.{name}.weight"] = vector(layer.get_submodule(hf).weight, plus)
        for hf, name in PROJECTIONS.items():
            b = layer.get_submodule(hf)
            t, scale = b.weight.detach().numpy().astype(np.int64), float(b.weight_scale[0])
            out[f"blk.{n}.{name}.weight"] = g.Raw(g.I2_S, t.shape, g.encode_i2s(t, scale))
            out[f"blk.{n}.{name}_norm_in.weight"] = vector(b.rms_norm.weight)
    meta = {"general.architecture": arch, "general.file_type": 40, "general.quantization_version": 2}
    g.write_gguf(path, meta | {f"{arch}.{k}": v for k, v in keys.items()}, out)


def stable_texts(net, rng):
    """Per length the list, of 200, whose activations lie farthest from a rounding tie."""
    texts, ties = [], []
    for n in (2, 5, 8):
        best = (-1.0, [])
        for _ in range(200):
            ids, trace = rng.integers(0, N_VOCAB, n).tolist(), {}
            reference_encoders.bitnet_vectors(net, [ids], "q8", trace)
            best = max(best, (float(reference.tie_distance(trace)), ids))
        ties.append(best[0])
        texts.append(best[1])
    return texts, min(ties)


def make_bitnet(name, out):
    config_class, model_class, config = BITNET[name]
    seed = 300 + list(BITNET).index(name)
    rng, folder = np.random.default_rng(seed), os.path.join(out, name)
    torch.manual_seed(seed)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    model = model_class._from_config(config_class(**config), attn_implementation="eager", dtype=torch.float32).eval()
    redraw(model, rng)
    to_bitlinear(model)
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "rms_norm" in n:
                p.copy_(torch.from_numpy(draw(n, tuple(p.shape), rng, False).astype(np.float32)))
        emb = model.embed_tokens.weight
        emb.copy_(emb.half().float())
    round_gains(model)
    path = os.path.join(folder, "model.gguf")
    write_bitnet_gguf(path, model, name.removeprefix("enc-bitnet-"))
    net = reference_encoders.load_bitnet(path)
    texts, tie = stable_texts(net, rng)
    got = np.stack([embed(model, ids, "last") for ids in texts])
    kept, hf_bitnet.ActQuant.apply = hf_bitnet.ActQuant.apply, staticmethod(lambda x: x)
    plain = np.stack([embed(model, ids, "last") for ids in texts])
    hf_bitnet.ActQuant.apply = kept
    np.save(os.path.join(folder, "embeddings.npy"), got)
    np.save(os.path.join(folder, "embeddings_f32.npy"), plain)
    write_json(os.path.join(folder, "golden.json"), {
        "texts": texts, "pooling": "last", "tie_distance": tie, "made_with": versions()})
    err = [reference.relative_l2(a, reference_encoders.bitnet_vectors(net, texts, act)).max()
           for a, act in ((got, "q8"), (plain, "f32"))]
    print(f"{name}: largest error q8 {err[0]:.1e}, f32 {err[1]:.1e}, between them {reference.relative_l2(got, plain).max():.1e},"
          f" tie distance {tie:.1e}, cosines {(got @ got.T)[np.triu_indices(len(got), 1)].round(2)}", flush=True)


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "tests", "data", "golden")
    for model_name in sys.argv[2:] or [*MODELS, *BITNET]:
        (make if model_name in MODELS else make_bitnet)(model_name, target)
