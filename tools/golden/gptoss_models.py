# SPDX-License-Identifier: MIT
"""Makes tests/data/golden/gptoss-*: tiny random gpt-oss checkpoints with the logits and experts that `transformers` gives.

usage: gptoss_models.py [FOLDER [NAME...]]        (default tests/data/golden, all)

gptoss-gguf comes with gptoss-mxfp4.
Made with transformers 5.23.0, torch 2.15.0 (CPU), safetensors 0.8.0, gguf 0.19.0, numpy 2.4.6, Python 3.11.

 gptoss-mxfp4   4 layers, 8 experts; experts as *_blocks and *_scales, config.json in the form of the published checkpoint
                (rope_scaling, rope_theta, quantization_config); YaRN bounds not rounded.
 gptoss-dense   2 layers, 6 experts; experts in bfloat16 as save_pretrained writes them ([N, in, 2F], gate and up interleaved); YaRN
                bounds rounded (truncate true), config.json as this release of transformers writes it.
 gptoss-gguf    the weights of gptoss-mxfp4 in the ggml-org form, written by the gguf package: the same MXFP4 codes, attention,
                embedding and head as Q8_0, the rest F32. Its logits are of the decoded Q8_0 values.

Beside each: golden.json (ids, versions, distances), logits.npy float32 [T, V] in float32 with eager attention, and experts.npy
uint8 [layers, T, used], strongest first. The ids are grown token by token, each time the one of 12 candidates whose experts
are chosen by the widest margin (by reference_gptoss.py): an engine that rounds activations still chooses the same ones, and
a difference in the logits then has one meaning.
"""
import json
import os
import platform
import shutil
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import gguf  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import GptOssConfig, GptOssForCausalLM  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import gguf_mini as g  # noqa: E402
import reference  # noqa: E402
import reference_gptoss  # noqa: E402

torch.set_num_threads(1)
N_TOK, N_CANDIDATES = 44, 12
YARN = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": 4096}
BASE = {"vocab_size": 192, "hidden_size": 64, "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 32, "num_local_experts": 8, "num_experts_per_tok": 4, "sliding_window": 8, "max_position_embeddings": 131072,
        "tie_word_embeddings": False, "bos_token_id": 188, "eos_token_id": 190, "pad_token_id": 189}


def draw(name, shape, rng):
    """Sized so that clamps, sinks and biases all have work to do and no choice of experts dominates."""
    z = rng.standard_normal(shape)
    if name.endswith("sinks"):
        return 0.5 + 1.5 * z
    if name.endswith("gate_up_proj_bias"):
        return 1.0 * z
    if name.endswith(("bias", "down_proj_bias")):
        return 0.4 * z
    if len(shape) == 1:
        return 0.9 * (1 + 0.25 * z)
    if name.endswith(("embed_tokens.weight", "lm_head.weight")):
        return 0.6 * z
    if name.endswith("gate_up_proj"):
        return 4.0 / np.sqrt(shape[1]) * z
    if name.endswith("down_proj"):
        return 0.15 / np.sqrt(shape[1]) * z
    strength = {"q_proj": 1.6, "k_proj": 1.6, "router": 1.2}.get(name.split(".")[-2], 1.0)
    return strength / np.sqrt(shape[1]) * z


def redraw(model, rng):
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(draw(name, tuple(p.shape), rng).astype(np.float32)).to(p.dtype))


def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w") as f:
        json.dump(value, f, indent=1)


def published_form(folder):
    """Experts to blocks and scales, and the configuration as the checkpoint of 2025 has it."""
    path = os.path.join(folder, "model.safetensors")
    tensors = load_file(path)
    for name in [n for n in tensors if n.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        codes, e = g.mxfp4_codes(tensors.pop(name).float().numpy().swapaxes(1, 2))
        blocks = codes[..., 0::2] | codes[..., 1::2] << 4
        tensors[name + "_blocks"] = torch.from_numpy(np.ascontiguousarray(blocks.reshape(*e.shape, 16)))
        tensors[name + "_scales"] = torch.from_numpy(np.ascontiguousarray(e))
    save_file(tensors, path, metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json")) as f:
        c = json.load(f)
    for key in ("rope_parameters", "transformers_version", "dtype", "swiglu_alpha"):
        c.pop(key, None)
    c |= {"rope_scaling": YARN | {"truncate": False}, "rope_theta": 150000, "initial_context_length": 4096,
          "experts_per_token": c["num_experts_per_tok"], "torch_dtype": "bfloat16", "quantization_config": {
              "quant_method": "mxfp4", "modules_to_not_convert": [
                  "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}}
    write_json(folder, "config.json", c)


def grow_ids(m, rng):
    ids, gaps = [188], []
    while len(ids) < N_TOK:
        best = (-1.0, 0)
        for t in rng.choice(180, N_CANDIDATES, replace=False).tolist():
            trace = {}
            reference_gptoss.forward(m, ids + [t], trace)
            best = max(best, (min(v[-1] for k, v in trace.items() if k.endswith(".gap")), t))
        gaps.append(best[0])
        ids.append(best[1])
    return ids


def run(model, ids):
    """-> logits [T, V], experts [layers, T, used]."""
    seen = []
    hooks = [layer.mlp.router.register_forward_hook(lambda mod, args, out: seen.append(out[2].numpy()))
             for layer in model.model.layers]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float().numpy()
    for h in hooks:
        h.remove()
    return logits, np.stack(seen)


def finish(folder, path, model, ids):
    """Golden files of one model, and how far the two references are apart."""
    logits, experts = run(model, ids)
    trace = {}
    want = reference_gptoss.forward(reference_gptoss.load(path), ids, trace)
    if not (experts == reference_gptoss.chosen(trace)).all():
        raise SystemExit(f"{folder}: the references choose other experts")
    err = reference.relative_l2(logits, want)
    gap = min(v.min() for k, v in trace.items() if k.endswith(".gap"))
    np.save(os.path.join(folder, "logits.npy"), logits)
    np.save(os.path.join(folder, "experts.npy"), experts.astype(np.uint8))
    write_json(folder, "golden.json", {"ids": ids, "smallest_router_gap": float(gap), "made_with": {
        "transformers": transformers.__version__, "torch": torch.__version__, "numpy": np.__version__, "gguf": "0.19.0",
        "python": platform.python_version()}})
    top = np.sort(logits, axis=-1)
    print(f"{os.path.basename(folder)}: logits std {logits.std():.2f}, error median {np.median(err):.1e} largest {err.max():.1e};"
          f" router gap {gap:.3f}; sure positions {(top[:, -1] - top[:, -2] > 0.3 * logits.std(-1)).sum()}/{len(ids)}")
    for n in range(len(model.model.layers)):
        lost, clipped = trace[f"l{n}.lost"], trace[f"l{n}.clipped"]
        print(f"    layer {n}: sinks take {lost.min():.2f}..{lost.max():.2f}, mean {lost.mean():.2f}; clamped gate {clipped[0]:.3f}"
              f" up {clipped[1]:.3f}; experts used {len(np.unique(experts[n]))}; residual std {trace[f'l{n}.out'].std():.2f}")


def reload(folder):
    """The folder in float32 with eager attention; the experts that were loaded must be those that were stored."""
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        c = json.load(f)
    extra = {}
    if "quantization_config" in c:
        extra["quantization_config"] = transformers.Mxfp4Config(dequantize=True)
    model = GptOssForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                              experts_implementation="eager", **extra).eval()
    torch.nn.Module.float(model)
    m = reference_gptoss.load_hf(folder)
    for n, layer in enumerate(model.model.layers):
        e, mine = layer.mlp.experts, m.layers[n]
        both = e.gate_up_proj
        for got, want in ((both[..., ::2], mine["gate"]), (both[..., 1::2], mine["up"]), (e.down_proj, mine["down"])):
            if not np.array_equal(got.detach().numpy().swapaxes(1, 2), want.astype(np.float32)):
                raise SystemExit(f"{folder}: transformers loaded other experts than were stored")
    return model


def make_folder(folder, seed, shape, truncate, mxfp4):
    rng = np.random.default_rng(seed)
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    config = GptOssConfig(**BASE | shape,
                          rope_parameters=YARN | {"rope_theta": 150000.0, "truncate": truncate})
    model = GptOssForCausalLM(config).to(torch.bfloat16)
    redraw(model, rng)
    model.save_pretrained(folder)
    if mxfp4:
        published_form(folder)
    model = reload(folder)
    ids = grow_ids(reference_gptoss.load(folder), rng)
    finish(folder, folder, model, ids)
    return model, ids


# ---- the GGUF form --------------------------------------------------------------------------------------------------

MX, Q8 = gguf.GGMLQuantizationType.MXFP4, gguf.GGMLQuantizationType.Q8_0


def gguf_keys(w, c):
    w.add_file_type(38)
    w.add_quantization_version(2)
    w.add_block_count(c.num_hidden_layers)
    w.add_vocab_size(c.vocab_size)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_expert_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_sliding_window(c.sliding_window)
    w.add_expert_count(c.num_local_experts)
    w.add_expert_used_count(c.num_experts_per_tok)
    w.add_rope_freq_base(150000.0)
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(32.0)
    w.add_rope_scaling_orig_ctx_len(4096)


def write_gguf(path, model, folder):
    """-> the model with its Q8_0 matrices replaced by their decoded values."""
    w = gguf.GGUFWriter(path, "gpt-oss")
    gguf_keys(w, model.config)
    st = load_file(os.path.join(folder, "model.safetensors"))
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    for n in range(model.config.num_hidden_layers):
        for hf, gg in {"input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
                       "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
                       "self_attn.o_proj": "attn_output", "mlp.router": "ffn_gate_inp"}.items():
            for kind in ("weight", "bias"):
                names[f"model.layers.{n}.{hf}.{kind}"] = f"blk.{n}.{gg}.{kind}"
        names[f"model.layers.{n}.self_attn.sinks"] = f"blk.{n}.attn_sinks.weight"
    params = dict(model.named_parameters())
    for hf, name in names.items():
        if hf not in params:
            continue
        value = params[hf].detach().numpy()
        if value.ndim == 2 and "router" not in hf:
            packed = gguf.quants.quantize(value, Q8)
            with torch.no_grad():
                params[hf].copy_(torch.from_numpy(gguf.quants.dequantize(packed, Q8)))
            w.add_tensor(name, packed, raw_dtype=Q8)
        else:
            w.add_tensor(name, value.astype(np.float32))
    for n in range(model.config.num_hidden_layers):
        e = f"model.layers.{n}.mlp.experts."
        for role, proj, rows in (("gate", "gate_up_proj", slice(0, None, 2)), ("up", "gate_up_proj", slice(1, None, 2)),
                                 ("down", "down_proj", slice(None))):
            blocks, scales = st[f"{e}{proj}_blocks"].numpy()[:, rows], st[f"{e}{proj}_scales"].numpy()[:, rows]
            codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:2], -1)
            packed = np.frombuffer(g.encode_mxfp4(codes, scales), np.uint8).reshape(*codes.shape[:2], -1)
            if not np.array_equal(gguf.quants.dequantize(packed, MX), g.mxfp4_values(codes, scales).astype(np.float32)):
                raise SystemExit("the gguf package reads these MXFP4 blocks differently")
            w.add_tensor(f"blk.{n}.ffn_{role}_exps.weight", packed, raw_dtype=MX)
            w.add_tensor(f"blk.{n}.ffn_{role}_exps.bias", st[f"{e}{proj}_bias"].float().numpy()[:, rows].copy())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return model


SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_local_experts": 6}


def main(out, names):
    if "gptoss-dense" in names:
        make_folder(os.path.join(out, "gptoss-dense"), 2, SMALL, truncate=True, mxfp4=False)
    if "gptoss-mxfp4" not in names:
        return
    folder = os.path.join(out, "gptoss-mxfp4")
    model, ids = make_folder(folder, 1, {"num_hidden_layers": 4}, truncate=False, mxfp4=True)
    as_gguf = os.path.join(out, "gptoss-gguf")
    shutil.rmtree(as_gguf, ignore_errors=True)
    os.makedirs(as_gguf)
    path = os.path.join(as_gguf, "model.gguf")
    finish(as_gguf, path, write_gguf(path, model, folder), ids)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "tests", "data", "golden"),
         sys.argv[2:] or ["gptoss-dense", "gptoss-mxfp4"])
