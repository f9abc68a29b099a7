/* SPDX-License-Identifier: MIT
 *
 * The option table and the verb table: the only places where an option or a verb is defined.
 * Parser, help, ROTOR_* variables, configuration file and the error messages all read them here.
 *
 * Two rows may share a name or a letter when no verb has both (-p is a text in run and a number in
 * bench). A fallback is parsed like any other value; an option without one is "not said" and what
 * happens then is written in its help.
 */
#include "cli/cli.h"

#define MODEL     "Model"
#define TEXT      "Text"
#define SAMPLE    "Sampling"
#define SPECULATE "Speculation: faster, with exactly the same text (not with --beams)"
#define MEASURE   "Measuring"
#define OUTPUT    "Output"
#define GENERAL   "General"

#define LOADS (VERBS_ENGINE | VERB_INFO)
#define TALKS (VERB_RUN | VERB_CHAT)

/* clang-format off */
const cli_option cli_options[CLI_N_OPTS] = {
[OPT_THREADS] = {"threads", 't', CLI_INT, MODEL, "N", 1, 1024, NULL, NULL,
    "threads (default: one per processor core)", LOADS, CLI_SAVED},
[OPT_CTX] = {"ctx", 'c', CLI_INT, MODEL, "N", 0, 16777216, NULL, NULL,
    "context in tokens; 0: the model's (default: the smallest of the model's, 4096 and what fits)",
    LOADS & ~VERB_PERPLEXITY, CLI_SAVED},
[OPT_CTX_PPL] = {"ctx", 'c', CLI_INT, MODEL, "N", 4, 16777216, NULL, "512",
    "tokens in a window", VERB_PERPLEXITY, 0},
[OPT_DEVICE] = {"device", 0, CLI_CHOICE, MODEL, "DEV", 0, 0, "auto|cpu|opencl|vulkan", "auto",
    "where to run", LOADS, CLI_SAVED},
[OPT_CPU] = {"cpu", 0, CLI_TEXT, MODEL, "LEVEL", 0, 0, NULL, NULL,
    "highest instruction set to use: c, avx2, avxvnni, avx512vnni, … (default: all there are)",
    LOADS, CLI_SAVED},
[OPT_KV] = {"kv", 0, CLI_CHOICE, MODEL, "TYPE", 0, 0, "f16|f32|q8", "f16",
    "type of the key and value cache", LOADS, CLI_SAVED},
[OPT_HEAD] = {"head", 0, CLI_CHOICE, MODEL, "TYPE", 0, 0, "auto|file|q8|q6", "auto",
    "precision of the output head; auto: q8", TALKS | VERB_BENCH | VERB_INFO, CLI_SAVED},
[OPT_HEAD_EXACT] = {"head", 0, CLI_CHOICE, MODEL, "TYPE", 0, 0, "auto|file|q8|q6", "auto",
    "precision of the output head; auto: as in the file", VERB_LOGITS | VERB_PERPLEXITY, 0},
[OPT_ACT] = {"act", 0, CLI_CHOICE, MODEL, "TYPE", 0, 0, "q8|f32", "q8",
    "activations of matrix products; f32 rounds nothing and is slow", LOADS, 0},
[OPT_CHUNK] = {"chunk", 0, CLI_INT, MODEL, "N", 1, 65536, NULL, NULL,
    "prompt tokens per step (default: 256)", LOADS, CLI_SAVED},
[OPT_LAYERS] = {"layers", 0, CLI_INT, MODEL, "N", 1, 1024, NULL, NULL,
    "only the first N layers", LOADS | VERB_SYNTH, 0},
[OPT_NO_MMAP] = {"no-mmap", 0, CLI_FLAG, MODEL, NULL, 0, 0, NULL, NULL,
    "read the file into memory instead of mapping it", LOADS, CLI_SAVED},
[OPT_I2S] = {"i2s-layout", 0, CLI_CHOICE, MODEL, "ORDER", 0, 0, "auto|x86|arm|4row", "auto",
    "byte order of I2_S tensors, which no file states; auto: x86",
    LOADS | VERB_INSPECT | VERB_CONVERT | VERB_QUANTIZE, 0},
[OPT_TEMPLATE] = {"chat-template", 0, CLI_TEXT, MODEL, "FILE|NAME", 0, 0, NULL, NULL,
    "chat template: a built-in name or a file with Jinja text (default: the model's)", TALKS, 0},

[OPT_PROMPT] = {"prompt", 'p', CLI_TEXT, TEXT, "TEXT", 0, 0, NULL, NULL,
    "text to complete; - reads standard input", VERB_RUN, 0},
[OPT_N_PREDICT] = {"n-predict", 'n', CLI_INT, TEXT, "N", 1, 16777216, NULL, NULL,
    "most tokens to generate (default: until the model ends or the context is full)", TALKS, 0},
[OPT_ECHO] = {"echo", 0, CLI_FLAG, TEXT, NULL, 0, 0, NULL, NULL,
    "print the prompt in front of the new text", VERB_RUN, 0},
[OPT_CHAT] = {"chat", 0, CLI_FLAG, TEXT, NULL, 0, 0, NULL, NULL,
    "send the text as a user's turn through the chat template", VERB_RUN, 0},
[OPT_SYSTEM] = {"system", 0, CLI_TEXT, TEXT, "TEXT", 0, 0, NULL, NULL,
    "system prompt (run: with --chat)", TALKS, CLI_SAVED},
[OPT_STOP] = {"stop", 0, CLI_TEXT, TEXT, "TEXT", 0, 0, NULL, NULL,
    "end the answer at this text; may be given several times", TALKS, CLI_MANY},
[OPT_BEAMS] = {"beams", 0, CLI_INT, TEXT, "N", 1, 64, NULL, NULL,
    "beam search of this width instead of sampling; needs -n", VERB_RUN, 0},
[OPT_IGNORE_EOS] = {"ignore-eos", 0, CLI_FLAG, TEXT, NULL, 0, 0, NULL, NULL,
    "keep going past the tokens that end an answer", VERB_RUN, 0},
[OPT_NO_HISTORY] = {"no-history", 0, CLI_FLAG, TEXT, NULL, 0, 0, NULL, NULL,
    "neither read nor write the file of earlier inputs", VERB_CHAT, CLI_SAVED},

[OPT_TEMP] = {"temp", 0, CLI_REAL, SAMPLE, "X", 0, 100, NULL, NULL,
    "temperature; 0 always takes the likeliest token (default: the model's, else 0.8)",
    TALKS, CLI_SAVED},
[OPT_TOP_K] = {"top-k", 0, CLI_INT, SAMPLE, "N", 0, 16777216, NULL, NULL,
    "draw from the N likeliest; 0: off (default: the model's, else 40)", TALKS, CLI_SAVED},
[OPT_TOP_P] = {"top-p", 0, CLI_REAL, SAMPLE, "X", 0, 1, NULL, NULL,
    "draw from the likeliest that sum to X; 1: off (default: the model's, else 0.95)",
    TALKS, CLI_SAVED},
[OPT_MIN_P] = {"min-p", 0, CLI_REAL, SAMPLE, "X", 0, 1, NULL, NULL,
    "drop tokens below X times the likeliest; 0: off (default: the model's, else 0.05)",
    TALKS, CLI_SAVED},
[OPT_REPEAT] = {"repeat-penalty", 0, CLI_REAL, SAMPLE, "X", 0.01, 100, NULL, NULL,
    "above 1 makes earlier tokens less likely (default: 1, off)", TALKS, CLI_SAVED},
[OPT_SEED] = {"seed", 0, CLI_INT, SAMPLE, "N", 0, 9e18, NULL, NULL,
    "random seed: same seed, same result (default: a new one each time; synth: 0)",
    TALKS | VERB_SYNTH, 0},
[OPT_LOOKUP] = {"lookup", 0, CLI_FLAG, SPECULATE, NULL, 0, 0, NULL, NULL,
    "guess what followed the same words earlier in the text", TALKS, CLI_SAVED},
[OPT_DRAFT] = {"draft", 0, CLI_TEXT, SPECULATE, "MODEL", 0, 0, NULL, NULL,
    "guess with this smaller model, which must have the same vocabulary", TALKS, CLI_SAVED},
[OPT_DRAFT_MAX] = {"draft-max", 0, CLI_INT, SPECULATE, "N", 1, 15, NULL, "8",
    "most tokens to guess at a time; fewer where guessing does not pay", TALKS, CLI_SAVED},

[OPT_N_PROMPT] = {"n-prompt", 'p', CLI_INT, MEASURE, "N", 0, 1048576, NULL, "512",
    "prompt tokens", VERB_BENCH, 0},
[OPT_N_GEN] = {"n-gen", 'n', CLI_INT, MEASURE, "N", 0, 1048576, NULL, "128",
    "tokens to decode", VERB_BENCH, 0},
[OPT_REPS] = {"repetitions", 'r', CLI_INT, MEASURE, "N", 1, 1000, NULL, "5",
    "how often each measurement is repeated, after one that does not count", VERB_BENCH, 0},
[OPT_DEPTH] = {"depth", 'd', CLI_INT, MEASURE, "N", 0, 16777216, NULL, "0",
    "tokens already in the context", VERB_BENCH, 0},
[OPT_SESSIONS] = {"sessions", 0, CLI_INT, MEASURE, "N", 2, 4096, NULL, NULL,
    "also let N sessions decode together, and print the ratio to one", VERB_BENCH, 0},
[OPT_OPS] = {"ops", 0, CLI_FLAG, MEASURE, NULL, 0, 0, NULL, NULL,
    "also time every matrix product of a layer and the head on its own", VERB_BENCH, 0},
[OPT_PRESET] = {"preset", 0, CLI_TEXT, MEASURE, "NAME", 0, 0, NULL, NULL,
    "measure a model of this shape, made for the purpose and removed afterwards (see rotor synth)",
    VERB_BENCH, 0},
[OPT_COMPARE] = {"compare", 0, CLI_TEXT, MEASURE, "OLD.json", 0, 0, NULL, NULL,
    "print the change against an earlier --json", VERB_BENCH, 0},

[OPT_TOKENS] = {"tokens", 0, CLI_TEXT, TEXT, "1,2,3", 0, 0, NULL, NULL,
    "token ids; - reads them from standard input", VERB_LOGITS, 0},
[OPT_ALL] = {"all", 0, CLI_FLAG, TEXT, NULL, 0, 0, NULL, NULL,
    "logits after every token instead of the last", VERB_LOGITS, 0},
[OPT_IDS] = {"ids", 0, CLI_FLAG, TEXT, NULL, 0, 0, NULL, NULL,
    "print ids separated by spaces (what happens anyway)", VERB_TOKENIZE, 0},
[OPT_DECODE] = {"decode", 0, CLI_TEXT, TEXT, "1,2,3", 0, 0, NULL, NULL,
    "print the text of these ids instead; - reads them from standard input", VERB_TOKENIZE, 0},
[OPT_LINES] = {"lines", 0, CLI_FLAG, TEXT, NULL, 0, 0, NULL, NULL,
    "one text per input line (standard input when no TEXT is given)", VERB_TOKENIZE, 0},
[OPT_SPECIAL] = {"special", 0, CLI_FLAG, TEXT, NULL, 0, 0, NULL, NULL,
    "recognise control tokens in the text; with --decode: print them", VERB_TOKENIZE, 0},
[OPT_BOS] = {"bos", 0, CLI_FLAG, TEXT, NULL, 0, 0, NULL, NULL,
    "put the beginning-of-text token in front", VERB_TOKENIZE, 0},
[OPT_WINDOWS] = {"windows", 0, CLI_INT, MEASURE, "N", 1, 16777216, NULL, NULL,
    "stop after N windows (default: the whole file)", VERB_PERPLEXITY, 0},
[OPT_KLD] = {"kld", 0, CLI_TEXT, MEASURE, "BASE.npy", 0, 0, NULL, NULL,
    "also the KL divergence from these logits (made with --logits)", VERB_PERPLEXITY, 0},
[OPT_OUTPUT_LOGITS] = {"logits", 0, CLI_TEXT, OUTPUT, "F.npy", 0, 0, NULL, NULL,
    "save the logits of the scored positions, for --kld", VERB_PERPLEXITY, 0},

[OPT_VERIFY] = {"verify", 0, CLI_FLAG, MEASURE, NULL, 0, 0, NULL, NULL,
    "decode every block and report illegal codes and values", VERB_INSPECT, 0},
[OPT_LAYER] = {"layer", 0, CLI_INT, MEASURE, "N", 0, 65535, NULL, NULL,
    "only the tensors of layer N", VERB_INSPECT, 0},
[OPT_STATS] = {"stats", 0, CLI_FLAG, MEASURE, NULL, 0, 0, NULL, NULL,
    "code counts, sparsity, scales and ranges of the tensors", VERB_INSPECT, 0},
[OPT_VOCAB] = {"vocab", 0, CLI_TEXT, TEXT, "FILE", 0, 0, NULL, NULL,
    "take the vocabulary from a GGUF file or a file of \"base64 rank\" lines", VERB_SYNTH, 0},
[OPT_SPARSE] = {"sparse", 0, CLI_FLAG, OUTPUT, NULL, 0, 0, NULL, NULL,
    "leave the weights as holes: full size, a few MB of disk", VERB_SYNTH, 0},
[OPT_N_VOCAB] = {"vocab", 0, CLI_INT, TEXT, "N", 258, 1048576, NULL, "4096",
    "tokens in the vocabulary: 256 bytes, 2 special ones, the rest learnt", VERB_TRAIN_TOKENIZER, 0},
[OPT_TYPE] = {"type", 0, CLI_TEXT, OUTPUT, "TYPE", 0, 0, NULL, NULL,
    "type of the matrices (default: as they are; ternary ones: I2_S)", VERB_CONVERT, 0},
[OPT_HEAD_TYPE] = {"head", 0, CLI_TEXT, OUTPUT, "TYPE", 0, 0, NULL, NULL,
    "type of the embedding and output head (default: as they are)",
    VERB_CONVERT | VERB_QUANTIZE, 0},
[OPT_OUTPUT] = {"output", 'o', CLI_TEXT, OUTPUT, "FILE", 0, 0, NULL, NULL,
    "file to write; it appears under its name only when complete",
    VERB_SYNTH | VERB_CONVERT | VERB_LOGITS | VERB_TRAIN_TOKENIZER, 0},
[OPT_JSON] = {"json", 0, CLI_FLAG, OUTPUT, NULL, 0, 0, NULL, NULL,
    "print one JSON object",
    VERB_RUN | VERB_BENCH | VERB_INSPECT | VERB_TOKENIZE | VERB_PERPLEXITY | VERB_INFO | VERB_MODELS |
        VERB_QUANTIZE | VERB_CONVERT, 0},
[OPT_COLOR] = {"color", 0, CLI_CHOICE, OUTPUT, "WHEN", 0, 0, "auto|always|never", "auto",
    "bold, colours and Markdown; auto: on a terminal unless NO_COLOR is set", VERB_CHAT, CLI_SAVED},

[OPT_LOG_LEVEL] = {"log-level", 0, CLI_CHOICE, GENERAL, "LEVEL", 0, 0, "error|warn|info|debug", "info",
    "how much to say on standard error", VERBS_ALL, CLI_SAVED},
[OPT_NO_PROGRESS] = {"no-progress", 0, CLI_FLAG, GENERAL, NULL, 0, 0, NULL, NULL,
    "no progress display", VERBS_ALL, CLI_SAVED},
[OPT_HELP] = {"help", 'h', CLI_FLAG, GENERAL, NULL, 0, 0, NULL, NULL, "this text", VERBS_ALL, 0},
};

static const cli_verb verbs[] = {
    {"run", VERB_RUN, "[MODEL] -p TEXT [-n N]", "complete a text", NULL, 0, 1, verb_run},
    {"chat", VERB_CHAT, "[MODEL]", "talk to a model in the terminal",
     "Inside, /help lists the commands. Ctrl-C stops an answer, Ctrl-D leaves.", 0, 1, verb_chat},
    {"tokenize", VERB_TOKENIZE, "MODEL TEXT | MODEL --decode 1,2,3", "text to token ids and back",
     "TEXT - reads standard input byte for byte. A vocabulary-only GGUF file is enough.", 1, 2,
     verb_tokenize},
    {"logits", VERB_LOGITS, "[MODEL] --tokens 1,2,3 -o F.npy", "raw scores as a NumPy file",
     "F.npy is float32 [n, vocab]: one row, or with --all one row per token.", 0, 1, verb_logits},
    {"perplexity", VERB_PERPLEXITY, "MODEL FILE", "how well a model predicts a text",
     "The text is cut into windows of --ctx tokens, each starting with the beginning-of-text token\n"
     "in place of its first one if the model uses it; the predictions in the second half of each\n"
     "window are scored and P is exp of their mean negative log-likelihood.", 1, 2, verb_perplexity},
    {"bench", VERB_BENCH, "[MODEL | --preset NAME]", "measure speed against what the machine can do",
     NULL, 0, 1, verb_bench},
    {"inspect", VERB_INSPECT, "[MODEL]", "what is in a model file",
     "Any well-formed GGUF file, whatever its architecture.", 0, 1, verb_inspect},
    {"info", VERB_INFO, "[MODEL]", "this machine, this build, and what would be chosen for a model",
     NULL, 0, 1, verb_info},
    {"models", VERB_MODELS, "", "list the models found on this machine", NULL, 0, 0, verb_models},
    {"synth", VERB_SYNTH, "PRESET -o FILE", "make a model file of a published shape, random weights",
     NULL, 0, 1, verb_synth},
    {"convert", VERB_CONVERT, "IN -o OUT", "Hugging Face folder or model file to GGUF", NULL, 1, 1,
     verb_convert},
    {"quantize", VERB_QUANTIZE, "IN OUT TYPE", "change the type of a model's matrices",
     "Ternary codes are copied exactly. A scale the new type cannot hold is rounded, reported and\n"
     "kept as metadata rotor.scale_f32.<tensor>, so that the way back restores every bit.", 1, 3,
     verb_quantize},
    {"train-tokenizer", VERB_TRAIN_TOKENIZER, "FILE… -o VOCAB.gguf",
     "learn a vocabulary from texts",
     "FILEs are UTF-8 texts (<|endoftext|> between documents) or .jsonl conversations. The file\n"
     "written holds a vocabulary and no tensors; rotor tokenize and rotor train read it.", 1, 4096,
     verb_train_tokenizer},
    {"help", VERB_HELP, "[VERB]", "this list, or the options of a verb", NULL, 0, 1, verb_help},
    {"version", VERB_VERSION, "", "version and features of this build", NULL, 0, 0, verb_version},
};
/* clang-format on */

const cli_verb *cli_verb_at(size_t i) { return i < BASE_COUNT(verbs) ? &verbs[i] : NULL; }

const cli_verb *cli_verb_find(const char *name) {
    for (size_t i = 0; i < BASE_COUNT(verbs); i++)
        if (strcmp(verbs[i].name, name) == 0) return &verbs[i];
    return NULL;
}
