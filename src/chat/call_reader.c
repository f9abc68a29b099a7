/* SPDX-License-Identifier: MIT
 *
 * Answers with calls in them, taken apart as they come.
 *
 *             a mark, or { where a line begins          {
 *     TEXT -------------------------------------> OPEN ---> CALL
 *      ^ ^                                         | ^        |
 *      | +------------- no call follows -----------+ +--------+ the object is whole: a call
 *      +----------- it is whole, and no call; nothing can come of it ----+
 *
 * `held` is what has not been told: nothing but white space and the beginning of a mark in TEXT,
 * all of a candidate in the others, so that it can become text again. Each byte is looked at once
 * while a candidate grows, and again when it fails; candidates that fail have a budget together,
 * behind which everything is text, so that time stays within bounds whatever a model writes.
 *
 * A bare candidate ({ without a mark) is let go as soon as it cannot be a call: at the first key
 * that calls do not have, or a name that no function has.
 */
#include "chat/calls.h"

#include <jansson.h>

enum {
    HELD_MAX = 1 << 20,  /* bytes of a candidate */
    WASTE_MAX = 1 << 22, /* bytes of candidates that failed, all together */
    HEAD_BYTES = 2048,   /* of a bare candidate, to be looked at with every piece */
    SPACE_MAX = 64,      /* bytes of white space that wait */
    NESTED_MAX = 200     /* brackets inside each other that are closed for the model */
};

typedef enum mode { TEXT, OPEN, CALL, DONE, PLAIN } mode;

struct chat_reader {
    const chat_family *f;    /* borrowed */
    const chat_tools *tools; /* borrowed */
    chat_reader_hooks hooks; /* whom to tell */
    base_buf held;           /* not told yet */
    size_t at;               /* bytes of it that have been looked at */
    size_t begin;            /* OPEN, CALL: where the candidate begins, behind white space */
    size_t object;           /* CALL: where its object does */
    size_t name, n_name;     /* OPEN, CALL: a name that stands before its arguments; n 0: none */
    uint32_t depth;          /* CALL: brackets that are open */
    mode mode;               /* see above */
    bool single;             /* one call is enough */
    bool marked;             /* OPEN, CALL: there was a mark */
    bool more;               /* OPEN, CALL: behind another call */
    bool in_string, escaped; /* CALL: what the next byte stands in */
    bool blank;              /* what was told last is a line without anything in it */
    size_t wasted;           /* bytes of candidates that failed */
};

typedef enum verdict { NO, MAYBE, YES } verdict;

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

static size_t skip_space(base_str s, size_t at) {
    while (at < s.n && is_space(s.p[at])) at++;
    return at;
}

/* Whether a mark stands there; MAYBE: its beginning, and then nothing. */
static verdict match(base_str s, size_t at, const char *mark) {
    if (!mark) return NO;
    const size_t n = strlen(mark), left = s.n - at;
    if (left >= n) return memcmp(s.p + at, mark, n) == 0 ? YES : NO;
    return left && memcmp(s.p + at, mark, left) == 0 ? MAYBE : NO;
}

static base_str held(const chat_reader *r) { return (base_str){r->held.data, r->held.len}; }

static void drop(chat_reader *r, size_t n) {
    if (!n) return;
    memmove(r->held.data, r->held.data + n, r->held.len - n);
    r->held.len -= n;
}

/* The first n bytes of what is held are text. */
static void tell(chat_reader *r, size_t n) {
    const base_str s = {r->held.data, n};
    for (size_t i = 0; i < n; i++) r->blank = s.p[i] == '\n' || (r->blank && is_space(s.p[i]));
    if (n) r->hooks.text(r->hooks.user, s);
    drop(r, n);
}

static const chat_tool *find_tool(const chat_reader *r, base_str name) {
    for (size_t i = 0; i < r->tools->n; i++)
        if (base_str_is(name, r->tools->list[i].name)) return &r->tools->list[i];
    return NULL;
}

static verdict begins_tool(const chat_reader *r, base_str name) {
    for (size_t i = 0; i < r->tools->n; i++)
        if (strncmp(r->tools->list[i].name, name.p, name.n) == 0) return MAYBE;
    return NO;
}

/* ==== Objects ================================================================================= */

/* Behind a string that begins at s[at]; s.n: it does not end. */
static size_t past_string(base_str s, size_t at) {
    for (at++; at < s.n && s.p[at] != '"'; at++)
        if (s.p[at] == '\\') at++;
    return BASE_MIN(at + 1, s.n);
}

/* Behind a value, as far as brackets and quotes tell; s.n: it may go on. */
static size_t past_value(base_str s, size_t at) {
    size_t depth = 0;
    while (at < s.n) {
        const char c = s.p[at];
        if (c == '"') {
            at = past_string(s, at);
            if (!depth) return at;
            continue;
        }
        if (!depth && (c == ',' || c == '}' || c == ']')) return at;
        at++;
        if (c == '{' || c == '[') depth++;
        if ((c == '}' || c == ']') && --depth == 0) return at;
    }
    return at;
}

static bool is_key(base_str key, bool whole) {
    static const char *const keys[] = {"name", "function", "arguments", "parameters", "type", "id"};
    for (size_t i = 0; i < BASE_COUNT(keys); i++)
        if (whole ? base_str_is(key, keys[i]) : strncmp(keys[i], key.p, key.n) == 0) return true;
    return false;
}

static bool names(base_str key) { return base_str_is(key, "name") || base_str_is(key, "function"); }

/* The value of a key, which begins at s[at]. */
static verdict head_value(const chat_reader *r, base_str s, base_str key, size_t at) {
    if (at == s.n || !names(key)) return MAYBE;
    if (s.p[at] == '{') return base_str_is(key, "function") ? MAYBE : NO;
    if (s.p[at] != '"') return NO;
    const size_t end = past_string(s, at);
    const base_str name = {s.p + at + 1, end - at - 1};
    const bool whole = end < s.n || (name.n && s.p[end - 1] == '"');
    if (!whole) return begins_tool(r, name);
    return find_tool(r, (base_str){name.p, name.n - 1}) ? MAYBE : NO;
}

/* Whether an object of which s is the beginning may be a call. */
static verdict head(const chat_reader *r, base_str s) {
    size_t at = 1;
    for (;;) {
        at = skip_space(s, at);
        if (at == s.n || s.p[at] == '}') return MAYBE;
        if (s.p[at] != '"') return NO;
        const size_t end = past_string(s, at);
        base_str key = {s.p + at + 1, end - at - 1};
        if (end == s.n && !(key.n && s.p[end - 1] == '"')) return is_key(key, false) ? MAYBE : NO;
        key.n--;
        if (!is_key(key, true)) return NO;
        at = skip_space(s, end);
        if (at < s.n && s.p[at] != ':') return NO;
        if (at < s.n) at = skip_space(s, at + 1);
        if (head_value(r, s, key, at) == NO) return NO;
        at = skip_space(s, past_value(s, at));
        if (at < s.n && s.p[at] == ',')
            at++;
        else if (at < s.n && s.p[at] != '}')
            return NO;
    }
}

/* The text of a member's value in an object that is well-formed; the last one counts. */
static base_str member(base_str s, const char *wanted) {
    base_str out = {0};
    size_t at = skip_space(s, 1);
    while (at < s.n && s.p[at] == '"') {
        const size_t end = past_string(s, at);
        const base_str key = {s.p + at + 1, end - at - 2};
        at = skip_space(s, skip_space(s, end) + 1);
        const size_t past = past_value(s, at);
        size_t n = past - at;
        while (n && is_space(s.p[at + n - 1])) n--;
        if (base_str_is(key, wanted)) out = (base_str){s.p + at, n};
        at = skip_space(s, past);
        if (at < s.n && s.p[at] == ',') at = skip_space(s, at + 1);
    }
    return out;
}

/* What models often get wrong, put right: control characters inside strings, brackets that are not
 * closed. False: out of memory. */
static bool mend(base_str s, base_buf *out) {
    char open[NESTED_MAX];
    size_t depth = 0;
    bool in_string = false, escaped = false;
    for (size_t i = 0; i < s.n; i++) {
        const char c = s.p[i];
        if (in_string && (unsigned char)c < 32) {
            base_buf_printf(out, "\\u%04x", (unsigned)c);
            escaped = false;
            continue;
        }
        base_buf_append(out, &c, 1);
        if (!in_string && (c == '{' || c == '[')) {
            if (depth < NESTED_MAX) open[depth] = c == '{' ? '}' : ']';
            depth++;
        }
        if (!in_string && (c == '}' || c == ']') && depth) depth--;
        if (c == '"' && !escaped) in_string = !in_string;
        escaped = in_string && c == '\\' && !escaped;
    }
    for (; depth && depth <= NESTED_MAX; depth--) base_buf_append(out, &open[depth - 1], 1);
    return !out->failed;
}

/* ==== Calls =================================================================================== */

/* Tells a call if the arguments are an object, or a text that is one. */
static bool tell_call(const chat_reader *r, base_str name, base_str arguments) {
    if (!find_tool(r, name)) return false;
    json_t *v = arguments.n ? json_loadb(arguments.p, arguments.n, JSON_DECODE_ANY, NULL) : NULL;
    bool ok = json_is_object(v);
    if (!arguments.n || json_is_null(v)) {
        arguments = base_str_of("{}");
        ok = true;
    } else if (json_is_string(v)) {
        arguments = (base_str){json_string_value(v), json_string_length(v)};
        if (!arguments.n) arguments = base_str_of("{}");
        json_t *inside = json_loadb(arguments.p, arguments.n, 0, NULL);
        ok = json_is_object(inside);
        json_decref(inside);
    }
    if (ok) r->hooks.call(r->hooks.user, name, arguments);
    json_decref(v);
    return ok;
}

/* A whole object with name and arguments. */
static bool tell_object(const chat_reader *r, base_str s, const json_t *v) {
    base_str arguments = member(s, "arguments");
    const json_t *name = json_object_get(v, "name"), *function = json_object_get(v, "function");
    if (!name && json_is_object(function)) {
        s = member(s, "function");
        name = json_object_get(function, "name");
        arguments = member(s, "arguments");
    } else if (!name) {
        name = function;
    }
    if (!arguments.n) arguments = member(s, "parameters");
    if (!json_is_string(name)) return false;
    return tell_call(r, (base_str){json_string_value(name), json_string_length(name)}, arguments);
}

static bool try_object(const chat_reader *r, base_str s) {
    base_buf mended = {0};
    json_t *v = json_loadb(s.p, s.n, 0, NULL);
    if (!v && mend(s, &mended)) {
        s = (base_str){mended.data, mended.len};
        v = json_loadb(s.p, s.n, 0, NULL);
    }
    const base_str name = {r->held.data + r->name, r->n_name};
    const bool ok = json_is_object(v) && (name.n ? tell_call(r, name, s) : tell_object(r, s, v));
    json_decref(v);
    base_buf_free(&mended);
    return ok;
}

/* ==== Steps =================================================================================== */

/* The candidate is none: its mark, or what stands before and at its object, is text. */
static void fail(chat_reader *r) {
    size_t n = r->begin + 1;
    if (r->mode == CALL)
        n = r->object + 1;
    else if (r->marked && !r->more)
        n = r->begin + strlen(r->f->open);
    r->wasted += r->held.len - r->begin;
    r->mode = r->wasted > WASTE_MAX ? PLAIN : TEXT;
    r->at = 0;
    tell(r, BASE_MIN(n, r->held.len));
}

/* A candidate begins at held[i]: what stands before it is text, but for white space. */
static void open_at(chat_reader *r, size_t i, bool marked) {
    size_t begin = i;
    while (begin && is_space(r->held.data[begin - 1])) begin--;
    tell(r, begin);
    r->begin = i - begin;
    r->at = r->begin + (marked ? strlen(r->f->open) : 0);
    r->mode = OPEN;
    r->marked = marked;
    r->more = false;
    r->n_name = 0;
}

static bool begins_line(const chat_reader *r, size_t i) {
    while (i && is_space(r->held.data[i - 1]))
        if (r->held.data[--i] == '\n') return true;
    return i == 0 && r->blank;
}

/* True: something has changed, look again. */
static bool step_text(chat_reader *r, bool end) {
    const base_str s = held(r);
    size_t i = r->at, space;
    for (; i < s.n; i++) {
        const verdict v = match(s, i, r->f->open);
        if (v == YES) return open_at(r, i, true), true;
        if (v == MAYBE && !end) break;
        const bool bare = r->f->bare && (s.p[i] == '{' || s.p[i] == '[');
        if (bare && begins_line(r, i)) return open_at(r, i, false), true;
    }
    for (space = 0; !end && space < SPACE_MAX && space < i && is_space(s.p[i - 1 - space]);)
        space++;
    tell(r, i - space);
    r->at = space;
    return false;
}

/* Behind what ends calls, and what stands between them if they go on. */
static size_t skip_ends(const chat_reader *r, bool go_on) {
    const base_str s = held(r);
    size_t at = 0;
    for (;;) {
        const size_t begin = at;
        at = skip_space(s, at);
        if (at < s.n && (s.p[at] == ']' || (go_on && (s.p[at] == ',' || s.p[at] == ';')))) at++;
        if (match(s, at, r->f->close) == YES) at += strlen(r->f->close);
        if (at == begin) return at;
    }
}

/* Behind calls: what belonged to them goes, the rest is text. */
static void leave(chat_reader *r) {
    drop(r, skip_ends(r, false));
    r->mode = TEXT;
    r->at = 0;
    r->blank = true;
}

/* An object begins at held[at]. What ended the call before it is no text, whatever comes of it. */
static void begin_object(chat_reader *r, size_t at) {
    const size_t ends = r->more ? skip_ends(r, true) : 0;
    drop(r, ends);
    if (r->n_name) r->name -= ends;
    r->object = r->at = at - ends;
    r->depth = 0;
    r->in_string = r->escaped = false;
    r->mode = CALL;
}

/* A name, perhaps an id, and the mark of arguments: what stands at s[at]. YES: *at is behind it. */
static verdict read_name(chat_reader *r, base_str s, size_t *at) {
    size_t end = *at;
    while (end < s.n && s.p[end] != '[' && !is_space(s.p[end])) end++;
    const base_str name = {s.p + *at, end - *at};
    if (end == s.n) return begins_tool(r, name);
    if (!find_tool(r, name)) return NO;
    const size_t begin = *at;
    if (match(s, end, r->f->id) == YES) {
        end += strlen(r->f->id);
        while (end < s.n && s.p[end] != '[') end++;
        if (end == s.n) return end - begin < HEAD_BYTES ? MAYBE : NO;
    }
    const verdict v = match(s, end, r->f->args);
    if (v == MAYBE || (v == NO && match(s, end, r->f->id) == MAYBE)) return MAYBE;
    if (v == NO) return NO;
    r->name = begin;
    r->n_name = name.n;
    *at = end + strlen(r->f->args);
    return YES;
}

/* What stands between a mark and a call, or between calls, at s[*at]. */
static verdict step_between(chat_reader *r, base_str s, size_t *at) {
    const char c = s.p[*at];
    for (size_t i = 0; i < 2 && r->more; i++) {
        const char *mark = i ? r->f->open : r->f->close;
        const verdict v = match(s, *at, mark);
        if (v == MAYBE) return MAYBE;
        if (v == NO) continue;
        *at += strlen(mark);
        return YES;
    }
    if (is_space(c) || c == '[' || (r->more && (c == ',' || c == ';' || c == ']'))) {
        ++*at;
        return YES;
    }
    if (!r->f->args || r->n_name || c == '{') return NO;
    return read_name(r, s, at);
}

static bool step_open(chat_reader *r, bool end) {
    const base_str s = held(r);
    verdict v = YES;
    size_t at = r->at;
    while (at < s.n && s.p[at] != '{' && v == YES) {
        r->at = at;
        v = step_between(r, s, &at);
    }
    if (at < s.n && s.p[at] == '{' && v == YES) {
        begin_object(r, at);
        return true;
    }
    if (v == YES) r->at = at;
    if (v != NO && !end && s.n <= HELD_MAX) return false;
    if (r->more)
        leave(r);
    else
        fail(r);
    return true;
}

/* Whether the object ends at this byte. */
static bool read_byte(chat_reader *r, char c) {
    if (r->in_string) {
        if (c == '"' && !r->escaped) r->in_string = false;
        r->escaped = c == '\\' && !r->escaped;
        return false;
    }
    if (c == '"') r->in_string = true;
    if (c == '{' || c == '[') r->depth++;
    return (c == '}' || c == ']') && --r->depth == 0;
}

/* Whether a bare candidate of which s is the beginning can be no call any more. */
static bool is_lost(const chat_reader *r, base_str s) {
    return !r->marked && head(r, (base_str){s.p, BASE_MIN(s.n, (size_t)HEAD_BYTES)}) == NO;
}

/* The object held[object, end) is whole, as far as brackets tell. */
static void end_call(chat_reader *r, size_t end) {
    const base_str s = {r->held.data + r->object, end - r->object};
    if (is_lost(r, s) || !try_object(r, s)) {
        fail(r);
        return;
    }
    drop(r, end);
    r->mode = r->single ? DONE : OPEN;
    r->begin = r->at = r->n_name = 0;
    r->more = true;
}

/* A closing mark ends an object, too, where brackets were forgotten. True: it has ended. */
static bool step_call(chat_reader *r, bool end, bool whole) {
    const base_str s = held(r);
    while (r->at < s.n) {
        const verdict v = r->in_string ? NO : match(s, r->at, r->f->close);
        if (v == MAYBE && !end) return false;
        if (v == YES || read_byte(r, s.p[r->at++])) return end_call(r, r->at), true;
    }
    const bool lost = is_lost(r, (base_str){s.p + r->object, s.n - r->object});
    if (!end && !lost && s.n <= HELD_MAX) return false;
    if (whole && !lost && !r->in_string)
        end_call(r, s.n);
    else
        fail(r);
    return true;
}

static bool step(chat_reader *r, bool end, bool whole) {
    switch (r->mode) {
    case TEXT:
        return step_text(r, end);
    case OPEN:
        return step_open(r, end);
    case CALL:
        return step_call(r, end, whole);
    case DONE:
        r->held.len = 0;
        return false;
    default:
        tell(r, r->held.len);
        return false;
    }
}

/* ==== The reader ============================================================================== */

rotor_status chat_reader_create(chat_reader **out, const chat_family *f, const chat_tools *tools,
                                bool single, const chat_reader_hooks *hooks) {
    chat_reader *r = base_alloc(sizeof *r);
    if (!r) return ROTOR_E_NOMEM;
    r->f = f;
    r->tools = tools;
    r->hooks = *hooks;
    r->single = single;
    r->blank = true;
    *out = r;
    return ROTOR_OK;
}

void chat_reader_free(chat_reader **r) {
    if (!r || !*r) return;
    base_buf_free(&(*r)->held);
    base_free(*r);
    *r = NULL;
}

rotor_status chat_reader_put(chat_reader *r, base_str text) {
    if (!base_buf_append(&r->held, text.p, text.n)) return ROTOR_E_NOMEM;
    while (step(r, false, false)) {
    }
    return ROTOR_OK;
}

rotor_status chat_reader_end(chat_reader *r, bool whole) {
    while (step(r, true, whole)) {
    }
    return ROTOR_OK;
}

bool chat_reader_is_done(const chat_reader *r) { return r->mode == DONE; }
