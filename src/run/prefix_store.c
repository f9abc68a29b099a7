/* SPDX-License-Identifier: MIT
 *
 * Sessions in a folder, so that the beginning of a prompt is known after a restart.
 *
 *     DIR/0123456789abcdef-fedcba9876543210.prefix
 *         |                |
 *         |                hash of its tokens
 *         hash of the model's fingerprint and the cache's type
 *
 * A file is a session file (session_file.c) whose note says what its tokens had cost. Those of this
 * model are indexed by their tokens, which are few bytes beside the pages; the files of other
 * models, of other servers with the same folder too, are left alone, but count when room is needed:
 * then what was used longest ago goes, whosever it is: when a file was last read is when the empty
 * NAME.used beside it was made.
 *
 * Nothing in a file is believed before its sums are right: the index is a hint, a file that lies
 * does not load. One that is damaged is removed and told; one that was taken away by somebody else
 * is only forgotten. A file appears under its name when it is whole; what a crash has left half
 * written is removed by whoever opens the folder an hour later.
 *
 * Files are written and removed on a thread of its own (chores.c), in the order in which that was
 * asked for, from a copy of the session in memory: to copy costs what a step costs, to write to a
 * disk and to wait for it may take seconds. The index learns of a file when it is whole; who wants
 * what is still being written waits for it. What waits is bounded: then keeping waits, too.
 *
 * Loading has to pay: bytes times what bytes have cost, against tokens times what tokens have cost,
 * here or, before anything was evaluated, when the file was written.
 */
#include "run/run_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define SUFFIX   ".prefix"
#define USED     ".used"
#define PART     ".part-"
#define NOTE     "prompt_us_per_token "
#define FIRST_US 0.004 /* to load a byte, before one was: 250 MB a second */
#define MOST_US  1e7   /* a token costs less, whatever a file says */

enum {
    NAME_CHARS = 16 + 1 + 16 + sizeof SUFFIX - 1,
    PAUSE_S = 60,
    STALE_S = 3600,
    WAITING_MAX = 256 << 20 /* bytes that wait to be written, or one file */
};

typedef struct entry {
    char name[NAME_CHARS + 1]; /* of the file */
    run_peek is;               /* what it holds, owned */
    double us_per_tok;         /* what a token had cost when it was written; 0: not known */
} entry;

/* Names of files. */
typedef struct name_list {
    char (*list)[NAME_CHARS + 1]; /* [n], owned */
    size_t n;                     /* how many */
} name_list;

/* Work for the thread: a file, or (without an image) names to remove. */
typedef struct errand {
    run_chore chore;   /* first */
    run_store *s;      /* whose folder and limit */
    entry it;          /* what is written, owned until the index has it */
    run_image image;   /* its bytes, owned */
    name_list gone;    /* removed: for room, or as the errand says; owned */
    uint64_t left;     /* bytes in the folder after making room */
    rotor_status st;   /* of writing */
    rotor_error err;   /* why it failed */
    rotor_error stays; /* why a file could not be removed */
} errand;

struct run_store {
    run_engine *e;              /* borrowed */
    char *dir;                  /* owned */
    run_store_options opt;      /* with defaults filled in */
    uint64_t whose;             /* first part of our names: model and cache */
    entry *list;                /* [n], owned */
    size_t n;                   /* how many */
    char found[NAME_CHARS + 1]; /* what run_store_find has found; "": nothing */
    double us_per_tok;          /* of prompts here; 0: none was evaluated */
    double us_per_byte;         /* of loading */
    int64_t pause_s;            /* nothing is written before: the last time it failed */
    run_store_facts facts;      /* what has happened */
    run_chores *chores;         /* errands, owned; NULL: none yet */
    uint64_t waiting;           /* bytes of images among them */
};

/* ==== Names =================================================================================== */

static void name_of(char out[NAME_CHARS + 1], uint64_t whose, const uint32_t *tokens, uint32_t n) {
    snprintf(out, NAME_CHARS + 1, "%016llx-%016llx" SUFFIX, (unsigned long long)whose,
             (unsigned long long)base_hash64(tokens, n * sizeof *tokens, 0));
}

/* One of the folder's files, of whatever model; *part: one that was not finished. */
static bool is_ours(const char *name, bool *part) {
    const size_t hex = strspn(name, "0123456789abcdef");
    if (hex != 16 || name[16] != '-' || strspn(name + 17, "0123456789abcdef") != 16) return false;
    if (strncmp(name + 33, SUFFIX, sizeof SUFFIX - 1) != 0) return false;
    *part = strncmp(name + NAME_CHARS, PART, sizeof PART - 1) == 0;
    return *part || !name[NAME_CHARS];
}

/* DIR/NAME and an ending; NULL: out of memory. */
static char *path_of(const run_store *s, const char *name, const char *ending) {
    char whole[NAME_CHARS + sizeof PART + 32];
    snprintf(whole, sizeof whole, "%s%s", name, ending);
    return base_path_join(s->dir, whole);
}

static void say(const run_store *s, base_log_level level, const rotor_error *err,
                const char *then) {
    base_log_printf(s->e->opt.log, level, "prefix store: %s; %s", err->message, then);
}

/* ==== The index =============================================================================== */

static void forget(run_store *s, size_t i) {
    run_peek_free(&s->list[i].is);
    s->list[i] = s->list[--s->n];
}

static size_t index_of(const run_store *s, const char *name) {
    size_t i = 0;
    while (i < s->n && strcmp(s->list[i].name, name) != 0) i++;
    return i;
}

/* Out of the index, and of what is counted. */
static void lose(run_store *s, const char *name) {
    const size_t i = index_of(s, name);
    if (i == s->n) return;
    s->facts.bytes -= BASE_MIN(s->facts.bytes, s->list[i].is.bytes);
    forget(s, i);
}

/* The file and the mark of its use. Any thread. */
static rotor_status unlink_named(const run_store *s, const char *name, rotor_error *err) {
    char *path = path_of(s, name, ""), *used = path_of(s, name, USED);
    const rotor_status st = path ? base_remove_file(path, err) : ROTOR_OK;
    if (used) (void)base_remove_file(used, NULL);
    base_free(used);
    base_free(path);
    return st;
}

static void remove_named(run_store *s, const char *name) {
    rotor_error err = {0};
    if (unlink_named(s, name, &err) != ROTOR_OK) say(s, BASE_LOG_WARN, &err, "it stays");
    lose(s, name);
}

/* What a token had cost; anything but a sensible number means nothing. */
static double cost_in(const char *note) {
    if (strncmp(note, NOTE, sizeof NOTE - 1) != 0) return 0;
    const double us = strtod(note + sizeof NOTE - 1, NULL);
    return us > 0 && us < MOST_US ? us : 0;
}

/* False: out of memory. */
static bool add(run_store *s, const char *name, run_peek *is) {
    entry *more = s->n % 16 ? s->list : base_realloc(s->list, (s->n + 16) * sizeof *more);
    if (!more) return false;
    s->list = more;
    entry *it = &s->list[s->n++];
    *it = (entry){.is = *is, .us_per_tok = cost_in(is->note)};
    memcpy(it->name, name, NAME_CHARS + 1);
    return true;
}

/* A file of this model: into the index, or, where it is no whole session, away. Its name has to be
 * that of its tokens. */
static void look_at(run_store *s, const char *name) {
    run_peek is;
    rotor_error err = {0};
    char right[NAME_CHARS + 1], *path = base_path_join(s->dir, name);
    if (!path) return;
    rotor_status st = run_session_peek(s->e, path, &is, &err);
    if (st == ROTOR_OK) {
        name_of(right, s->whose, is.tokens, is.len);
        if (strcmp(right, name) != 0)
            st = base_fail(&err, ROTOR_E_FORMAT, "%s: damaged: these are not its tokens", path);
        if (st != ROTOR_OK || !add(s, name, &is)) run_peek_free(&is);
    }
    if (st == ROTOR_E_FORMAT) {
        say(s, BASE_LOG_WARN, &err, "removed");
        s->facts.refused++;
        remove_named(s, name);
    }
    base_free(path);
}

/* ==== The limit =============================================================================== */

typedef struct aged {
    char name[NAME_CHARS + 1]; /* file */
    uint64_t bytes;            /* of it */
    int64_t used_ns;           /* when it was last of use */
} aged;

static int by_age(const void *a, const void *b) {
    const aged *x = a, *y = b;
    return x->used_ns < y->used_ns ? -1 : x->used_ns > y->used_ns;
}

/* It is of use now. */
static void touch(const run_store *s, const char *name) {
    char *used = path_of(s, name, USED);
    if (used && base_remove_file(used, NULL) == ROTOR_OK) (void)base_make_private(used, NULL);
    base_free(used);
}

/* Its size and when it was last of use. False: it has gone. */
static bool age_of(const run_store *s, const char *name, aged *out) {
    base_node node, used;
    char *path = path_of(s, name, ""), *mark = path_of(s, name, USED);
    const bool is = path && base_node_of(&node, path, false) && node.kind == BASE_NODE_FILE;
    if (is) {
        memcpy(out->name, name, NAME_CHARS + 1);
        out->bytes = node.size;
        out->used_ns = node.mtime_ns;
        if (mark && base_node_of(&used, mark, false))
            out->used_ns = BASE_MAX(used.mtime_ns, node.mtime_ns);
    }
    base_free(path);
    base_free(mark);
    return is;
}

/* All files of the folder, of every model, oldest first; NULL: there are none. */
static aged *list_aged(const run_store *s, size_t *n, uint64_t *bytes) {
    char **names;
    size_t all, kept = 0;
    bool part;
    *bytes = *n = 0;
    if (base_list_dir(s->dir, &names, &all, NULL) != ROTOR_OK) return NULL;
    aged *list = base_alloc_array(all + 1, sizeof *list);
    for (size_t i = 0; list && i < all; i++)
        if (is_ours(names[i], &part) && !part && age_of(s, names[i], &list[kept]))
            *bytes += list[kept++].bytes;
    base_names_free(names, all);
    if (list) qsort(list, kept, sizeof *list, by_age);
    *n = kept;
    return list;
}

/* False: out of memory. */
static bool add_name(name_list *to, const char *name) {
    char(*more)[NAME_CHARS + 1] = base_realloc(to->list, (to->n + 1) * sizeof *more);
    if (!more) return false;
    to->list = more;
    memcpy(to->list[to->n++], name, NAME_CHARS + 1);
    return true;
}

/* Removes what was used longest ago until there is room for so many bytes. Any thread. */
static void make_room(errand *w, uint64_t bytes) {
    size_t n;
    aged *list = list_aged(w->s, &n, &w->left);
    for (size_t i = 0; i < n && w->left + bytes > w->s->opt.max_bytes; i++) {
        if (!add_name(&w->gone, list[i].name)) break;
        if (unlink_named(w->s, list[i].name, &w->stays) == ROTOR_OK)
            w->left -= list[i].bytes;
        else
            w->gone.n--; /* it is still there */
    }
    base_free(list);
}

/* What making room has done. */
static void note_room(run_store *s, errand *w) {
    for (size_t i = 0; i < w->gone.n; i++) lose(s, w->gone.list[i]);
    if (w->stays.message[0]) say(s, BASE_LOG_WARN, &w->stays, "it stays");
    s->facts.evicted += w->gone.n;
    s->facts.bytes = w->left;
    base_free(w->gone.list);
}

/* ==== Opening ================================================================================= */

/* What somebody has begun to write, and has not touched for an hour. */
static void sweep_part(run_store *s, const char *name) {
    base_node node;
    char *path = base_path_join(s->dir, name);
    if (path && base_node_of(&node, path, false) && node.kind == BASE_NODE_FILE &&
        base_unix_s() - node.mtime_ns / 1000000000 > STALE_S)
        remove_named(s, name);
    base_free(path);
}

static rotor_status scan(run_store *s, rotor_error *err) {
    char **names, ours[NAME_CHARS + 1];
    size_t n;
    bool part;
    ROTOR_TRY(base_list_dir(s->dir, &names, &n, err));
    name_of(ours, s->whose, NULL, 0);
    for (size_t i = 0; i < n; i++) {
        if (!is_ours(names[i], &part)) continue;
        if (part)
            sweep_part(s, names[i]);
        else if (memcmp(names[i], ours, 16) == 0)
            look_at(s, names[i]);
    }
    base_names_free(names, n);
    return ROTOR_OK;
}

static rotor_status open_store(run_store *s, rotor_error *err) {
    uint64_t id[2] = {0, s->e->opt.kv};
    ROTOR_TRY(run_fingerprint(s->e, &id[0], err));
    s->whose = base_hash64(id, sizeof id, 0);
    if (!s->dir) return base_fail_nomem(err, "opening a prefix store");
    if (base_path_kind_of(s->dir) != BASE_PATH_DIR) ROTOR_TRY(base_mkdir_private(s->dir, err));
    ROTOR_TRY(scan(s, err));
    errand room = {.s = s};
    make_room(&room, 0); /* the limit may be another one now */
    note_room(s, &room);
    return ROTOR_OK;
}

rotor_status run_store_open(run_store **out, run_engine *e, const run_store_options *opt,
                            rotor_error *err) {
    run_store *s = base_alloc(sizeof *s);
    if (!s) return base_fail_nomem(err, "opening a prefix store");
    s->e = e;
    s->opt = *opt;
    if (!s->opt.max_bytes) s->opt.max_bytes = 8ull << 30;
    s->dir = base_strdup(opt->dir);
    s->opt.dir = s->dir;
    s->us_per_byte = FIRST_US;
    const rotor_status st = open_store(s, err);
    if (st != ROTOR_OK) return run_store_close(&s), st;
    *out = s;
    return ROTOR_OK;
}

void run_store_close(run_store **sp) {
    if (!sp || !*sp) return;
    run_store *s = *sp;
    run_store_flush(s);
    run_chores_free(&s->chores);
    while (s->n) forget(s, s->n - 1);
    base_free(s->list);
    base_free(s->dir);
    base_free(s);
    *sp = NULL;
}

/* ==== Worth =================================================================================== */

/* How much of tokens[n] a session loaded from the file could go on from. */
static uint32_t shared_with(const run_store *s, const entry *it, const uint32_t *tokens,
                            uint32_t n) {
    const run_engine *e = s->e;
    const uint32_t most = BASE_MIN(n, it->is.len);
    uint32_t i = 0;
    while (i < most && it->is.tokens[i] == tokens[i]) i++;
    if (!e->ring.n) return i;
    const uint32_t first =
        BASE_MAX(it->is.ring_first, run_ring_needs(it->is.len, e->ring_keep)); /* when loaded */
    return run_ring_needs(i, e->m->hp.window) >= first ? i : 0;
}

/* n_tok tokens not evaluated, for so many bytes loaded. */
static bool pays(const run_store *s, const entry *it, uint32_t n_tok, uint64_t bytes) {
    const double us = s->us_per_tok > 0 ? s->us_per_tok : it ? it->us_per_tok : 0;
    return s->opt.min_tok || (double)n_tok * us > (double)bytes * s->us_per_byte;
}

/* ==== Errands ================================================================================= */

/* The thread's part. */
static void do_errand(run_chore *chore) {
    errand *w = (errand *)chore;
    if (!w->image.data) {
        for (size_t i = 0; i < w->gone.n; i++) (void)unlink_named(w->s, w->gone.list[i], &w->stays);
        return;
    }
    make_room(w, w->image.bytes);
    char *path = base_path_join(w->s->dir, w->it.name);
    w->st = path ? run_image_save(&w->image, path, &w->err)
                 : base_fail_nomem(&w->err, "writing a session");
    base_free(path);
    base_free(w->image.data);
}

/* The next that writes a file, behind w (NULL: the first). */
static const errand *next_errand(const run_store *s, const errand *w) {
    const run_chore *c = w ? w->chore.next : s->chores ? run_chores_first(s->chores) : NULL;
    while (c && !((const errand *)c)->it.is.tokens) c = c->next;
    return (const errand *)c;
}

/* Files that the new one makes superfluous go, in their turn. */
static void drop_shorter(run_store *s, const char *name) {
    errand *w = base_alloc(sizeof *w);
    for (size_t i = s->n; w && index_of(s, name) < s->n && i-- > 0;) {
        const entry *it = &s->list[index_of(s, name)], *old = &s->list[i];
        if (old == it || old->is.len >= it->is.len) continue;
        if (shared_with(s, it, old->is.tokens, old->is.len) < old->is.len) continue;
        if (add_name(&w->gone, old->name)) lose(s, w->gone.list[w->gone.n - 1]);
    }
    if (w && w->gone.n) {
        w->s = s;
        run_chores_add(s->chores, &w->chore);
    } else {
        base_free(w);
    }
}

/* The file is there, or is not. */
static void settle_file(run_store *s, errand *w) {
    s->waiting -= w->image.bytes;
    note_room(s, w);
    if (w->st != ROTOR_OK) {
        if (base_unix_s() >= s->pause_s)
            say(s, BASE_LOG_WARN, &w->err, "nothing is written for a minute");
        s->pause_s = base_unix_s() + PAUSE_S;
        run_peek_free(&w->it.is);
        return;
    }
    s->facts.written++;
    s->facts.written_bytes += w->image.bytes;
    s->facts.bytes += w->image.bytes;
    if (index_of(s, w->it.name) < s->n) forget(s, index_of(s, w->it.name));
    if (!add(s, w->it.name, &w->it.is))
        run_peek_free(&w->it.is);
    else
        drop_shorter(s, w->it.name);
}

/* False: none is done. */
static bool settle_one(run_store *s, bool wait) {
    errand *w = s->chores ? (errand *)run_chores_take(s->chores, wait) : NULL;
    if (!w) return false;
    if (w->it.is.tokens) {
        settle_file(s, w);
    } else {
        if (w->stays.message[0]) say(s, BASE_LOG_WARN, &w->stays, "it stays");
        base_free(w->gone.list);
    }
    base_free(w);
    return true;
}

bool run_store_is_writing(run_store *s) {
    while (settle_one(s, false)) {
    }
    return s->chores && run_chores_first(s->chores);
}

void run_store_flush(run_store *s) {
    while (settle_one(s, true)) {
    }
}

/* ==== Finding and loading ===================================================================== */

/* Somebody asks for what is still being written. */
static bool is_coming(const run_store *s, const uint32_t *tokens, uint32_t n, uint32_t have) {
    for (const errand *w = next_errand(s, NULL); n && w; w = next_errand(s, w)) {
        const uint32_t k = shared_with(s, &w->it, tokens, n - 1);
        if (k > have && k >= s->opt.min_tok && pays(s, &w->it, k - have, w->it.is.bytes))
            return true;
    }
    return false;
}

uint32_t run_store_find(run_store *s, const uint32_t *tokens, uint32_t n, uint32_t have) {
    const entry *best = NULL;
    uint32_t most = have;
    (void)run_store_is_writing(s);
    if (is_coming(s, tokens, n, have)) run_store_flush(s);
    s->found[0] = 0;
    for (size_t i = 0; n && i < s->n; i++) {
        const entry *it = &s->list[i];
        const uint32_t k = shared_with(s, it, tokens, n - 1); /* the last gives the logits */
        if (k <= most || k < s->opt.min_tok || !pays(s, it, k - have, it->is.bytes)) continue;
        best = it;
        most = k;
    }
    s->facts.misses += !best;
    if (!best) { /* one slow disk in a bad moment is not for ever */
        s->us_per_byte += (FIRST_US - s->us_per_byte) / 32;
        return 0;
    }
    memcpy(s->found, best->name, sizeof s->found);
    touch(s, s->found); /* nobody evicts it now */
    return best->is.len;
}

static void note_load(run_store *s, uint64_t bytes, uint64_t us) {
    const double cost = (double)us / (double)bytes;
    s->us_per_byte = s->facts.hits ? s->us_per_byte + (cost - s->us_per_byte) / 4 : cost;
    s->facts.hits++;
    s->facts.loaded_bytes += bytes;
}

bool run_store_load(run_store *s, run_session *to) {
    rotor_error err = {0};
    const size_t i = index_of(s, s->found);
    const uint64_t start = base_now_us();
    run_session_rewind(to, 0);
    if (i == s->n) return false;
    char *path = base_path_join(s->dir, s->found);
    if (!path) return false;
    const rotor_status st = run_session_load(to, path, NULL, &err);
    const bool gone = st != ROTOR_OK && base_path_kind_of(path) == BASE_PATH_NONE;
    base_free(path);
    if (st == ROTOR_OK) {
        note_load(s, s->list[i].is.bytes, base_now_us() - start);
        return true;
    }
    run_session_rewind(to, 0);
    if (gone) {
        (void)unlink_named(s, s->found, &err); /* the mark of its use: somebody had another limit */
        forget(s, i);
    } else if (st == ROTOR_E_FORMAT) {
        say(s, BASE_LOG_WARN, &err, "removed");
        s->facts.refused++;
        remove_named(s, s->found);
    } else {
        say(s, BASE_LOG_WARN, &err, "not used");
    }
    return false;
}

/* ==== Keeping ================================================================================= */

/* A file has all of the session, but for a little that is not worth another; or will have. */
static bool is_kept(const run_store *s, const run_session *from) {
    enum { LITTLE = 64 };
    const uint32_t most = from->len - BASE_MIN(from->len / 8, (uint32_t)LITTLE);
    for (size_t i = 0; i < s->n; i++)
        if (shared_with(s, &s->list[i], from->tokens, from->len) >= most) return true;
    for (const errand *w = next_errand(s, NULL); w; w = next_errand(s, w))
        if (shared_with(s, &w->it, from->tokens, from->len) >= most) return true;
    return false;
}

/* Everything of it is known before it is written. False: out of memory. */
static bool describe(run_store *s, const run_session *from, entry *it) {
    *it = (entry){.us_per_tok = s->us_per_tok};
    name_of(it->name, s->whose, from->tokens, from->len);
    it->is = (run_peek){.len = from->len, .ring_first = s->e->ring.n ? from->ring_first : 0};
    if (s->us_per_tok > 0) snprintf(it->is.note, sizeof it->is.note, NOTE "%.3f", s->us_per_tok);
    it->is.bytes = run_session_bytes(from, strlen(it->is.note));
    it->is.tokens = base_alloc_array((size_t)from->len + 1, sizeof *it->is.tokens);
    if (it->is.tokens) memcpy(it->is.tokens, from->tokens, from->len * sizeof *it->is.tokens);
    return it->is.tokens != NULL;
}

static rotor_status prepare(run_store *s, run_session *from, errand *w, rotor_error *err) {
    if (!s->chores) ROTOR_TRY(run_chores_create(&s->chores, do_errand, err));
    if (!describe(s, from, &w->it)) return base_fail_nomem(err, "keeping a session");
    while (s->waiting && s->waiting + w->it.is.bytes > WAITING_MAX) settle_one(s, true);
    return run_session_image(from, base_str_of(w->it.is.note), &w->image, err);
}

static void keep(run_store *s, run_session *from) {
    rotor_error err = {0};
    errand *w = base_alloc(sizeof *w);
    const rotor_status st =
        w ? prepare(s, from, w, &err) : base_fail_nomem(&err, "keeping a session");
    if (st != ROTOR_OK) {
        say(s, BASE_LOG_WARN, &err, "not kept");
        if (w) run_peek_free(&w->it.is);
        base_free(w);
        return;
    }
    w->s = s;
    s->waiting += w->image.bytes;
    run_chores_add(s->chores, &w->chore);
}

/* Where the session can be gone on from: its end; or, where the window at its last mark is not in
 * the ring any more, there, since what follows a prompt is often not what comes back. */
static uint32_t best_place(const run_session *s) {
    const uint32_t pos = s->n_marks ? s->mark[s->n_marks - 1].pos : s->len;
    return run_has_window(s, pos) ? s->len : pos;
}

void run_store_keep(run_store *s, const run_session *from) {
    rotor_error err = {0};
    run_session *copy = NULL;
    const uint32_t n = best_place(from);
    (void)run_store_is_writing(s);
    if (!n || n < s->opt.min_tok || base_unix_s() < s->pause_s) return;
    if (run_session_create(&copy, s->e, from->max_tok, &err) != ROTOR_OK ||
        run_session_fork(copy, from, n, &err) != ROTOR_OK) {
        say(s, BASE_LOG_WARN, &err, "not kept");
        run_session_free(&copy);
        return;
    }
    const uint64_t bytes = run_session_bytes(copy, 0);
    if (bytes <= s->opt.max_bytes && pays(s, NULL, n, bytes) && !is_kept(s, copy)) keep(s, copy);
    run_session_free(&copy);
}

/* ==== What has happened ======================================================================= */

void run_store_learn(run_store *s, uint32_t n_tok, uint64_t us) {
    enum { LEAST = 16 };
    if (n_tok < LEAST) return;
    const double cost = (double)us / n_tok;
    s->us_per_tok = s->us_per_tok > 0 ? s->us_per_tok + (cost - s->us_per_tok) / 4 : cost;
}

run_store_facts run_store_get_facts(const run_store *s) {
    run_store_facts f = s->facts;
    f.n_files = (uint32_t)s->n;
    return f;
}
