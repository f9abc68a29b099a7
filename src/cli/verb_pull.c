/* SPDX-License-Identifier: MIT
 *
 * rotor pull: from a name to a model in the cache. Asks the hub, says from the first bytes of the
 * file whether the model fits memory and disk, downloads, and prints the path.
 *
 * The environment is read here: HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE,
 * HF_HUB_DISABLE_SYMLINKS, HF_HUB_ETAG_TIMEOUT, HF_HUB_DOWNLOAD_TIMEOUT; proxy variables by
 * libcurl.
 */
#include "cli/cli.h"
#include "hub/hub.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    HEAD_FIRST = 1 << 20,
    HEAD_MAX = 64 << 20,
    LINE_EVERY_US = 10000000,
    DRAW_EVERY_US = 200000
};

typedef struct pulling {
    const cli_args *a;      /* options */
    const char *word;       /* as the user calls it */
    hub_pull *p;            /* owned */
    char *root, *token;     /* owned */
    cli_fit fit;            /* what running takes */
    bool fit_known;         /* fit says something */
    bool downloading;       /* progress is to be shown */
    bool drawn;             /* a line stands on the terminal */
    uint64_t start_us;      /* of the download */
    uint64_t start_bytes;   /* that were here then */
    uint64_t shown_us;      /* last line */
    uint64_t seen_us, seen; /* last measurement: when, bytes */
    double rate;            /* bytes per second, of late */
} pulling;

/* ==== Progress ================================================================================ */

static void measure(pulling *w, uint64_t now, uint64_t done) {
    const double s = (double)(now - w->seen_us) / 1e6;
    if (s < 0.2) return;
    const double rate = (double)(done - BASE_MIN(done, w->seen)) / s;
    w->rate = w->rate > 0 ? 0.8 * w->rate + 0.2 * rate : rate;
    w->seen_us = now;
    w->seen = done;
}

static void line_of(const pulling *w, uint64_t done, uint64_t total, char *out, size_t n) {
    char a[32], b[32], c[32], left[48] = "";
    if (w->rate > 1) snprintf(left, sizeof left, ", %.0f s left", (double)(total - done) / w->rate);
    snprintf(out, n, "%s: %.0f %%, %s of %s, %s/s%s", w->word,
             100.0 * (double)done / (double)BASE_MAX(total, 1), cli_bytes(done, a),
             cli_bytes(total, b), cli_bytes((uint64_t)w->rate, c), left);
}

/* On a terminal one line that is drawn again; elsewhere a line now and then. */
static bool progress(void *user, uint64_t done, uint64_t total) {
    pulling *w = user;
    const uint64_t now = base_now_us();
    char line[256];
    if (cli_interrupted()) return false;
    if (!w->downloading || !total) return true;
    if (!w->start_us) {
        w->start_us = w->seen_us = w->shown_us = now;
        w->start_bytes = w->seen = done;
    }
    measure(w, now, done);
    const bool terminal = cli_is_terminal(2);
    if (cli_on(w->a, OPT_NO_PROGRESS) ||
        now - w->shown_us < (terminal ? DRAW_EVERY_US : LINE_EVERY_US))
        return true;
    w->shown_us = now;
    line_of(w, done, total, line, sizeof line);
    if (!terminal) {
        cli_log(w->a, BASE_LOG_INFO, "%s", line);
        return true;
    }
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
    w->drawn = true;
    return true;
}

static void clear_line(pulling *w) {
    if (w->drawn) fputs("\r\033[K", stderr);
    w->drawn = false;
}

static void log_line(void *user, base_log_level level, const char *line) {
    pulling *w = user;
    clear_line(w);
    cli_log(w->a, level, "%s", line);
}

/* ==== The environment ========================================================================= */

static bool is_on(const char *name) {
    const char *v = getenv(name);
    return v && (strcmp(v, "1") == 0 || strcasecmp(v, "true") == 0 || strcasecmp(v, "yes") == 0 ||
                 strcasecmp(v, "on") == 0);
}

static uint32_t seconds(const char *name) {
    const char *v = getenv(name);
    const long n = v ? strtol(v, NULL, 10) : 0;
    return n > 0 && n < 86400 ? (uint32_t)n : 0;
}

/* HF_TOKEN, or the first word of the file; NULL: none. */
static char *find_token(const hub_places *places) {
    const char *said = getenv("HF_TOKEN"), *named = getenv("HF_TOKEN_PATH");
    char *path = NULL, *token = NULL;
    base_file f;
    if (said && *said) return base_strndup(said, strcspn(said, " \t\r\n"));
    path = named && *named ? base_strdup(named) : hub_token_path(places);
    if (path && base_path_kind_of(path) == BASE_PATH_FILE &&
        base_file_open(&f, path, false, NULL) == ROTOR_OK) {
        char *text = f.size ? base_strndup((const char *)f.data, f.size) : NULL;
        if (text) token = base_strndup(text, strcspn(text, " \t\r\n"));
        base_free(text);
        base_file_close(&f);
    }
    base_free(path);
    return token;
}

/* ==== Does it fit ============================================================================= */

static void set_fit(pulling *w, tool_file *f, uint64_t more_weights) {
    tool_facts t = *tool_file_facts(f);
    t.tensor_bytes += more_weights;
    w->fit_known = t.n_layer && t.n_embd;
    if (w->fit_known) w->fit = cli_fit_of(w->a, &t);
}

/* The header of a GGUF file, however long it is; of a split one the other parts count whole. */
static rotor_status fit_of_gguf(pulling *w, rotor_error *err) {
    const hub_file *first = hub_pull_file(w->p, 0);
    const uint64_t others = hub_pull_bytes(w->p) - first->bytes;
    base_buf head = {0};
    rotor_status st = ROTOR_E_FORMAT;
    for (uint64_t n = HEAD_FIRST; n <= HEAD_MAX; n *= 4) {
        tool_file *f = NULL;
        st = hub_pull_head(w->p, 0, n, &head, err);
        if (st != ROTOR_OK) break;
        if (head.len < 4 || memcmp(head.data, "GGUF", 4) != 0) {
            st = base_fail(err, ROTOR_E_FORMAT, "%s does not begin as a GGUF file", first->path);
            break;
        }
        st = tool_file_open_head(&f, head.data, head.len, first->bytes, first->path, err);
        if (st == ROTOR_OK) set_fit(w, f, others);
        if (st == ROTOR_E_NOMEM) /* of addresses: it could still be read where there are more */
            st =
                base_fail(err, ROTOR_E_UNSUPPORTED, "no room for the addresses of %s", first->path);
        tool_file_close(&f);
        if (st == ROTOR_OK || n >= first->bytes) break; /* cut short, it reads as malformed */
    }
    base_buf_free(&head);
    return st;
}

static rotor_status fit_of_folder(pulling *w, rotor_error *err) {
    uint64_t weights = 0;
    size_t config = 0;
    base_buf text = {0};
    tool_file *f = NULL;
    for (size_t i = 0; i < hub_pull_n_files(w->p); i++) {
        const hub_file *x = hub_pull_file(w->p, i);
        const size_t n = strlen(x->path);
        if (n > 12 && strcmp(x->path + n - 12, ".safetensors") == 0) weights += x->bytes;
        if (strcmp(x->path, "config.json") == 0) config = i;
    }
    rotor_status st = hub_pull_head(w->p, config, HEAD_FIRST, &text, err);
    if (st == ROTOR_OK)
        st = tool_file_open_config(&f, (base_str){text.data, text.len}, weights, err);
    if (st == ROTOR_OK) set_fit(w, f, 0);
    tool_file_close(&f);
    base_buf_free(&text);
    return st;
}

static bool is_gguf(const hub_file *f) {
    const size_t n = strlen(f->path);
    return n > 5 && strcmp(f->path + n - 5, ".gguf") == 0;
}

/* A header that cannot be read is told and does not stop the download; a broken wire does. */
static rotor_status check_memory(pulling *w, rotor_error *err) {
    base_buf line = {0};
    rotor_status st = is_gguf(hub_pull_file(w->p, 0)) ? fit_of_gguf(w, err) : fit_of_folder(w, err);
    if (st == ROTOR_E_FORMAT || st == ROTOR_E_UNSUPPORTED) {
        cli_log(w->a, BASE_LOG_WARN, "rotor: pull: whether it fits cannot be said: %s",
                err->message);
        return ROTOR_OK;
    }
    if (st != ROTOR_OK || !w->fit_known) return st;
    cli_fit_text(&w->fit, &line);
    const char *text = line.data ? line.data : "";
    if (w->fit.fits || cli_on(w->a, OPT_FORCE) || cli_on(w->a, OPT_ONLY_SAY))
        cli_log(w->a, w->fit.fits ? BASE_LOG_INFO : BASE_LOG_WARN, "%s", text);
    else
        st = base_fail(err, ROTOR_E_FULL, "%s; --force downloads it all the same", text);
    base_buf_free(&line);
    return st;
}

static rotor_status check_disk(const pulling *w, rotor_error *err) {
    char need[32], have[32];
    const uint64_t missing = hub_pull_missing(w->p), room = hub_pull_room(w->p);
    if (!missing || !room || missing <= room || cli_on(w->a, OPT_FORCE)) return ROTOR_OK;
    return base_fail(err, ROTOR_E_FULL, "%s are to be downloaded and %s has room for %s",
                     cli_bytes(missing, need), w->root, cli_bytes(room, have));
}

/* ==== What is said ============================================================================ */

static json_t *json_fit(const cli_fit *f) {
    json_t *o = json_object();
    json_object_set_new(o, "ctx", json_integer((json_int_t)f->n_ctx));
    json_object_set_new(o, "kv", json_string(f->kv));
    json_object_set_new(o, "weights_bytes", json_integer((json_int_t)f->weights_bytes));
    json_object_set_new(o, "kv_bytes", json_integer((json_int_t)f->kv_bytes));
    json_object_set_new(o, "work_bytes", json_integer((json_int_t)f->work_bytes));
    json_object_set_new(o, "need_bytes", json_integer((json_int_t)f->need_bytes));
    json_object_set_new(o, "limit_bytes", json_integer((json_int_t)f->limit_bytes));
    json_object_set_new(o, "free_bytes", json_integer((json_int_t)f->free_bytes));
    json_object_set_new(o, "fits", json_boolean(f->fits));
    json_object_set_new(o, "advice", json_string(f->knob));
    return o;
}

static int say_json(const pulling *w, bool done, uint64_t downloaded) {
    json_t *o = json_object(), *files = json_array();
    const char *path = hub_pull_path(w->p);
    for (size_t i = 0; i < hub_pull_n_files(w->p); i++) {
        const hub_file *f = hub_pull_file(w->p, i);
        json_t *one = json_object();
        json_object_set_new(one, "path", cli_json_text(f->path, strlen(f->path)));
        json_object_set_new(one, "bytes", json_integer((json_int_t)f->bytes));
        json_object_set_new(one, "have_bytes", json_integer((json_int_t)f->have));
        json_array_append_new(files, one);
    }
    json_object_set_new(o, "repo", json_string(hub_pull_repo(w->p)));
    json_object_set_new(o, "commit", json_string(hub_pull_commit(w->p)));
    json_object_set_new(o, "path", cli_json_text(path, strlen(path)));
    json_object_set_new(o, "done", json_boolean(done));
    json_object_set_new(o, "bytes", json_integer((json_int_t)hub_pull_bytes(w->p)));
    json_object_set_new(o, "downloaded_bytes", json_integer((json_int_t)downloaded));
    json_object_set_new(o, "files", files);
    json_object_set_new(o, "fit", w->fit_known ? json_fit(&w->fit) : json_null());
    return cli_json_print(w->a, o);
}

static void say_plan(const pulling *w) {
    char a[32], b[32];
    base_buf line = {0};
    for (size_t i = 0; i < hub_pull_n_files(w->p); i++) {
        const hub_file *f = hub_pull_file(w->p, i);
        cli_outf("%-48s %11s%s%s%s\n", f->path, cli_bytes(f->bytes, a), f->have ? ", " : "",
                 f->have ? cli_bytes(f->have, b) : "", f->have ? " here" : "");
    }
    cli_outf("download: %s into %s\n", cli_bytes(hub_pull_missing(w->p), a), w->root);
    if (w->fit_known) cli_fit_text(&w->fit, &line);
    if (line.data) cli_outf("%s\n", line.data);
    base_buf_free(&line);
}

/* ==== The verb ================================================================================ */

/* A word that is no name: the near ones are told. */
static rotor_status read_name(const char *word, hub_ref *ref, rotor_error *err) {
    rotor_status st = hub_ref_parse(ref, word, err);
    char *near = st == ROTOR_E_NOTFOUND ? cli_nearest_model(word) : NULL;
    if (near) base_fail(err, st, "no model is called '%s'; did you mean '%s'?", word, near);
    base_free(near);
    return st;
}

static int list_short_names(const cli_args *a) {
    base_buf names = {0};
    for (size_t i = 0; hub_short_at(i); i++)
        base_buf_printf(&names, "\n  %-16s %s", hub_short_at(i)->name, hub_short_at(i)->note);
    const int status = cli_usage(a, "which model? ORG/NAME as on the hub, or a short name:%s\n",
                                 names.data ? names.data : "");
    base_buf_free(&names);
    return status;
}

/* Without asking anybody: what is in the cache under this name. */
static int pull_offline(const pulling *w, const hub_ref *ref) {
    hub_entry *entries = NULL;
    size_t n = 0, fits = 0;
    rotor_error err = {0};
    char *name = hub_ref_text(ref);
    rotor_status st =
        name ? hub_list(w->root, &entries, &n, &err) : base_fail_nomem(&err, "finding a model");
    const hub_entry *e = name ? hub_match(entries, n, name, &fits) : NULL;
    if (st == ROTOR_OK && fits > 1)
        st =
            base_fail(&err, ROTOR_E_ARG, "'%s' fits %zu models of the cache; name one", name, fits);
    else if (st == ROTOR_OK && !e)
        st = base_fail(&err, ROTOR_E_NOTFOUND,
                       "%s is not in the cache, and no other machine may be asked (--offline, "
                       "HF_HUB_OFFLINE)",
                       name);
    int status = cli_status(w->a, st, &err);
    if (st == ROTOR_OK && cli_on(w->a, OPT_JSON)) {
        json_t *o = json_object();
        json_object_set_new(o, "repo", json_string(ref->repo));
        json_object_set_new(o, "path", cli_json_text(e->path, strlen(e->path)));
        json_object_set_new(o, "done", json_true());
        json_object_set_new(o, "downloaded_bytes", json_integer(0));
        status = cli_json_print(w->a, o);
    } else if (st == ROTOR_OK) {
        cli_outf("%s\n", e->path);
    }
    hub_entries_free(entries, n);
    base_free(name);
    return status;
}

/* Small files have no SHA-256 on the hub; of them only the size is compared. */
static const char *what_was_checked(const hub_pull *p) {
    size_t sums = 0;
    const size_t n = hub_pull_n_files(p);
    for (size_t i = 0; i < n; i++) sums += hub_pull_file(p, i)->hashed;
    if (sums == n) return ", checked";
    return sums ? ", the large files checked" : "";
}

static rotor_status download(pulling *w, rotor_error *err) {
    char bytes[32], took[64] = "";
    const uint64_t missing = hub_pull_missing(w->p);
    ROTOR_TRY(check_disk(w, err));
    w->downloading = true;
    rotor_status st = hub_pull_run(w->p, err);
    w->downloading = false;
    clear_line(w);
    if (st != ROTOR_OK) return st;
    const double s = w->start_us ? (double)(base_now_us() - w->start_us) / 1e6 : 0;
    if (s > 1) snprintf(took, sizeof took, " in %.0f s", s);
    if (missing)
        cli_log(w->a, BASE_LOG_INFO, "downloaded %s%s%s", cli_bytes(missing, bytes), took,
                what_was_checked(w->p));
    else
        cli_log(w->a, BASE_LOG_INFO, "all of it is here already");
    return ROTOR_OK;
}

static int pull_online(pulling *w, const hub_ref *ref) {
    const base_log log = {log_line, w};
    const hub_pull_options opt = {.root = w->root,
                                  .endpoint = getenv("HF_ENDPOINT"),
                                  .token = w->token,
                                  .no_links = is_on("HF_HUB_DISABLE_SYMLINKS"),
                                  .connect_s = seconds("HF_HUB_ETAG_TIMEOUT"),
                                  .stall_s = seconds("HF_HUB_DOWNLOAD_TIMEOUT"),
                                  .connections = (uint32_t)cli_int(w->a, OPT_CONNECTIONS),
                                  .progress = progress,
                                  .user = w,
                                  .log = &log};
    const bool dry = cli_on(w->a, OPT_ONLY_SAY);
    rotor_error err = {0};
    rotor_status st = hub_pull_plan(&w->p, ref, &opt, &err);
    const uint64_t missing = st == ROTOR_OK ? hub_pull_missing(w->p) : 0;
    if (st == ROTOR_OK) st = check_memory(w, &err);
    if (st == ROTOR_OK && !dry) st = download(w, &err);
    if (st != ROTOR_OK) return cli_status(w->a, st, &err);
    if (cli_on(w->a, OPT_JSON)) return say_json(w, !dry, dry ? 0 : missing);
    if (dry)
        say_plan(w);
    else
        cli_outf("%s\n", hub_pull_path(w->p));
    return CLI_DONE;
}

int verb_pull(const cli_args *a) {
    hub_places places;
    hub_ref ref = {0};
    rotor_error err = {0};
    if (!cli_word(a, 0)) return list_short_names(a);
    pulling w = {.a = a, .word = cli_word(a, 0)};
    if (base_path_kind_of(w.word) == BASE_PATH_FILE)
        return cli_usage(a, "'%s' is a file that is here already", w.word);
    rotor_status st = read_name(w.word, &ref, &err);
    if (st != ROTOR_OK) return cli_status(a, st, &err);
    cli_places(&places);
    w.root = hub_root(&places);
    int status;
    if (!w.root) {
        status = cli_fail_text(a, "there is no place for the model cache: set HF_HOME or HOME");
    } else if (cli_on(a, OPT_OFFLINE) || is_on("HF_HUB_OFFLINE")) {
        status = pull_offline(&w, &ref);
    } else {
        w.token = find_token(&places);
        cli_catch_interrupt(true);
        status = pull_online(&w, &ref);
    }
    hub_pull_free(&w.p);
    hub_ref_free(&ref);
    base_free(w.root);
    base_free(w.token);
    return status;
}
