# SPDX-License-Identifier: MIT
"""The pages of the site that are made from the program's own tables (code_tables.py), as Markdown."""
import code_tables

NOTE = "This page is made from the sources (`%s`) whenever the site is.\n"
SWITCHES = {  # of an architecture: what it is called here
    "ternary": "ternary weights", "sub_norms": "norms inside a layer", "mixture": "mixture of experts", "shared": "an expert for all tokens",
    "window_every": "sliding windows", "qk_norm": "normed queries and keys", "still_every": "layers without rotation",
    "oss": "mixture of experts, sinks", "gemma": "capped or scaled values", "centred": "LayerNorm", "plain_ffn": "no gate",
    "positions": "learned positions", "both_ways": "attention in both directions: vectors of texts",
}
NOT_ON_DEVICES = ("gemma", "centred", "plain_ffn", "positions", "both_ways", "encoder")  # docs/devices.md: Limits


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def code(text):
    return "`%s`" % cell(text) if text else ""


def table(head, rows):
    lines = ["| %s |" % " | ".join(head), "|%s" % ("---|" * len(head))]
    return "\n".join(lines + ["| %s |" % " | ".join(row) for row in rows]) + "\n"


def spelt(option):
    """How an option is typed."""
    plain = "NO_DASH" in option.flags
    name = option.value if plain else "--" + option.name + (" " + option.value if option.value else "")
    return code(name) + (", " + code("-" + option.letter) if option.letter else "")


def meaning(option):
    text = cell(option.help)
    if option.choices:
        text += ". One of " + ", ".join(map(code, option.choices))
    if option.fallback:
        text += " (default: %s)" % code(option.fallback)
    return text


def variable(option):
    return "ROTOR_" + option.name.upper().replace("-", "_")


def options(root):
    rows = code_tables.options(root)
    out = ["# Verbs and options\n", NOTE % code_tables.CLI,
           "What `rotor VERB --help` and the manual pages say. Options that stand under *Settings* can also be given in the environment "
           "and in the [configuration file](configuration.md).\n"]
    for verb in code_tables.verbs(root):
        mine = [option for option in rows if verb.name in option.verbs and option.group != "General"]
        out += ["## rotor %s\n" % verb.name, verb.help[0].upper() + verb.help[1:] + ".\n",
                "```text\nrotor %s\n```\n" % (verb.name + " " + verb.usage).strip()]
        if verb.notes:
            out.append("```text\n%s\n```\n" % verb.notes)
        for group in dict.fromkeys(option.group for option in mine):
            out.append("**%s**\n" % group)
            out.append(table(["option", "what it does"], [[spelt(o), meaning(o)] for o in mine if o.group == group]))
    out += ["## Of every verb\n", table(["option", "what it does"], [[spelt(o), meaning(o)] for o in rows if o.group == "General"])]
    return "\n".join(out)


def settings(root):
    rows = sorted((o for o in code_tables.options(root) if "SAVED" in o.flags), key=lambda o: o.name)
    every = {verb.name for verb in code_tables.verbs(root)}
    return "\n".join([
        "# All settings\n", NOTE % code_tables.CLI,
        "What may stand in the configuration file and in the environment; how, says [Settings](configuration.md). A row counts for its verbs.\n",
        table(["key, variable", "value", "what it does", "verbs"],
              [["<br>".join([code(o.name)] * code_tables.in_file(o) + [code(variable(o))] * ("NO_DASH" not in o.flags)), "on, off" if o.type == "FLAG" else code(o.value),
                meaning(o) + ("; may be given several times" if "MANY" in o.flags and "several times" not in o.help else ""),
                "all" if set(o.verbs) == every else ", ".join(o.verbs)]
               for o in rows])])


def routes(root):
    def notes(tail, anyone, early):
        return ", ".join(["a name follows"] * tail + ["no key needed"] * anyone + ["also while models load"] * early)
    return "\n".join([
        "# All routes\n", NOTE % "src/serve/routes.c",
        "What each does, says [Serving](serving.md#routes). A path may lack `/v1`, have it twice, or end in a slash; `HEAD` works where `GET` does.\n",
        table(["method", "path", ""], [[method, code(path + ("…" if tail else "")), notes(tail, anyone, early)]
                                       for method, path, tail, anyone, early in code_tables.routes(root)])])


def metrics(root):
    return "\n".join([
        "# All counters\n", NOTE % "src/serve/metrics_route.c",
        "What `GET /metrics` gives, in Prometheus' text form ([Serving](serving.md#routes)).\n",
        table(["name", "kind", "what it counts", "also as"],
              [[code(name), kind, cell(text), code(other)] for name, kind, other, text in code_tables.metrics(root)])])


def errors(root):
    return "\n".join([
        "# Statuses\n", NOTE % "include/rotor_status.h, src/cli/cli.h, src/serve/reasons.c, src/base/block_stream.c",
        "## Of the program\n",
        "Standard output carries the product and nothing else; a failure is a line on standard error.\n",
        table(["exit status", "means"], [["`%s`" % number, text] for number, text in code_tables.exit_statuses(root)]),
        "## Of the server\n",
        "A request that is refused is answered with one of these: a status, OpenAI's type and code for programs, and a sentence for people. "
        "Anthropic's protocol sends the same status and sentence with a type of its own (`request_too_large` for 413, `overloaded_error` for "
        "503, …) and no code; Ollama's sends the sentence alone, as `error` ([Serving](serving.md)).\n",
        table(["status", "OpenAI's type", "OpenAI's code", "means", "what to do"],
              [[str(status), code(kind), code(name), cell(means), cell(advice)]
               for status, kind, name, means, advice in code_tables.refusals(root)]),
        "## Of the library\n",
        "A function that can fail returns one of these, 0 (`ROTOR_OK`) when it did what it should, and fills a `rotor_error` with a line "
        "that says what, where, what was expected and what came.\n",
        table(["name", "value", "means"], [[code(name), number, cell(text)] for name, number, text in code_tables.statuses(root)]),
        "## Of documents that cannot be read\n",
        "The word with which a line of `rotor-extract` begins; what each means, says [Documents](documents.md#limits).\n",
        table(["reason"], [[code(name)] for name in code_tables.reasons(root)])])


def on_devices(arch):
    missing = [SWITCHES.get(name, "") for name in NOT_ON_DEVICES if name in arch]
    missing += ["GELU"] if "GELU" in arch.get("glu", "") else []
    return "the processor does it: " + ", ".join(dict.fromkeys(filter(None, missing))) if missing else "whole or by layers"


def models(root):
    families, types = [], []
    for arch in code_tables.architectures(root):
        named = ", ".join(dict.fromkeys(SWITCHES[name] for name in arch if name in SWITCHES))
        families.append([code(arch["name"]), code(arch.get("hf_type", "")), named, "yes", on_devices(arch)])
    for name, _, _, flags in code_tables.weight_types(root):
        runs = "QUANT_BLOCK32" in flags or "QUANT_TERNARY" in flags or name in ("F32", "F16", "BF16")
        if "QUANT_CAN_DECODE" in flags:
            types.append([code(name), "ternary" if "QUANT_TERNARY" in flags else "", "yes" if runs else "listed only",
                          "yes" if runs else "", "yes" if "QUANT_CAN_ENCODE" in flags and runs else ""])
    return "\n".join([
        "# What runs where\n", NOTE % "src/model/arch.c, src/quant/quant_registry.c",
        "## Families\n",
        "An architecture is one row of a table. *Devices* are those of OpenCL and Vulkan ([Devices](devices.md)); what has been tested on "
        "which, and what never ran at full size, says the [overview](../README.md#status).\n",
        table(["GGUF", "folder", "what is particular", "processor", "devices"], families),
        "## Types of weights\n",
        "*Runs* is said of the matrices of a network. `rotor quantize` and `rotor convert` write the types of the last column. Experts of "
        "ternary types stay with the processor.\n",
        table(["type", "", "runs on the processor", "on devices", "can be written"], types)])


def pages(root):
    """(file, Markdown) of every page."""
    return [("options.md", options(root)), ("settings.md", settings(root)), ("routes.md", routes(root)), ("counters.md", metrics(root)),
            ("statuses.md", errors(root)), ("support.md", models(root))]
