/* SPDX-License-Identifier: MIT
 *
 * Log-probabilities of an answer in which calls are looked for. The reader of calls holds back what
 * may become one; what it lets go belongs to the tokens that wrote it, and not to the last of them.
 *
 *     raw    I see.  < tool _box > for    what the tokens wrote, one behind the other
 *            |------|-|----|----|----|
 *     list    0      1  2    3    4       tokens of which something may still come
 *
 * Text that is let go is found again in raw, and each token gets its part. A token is told when all
 * of it has gone by: with its text, or not at all where that became a call. So the texts of all
 * that are told are the answer, byte for byte.
 */
#include "serve/serve_internal.h"

typedef struct held_token {
    rotor_token token;              /* id and probability */
    rotor_token top[SERVE_TOP_MAX]; /* [n_top] alternatives */
    size_t n_top;                   /* how many */
    uint32_t prev;                  /* the id before it */
    size_t end;                     /* where its part of raw ends */
    base_buf text;                  /* what was let go of it; owned */
} held_token;

struct serve_held {
    held_token *list; /* [n], owned */
    size_t n, cap;    /* how many; room */
    base_buf raw;     /* all they wrote */
    size_t n_calls;   /* calls that were read so far */
};

void serve_held_free(serve_held **out) {
    serve_held *h = *out;
    if (!h) return;
    for (size_t i = 0; i < h->n; i++) base_buf_free(&h->list[i].text);
    base_buf_free(&h->raw);
    base_free(h->list);
    base_free(h);
    *out = NULL;
}

static bool add(serve_held *h, const serve_job *j, const rotor_token *token, const rotor_token *top,
                size_t n_top) {
    size_t n_raw;
    const char *raw = rotor_reply_wrote(j->reply, &n_raw);
    if (h->n == h->cap) {
        const size_t cap = h->cap ? 2 * h->cap : 16;
        held_token *more = base_realloc(h->list, cap * sizeof *more);
        if (!more) return false;
        h->list = more;
        h->cap = cap;
    }
    if (!base_buf_append(&h->raw, raw, n_raw)) return false;
    held_token *t = &h->list[h->n++];
    *t = (held_token){.token = *token, .prev = j->prev, .end = h->raw.len};
    t->n_top = BASE_MIN(n_top, (size_t)SERVE_TOP_MAX);
    if (t->n_top) memcpy(t->top, top, t->n_top * sizeof *top);
    return true;
}

/* Where text stands in raw, from `from` on; SIZE_MAX: nowhere. */
static size_t find(const serve_held *h, size_t from, const char *text, size_t n_bytes) {
    for (size_t at = from; at + n_bytes <= h->raw.len; at++)
        if (memcmp(h->raw.data + at, text, n_bytes) == 0) return at;
    return SIZE_MAX;
}

static size_t common(const serve_held *h, const char *text, size_t n_bytes) {
    size_t n = 0;
    while (n < n_bytes && n < h->raw.len && text[n] == h->raw.data[n]) n++;
    return n;
}

/* The first n tokens are over. */
static void drop(serve_held *h, size_t n) {
    const size_t bytes = n ? h->list[n - 1].end : 0;
    for (size_t i = 0; i < n; i++) base_buf_free(&h->list[i].text);
    h->n -= n;
    if (h->n) memmove(h->list, h->list + n, h->n * sizeof *h->list);
    for (size_t i = 0; i < h->n; i++) h->list[i].end -= bytes;
    if (bytes) memmove(h->raw.data, h->raw.data + bytes, h->raw.len - bytes);
    h->raw.len -= bytes;
}

/* Text, and with it its token where that is over. */
static bool tell(serve_job *j, held_token *t, const char *text, size_t n_bytes, bool over) {
    const serve_token *kept = NULL;
    const uint32_t prev = j->prev;
    if (over) {
        j->prev = t->prev;
        kept = serve_keep_token(j, t->text.data ? t->text.data : "", t->text.len, &t->token, t->top,
                                t->n_top);
        j->prev = prev;
        if (!kept) return false;
    }
    return serve_put_text(j, text, n_bytes, kept);
}

/* Gives text, which stands at raw[first], to its tokens, and tells those that are over. */
static bool give(serve_held *h, serve_job *j, size_t first, const char *text, size_t n_bytes) {
    const size_t end = first + n_bytes;
    size_t at = first, n_over = 0;
    for (size_t i = 0, begin = 0; i < h->n && begin <= end; begin = h->list[i++].end) {
        held_token *t = &h->list[i];
        const size_t stop = BASE_MIN(t->end, end), n = stop > at ? stop - at : 0;
        const bool over = t->end <= end, blank = t->end == begin && begin >= first;
        const char *part = text + (at - first);
        if (n && !base_buf_append(&t->text, part, n)) return false;
        if ((n || (over && (t->text.len || blank))) && !tell(j, t, part, n, over)) return false;
        n_over += over;
        at += n;
    }
    drop(h, n_over);
    return true;
}

/* Nothing more comes of the first n tokens: the rest of them has become a call. */
static bool finish(serve_held *h, serve_job *j, size_t n) {
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++)
        if (h->list[i].text.len) ok = tell(j, &h->list[i], "", 0, true);
    drop(h, n);
    return ok;
}

/* What no token wrote, such as the mark of a character that was cut short, is the last one's. */
static bool give_last(serve_held *h, serve_job *j, const char *text, size_t n_bytes) {
    if (!h->n) return serve_put_text(j, text, n_bytes, NULL);
    if (!finish(h, j, h->n - 1)) return false;
    held_token *t = &h->list[0];
    const bool ok = base_buf_append(&t->text, text, n_bytes) && tell(j, t, text, n_bytes, true);
    drop(h, 1);
    return ok;
}

static bool let_go(serve_held *h, serve_job *j, const char *text, size_t n_bytes) {
    if (!n_bytes) return true;
    const size_t at = find(h, 0, text, n_bytes), n = common(h, text, n_bytes);
    if (at != SIZE_MAX) return give(h, j, at, text, n_bytes);
    return (!n || give(h, j, 0, text, n)) && give_last(h, j, text + n, n_bytes - n);
}

bool serve_hold_back(serve_job *j, base_str text, const rotor_token *token, const rotor_token *top,
                     size_t n_top) {
    serve_held *h = j->held;
    if (token && !add(h, j, token, top, n_top)) return false;
    if (j->choice->n_calls == h->n_calls || !token) return let_go(h, j, text.p, text.n);
    h->n_calls = j->choice->n_calls; /* text before it comes first, then what stands behind */
    const size_t n = common(h, text.p, text.n);
    if (n && !give(h, j, 0, text.p, n)) return false;
    if (h->n && !finish(h, j, h->n - 1)) return false;
    return let_go(h, j, text.p + n, text.n - n);
}

bool serve_hold_end(serve_job *j) { return !j->held || finish(j->held, j, j->held->n); }

serve_held *serve_held_create(void) { return base_alloc(sizeof(serve_held)); }
