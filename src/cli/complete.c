/* SPDX-License-Identifier: MIT
 *
 * Completing command lines. The scripts for the shells are a few lines each: at every TAB they ask
 * the program itself (rotor help --complete -- WORDS), so that they fit whatever version is
 * installed and know what is in the model cache. What they are told comes from the option and verb
 * tables.
 */
#include "cli/cli.h"
#include "hub/hub.h"

#include <stdio.h>

/* ==== What may stand there ==================================================================== */

typedef struct asked {
    base_buf *out;      /* candidates, one a line */
    const char *front;  /* stands in front of each: "--kv=" or "" */
    const char *prefix; /* what each must begin with, behind front */
} asked;

static void offer(const asked *q, const char *word, size_t n, const char *about) {
    const size_t n_prefix = strlen(q->prefix);
    if (n < n_prefix || strncmp(word, q->prefix, n_prefix) != 0) return;
    base_buf_printf(q->out, "%s%.*s%s%s\n", q->front, (int)n, word, about ? "\t" : "",
                    about ? about : "");
}

/* Each of "a|b|c"; the last ends at a blank, too. */
static void offer_choices(const asked *q, const char *choices) {
    for (const char *p = choices;; p++) {
        const size_t n = strcspn(p, "| ");
        offer(q, p, n, NULL);
        p += n;
        if (*p != '|') return;
    }
}

static void offer_files(const asked *q) { base_buf_puts(q->out, ":files\n"); }

static void offer_verbs(const asked *q) {
    for (size_t i = 0; cli_verb_at(i); i++)
        offer(q, cli_verb_at(i)->name, strlen(cli_verb_at(i)->name), cli_verb_at(i)->help);
}

static void offer_options(const asked *q, const cli_verb *verb) {
    for (int i = 0; i < CLI_N_OPTS; i++) {
        const cli_option *o = &cli_options[i];
        char word[64];
        if (!(o->verbs & verb->bit) || o->flags & CLI_NO_DASH) continue;
        int n = snprintf(word, sizeof word, "--%s", o->name);
        offer(q, word, (size_t)n, o->help);
    }
}

/* Models that are on this machine, by name or as files. */
static void offer_models(const asked *q) {
    hub_places places;
    hub_entry *entries = NULL;
    size_t n = 0;
    cli_places(&places);
    if (hub_list_all(&places, &entries, &n, NULL) != ROTOR_OK) n = 0;
    for (size_t i = 0; i < n; i++)
        offer(q, entries[i].name, strlen(entries[i].name), hub_source_name(entries[i].source));
    hub_entries_free(entries, n);
    offer(q, "embedded", strlen("embedded"), "the model inside the program");
    offer_files(q);
}

static void offer_presets(const asked *q) {
    for (size_t i = 0; tool_preset_name(i); i++)
        offer(q, tool_preset_name(i), strlen(tool_preset_name(i)), tool_preset_help(i));
}

static void offer_short_names(const asked *q) {
    for (size_t i = 0; hub_short_at(i); i++)
        offer(q, hub_short_at(i)->name, strlen(hub_short_at(i)->name), NULL);
}

static void offer_value(const asked *q, const cli_option *o) {
    if (o->choices)
        offer_choices(q, o->choices);
    else if (o->type == CLI_FLAG)
        offer_choices(q, "on|off");
    else if (o == &cli_options[OPT_DEVICE] || o == &cli_options[OPT_DEVICE_PROMPT])
        offer_choices(q, "auto|cpu|opencl|vulkan");
    else if (o == &cli_options[OPT_PRESET])
        offer_presets(q);
    else if (o->type == CLI_TEXT && strcmp(o->value, "MODEL") == 0)
        offer_models(q);
    else if (o->type == CLI_TEXT)
        offer_files(q);
}

/* The word number at (from 0) of a verb. */
static void offer_word(const asked *q, const cli_verb *verb, size_t at) {
    if ((int)at >= verb->max_words) return;
    if (verb->bit == VERB_HELP)
        offer_verbs(q);
    else if (verb->bit == VERB_RAG && at == 0)
        offer_choices(q, verb->usage);
    else if (verb->bit == VERB_SYNTH)
        offer_presets(q);
    else if (verb->bit == VERB_PULL)
        offer_short_names(q);
    else if (at == 0 && verb->bit & (VERBS_ENGINE | VERB_TOKENIZE | VERB_EMBED | VERB_INSPECT |
                                     VERB_INFO | VERB_RM | VERB_FINETUNE | VERB_QUANTIZE))
        offer_models(q);
    else
        offer_files(q);
}

/* ==== Where the last word stands ============================================================== */

/* The option that a word names and that wants a value behind it; NULL: none. */
static const cli_option *wants_value(const cli_verb *verb, const char *word) {
    if (word[0] != '-' || strchr(word, '=')) return NULL;
    for (int i = 0; i < CLI_N_OPTS; i++) {
        const cli_option *o = &cli_options[i];
        const bool is_long = word[1] == '-' && strcmp(o->name, word + 2) == 0;
        const bool is_short = o->letter && word[1] == o->letter && !word[2];
        if (o->verbs & verb->bit && o->type != CLI_FLAG && (is_long || is_short)) return o;
    }
    return NULL;
}

/* "--kv=f": the value is what stands behind the sign. */
static bool offer_behind_sign(asked *q, const cli_verb *verb, const char *word) {
    const char *sign = strchr(word, '=');
    if (word[0] != '-' || word[1] != '-' || !sign) return false;
    const cli_opt o = cli_find_option(word + 2, (size_t)(sign - word) - 2, verb->bit);
    char front[64];
    snprintf(front, sizeof front, "%.*s", (int)(sign + 1 - word), word);
    if (o == CLI_N_OPTS) return true;
    q->front = front;
    q->prefix = sign + 1;
    offer_value(q, &cli_options[o]);
    return true;
}

/* bash breaks "--kv=f" into three words: the sign alone says nothing. */
static bool is_sign(const char *word) { return strcmp(word, "=") == 0; }

void cli_complete(base_buf *out, const char *const *words, size_t n) {
    const char *last = n && !is_sign(words[n - 1]) ? words[n - 1] : "";
    asked q = {.out = out, .front = "", .prefix = last};
    if (n < 2) {
        offer_verbs(&q);
        return;
    }
    const cli_verb *verb = cli_verb_find(words[0]);
    const cli_option *open = NULL; /* the option whose value comes next */
    size_t at = 0;                 /* words beside options so far */
    if (!verb) return;
    for (size_t i = 1; i + 1 < n; i++) {
        if (is_sign(words[i])) continue;
        if (!open && words[i][0] != '-') at++;
        open = open ? NULL : wants_value(verb, words[i]);
    }
    if (open)
        offer_value(&q, open);
    else if (offer_behind_sign(&q, verb, last))
        return;
    else if (last[0] == '-')
        offer_options(&q, verb);
    else
        offer_word(&q, verb, at);
}

/* ==== The scripts ============================================================================= */

static const char bash_script[] =
    "# bash completion for rotor, made by: rotor help --completions bash\n"
    "_rotor() {\n"
    "    local line files\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        if [ \"$line\" = :files ]; then\n"
    "            mapfile -t files < <(compgen -f -- \"${COMP_WORDS[COMP_CWORD]}\")\n"
    "            COMPREPLY+=(\"${files[@]}\")\n"
    "            compopt -o filenames 2>/dev/null\n"
    "        else\n"
    "            COMPREPLY+=(\"${line%%$'\\t'*}\")\n"
    "        fi\n"
    "    done < <(\"$1\" help --complete -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
    "}\n"
    "complete -F _rotor rotor\n";

static const char zsh_script[] =
    "#compdef rotor\n"
    "# zsh completion for rotor, made by: rotor help --completions zsh\n"
    "_rotor() {\n"
    "    local line tab=$'\\t' files=\n"
    "    local -a found\n"
    "    while IFS= read -r line; do\n"
    "        if [[ $line == :files ]]; then\n"
    "            files=yes\n"
    "        else\n"
    "            found+=(\"${${line//:/\\\\:}/$tab/:}\")\n"
    "        fi\n"
    "    done < <(\"${words[1]}\" help --complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)\n"
    "    (( $#found )) && _describe rotor found\n"
    "    [[ -n $files ]] && _files\n"
    "}\n"
    "if [[ $funcstack[1] == _rotor ]]; then _rotor \"$@\"; else compdef _rotor rotor; fi\n";

static const char fish_script[] =
    "# fish completion for rotor, made by: rotor help --completions fish\n"
    "function __rotor_complete\n"
    "    set -l words (commandline -opc) (commandline -ct)\n"
    "    for line in ($words[1] help --complete -- $words[2..-1] 2>/dev/null)\n"
    "        if test \"$line\" = :files\n"
    "            __fish_complete_path (commandline -ct)\n"
    "        else\n"
    "            echo $line\n"
    "        end\n"
    "    end\n"
    "end\n"
    "complete -c rotor -f -a '(__rotor_complete)'\n";

void cli_completions(base_buf *out, const char *shell) {
    base_buf_puts(out, strcmp(shell, "bash") == 0  ? bash_script
                       : strcmp(shell, "zsh") == 0 ? zsh_script
                                                   : fish_script);
}
