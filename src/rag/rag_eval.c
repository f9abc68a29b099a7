/* SPDX-License-Identifier: MIT
 *
 * Judging a store by questions whose answers are known: nDCG@10, Recall@100, MRR@10 and MAP@100
 * over documents, as trec_eval counts them. Questions without a positive judgement are left out.
 * A cross-encoder may order what was found, passages then. With questions of another field, how
 * many of either the threshold (rag_gate.c) turns away.
 */
#include "rag/rag_internal.h"

#include <math.h>
#include <stdlib.h>

enum { DEPTH = 100, CUT = 10 };

typedef struct judgement {
    uint32_t query; /* number of the question */
    char *doc;      /* owned */
    int grade;      /* gain; 0 or less: not relevant */
} judgement;

typedef struct question {
    char *id, *text; /* owned */
    size_t first, n; /* its judgements, after sorting */
} question;

typedef struct exam {
    rag *r;                      /* store */
    const rag_eval_options *opt; /* what to do */
    question *questions;         /* [n_questions] owned */
    size_t n_questions, cap_questions;
    size_t n_asked;        /* of them with judgements; the rest are of opt->refuse */
    judgement *judgements; /* [n_judgements] owned */
    size_t n_judgements, cap_judgements;
    base_out run;      /* with opt->run */
    uint64_t *times;   /* [n_questions] of whole queries, owned */
    uint64_t *legs[2]; /* of words and vectors, owned */
    size_t n_timed;    /* of them */
    rotor_error *err;  /* where messages go */
} exam;

static bool grow(void *array, size_t n, size_t *cap, size_t elem) {
    void **p = array;
    if (n < *cap) return true;
    const size_t more = *cap * 2 + 64;
    void *to = base_realloc(*p, more * elem);
    if (!to) return false;
    *p = to;
    *cap = more;
    return true;
}

/* Calls fn for each line that is not empty. */
static rotor_status each_line(exam *e, const char *path,
                              rotor_status (*fn)(exam *e, base_str line, size_t number)) {
    base_file f;
    size_t number = 1;
    ROTOR_TRY(base_file_open(&f, path, false, e->err));
    rotor_status st = ROTOR_OK;
    const char *at = (const char *)f.data, *end = at + f.size;
    for (; f.size && st == ROTOR_OK && at < end; number++) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        base_str line = {at, (size_t)((nl ? nl : end) - at)};
        while (line.n && (unsigned char)line.p[line.n - 1] <= ' ') line.n--;
        if (line.n) st = fn(e, line, number);
        at = nl ? nl + 1 : end;
    }
    if (st != ROTOR_OK) base_fail_in(e->err, st, "%s:%zu", path, number - 1);
    base_file_close(&f);
    return st;
}

static rotor_status take_question(exam *e, base_str line, size_t number) {
    rag_corpus_line l;
    (void)number;
    ROTOR_TRY(rag_read_line(line, &l, e->err));
    if (!grow(&e->questions, e->n_questions, &e->cap_questions, sizeof *e->questions)) {
        rag_corpus_line_free(&l);
        return base_fail_nomem(e->err, "reading questions");
    }
    e->questions[e->n_questions++] = (question){.id = l.key, .text = l.text};
    l.key = l.text = NULL;
    rag_corpus_line_free(&l);
    return ROTOR_OK;
}

static uint32_t find_question(const exam *e, base_str id) {
    for (size_t i = 0; i < e->n_questions; i++)
        if (base_str_is(id, e->questions[i].id)) return (uint32_t)i;
    return UINT32_MAX;
}

/* Up to four fields between tabs or spaces. */
static size_t fields_of(base_str line, base_str out[4]) {
    size_t n = 0;
    for (size_t at = 0; at < line.n && n < 4;) {
        while (at < line.n && (unsigned char)line.p[at] <= ' ') at++;
        const size_t begin = at;
        while (at < line.n && (unsigned char)line.p[at] > ' ') at++;
        if (at > begin) out[n++] = (base_str){line.p + begin, at - begin};
    }
    return n;
}

/* "query document grade", or with a column between as trec_eval has it; a first line may name them.
 */
static rotor_status take_judgement(exam *e, base_str line, size_t number) {
    base_str f[4];
    char grade[16] = "", *end;
    const size_t n = fields_of(line, f);
    if (n < 3) return base_fail(e->err, ROTOR_E_FORMAT, "expected: query document grade");
    const base_str last = f[n - 1];
    memcpy(grade, last.p, BASE_MIN(last.n, sizeof grade - 1));
    const long g = strtol(grade, &end, 10);
    if (*end || end == grade) {
        if (number == 1) return ROTOR_OK;
        return base_fail(e->err, ROTOR_E_FORMAT, "'%s' is no grade", grade);
    }
    const uint32_t q = find_question(e, f[0]);
    if (q == UINT32_MAX) return ROTOR_OK; /* of a question that is not asked */
    if (!grow(&e->judgements, e->n_judgements, &e->cap_judgements, sizeof *e->judgements))
        return base_fail_nomem(e->err, "reading judgements");
    char *doc = base_strndup(f[n - 2].p, f[n - 2].n);
    if (!doc) return base_fail_nomem(e->err, "reading judgements");
    e->judgements[e->n_judgements++] = (judgement){.query = q, .doc = doc, .grade = (int)g};
    return ROTOR_OK;
}

/* By question, best grades first. */
static int by_question(const void *a, const void *b) {
    const judgement *x = a, *y = b;
    if (x->query != y->query) return x->query < y->query ? -1 : 1;
    if (x->grade != y->grade) return x->grade < y->grade ? 1 : -1;
    return strcmp(x->doc, y->doc);
}

static rotor_status read_exam(exam *e) {
    ROTOR_TRY(each_line(e, e->opt->queries, take_question));
    ROTOR_TRY(each_line(e, e->opt->qrels, take_judgement));
    e->n_asked = e->n_questions;
    if (e->opt->refuse) ROTOR_TRY(each_line(e, e->opt->refuse, take_question));
    if (e->n_judgements) qsort(e->judgements, e->n_judgements, sizeof *e->judgements, by_question);
    for (size_t i = 0; i < e->n_judgements; i++) {
        question *q = &e->questions[e->judgements[i].query];
        if (!q->n++) q->first = i;
    }
    for (size_t i = 0; i < 3; i++) {
        uint64_t *t = base_alloc_array(e->n_questions + 1, sizeof *t);
        if (!t) return base_fail_nomem(e->err, "judging");
        *(i ? &e->legs[i - 1] : &e->times) = t;
    }
    return ROTOR_OK;
}

/* ==== One question ============================================================================ */

static int grade_of(const exam *e, const question *q, const char *doc) {
    for (size_t i = 0; i < q->n; i++) {
        const judgement *j = &e->judgements[q->first + i];
        if (strcmp(j->doc, doc) == 0) return BASE_MAX(j->grade, 0);
    }
    return 0;
}

static size_t n_relevant(const exam *e, const question *q) {
    size_t n = 0;
    for (size_t i = 0; i < q->n; i++) n += e->judgements[q->first + i].grade > 0;
    return n;
}

static double ideal_gain(const exam *e, const question *q) {
    double sum = 0;
    for (size_t i = 0; i < BASE_MIN(q->n, (size_t)CUT); i++)
        sum += BASE_MAX(e->judgements[q->first + i].grade, 0) / log2((double)i + 2);
    return sum;
}

static const char *name_of(const rag_index *x, uint32_t doc) {
    return x->docs[doc].key[0] ? x->docs[doc].key : x->docs[doc].path;
}

static void add_scores(const exam *e, const question *q, const uint32_t *docs, size_t n,
                       rag_scores *out) {
    const size_t relevant = n_relevant(e, q);
    double gain = 0, precision = 0;
    size_t hits = 0;
    for (size_t i = 0; i < n; i++) {
        const int grade = grade_of(e, q, name_of(&e->r->x, docs[i]));
        if (grade <= 0) continue;
        if (!hits && i < CUT) out->mrr10 += 1 / ((double)i + 1);
        hits++;
        if (i < CUT) out->recall10 += 1 / (double)relevant;
        if (i < CUT) gain += grade / log2((double)i + 2);
        precision += (double)hits / ((double)i + 1);
    }
    out->ndcg10 += gain / ideal_gain(e, q);
    out->recall100 += (double)hits / (double)relevant;
    out->map100 += precision / (double)relevant;
    out->n_queries++;
}

/* Documents in order of their candidates, each once. */
static size_t documents(const rag_index *x, const rag_candidate *c, size_t n, bool whole,
                        uint32_t *docs, float *scores) {
    size_t n_docs = 0;
    for (size_t i = 0; i < n && n_docs < DEPTH; i++) {
        const uint32_t d = whole ? c[i].unit : x->doc[c[i].unit];
        bool seen = false;
        for (size_t k = 0; k < n_docs && !seen; k++) seen = docs[k] == d;
        if (seen) continue;
        scores[n_docs] = c[i].score;
        docs[n_docs++] = d;
    }
    return n_docs;
}

/* trec_eval orders by score and ignores the rank: equal scores are set apart. */
static rotor_status write_run(exam *e, const question *q, const uint32_t *docs, float *scores,
                              size_t n) {
    base_buf line = {0};
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; st == ROTOR_OK && i < n; i++) {
        if (i && scores[i] >= scores[i - 1]) scores[i] = nextafterf(scores[i - 1], -INFINITY);
        base_buf_reset(&line);
        base_buf_printf(&line, "%s Q0 %s %zu %.9g rotor\n", q->id, name_of(&e->r->x, docs[i]),
                        i + 1, (double)scores[i]);
        st = line.failed ? base_fail_nomem(e->err, "writing a run")
                         : base_out_write(&e->run, line.data, line.len, e->err);
    }
    base_buf_free(&line);
    return st;
}

/* As a search does it: where the model fails, or has no time left, the order stays as it was. */
static void judge_again(const exam *e, const question *q, rag_candidate *found, size_t n) {
    rag_hits said = {0};
    const rag_query query = {.reranker = e->opt->reranker, .judged_by = base_str_of(q->text)};
    rag_rerank(&e->r, &query, found, n, &said);
}

static rotor_status ask(exam *e, const question *q, rag_scores *out) {
    rag_candidate found[RAG_MAX_CANDIDATES];
    rag_asked asked = {.mode = e->opt->mode, .fusion = e->opt->fusion, .whole = !e->opt->chunked};
    uint32_t docs[DEPTH];
    float scores[DEPTH];
    size_t n = 0;
    bool degraded;
    const uint64_t start = base_now_us();
    rotor_status st = rag_ask_prepare(&e->r, 1, base_str_of(q->text), &asked, &degraded, e->err);
    if (st == ROTOR_OK && degraded)
        st = base_fail(e->err, ROTOR_E_STATE,
                       "%s has no vectors of this model: only --mode lexical "
                       "can be judged",
                       e->r->folder);
    if (st == ROTOR_OK) st = rag_candidates(&e->r, 1, &asked, found, &n, e->err);
    if (st == ROTOR_OK) {
        e->times[e->n_timed] = base_now_us() - start - asked.embed_us;
        e->legs[0][e->n_timed] = asked.lex_us;
        e->legs[1][e->n_timed++] = asked.vec_us;
        judge_again(e, q, found, n);
        n = documents(&e->r->x, found, n, asked.whole, docs, scores);
        add_scores(e, q, docs, n, out);
        if (e->opt->run) st = write_run(e, q, docs, scores, n);
    }
    rag_ask_free(&asked);
    return st;
}

/* ==== All of them ============================================================================= */

static int by_time(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t at_share(uint64_t *t, size_t n, size_t percent) {
    if (!n) return 0;
    qsort(t, n, sizeof *t, by_time);
    return t[BASE_MIN(n * percent / 100, n - 1)];
}

/* Would it be refused? */
static rotor_status refuse(exam *e, const question *q, double *n) {
    rag_hits h;
    ROTOR_TRY(rag_judge(e->r, base_str_of(q->text), e->opt->mode, &h, e->err));
    *n += !h.relevant;
    return ROTOR_OK;
}

static rotor_status judge_strangers(exam *e, rag_scores *out) {
    for (size_t i = e->n_asked; i < e->n_questions; i++)
        ROTOR_TRY(refuse(e, &e->questions[i], &out->refused_strangers));
    out->n_strangers = e->n_questions - e->n_asked;
    if (out->n_strangers) out->refused_strangers /= (double)out->n_strangers;
    return ROTOR_OK;
}

static rotor_status judge_all(exam *e, rag_scores *out) {
    for (size_t i = 0; i < e->n_asked; i++) {
        if (!n_relevant(e, &e->questions[i])) continue;
        ROTOR_TRY(ask(e, &e->questions[i], out));
        if (e->opt->refuse) ROTOR_TRY(refuse(e, &e->questions[i], &out->refused));
    }
    if (!out->n_queries)
        return base_fail(e->err, ROTOR_E_FORMAT, "%s judges none of the questions of %s",
                         e->opt->qrels, e->opt->queries);
    const double n = (double)out->n_queries;
    out->ndcg10 /= n;
    out->recall100 /= n;
    out->recall10 /= n;
    out->refused /= n;
    out->mrr10 /= n;
    out->map100 /= n;
    out->query_us = at_share(e->times, e->n_timed, 50);
    out->worst_us = at_share(e->times, e->n_timed, 95);
    out->lex_us = at_share(e->legs[0], e->n_timed, 50);
    out->vec_us = at_share(e->legs[1], e->n_timed, 50);
    return judge_strangers(e, out);
}

static void exam_free(exam *e) {
    for (size_t i = 0; i < e->n_questions; i++) {
        base_free(e->questions[i].id);
        base_free(e->questions[i].text);
    }
    for (size_t i = 0; i < e->n_judgements; i++) base_free(e->judgements[i].doc);
    base_free(e->questions);
    base_free(e->judgements);
    base_free(e->times);
    base_free(e->legs[0]);
    base_free(e->legs[1]);
}

rotor_status rag_eval(rag *r, const rag_eval_options *opt, rag_scores *out, rotor_error *err) {
    exam e = {.r = r, .opt = opt, .err = err};
    memset(out, 0, sizeof *out);
    rotor_status st = rag_db_look(r->db, err);
    if (st == ROTOR_OK) st = rag_sync(r, err);
    rag_db_look_end(r->db);
    if (st == ROTOR_OK) st = read_exam(&e);
    if (st == ROTOR_OK && opt->run) st = base_out_open(&e.run, opt->run, err);
    if (st == ROTOR_OK) {
        st = judge_all(&e, out);
        if (opt->run && st == ROTOR_OK)
            st = base_out_commit(&e.run, err);
        else if (opt->run)
            base_out_abort(&e.run);
    }
    exam_free(&e);
    return st;
}
