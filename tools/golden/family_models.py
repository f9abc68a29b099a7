# SPDX-License-Identifier: MIT
"""Makes tests/data/golden/fam-*: one tiny random checkpoint per decoder family, with the logits `transformers` gives.

usage: family_models.py [FOLDER [NAME...]]        (default tests/data/golden, all)

Made with transformers 5.23.0, torch 2.15.0 (CPU), safetensors 0.8.0, gguf 0.19.0, numpy 2.4.6, Python 3.11.
Each folder holds config.json and model.safetensors in bfloat16 as save_pretrained writes them, golden.json (ids, versions)
and logits.npy: float32 [T, V] in float32 with eager attention. Folders of mixtures also hold experts.npy, uint8
[layers, T, used]. "variants" are other configurations of the same weights: config_NAME.json and logits_NAME.npy; for
longrope, which depends on the length, also logits_short.npy, of the first "n_short" ids alone.
No tokenizer: these checkpoints are fed with ids. Sequences are longer than four windows.

The GGUF forms are made by tests/golden/families_to_gguf.py when the tests run; this script checks each once with the gguf
package: it reads the file, and knows every tensor name for the architecture.
All weights are drawn anew (see draw): the library's initial ones give flat attention and equal logits.
"""
import json
import os
import platform
import shutil
import sys
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import gguf  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers as tf  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import families_to_gguf  # noqa: E402
import reference  # noqa: E402
import reference_families  # noqa: E402

torch.set_num_threads(1)
N_VOCAB, N_TOK = 128, 24
IDS = {"bos_token_id": 126, "eos_token_id": 127, "pad_token_id": None}
BASE = {"vocab_size": N_VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256} | IDS
TWO = BASE | {"num_attention_heads": 2, "num_key_value_heads": 1}           # heads of 16 where the width fixes their size
MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0}
GEMMA = BASE | {"head_dim": 16, "query_pre_attn_scalar": 16, "rms_norm_eps": 1e-6, "sliding_window": 5}
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 16,
        "short_factor": [1.0, 1.02, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [1.0, 1.3, 1.9, 2.8, 4.1, 6.0, 9.0, 13.0]}

# name: (config class, model class, config[, variant: what its config.json has instead])
MODELS = {
    "fam-llama3-rope": (tf.LlamaConfig, tf.LlamaForCausalLM, BASE | {"head_dim": 16, "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}, "max_position_embeddings": 512}, {
            "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
            "yarn": {"rope_parameters": YARN},
            "yarn_exact": {"rope_parameters": YARN | {"truncate": False, "beta_fast": 16.0, "beta_slow": 2.0}}}),
    "fam-qwen2-yarn": (tf.Qwen2Config, tf.Qwen2ForCausalLM, TWO | {"rope_parameters": YARN | {"rope_theta": 1000000.0}}),
    "fam-qwen2moe": (tf.Qwen2MoeConfig, tf.Qwen2MoeForCausalLM, TWO | MOE | {
        "shared_expert_intermediate_size": 64, "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": []}),
    "fam-qwen3moe": (tf.Qwen3MoeConfig, tf.Qwen3MoeForCausalLM, BASE | MOE | {
        "head_dim": 16, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}),
    "fam-gemma2": (tf.Gemma2Config, tf.Gemma2ForCausalLM, GEMMA | {
        "num_hidden_layers": 4, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0}),
    "fam-gemma3": (tf.Gemma3TextConfig, tf.Gemma3ForCausalLM, GEMMA | {
        "num_hidden_layers": 7, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}}),
    "fam-phi3": (tf.Phi3Config, tf.Phi3ForCausalLM, TWO | {"sliding_window": 9, "original_max_position_embeddings": 256}, {
        "longrope": {"rope_parameters": LONG, "original_max_position_embeddings": 16, "max_position_embeddings": 128,
                     "sliding_window": None}}),
    "fam-smollm3": (tf.SmolLM3Config, tf.SmolLM3ForCausalLM, TWO | {
        "num_hidden_layers": 4, "intermediate_size": 32, "tie_word_embeddings": True}),
    "fam-starcoder2": (tf.Starcoder2Config, tf.Starcoder2ForCausalLM, TWO | {"norm_epsilon": 1e-5}),
    "fam-gpt2": (tf.GPT2Config, tf.GPT2LMHeadModel, {
        "vocab_size": N_VOCAB, "n_embd": 32, "n_head": 2, "n_layer": 2, "n_positions": 64} | IDS),
}


def draw(name, shape, rng, gain_less_one):
    """Sized so that activations keep their scale and attention is far from flat."""
    z = rng.standard_normal(shape)
    if name.endswith(".bias"):
        return 0.3 * z
    if len(shape) == 1:
        unit = 1.5 if name.endswith(("q_norm.weight", "k_norm.weight")) else 0.7
        return unit * (1 + 0.25 * z) - (1 if gain_less_one else 0)
    if name.endswith(("embed_tokens.weight", "wte.weight")):
        return (0.2 if gain_less_one else 0.6) * z
    if name.endswith("wpe.weight"):
        return 0.4 * z
    if name.endswith("lm_head.weight"):
        return 0.6 * z
    if "c_attn" in name or ".h." in name:           # [in, out]
        return {"c_attn": 2.0, "c_fc": 2.0}.get(name.split(".")[-2], 1.0) / np.sqrt(shape[0]) * z
    strength = {"q_proj": 3.0, "k_proj": 3.0, "qkv_proj": 2.5, "o_proj": 1.0, "down_proj": 1.0, "c_proj": 1.0,
                "gate": 1.5, "experts": 1.5}.get(name.split(".")[-2], 2.0)
    return strength / np.sqrt(shape[-1]) * z


def redraw(model, rng):
    gemma = model.config.model_type.startswith("gemma")
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(draw(name, tuple(p.shape), rng, gemma).astype(np.float32)).to(p.dtype))


def routers(model):
    return [m for n, m in model.named_modules() if type(m).__name__.endswith("TopKRouter")]


def run(model, ids):
    seen = []
    hooks = [r.register_forward_hook(lambda mod, args, out: seen.append(out[2].numpy())) for r in routers(model)]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float().numpy()
    for h in hooks:
        h.remove()
    return logits, np.stack(seen) if seen else None


def versions():
    return {"transformers": tf.__version__, "torch": torch.__version__, "numpy": np.__version__,
            "gguf": "0.19.0", "python": platform.python_version()}


def check_gguf(folder):
    """The gguf package reads the converted file and knows every name in it."""
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "m.gguf")
        families_to_gguf.convert(folder, path)
        r = gguf.GGUFReader(path)
        arch = bytes(r.fields["general.architecture"].parts[-1]).decode()
        known = next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == arch)
        patterns = {gguf.TENSOR_NAMES[t] for t in gguf.MODEL_TENSORS[known]}
        for t in r.tensors:
            base = ".".join("{bid}" if part.isdigit() else part for part in t.name.rsplit(".", 1)[0].split("."))
            if base not in patterns:
                print(f"    GGUF: {t.name} is not a name the package lists for {arch}")
        return arch, len(r.tensors)


def save_folder(model, folder):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    extra = os.path.join(folder, "generation_config.json")
    if os.path.exists(extra):
        os.remove(extra)


def settle(folder, model_class, ids, suffix=""):
    """The golden logits of a folder; -> the loaded model and how far the two references are apart."""
    loaded = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    logits, experts = run(loaded, ids)
    net, trace = reference_families.load(folder), {}
    err = reference.relative_l2(logits, reference_families.forward(net, ids, trace))
    text = f"logits std {logits.std():.2f}, error median {np.median(err):.1e} largest {err.max():.1e}"
    if experts is not None:
        mine = np.stack([trace[f"l{n}.chosen"] for n in range(len(net.layers))])
        text += f", same experts {(mine == experts).all()}"
        np.save(os.path.join(folder, "experts.npy"), experts.astype(np.uint8))
    np.save(os.path.join(folder, f"logits{suffix}.npy"), logits)
    return loaded, logits, text


def variant(folder, name, changes, model_class, ids, golden):
    """The same weights under another config.json: config_NAME.json and logits_NAME.npy beside the first ones."""
    with open(os.path.join(folder, "config.json")) as f:
        c = json.load(f) | changes
    with open(os.path.join(folder, f"config_{name}.json"), "w") as f:
        json.dump(c, f, indent=1)
    golden["variants"].append(name)
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copy(os.path.join(folder, "model.safetensors"), tmp)
        shutil.copy(os.path.join(folder, f"config_{name}.json"), os.path.join(tmp, "config.json"))
        loaded, logits, text = settle(tmp, model_class, ids, "_" + name)
        shutil.copy(os.path.join(tmp, f"logits_{name}.npy"), folder)
        if name == "longrope":
            golden["n_short"] = 12
            short, _ = run(loaded, ids[:12])
            np.save(os.path.join(folder, "logits_short.npy"), short)
            want = reference_families.forward(reference_families.load(tmp), ids[:12])
            text += f", short {reference.relative_l2(short, want).max():.1e}"
            text += f" (long and short differ by {reference.relative_l2(short, logits[:12]).max():.1e})"
        print(f"    {name}: {text}; GGUF {None if name == 'yarn_exact' else check_gguf(tmp)}", flush=True)


def make(name, out):
    config_class, model_class, config, *variants = MODELS[name]
    seed = 100 + list(MODELS).index(name)
    rng, folder = np.random.default_rng(seed), os.path.join(out, name)
    torch.manual_seed(seed)
    model = model_class(config_class(**config)).to(torch.bfloat16)
    redraw(model, rng)
    save_folder(model, folder)
    ids = [126] + rng.integers(0, 126, N_TOK - 1).tolist()
    golden = {"ids": ids, "variants": [], "made_with": versions()}
    loaded, _, text = settle(folder, model_class, ids)
    for (n, a), (_, b) in zip(model.named_parameters(), loaded.named_parameters()):
        if not torch.equal(a.float(), b.float()):
            raise SystemExit(f"{name}: {n} was not loaded as it was stored")
    print(f"{name}: {text}; GGUF {check_gguf(folder)}", flush=True)
    for v, changes in (variants[0] if variants else {}).items():
        variant(folder, v, changes, model_class, ids, golden)
    with open(os.path.join(folder, "golden.json"), "w") as f:
        json.dump(golden, f, indent=1)


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "tests", "data", "golden")
    for model_name in sys.argv[2:] or MODELS:
        make(model_name, target)
