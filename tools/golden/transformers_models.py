# SPDX-License-Identifier: MIT
"""Makes tests/data/golden/hf-*: tiny random checkpoints as `transformers` saves them, with the logits `transformers` gives.

usage: transformers_models.py [FOLDER]        (default tests/data/golden)

Made with transformers 5.23.0, torch 2.15.0 (CPU), safetensors of the same environment, numpy 2.4.6, Python 3.11.
Each folder holds config.json and model.safetensors (save_pretrained), tokenizer.json, golden.json (the token ids and the
versions) and logits.npy: float32 [24, vocab], computed in float32 with eager attention. Ternary folders also hold
logits_f32.npy: the same network with the rounding of activations taken out.

How the ternary folders were made, because several releases of transformers load such checkpoints wrongly:
 * weights are packed here with transformers' own pack_weights, and read back by from_pretrained with the published
   quantization_config (linear_class autobitlinear offline and online; no linear_class for the legacy, dividing form);
 * after loading, every projection is compared with the ternary matrix it was made from, and every weight_scale with its
   value; the script stops on a difference. In 5.23.0 there is none, but the tensors that are not quantised (embedding,
   norms, head) keep their stored bfloat16 whatever dtype is asked for, and the first product fails; torch's plain
   Module.float after loading makes everything float32 without changing a value. from_pretrained also wants accelerate
   (1.15.0 was used);
 * torch.compile is switched off (TORCHDYNAMO_DISABLE): the arithmetic is the plain code of integrations/bitnet.py.
 * the ids are those of 400 random lists whose activations stay farthest from a rounding tie (by reference.py), so that
   float32 engines with other summation orders still get the same int8 codes.

Random initial weights of the library are too small to test with (std 0.02: flat attention, equal logits), so all tensors
are drawn again with std ~ 1/sqrt(fan in) and gains away from 1.
"""
import json
import os
import platform
import shutil
import sys

os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import (BitNetConfig, BitNetForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig,  # noqa: E402
                          MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)
from transformers.integrations import bitnet as hf_bitnet  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import make_models  # noqa: E402
import reference  # noqa: E402

N_VOCAB, N_TOK = 320, 24
BASE = {"vocab_size": N_VOCAB, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "bos_token_id": N_VOCAB - 2,
        "eos_token_id": N_VOCAB - 1, "pad_token_id": None}
TERNARY = BASE | {"hidden_size": 128, "intermediate_size": 256}
AUTO = {"quant_method": "bitnet", "linear_class": "autobitlinear"}
THETA5 = {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}

# name: (config class, model class, config, stored dtype, quantization_config or None)
MODELS = {
    "hf-llama-tied": (LlamaConfig, LlamaForCausalLM, BASE | {"tie_word_embeddings": True}, torch.bfloat16, None),
    "hf-llama-headdim": (LlamaConfig, LlamaForCausalLM, BASE | {"head_dim": 24, "tie_word_embeddings": False} | THETA5,
                         torch.float32, None),
    "hf-mistral": (MistralConfig, MistralForCausalLM, BASE | {"sliding_window": None, "tie_word_embeddings": False},
                   torch.float16, None),
    "hf-mistral-window": (MistralConfig, MistralForCausalLM, BASE | {"sliding_window": 7, "tie_word_embeddings": False},
                          torch.bfloat16, None),
    "hf-qwen2": (Qwen2Config, Qwen2ForCausalLM, BASE | {"tie_word_embeddings": True}, torch.bfloat16, None),
    "hf-qwen3": (Qwen3Config, Qwen3ForCausalLM, BASE | {"head_dim": 32, "tie_word_embeddings": False, "rms_norm_eps": 1e-6},
                 torch.bfloat16, None),
    "hf-bitnet-packed": (BitNetConfig, BitNetForCausalLM, TERNARY | {"tie_word_embeddings": True} | THETA5, torch.bfloat16,
                         AUTO | {"quantization_mode": "offline"}),
    "hf-bitnet-online": (BitNetConfig, BitNetForCausalLM, BASE | {"tie_word_embeddings": True} | THETA5, torch.bfloat16,
                         AUTO | {"quantization_mode": "online"}),
    "hf-llama-1.58": (LlamaConfig, LlamaForCausalLM, TERNARY | {"tie_word_embeddings": False, "rms_norm_eps": 1e-6} | THETA5,
                      torch.bfloat16, {"quant_method": "bitnet"}),
}


def draw(name, shape, rng):
    """New values for one tensor, sized so that activations keep their scale."""
    if name.endswith(".bias"):
        return 0.5 * rng.standard_normal(shape)
    if name.endswith("attn_sub_norm.weight") and ".0." in name:
        unit = 0.015
    elif name.endswith("ffn_sub_norm.weight"):
        unit = 1.7
    elif name == "model.norm.weight":
        unit = 0.4
    elif name.endswith(("q_norm.weight", "k_norm.weight")):
        unit = 1.5
    else:
        unit = 0.5
    if len(shape) == 1:
        v = unit * (1 + 0.25 * rng.standard_normal(shape))
        v[rng.random(shape) < 0.06] *= -1
        return v
    if name in ("model.embed_tokens.weight", "lm_head.weight"):
        return 0.6 * rng.standard_normal(shape)
    strength = {"q_proj": 3.0, "k_proj": 3.0, "o_proj": 1.0, "down_proj": 1.0}.get(name.split(".")[-2], 2.0)
    return strength / np.sqrt(shape[1]) * rng.standard_normal(shape)


def redraw(model, rng):
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(draw(name, tuple(p.shape), rng).astype(np.float32)).to(p.dtype))


def pack_projections(folder, divide):
    """Replaces the projections in a saved folder by packed bytes; returns the ternary matrices and scales that went in."""
    path = os.path.join(folder, "model.safetensors")
    tensors, truth = load_file(path), {}
    for name in [n for n in tensors if n.endswith("_proj.weight")]:
        w = tensors[name].float()
        mean = w.abs().mean()
        t = (w / mean).round().clamp(-1, 1)
        scale = (1 / mean if divide else mean).reshape(1).to(torch.bfloat16)
        truth[name.removesuffix(".weight")] = (t.clone(), scale.float())
        tensors[name] = hf_bitnet.pack_weights(t.clone())
        tensors[name + "_scale"] = scale
    save_file(tensors, path, metadata={"format": "pt"})
    return truth


def edit_config(folder, quantization):
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        config = json.load(f)
    config["quantization_config"] = quantization
    with open(path, "w") as f:
        json.dump(config, f, indent=2)


def check_loaded(model, truth):
    """The loader trap: are the weights that will be used the ones that were stored?"""
    for name, (t, scale) in truth.items():
        module = model.get_submodule(name)
        held = module.weight
        if isinstance(module, hf_bitnet.BitLinear):
            held = hf_bitnet.unpack_weights(held, dtype=torch.float32)
        if held.dtype != torch.float32 or not torch.equal(held, t) or not torch.equal(module.weight_scale.float(), scale):
            raise SystemExit(f"{name}: transformers {transformers.__version__} loaded something else than what was stored")
    kinds = {type(m).__name__ for n, m in model.named_modules() if n.endswith("_proj")}
    print(f"    projections: {', '.join(sorted(kinds))}; {len(truth)} checked")


def stable_ids(folder, ternary, rng):
    if not ternary:
        return [N_VOCAB - 2] + rng.integers(0, N_VOCAB - 2, N_TOK - 1).tolist(), 0.5
    m, best = reference.load(folder), ([], -1.0)
    for _ in range(400):
        ids, trace = [N_VOCAB - 2] + rng.integers(0, N_VOCAB - 2, N_TOK - 1).tolist(), {}
        reference.forward(m, ids, "q8", trace)
        best = max(best, (ids, float(reference.tie_distance(trace))), key=lambda b: b[1])
    return best


def run(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def run_unrounded(model, ids):
    """The same modules with both activation quantisers replaced by a scale of one."""
    kept = hf_bitnet.ActQuant.apply, hf_bitnet.BitLinear.activation_quant
    hf_bitnet.ActQuant.apply = staticmethod(lambda x: x)
    hf_bitnet.BitLinear.activation_quant = lambda self, x, num_bits=8: (x, torch.ones_like(x[..., :1]))
    try:
        return run(model, ids)
    finally:
        hf_bitnet.ActQuant.apply, hf_bitnet.BitLinear.activation_quant = kept


def report(folder, ids, logits, act):
    want = reference.forward(reference.load(folder), ids, act)
    err = reference.relative_l2(logits, want)
    print(f"    {act}: logits std {logits.std():.2f}; transformers against the reference: relative L2 error"
          f" median {np.median(err):.1e}, largest {err.max():.1e}")


def make(name, out):
    config_class, model_class, config, dtype, quantization = MODELS[name]
    seed = list(MODELS).index(name) + 1
    rng = np.random.default_rng(seed)
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    model = model_class(config_class(**config)).to(dtype)
    redraw(model, rng)
    model.save_pretrained(folder)
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters")
    truth = {}
    if quantization:
        if quantization.get("quantization_mode") != "online":
            truth = pack_projections(folder, divide="linear_class" not in quantization)
        edit_config(folder, quantization)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(make_models.tokenizer_json(N_VOCAB), f, ensure_ascii=False, separators=(",", ":"))
    loaded = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    torch.nn.Module.float(loaded)                # the model's own .float() refuses quantised models
    check_loaded(loaded, truth)
    ids, tie = stable_ids(folder, bool(quantization), rng)
    outputs = {"q8": "logits.npy"} | ({"f32": "logits_f32.npy"} if quantization else {})
    for act, file in outputs.items():
        logits = (run if act == "q8" else run_unrounded)(loaded, ids)
        np.save(os.path.join(folder, file), logits.astype(np.float32))
        report(folder, ids, logits, act)
    with open(os.path.join(folder, "golden.json"), "w") as f:
        json.dump({"ids": ids, "tie_distance": tie, "made_with": {
            "transformers": transformers.__version__, "torch": torch.__version__, "numpy": np.__version__,
            "python": platform.python_version()}}, f, indent=1)


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "tests", "data", "golden")
    os.makedirs(target, exist_ok=True)
    for model_name in MODELS:
        make(model_name, target)
