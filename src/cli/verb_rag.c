/* SPDX-License-Identifier: MIT
 *
 * rotor rag: knowledge stores. One function for each word behind it; the store is the word after
 * that: a folder's path, or a name, which is a folder under the user's data.
 */
#include "cli/store.h"

#include <jansson.h>

/* ==== Opening ================================================================================= */

typedef cli_store job;

static json_t *text_of(const char *s) { return cli_json_text(s, strlen(s)); }

static rotor_status open_store(job *j, bool write, bool model, rotor_error *err) {
    const char *word = cli_word(j->a, 0);
    const bool watches = strcmp(word, "watch") == 0;
    const bool makes = strcmp(word, "add") == 0 || strcmp(word, "note") == 0 ||
                       strcmp(word, "import") == 0 || (watches && j->a->n_words > 2);
    const cli_store_how how = {
        .create = write && makes, .write = write, .model = model, .again = watches};
    return cli_store_open(j, cli_word(j->a, 1), &how, err);
}

/* ==== add, reembed, remove ==================================================================== */

static void say_report(const job *j, const rotor_rag_report *r) {
    const rotor_rag_info none = {.size = sizeof none};
    rotor_rag_info info = none;
    rotor_rag_get_info(j->r, &info, NULL);
    cli_log(j->a, BASE_LOG_INFO,
            "%llu files: %llu read, %llu unchanged, %llu left out, %llu failed, %llu gone; "
            "%llu documents, %llu passages and %llu vectors written",
            (unsigned long long)r->n_seen, (unsigned long long)r->n_indexed,
            (unsigned long long)r->n_unchanged, (unsigned long long)r->n_skipped,
            (unsigned long long)r->n_failed, (unsigned long long)r->n_gone,
            (unsigned long long)r->n_docs, (unsigned long long)r->n_chunks,
            (unsigned long long)r->n_vectors);
    cli_log(j->a, BASE_LOG_INFO, "%s: %llu documents, %llu passages, %llu with vectors%s%s",
            j->folder, (unsigned long long)info.n_docs, (unsigned long long)info.n_chunks,
            (unsigned long long)info.n_vectors, info.model[0] ? " of " : "", info.model);
    if (!j->e && !j->far)
        cli_log(j->a, BASE_LOG_INFO,
                "found by words only; --embed-model MODEL adds search by "
                "meaning");
}

static json_t *report_json(const rotor_rag_report *r) {
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "files", (json_int_t)r->n_seen,
                     "read", (json_int_t)r->n_indexed, "unchanged", (json_int_t)r->n_unchanged,
                     "left_out", (json_int_t)r->n_skipped, "failed", (json_int_t)r->n_failed,
                     "gone", (json_int_t)r->n_gone, "documents", (json_int_t)r->n_docs, "passages",
                     (json_int_t)r->n_chunks, "vectors", (json_int_t)r->n_vectors);
}

static int end_adding(job *j, rotor_status st, const rotor_rag_report *r, const rotor_error *err) {
    cli_progress_end(&j->progress);
    if (st != ROTOR_OK) return cli_status(j->a, st, err);
    say_report(j, r);
    if (cli_on(j->a, OPT_JSON) && cli_json_print(j->a, report_json(r)) != CLI_DONE)
        return CLI_FAILED;
    return r->n_failed ? CLI_FAILED : CLI_DONE;
}

static rotor_rag_add_options add_options(job *j) {
    rotor_rag_add_options o = rotor_rag_add_options_default();
    o.include = j->a->many[OPT_INCLUDE];
    o.n_include = j->a->n_many[OPT_INCLUDE];
    o.exclude = j->a->many[OPT_EXCLUDE];
    o.n_exclude = j->a->n_many[OPT_EXCLUDE];
    o.confirm_deletes = cli_on(j->a, OPT_CONFIRM_DELETES);
    o.progress = cli_progress_step;
    o.user = &j->progress;
    cli_progress_start(&j->progress, j->a, "embedding");
    cli_catch_interrupt(true);
    return o;
}

static int rag_add(job *j) {
    rotor_error err = {0};
    rotor_rag_report report = {0};
    if (j->a->n_words < 3) return cli_usage(j->a, "no PATH: rotor rag add STORE PATH…");
    rotor_status st = open_store(j, true, true, &err);
    if (st != ROTOR_OK) return cli_status(j->a, st, &err);
    const rotor_rag_add_options o = add_options(j);
    st = rotor_rag_add(j->r, j->a->words + 2, j->a->n_words - 2, &o, &report, &err);
    return end_adding(j, st, &report, &err);
}

/* All folders that were added, once. */
static int rag_sync(job *j) {
    rotor_error err = {0};
    rotor_rag_report report = {0};
    if (j->a->n_words != 2) return cli_usage(j->a, "rotor rag sync STORE");
    rotor_status st = open_store(j, true, true, &err);
    if (st != ROTOR_OK) return cli_status(j->a, st, &err);
    const rotor_rag_add_options o = add_options(j);
    st = rotor_rag_add(j->r, NULL, 0, &o, &report, &err);
    return end_adding(j, st, &report, &err);
}

static int rag_reembed(job *j) {
    rotor_error err = {0};
    rotor_rag_report report = {0};
    if (!cli_text(j->a, OPT_EMBED_MODEL))
        return cli_usage(j->a, "no model: rotor rag reembed STORE --embed-model MODEL");
    rotor_status st = open_store(j, true, true, &err);
    if (st != ROTOR_OK) return cli_status(j->a, st, &err);
    const rotor_rag_add_options o = add_options(j);
    st = rotor_rag_reembed(j->r, &o, &report, &err);
    return end_adding(j, st, &report, &err);
}

static int rag_remove(job *j) {
    rotor_error err = {0};
    uint64_t n = 0;
    const size_t words = j->a->n_words - 2;
    if (!words == !cli_on(j->a, OPT_ALL_DOCS))
        return cli_usage(j->a, "rotor rag remove STORE needs either PATH or ID…, or --all");
    rotor_status st = open_store(j, true, false, &err);
    if (st == ROTOR_OK) st = rotor_rag_remove(j->r, j->a->words + 2, words, &n, &err);
    if (st != ROTOR_OK) return cli_status(j->a, st, &err);
    cli_log(j->a, BASE_LOG_INFO, "%llu removed", (unsigned long long)n);
    return CLI_DONE;
}

/* ==== note, export, import, gc ================================================================ */

/* The word behind the store, or standard input. */
static rotor_status note_text(const job *j, base_buf *out, rotor_error *err) {
    const char *given = cli_word(j->a, 2);
    if (!given || strcmp(given, "-") == 0) return cli_read_stdin(out, err);
    base_buf_puts(out, given);
    return out->failed ? base_fail_nomem(err, "reading a note") : ROTOR_OK;
}

static int end_note(job *j, const char *path, const rotor_rag_report *r) {
    if (cli_on(j->a, OPT_JSON))
        return cli_json_print(j->a, json_pack("{s:s,s:I,s:I}", "path", path, "passages",
                                              (json_int_t)r->n_chunks, "vectors",
                                              (json_int_t)r->n_vectors));
    cli_outf("%s\n", path);
    return CLI_DONE;
}

static int rag_note(job *j) {
    rotor_error err = {0};
    rotor_rag_report report = {0};
    base_buf text = {0};
    char path[ROTOR_RAG_NOTE_PATH];
    if (j->a->n_words > 3) return cli_usage(j->a, "rotor rag note STORE [TEXT]");
    rotor_status st = note_text(j, &text, &err);
    if (st == ROTOR_OK) st = open_store(j, true, true, &err);
    if (st == ROTOR_OK)
        st = rotor_rag_note(j->r, cli_text(j->a, OPT_NOTE_TITLE), text.data, text.len, path,
                            &report, &err);
    base_buf_free(&text);
    return st == ROTOR_OK ? end_note(j, path, &report) : cli_status(j->a, st, &err);
}

static int end_move(const job *j, const char *file, const char *done, const rotor_rag_report *r) {
    if (cli_on(j->a, OPT_JSON))
        return cli_json_print(j->a,
                              json_pack("{s:o,s:I,s:I,s:I,s:I}", "file", text_of(file), "files",
                                        (json_int_t)r->n_indexed, "documents",
                                        (json_int_t)r->n_docs, "passages", (json_int_t)r->n_chunks,
                                        "vectors", (json_int_t)r->n_vectors));
    cli_log(j->a, BASE_LOG_INFO,
            "%s: %llu files, %llu documents, %llu passages and %llu vectors %s", file,
            (unsigned long long)r->n_indexed, (unsigned long long)r->n_docs,
            (unsigned long long)r->n_chunks, (unsigned long long)r->n_vectors, done);
    return CLI_DONE;
}

static int rag_export(job *j) {
    rotor_error err = {0};
    rotor_rag_report report = {0};
    if (j->a->n_words != 3) return cli_usage(j->a, "rotor rag export STORE FILE");
    rotor_status st = open_store(j, false, false, &err);
    if (st == ROTOR_OK) st = rotor_rag_export(j->r, cli_word(j->a, 2), &report, &err);
    if (st != ROTOR_OK) return cli_status(j->a, st, &err);
    return end_move(j, cli_word(j->a, 2), "written", &report);
}

static int rag_import(job *j) {
    rotor_error err = {0};
    rotor_rag_report report = {0};
    if (j->a->n_words != 3) return cli_usage(j->a, "rotor rag import STORE FILE");
    const char *file = cli_word(j->a, 2);
    if (base_path_kind_of(file) != BASE_PATH_FILE) /* before a store is made for it */
        return cli_fail_text(j->a, "there is no such file to import");
    rotor_status st = open_store(j, true, false, &err);
    if (st == ROTOR_OK) st = rotor_rag_import(j->r, file, &report, &err);
    return st == ROTOR_OK ? end_move(j, file, "taken", &report) : cli_status(j->a, st, &err);
}

static int rag_gc(job *j) {
    rotor_error err = {0};
    rotor_rag_gc_report r;
    char before[32], after[32];
    if (j->a->n_words != 2) return cli_usage(j->a, "rotor rag gc STORE");
    rotor_status st = open_store(j, true, false, &err);
    if (st == ROTOR_OK) st = rotor_rag_gc(j->r, &r, &err);
    if (st != ROTOR_OK) return cli_status(j->a, st, &err);
    if (cli_on(j->a, OPT_JSON))
        return cli_json_print(j->a,
                              json_pack("{s:I,s:I,s:I}", "vectors_dropped", (json_int_t)r.n_vectors,
                                        "bytes_before", (json_int_t)r.before_bytes, "bytes",
                                        (json_int_t)r.after_bytes));
    cli_log(j->a, BASE_LOG_INFO, "%llu vectors of no passage dropped; %s, it was %s",
            (unsigned long long)r.n_vectors, cli_bytes(r.after_bytes, after),
            cli_bytes(r.before_bytes, before));
    return CLI_DONE;
}

static int rag_verify(job *j) {
    rotor_error err = {0};
    rotor_status st = open_store(j, false, false, &err);
    if (st == ROTOR_OK) st = rotor_rag_verify(j->r, &err);
    if (st != ROTOR_OK) return cli_status(j->a, st, &err);
    cli_outf("%s: sound\n", j->folder);
    return CLI_DONE;
}

/* ==== list ==================================================================================== */

/* A name in a line: no file's name ends it, or speaks to the terminal. */
static void put_name(base_buf *out, const char *name) {
    const size_t from = out->len;
    cli_put_plain(out, name);
    for (size_t i = from; i < out->len; i++)
        if (out->data[i] == '\n' || out->data[i] == '\t') out->data[i] = '?';
}

static bool list_file(void *user, const rotor_rag_file *f) {
    const job *j = user;
    const char *only = cli_text(j->a, OPT_STATUS);
    if (only && strcmp(only, f->status) != 0) return true;
    if (cli_on(j->a, OPT_JSON))
        return cli_json_line(j->a, json_pack("{s:o,s:s,s:o,s:I,s:I,s:I}", "path", text_of(f->path),
                                             "status", f->status, "message", text_of(f->message),
                                             "documents", (json_int_t)f->n_docs, "passages",
                                             (json_int_t)f->n_chunks, "bytes",
                                             (json_int_t)f->bytes)) == CLI_DONE;
    base_buf line = {0};
    base_buf_printf(&line, "%-8s %6llu ", f->status, (unsigned long long)f->n_chunks);
    put_name(&line, f->path);
    if (f->message[0]) base_buf_puts(&line, "  # ");
    put_name(&line, f->message);
    base_buf_puts(&line, "\n");
    cli_out(line.data, line.len);
    base_buf_free(&line);
    return true;
}

static int rag_list(job *j) {
    rotor_error err = {0};
    rotor_status st = open_store(j, false, false, &err);
    if (st == ROTOR_OK) st = rotor_rag_list(j->r, list_file, j, &err);
    return cli_status(j->a, st, &err);
}

static int rag_status(job *j) {
    rotor_error err = {0};
    rotor_rag_info i = {.size = sizeof i};
    char bytes[32];
    rotor_status st = open_store(j, false, false, &err);
    if (st == ROTOR_OK) st = rotor_rag_get_info(j->r, &i, &err);
    if (st != ROTOR_OK) return cli_status(j->a, st, &err);
    if (cli_on(j->a, OPT_JSON))
        return cli_json_print(
            j->a,
            json_pack("{s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:i}", "store", text_of(j->folder),
                      "files", (json_int_t)i.n_files, "failed", (json_int_t)i.n_failed, "documents",
                      (json_int_t)i.n_docs, "passages", (json_int_t)i.n_chunks, "vectors",
                      (json_int_t)i.n_vectors, "bytes", (json_int_t)i.db_bytes, "model",
                      text_of(i.model), "model_path", text_of(i.model_path), "dims", (int)i.dims));
    cli_outf("store     %s (%s)\nfiles     %llu, %llu of them failed\ndocuments %llu\n"
             "passages  %llu, %llu with vectors\nmodel     %s\n",
             j->folder, cli_bytes(i.db_bytes, bytes), (unsigned long long)i.n_files,
             (unsigned long long)i.n_failed, (unsigned long long)i.n_docs,
             (unsigned long long)i.n_chunks, (unsigned long long)i.n_vectors,
             i.model[0] ? i.model : "none: found by words only");
    return CLI_DONE;
}

/* ==== watch =================================================================================== */

static const struct {
    const char *word; /* begins the line */
    int level;        /* in the log */
} changes[] = {[ROTOR_RAG_READ] = {"read", BASE_LOG_INFO},
               [ROTOR_RAG_MOVED] = {"moved", BASE_LOG_INFO},
               [ROTOR_RAG_GONE] = {"gone", BASE_LOG_INFO},
               [ROTOR_RAG_LEFT_OUT] = {"left_out", BASE_LOG_INFO},
               [ROTOR_RAG_FAILED] = {"failed", BASE_LOG_WARN},
               [ROTOR_RAG_KEPT] = {"kept", BASE_LOG_WARN},
               [ROTOR_RAG_LOST] = {"lost", BASE_LOG_WARN},
               [ROTOR_RAG_WATCHED] = {"watching", BASE_LOG_INFO},
               [ROTOR_RAG_EMBEDDED] = {"embedded", BASE_LOG_INFO}};

/* What a line says behind the path. */
static const char *said_of(rotor_rag_change what) {
    switch (what) {
    case ROTOR_RAG_MOVED:
        return ", it was ";
    case ROTOR_RAG_KEPT:
        return ": much of it is gone at once; its documents are kept until rotor rag add "
               "--confirm-deletes says that this is meant";
    case ROTOR_RAG_LOST:
        return ": it is not there; its documents are kept";
    case ROTOR_RAG_LEFT_OUT:
    case ROTOR_RAG_FAILED:
        return ": ";
    default:
        return "";
    }
}

static void tell_change(void *user, rotor_rag_change what, const char *path, const char *more) {
    const job *j = user;
    if (cli_on(j->a, OPT_JSON)) {
        cli_json_line(j->a, json_pack("{s:s,s:o,s:o}", "change", changes[what].word, "path",
                                      text_of(path), "more", text_of(more)));
        cli_finish(j->a, CLI_DONE); /* whoever reads along waits for it */
        return;
    }
    if (what == ROTOR_RAG_EMBEDDED) {
        cli_log(j->a, BASE_LOG_INFO, "embedded %s passages", more);
        return;
    }
    base_buf line = {0};
    put_name(&line, path);
    base_buf_puts(&line, said_of(what));
    put_name(&line, more);
    cli_log(j->a, changes[what].level, "%s %s", changes[what].word, line.data ? line.data : "");
    base_buf_free(&line);
}

static bool not_stopped(void *user) {
    (void)user;
    return !cli_interrupted();
}

static int rag_watch(job *j) {
    rotor_error err = {0};
    rotor_status st = open_store(j, true, true, &err);
    if (st != ROTOR_OK) return cli_status(j->a, st, &err);
    rotor_rag_add_options add = add_options(j);
    cli_catch_end();
    const rotor_rag_watch_options o = {
        .size = sizeof o, .add = &add, .go_on = not_stopped, .change = tell_change, .user = j};
    st = rotor_rag_watch(j->r, j->a->words + 2, j->a->n_words - 2, &o, &err);
    return cli_status(j->a, st, &err);
}

/* ==== search ================================================================================== */

/* What a document says is shown, and does nothing. */
static void print_text(const rotor_rag_hit *h) {
    base_buf head = {0}, text = {0};
    cli_put_about(&head, h);
    if (head.len) cli_outf("   %s\n", head.data);
    cli_put_plain(&text, h->text);
    for (const char *at = text.data ? text.data : ""; *at;) {
        const size_t n = strcspn(at, "\n");
        cli_outf("   %.*s\n", (int)n, at);
        at += n + (at[n] == '\n');
    }
    cli_outf("\n");
    base_buf_free(&head);
    base_buf_free(&text);
}

static void print_hit(const cli_args *a, size_t i, const rotor_rag_hit *h, bool several) {
    base_buf place = {0};
    cli_put_place(&place, h, several);
    cli_outf("%zu. %s  %.3f\n", i + 1, place.data ? place.data : "", (double)h->score);
    base_buf_free(&place);
    if (cli_on(a, OPT_EXPLAIN))
        cli_outf("   bm25 %.3f (rank %u), cosine %.3f (rank %u)", (double)h->bm25, h->rank_lex,
                 (double)h->cosine, h->rank_vec);
    if (cli_on(a, OPT_EXPLAIN) && h->reranked)
        cli_outf(", fused %.3f, reranked %.4f", (double)h->fused, (double)h->rerank);
    if (cli_on(a, OPT_EXPLAIN)) cli_outf("\n");
    print_text(h);
}

static int print_hit_json(const cli_args *a, size_t i, const rotor_rag_hit *h) {
    json_t *o = json_pack(
        "{s:I,s:o,s:f,s:f,s:f,s:i,s:i,s:o,s:o,s:o,s:o,s:[i,i],s:[i,i],s:[I,I],s:o}", "rank",
        (json_int_t)i + 1, "store", text_of(h->store), "score", (double)h->score, "bm25",
        (double)h->bm25, "cosine", (double)h->cosine, "rank_lexical", (int)h->rank_lex,
        "rank_vector", (int)h->rank_vec, "path", text_of(h->path), "id", text_of(h->id), "title",
        text_of(h->title), "heading", text_of(h->heading), "lines", (int)h->line, (int)h->last_line,
        "pages", (int)h->page, (int)h->last_page, "bytes", (json_int_t)h->begin, (json_int_t)h->end,
        "text", text_of(h->text));
    if (o && h->reranked) {
        json_object_set_new(o, "fused", json_real((double)h->fused));
        json_object_set_new(o, "rerank", json_real((double)h->rerank));
    }
    return cli_json_line(a, o);
}

static int print_hits(const job *j, const rotor_rag_hits *h, bool several) {
    int status = CLI_DONE;
    for (size_t i = 0; status == CLI_DONE && i < h->n; i++)
        if (cli_on(j->a, OPT_JSON))
            status = print_hit_json(j->a, i, &h->hits[i]);
        else
            print_hit(j->a, i, &h->hits[i], several);
    if (h->lexical_only)
        cli_log(j->a, BASE_LOG_INFO, "by words only: %s has no vectors of an open model",
                several ? "one of the stores" : "the store");
    if (cli_on(j->a, OPT_EXPLAIN))
        cli_log(j->a, BASE_LOG_INFO,
                "best cosine %.3f, words covered %.2f, match %.2f: %s; embedding %.2f ms, words "
                "%.2f, vectors %.2f, fusion %.2f, reranking %.2f",
                (double)h->best_cosine, (double)h->coverage, (double)h->match,
                h->relevant ? "likely an answer" : "not in the documents",
                (double)h->embed_us / 1e3, (double)h->lex_us / 1e3, (double)h->vec_us / 1e3,
                (double)h->fuse_us / 1e3, (double)h->rerank_us / 1e3);
    if (status == CLI_DONE && !h->n) return cli_fail_text(j->a, "nothing found");
    return status;
}

static int rag_search(job *j) {
    rotor_error err = {0};
    rotor_rag_hits hits;
    cli_stores s = {.n = 0};
    rotor_rag_query q = cli_store_query(j->a);
    const cli_store_how how = {.model = q.mode != ROTOR_RAG_LEXICAL};
    if (j->a->n_words != 3) return cli_usage(j->a, "rotor rag search STORE[,STORE…] \"question\"");
    rotor_status st = cli_stores_open(&s, j->a, cli_word(j->a, 1), &how, &err);
    if (st == ROTOR_OK) {
        q = cli_stores_query(&s);
        st = rotor_rag_search_all(s.r, s.n, cli_word(j->a, 2), &q, &hits, &err);
    }
    const int status = st == ROTOR_OK ? print_hits(j, &hits, s.n > 1) : cli_status(j->a, st, &err);
    if (st == ROTOR_OK) rotor_rag_hits_free(&hits);
    cli_stores_close(&s);
    return status;
}

/* ==== eval ==================================================================================== */

static int print_scores(const cli_args *a, const rotor_rag_scores *s) {
    if (cli_on(a, OPT_JSON))
        return cli_json_print(
            a, json_pack("{s:s,s:f,s:f,s:f,s:f,s:f,s:I,s:f,s:f,s:I,s:f,s:f,s:f,s:f}", "mode",
                         cli_text(a, OPT_RAG_MODE), "ndcg@10", s->ndcg10, "recall@10", s->recall10,
                         "recall@100", s->recall100, "mrr@10", s->mrr10, "map@100", s->map100,
                         "queries", (json_int_t)s->n_queries, "refused", s->refused,
                         "refused_strangers", s->refused_strangers, "strangers",
                         (json_int_t)s->n_strangers, "query_ms", (double)s->query_us / 1e3,
                         "query_p95_ms", (double)s->worst_us / 1e3, "lexical_ms",
                         (double)s->lex_us / 1e3, "vector_ms", (double)s->vec_us / 1e3));
    cli_outf(
        "ndcg@10 %.4f\nrecall@10 %.4f\nrecall@100 %.4f\nmrr@10 %.4f\nmap@100 %.4f\nqueries %llu\n",
        s->ndcg10, s->recall10, s->recall100, s->mrr10, s->map100,
        (unsigned long long)s->n_queries);
    if (s->n_strangers)
        cli_outf("refused %.4f\nrefused_strangers %.4f\nstrangers %llu\n", s->refused,
                 s->refused_strangers, (unsigned long long)s->n_strangers);
    cli_log(a, BASE_LOG_INFO,
            "a query without its embedding%s: median %.2f ms (words %.2f, vectors %.2f), 95th "
            "percentile %.2f",
            cli_text(a, OPT_RERANK) ? " and reranking" : "", (double)s->query_us / 1e3,
            (double)s->lex_us / 1e3, (double)s->vec_us / 1e3, (double)s->worst_us / 1e3);
    return CLI_DONE;
}

static rotor_status eval(job *j, rotor_rag_eval_options *o, rotor_rag_scores *scores,
                         rotor_error *err) {
    const cli_store_how how = {.one_thread = false};
    cli_model model = {0};
    rotor_status st = open_store(j, false, o->mode != ROTOR_RAG_LEXICAL, err);
    if (st == ROTOR_OK) st = cli_judge_open(&o->reranker, j->a, &model, &how, err);
    if (st == ROTOR_OK) st = rotor_rag_eval(j->r, o, scores, err);
    rotor_engine_close(&o->reranker);
    cli_model_free(&model);
    return st;
}

/* What it finds is compared with what is known: time is no reason to leave a question as it was,
 * unless somebody says so. */
static int rag_eval(job *j) {
    rotor_error err = {0};
    rotor_rag_scores scores;
    rotor_rag_eval_options o = {.size = sizeof o};
    o.queries = cli_text(j->a, OPT_QUERIES);
    o.qrels = cli_text(j->a, OPT_QRELS);
    o.run = cli_text(j->a, OPT_RUN_FILE);
    o.mode = cli_store_query(j->a).mode;
    o.fusion = cli_int(j->a, OPT_FUSION) ? ROTOR_RAG_RRF : ROTOR_RAG_CONVEX;
    o.chunked = cli_on(j->a, OPT_CHUNKED);
    o.refuse = cli_text(j->a, OPT_REFUSE);
    o.rerank_n = (uint32_t)cli_int(j->a, OPT_RERANK_N);
    o.rerank_ms = cli_given(j->a, OPT_RERANK_MS) ? (uint32_t)cli_int(j->a, OPT_RERANK_MS) : 0;
    if (!o.queries || !o.qrels)
        return cli_usage(j->a, "rotor rag eval STORE needs --queries F.jsonl and --qrels F.tsv");
    const rotor_status st = eval(j, &o, &scores, &err);
    if (st != ROTOR_OK) return cli_status(j->a, st, &err);
    return print_scores(j->a, &scores);
}

/* ==== The verb ================================================================================ */

static const struct {
    const char *name;  /* as typed */
    int (*run)(job *); /* exit status */
} words[] = {{"add", rag_add},       {"search", rag_search},   {"ask", cli_rag_ask},
             {"list", rag_list},     {"remove", rag_remove},   {"eval", rag_eval},
             {"status", rag_status}, {"reembed", rag_reembed}, {"verify", rag_verify},
             {"watch", rag_watch},   {"note", rag_note},       {"export", rag_export},
             {"import", rag_import}, {"gc", rag_gc},           {"bench", cli_rag_bench},
             {"sync", rag_sync}};

static const char *word_at(const void *ctx, size_t i) {
    (void)ctx;
    return i < BASE_COUNT(words) ? words[i].name : NULL;
}

int verb_rag(const cli_args *a) {
    job j = {.a = a};
    const char *word = cli_word(a, 0);
    for (size_t i = 0; i < BASE_COUNT(words); i++) {
        if (strcmp(words[i].name, word) != 0) continue;
        if (a->n_words < 2 && words[i].run != cli_rag_bench)
            return cli_usage(a, "no STORE: rotor rag %s STORE", word);
        const int status = words[i].run(&j);
        cli_store_close(&j);
        return status;
    }
    const char *near = cli_nearest(word, word_at, NULL);
    return cli_usage(a,
                     "no 'rotor rag %s'%s%s%s; there are add, search, ask, note, sync, list, "
                     "remove, watch, export, "
                     "import, gc, eval, status, reembed, verify and bench",
                     word, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}
