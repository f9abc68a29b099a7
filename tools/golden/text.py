#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/data/text: small vocabularies and, for each family, one 32-bit hash of the ids of
each of 10,000 random strings as third-party tokenizers see them.

    tools/golden/text.py DATA_DIR        (the folder that ROTOR_TEST_DATA names)

The strings are not stored: they are drawn from atoms.txt by the generator below, which
tests/unit/text/text_help.c repeats in C. Versions used are written to golden_versions.txt.
Needs tokenizers, tiktoken, sentencepiece, regex, gguf.
"""
import base64, json, os, pathlib, struct, sys, tempfile

import gguf, regex, sentencepiece, tiktoken, tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

N_STRINGS = 10000
DATA = pathlib.Path(sys.argv[1])
OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/data/text"
M64 = (1 << 64) - 1

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
S = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN35 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
          + SPACES)
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         + CONTRACTIONS + r"?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + CONTRACTIONS
         + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES)
CASED = r"\s?[\p{Lu}\p{Ll}\p{Lt}]+"
WIDE = r"\s?[!-/:-~！-／：-～‘-‟　-。]+"
CJK = r"[一-龥ࠀ-一가-퟿]+"
PASSES = {
    "gpt-2": [GPT2], "llama3": [LLAMA3], "qwen2": [QWEN2], "qwen35": [QWEN35], "gpt-4o": [O200K],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", S, r"[0-9][0-9][0-9]"],
    "starcoder": [r"\p{N}", S], "mpt": [S],
    "deepseek-llm": [r"[\r\n]", CASED, WIDE, r"\s+$", CJK, r"\p{N}+"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", S, r"\p{N}+", r"[0-9][0-9][0-9]"],
}

# ---- The random strings ---------------------------------------------------------------------------


def read_atoms():
    groups = []
    for line in (OUT / "atoms.txt").read_text(encoding="utf-8").split("\n"):
        kind, *items = line.split(" ")
        if kind == "w":
            groups.append(items)
        elif kind == "x":
            groups.append(["".join(chr(int(c, 16)) for c in item.split("+")) for item in items])
    return groups


class SplitMix:
    def __init__(self, seed):
        self.x = seed

    def below(self, n):
        self.x = (self.x + 0x9E3779B97F4A7C15) & M64
        z = self.x
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
        z ^= z >> 31
        return (z >> 32) % n


def random_string(groups, seed):
    r = SplitMix(seed)
    text = []
    for _ in range(r.below(25)):
        group = groups[r.below(len(groups))]
        text.append(group[r.below(len(group))])
    return "".join(text)


def fnv(ids):
    h = 0x811C9DC5
    for byte in struct.pack(f"<{len(ids)}I", *ids):
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    return h


def write_hashes(name, encode):
    hashes = [fnv(encode(s)) for s in STRINGS]
    (OUT / f"{name}.hash").write_bytes(struct.pack(f"<{len(hashes)}I", *hashes))
    print(f"{name}: {N_STRINGS} strings")


# ---- Vocabularies -------------------------------------------------------------------------------------


def write_vocab(name, tokens, scores, types, charsmap=b""):
    """u32 count, u32 charsmap bytes, charsmap, then per token: u8 type, f32 score, u16 n, bytes."""
    with open(OUT / f"{name}.vocab", "wb") as f:
        f.write(struct.pack("<II", len(tokens), len(charsmap)) + charsmap)
        for t, s, k in zip(tokens, scores, types):
            f.write(struct.pack("<BfH", k, s, len(t)) + t)


def from_gguf(name):
    r = gguf.GGUFReader(DATA / f"vocab/llama.cpp/ggml-vocab-{name}.gguf")
    field = r.fields["tokenizer.ggml.tokens"]
    tokens = [bytes(field.parts[i]) for i in field.data]
    types = r.fields["tokenizer.ggml.token_type"].contents()
    scores = (r.fields["tokenizer.ggml.scores"].contents()
              if "tokenizer.ggml.scores" in r.fields else [0.0] * len(tokens))
    write_vocab(name, tokens, scores, types)
    for tail in ("inp", "out"):
        source = DATA / f"vocab/llama.cpp/ggml-vocab-{name}.gguf.{tail}"
        (OUT / f"{name}.{tail}").write_bytes(source.read_bytes())


def training_text():
    books = sorted((DATA / "corpus/gutenberg_children").iterdir())
    lines = [line for b in books[:8] for line in
             b.read_text(encoding="utf-8", errors="replace").split("\n")]
    return lines + [random_string(GROUPS, 1 << 40 | i) for i in range(8000)]


def save(name, tok, change=None):
    d = json.loads(tok.to_str())
    if change:
        change(d)
    text = json.dumps(d, ensure_ascii=False, separators=(",", ":"))
    (OUT / f"{name}.json").write_text(text, encoding="utf-8")
    tok = Tokenizer.from_str(text)
    write_hashes(name, lambda s: tok.encode(s, add_special_tokens=False).ids)
    return tok


def byte_level(name, pattern, size, normalizer=None, change=None):
    tok = Tokenizer(models.BPE())
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(TRAIN, trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>"]))
    return save(name, tok, change)


def strings_for_merges(d):
    d["model"]["merges"] = [" ".join(m) for m in d["model"]["merges"]]


def llama3_like(d):
    d["model"]["ignore_merges"] = True
    bos = d["model"]["vocab"]["<|begin_of_text|>"]
    d["post_processor"] = {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        {"type": "TemplateProcessing",
         "single": [{"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}}],
         "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {"<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [bos],
                                                  "tokens": ["<|begin_of_text|>"]}}}]}
    # Tokens that merging cannot reach: only ignore_merges finds them.
    for word in ("Ġunderstanding!?", "HelloWorldHello", "ĠFÃ¼hrerHello"):
        d["model"]["vocab"][word] = max(max(d["model"]["vocab"].values()), 3) + 1


def sentencepiece_like(name, first):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=3000, limit_alphabet=200,
                                                       show_progress=False))
    d = json.loads(tok.to_str())
    old = sorted(d["model"]["vocab"], key=d["model"]["vocab"].get)
    new = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + old
    d["model"].update(vocab={t: i for i, t in enumerate(new)}, unk_token="<unk>", fuse_unk=True,
                      byte_fallback=True)
    d["added_tokens"] = [
        {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True} for i, t in enumerate(new[:3])]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    if first:
        d["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
                              "split": False}
    else:
        d["normalizer"] = {"type": "Sequence",
                           "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}
        d["pre_tokenizer"] = None
    d["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    save(name, Tokenizer.from_str(json.dumps(d)))


def unigram(name, byte_fallback):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(),
                                           normalizers.Replace(Regex(" {2,}"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tok.decoder = decoders.Metaspace(prepend_scheme="always")
    special = ["<pad>", "</s>", "<unk>"]
    if byte_fallback:
        special += ["<s>"]
    tok.train_from_iterator(TRAIN, trainers.UnigramTrainer(
        vocab_size=2500, special_tokens=special, unk_token="<unk>", show_progress=False))

    def change(d):
        # Short decimals: serde_json reads long ones up to one bit wrong, which decides ties.
        d["model"]["vocab"] = [[t, round(score, 6)] for t, score in d["model"]["vocab"]]
        if byte_fallback:
            d["model"]["byte_fallback"] = True
            d["model"]["vocab"] += [[f"<0x{b:02X}>", 0.0] for b in range(256)]
        else:
            d["post_processor"] = {
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                         {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}}
    save(name, tok, change)


def wordpiece(name, lower):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    tok.train_from_iterator((s for s in TRAIN if "▁" not in s), trainers.WordPieceTrainer(
        vocab_size=2500, show_progress=False, limit_alphabet=400,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    save(name, tok)


def odd_steps(name):
    """Pre-tokenizers and normalizers that the big families do not use."""
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tok.normalizer = normalizers.Sequence([
        normalizers.Strip(), normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(),
        normalizers.Replace("fox", "wolf"), normalizers.Replace(Regex("[qz]+"), "k")])
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_previous"),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split("o", "merged_with_next"),
        pre_tokenizers.Split(Regex("[aeiu]+"), "contiguous"),
        pre_tokenizers.Split(Regex(r"x\S"), "removed")])
    tok.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=700, limit_alphabet=150,
                                                       special_tokens=["<unk>"],
                                                       show_progress=False))
    tok.add_tokens([AddedToken("fox jumps", lstrip=True, normalized=False),
                    AddedToken("dog", single_word=True, normalized=False)])
    tok.add_special_tokens([AddedToken("[MASK]", lstrip=True, rstrip=True)])
    save(name, tok)


def sentencepiece_model(name, kind):
    with tempfile.TemporaryDirectory() as d:
        text = pathlib.Path(d, "t.txt")
        text.write_text("\n".join(s.replace("\n", " ") for s in TRAIN if "<|" not in s),
                        encoding="utf-8")
        sentencepiece.SentencePieceTrainer.Train(
            input=str(text), model_prefix=f"{d}/m", vocab_size=2500, model_type=kind,
            byte_fallback=kind == "bpe", character_coverage=0.98, num_threads=1,
            normalization_rule_name="identity" if kind == "bpe" else "nmt_nfkc",
            remove_extra_whitespaces=kind != "bpe",
            pad_id=0, eos_id=1, unk_id=2, bos_id=3, minloglevel=2,
            max_sentence_length=100000)
        sp = sentencepiece.SentencePieceProcessor(model_file=f"{d}/m.model")
        proto = pathlib.Path(d, "m.model").read_bytes()
    tokens, scores, types = [], [], []
    for i in range(sp.get_piece_size()):
        tokens.append(sp.id_to_piece(i).encode())
        scores.append(sp.get_score(i))
        types.append(2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i)
                     else 1)
    write_vocab(name, tokens, scores, types, b"" if kind == "bpe" else charsmap_of(proto))
    write_hashes(name, lambda s: sp.encode(s))


def charsmap_of(proto):
    """Field 3 (normalizer_spec), subfield 2, of a SentencePiece ModelProto."""
    def fields(b):
        at = 0
        while at < len(b):
            def varint():
                nonlocal at
                v = shift = 0
                while True:
                    c = b[at]
                    at += 1
                    v |= (c & 127) << shift
                    shift += 7
                    if c < 128:
                        return v
            key = varint()
            if key & 7 == 2:
                n = varint()
                yield key >> 3, b[at:at + n]
                at += n
            elif key & 7 == 5:
                at += 4
            elif key & 7 == 1:
                at += 8
            else:
                varint()
    spec = next(v for k, v in fields(proto) if k == 3)
    return next(v for k, v in fields(spec) if k == 2)


# ---- Whole vocabularies that are not in the tree: only hashes -----------------------------------------


def read_ranks(name):
    ranks = {}
    for line in (DATA / "vocab" / name).read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    return ranks


def tiktoken_hashes(name, file, pattern, first, specials):
    e = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=read_ranks(file),
                          special_tokens={t: first + i for i, t in enumerate(specials)})
    write_hashes(name, lambda s: e.encode(s, allowed_special="all"))


def gpt2_hashes():
    merges = (DATA / "vocab/gpt2_merges.txt").read_text(encoding="utf-8")
    (OUT / "gpt2.merges").write_text(merges, encoding="utf-8")
    vocab = json.loads((DATA / "vocab/gpt2_vocab.json").read_text(encoding="utf-8"))
    pairs = [tuple(m.split(" ")) for m in merges.split("\n") if m and not m.startswith("#version")]
    tok = Tokenizer(models.BPE(vocab, pairs))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.add_special_tokens(["<|endoftext|>"])
    write_hashes("gpt2", lambda s: tok.encode(s).ids)


def split_hashes():
    """Hash of the piece lengths in bytes, for every rule set, from an independent engine."""
    for name, passes in PASSES.items():
        def lengths(s, passes=passes):
            pieces = [s] if s else []
            for p in passes:
                cut = []
                for piece in pieces:
                    at = 0
                    for m in regex.finditer(p, piece):
                        if m.start() > at:
                            cut.append(piece[at:m.start()])
                        if m.end() > m.start():
                            cut.append(m.group())
                        at = max(at, m.end())
                    if at < len(piece):
                        cut.append(piece[at:])
                pieces = cut
            return [len(p.encode()) for p in pieces]
        write_hashes(f"split-{name}", lengths)


GROUPS = read_atoms()
STRINGS = [random_string(GROUPS, i) for i in range(N_STRINGS)]
TRAIN = training_text()

if __name__ == "__main__" and len(sys.argv) > 2:
    for name in sys.argv[2:]:
        eval(name)
elif __name__ == "__main__":
    split_hashes()
    gpt2_hashes()
    tiktoken_hashes("llama3", "llama3_tokenizer.model", LLAMA3, 128000,
                    ["<|begin_of_text|>", "<|end_of_text|>"])
    tiktoken_hashes("o200k", "o200k_base.tiktoken", O200K, 199998, ["<|startoftext|>", "<|endoftext|>"])
    byte_level("hf-qwen2", QWEN2, 3500, normalizers.NFC(), strings_for_merges)
    byte_level("hf-llama3", LLAMA3, 3000, None, llama3_like)
    byte_level("hf-o200k", O200K, 3000)
    byte_level("hf-regex", r"\p{N}{1,2}|\s?[\p{L}\p{M}]+|\s+$|[^\s\p{L}\p{M}\p{N}]{1,4}|\s", 1500)
    sentencepiece_like("hf-llama2", False)
    sentencepiece_like("hf-metaspace", True)
    unigram("hf-unigram", False)
    unigram("hf-unigram-bytes", True)
    wordpiece("hf-wordpiece", True)
    wordpiece("hf-wordpiece-cased", False)
    odd_steps("hf-odd")
    sentencepiece_model("sp-unigram", "unigram")
    sentencepiece_model("sp-bpe", "bpe")
    from_gguf("llama-spm")
    from_gguf("bert-bge")
    for tail in ("inp", "out"):
        source = DATA / f"vocab/llama.cpp/ggml-vocab-gpt-2.gguf.{tail}"
        (OUT / f"gpt2.{tail}").write_bytes(source.read_bytes())
    (OUT / "golden_versions.txt").write_text(
        f"tokenizers {tokenizers.__version__}\ntiktoken {tiktoken.__version__}\n"
        f"sentencepiece {sentencepiece.__version__}\nregex {regex.__version__}\n")
