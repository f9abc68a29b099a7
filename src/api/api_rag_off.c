/* SPDX-License-Identifier: MIT
 *
 * The public face of the rag room in a build without SQLite: no store can be opened, so that
 * nothing else is ever called with one.
 */
#include "base/base.h"
#include "rotor_rag.h"

rotor_rag_options rotor_rag_options_default(void) {
    return (rotor_rag_options){.size = sizeof(rotor_rag_options)};
}
rotor_rag_add_options rotor_rag_add_options_default(void) {
    return (rotor_rag_add_options){.size = sizeof(rotor_rag_add_options)};
}
rotor_rag_query rotor_rag_query_default(void) {
    return (rotor_rag_query){
        .size = sizeof(rotor_rag_query), .k = 8, .rerank_n = 20, .rerank_ms = 3000};
}

static rotor_status off(rotor_error *err) {
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "this build has no knowledge stores: it was made without SQLite "
                     "(tools/bootstrap all, then make clean and make)");
}

rotor_status rotor_rag_open(rotor_rag **out, const char *folder, const rotor_rag_options *opt,
                            rotor_error *err) {
    (void)out, (void)folder, (void)opt;
    return off(err);
}
void rotor_rag_close(rotor_rag **r) {
    if (r) *r = NULL;
}
rotor_status rotor_rag_get_info(rotor_rag *r, rotor_rag_info *info, rotor_error *err) {
    (void)r, (void)info;
    return off(err);
}
rotor_status rotor_rag_add(rotor_rag *r, const char *const *paths, size_t n_paths,
                           const rotor_rag_add_options *opt, rotor_rag_report *report,
                           rotor_error *err) {
    (void)r, (void)paths, (void)n_paths, (void)opt, (void)report;
    return off(err);
}
rotor_status rotor_rag_remove(rotor_rag *r, const char *const *what, size_t n, uint64_t *n_removed,
                              rotor_error *err) {
    (void)r, (void)what, (void)n, (void)n_removed;
    return off(err);
}
rotor_status rotor_rag_watch(rotor_rag *r, const char *const *folders, size_t n,
                             const rotor_rag_watch_options *opt, rotor_error *err) {
    (void)r, (void)folders, (void)n, (void)opt;
    return off(err);
}
rotor_status rotor_rag_reembed(rotor_rag *r, const rotor_rag_add_options *opt,
                               rotor_rag_report *report, rotor_error *err) {
    (void)r, (void)opt, (void)report;
    return off(err);
}
rotor_status rotor_rag_note(rotor_rag *r, const char *title, const char *text, size_t n_bytes,
                            char *path, rotor_rag_report *report, rotor_error *err) {
    (void)r, (void)title, (void)text, (void)n_bytes, (void)path, (void)report;
    return off(err);
}
rotor_status rotor_rag_put(rotor_rag *r, const rotor_rag_text *text, rotor_rag_put_result *out,
                           rotor_error *err) {
    (void)r, (void)text, (void)out;
    return off(err);
}
rotor_status rotor_rag_take_out(rotor_rag *r, const char *id, rotor_error *err) {
    (void)r, (void)id;
    return off(err);
}
rotor_status rotor_rag_embed(rotor_rag *r, uint32_t most, uint64_t *n_made, rotor_error *err) {
    (void)r, (void)most, (void)n_made;
    return off(err);
}
rotor_status rotor_rag_export(rotor_rag *r, const char *path, rotor_rag_report *report,
                              rotor_error *err) {
    (void)r, (void)path, (void)report;
    return off(err);
}
rotor_status rotor_rag_import(rotor_rag *r, const char *path, rotor_rag_report *report,
                              rotor_error *err) {
    (void)r, (void)path, (void)report;
    return off(err);
}
rotor_status rotor_rag_gc(rotor_rag *r, rotor_rag_gc_report *report, rotor_error *err) {
    (void)r, (void)report;
    return off(err);
}
rotor_status rotor_rag_verify(rotor_rag *r, rotor_error *err) {
    (void)r;
    return off(err);
}
rotor_status rotor_rag_list(rotor_rag *r, bool (*fn)(void *user, const rotor_rag_file *f),
                            void *user, rotor_error *err) {
    (void)r, (void)fn, (void)user;
    return off(err);
}
rotor_status rotor_rag_list_after(rotor_rag *r, int64_t after,
                                  bool (*fn)(void *user, const rotor_rag_file *f), void *user,
                                  rotor_error *err) {
    (void)r, (void)after, (void)fn, (void)user;
    return off(err);
}
rotor_status rotor_rag_search(rotor_rag *r, const char *query, const rotor_rag_query *opt,
                              rotor_rag_hits *out, rotor_error *err) {
    (void)r, (void)query, (void)opt, (void)out;
    return off(err);
}
void rotor_rag_hits_free(rotor_rag_hits *h) {
    if (h) memset(h, 0, sizeof *h);
}
rotor_rag_ask_options rotor_rag_ask_options_default(void) {
    return (rotor_rag_ask_options){.size = sizeof(rotor_rag_ask_options)};
}
rotor_status rotor_rag_search_all(rotor_rag *const *stores, size_t n_stores, const char *query,
                                  const rotor_rag_query *opt, rotor_rag_hits *out,
                                  rotor_error *err) {
    (void)stores, (void)n_stores, (void)query, (void)opt, (void)out;
    return off(err);
}
rotor_status rotor_rag_gather_all(rotor_rag *const *stores, size_t n_stores, const char *question,
                                  const rotor_rag_ask_options *opt, rotor_rag_context *out,
                                  rotor_error *err) {
    (void)stores, (void)n_stores, (void)question, (void)opt, (void)out;
    return off(err);
}
rotor_status rotor_rag_gather(rotor_rag *r, const char *question, const rotor_rag_ask_options *opt,
                              rotor_rag_context *out, rotor_error *err) {
    (void)r, (void)question, (void)opt, (void)out;
    return off(err);
}
void rotor_rag_context_free(rotor_rag_context *c) {
    if (c) memset(c, 0, sizeof *c);
}
rotor_status rotor_rag_ground(const rotor_engine *e, const rotor_rag_context *c,
                              const rotor_turn *turns, size_t n, rotor_turn **out, size_t *n_out,
                              rotor_error *err) {
    (void)e, (void)c, (void)turns, (void)n, (void)out, (void)n_out;
    return off(err);
}
rotor_status rotor_rag_describe(const rotor_rag_context *c, const rotor_rag_checked *checked,
                                char **json, rotor_error *err) {
    (void)c, (void)checked, (void)json;
    return off(err);
}
bool rotor_rag_about_the_answer(const char *question) {
    (void)question;
    return false;
}
bool rotor_rag_asks_something(const char *question) {
    (void)question;
    return false;
}
rotor_status rotor_rag_rewrite(rotor_engine *e, const rotor_turn *turns, size_t n,
                               bool (*go_on)(void *user), void *user, char **question,
                               rotor_error *err) {
    (void)e, (void)turns, (void)n, (void)go_on, (void)user, (void)question;
    return off(err);
}
rotor_status rotor_rag_rewrite_prompt(const rotor_turn *turns, size_t n, char **prompt,
                                      rotor_error *err) {
    (void)turns, (void)n, (void)prompt;
    return off(err);
}
rotor_gen_options rotor_rag_rewrite_options(const rotor_engine *e) {
    return rotor_gen_options_default(e);
}
rotor_status rotor_rag_rewritten(const char *question, const char *said, size_t n_bytes, char **out,
                                 rotor_error *err) {
    (void)question, (void)said, (void)n_bytes, (void)out;
    return off(err);
}
rotor_status rotor_rag_marks_create(rotor_rag_marks **out, size_t n_sources, rotor_error *err) {
    (void)out, (void)n_sources;
    return off(err);
}
void rotor_rag_marks_free(rotor_rag_marks **m) {
    if (m) *m = NULL;
}
const char *rotor_rag_marks_put(rotor_rag_marks *m, const char *text, size_t n_bytes, size_t *n) {
    (void)m;
    *n = n_bytes;
    return text;
}
rotor_status rotor_rag_check(const rotor_rag_context *c, const char *answer, size_t n_bytes,
                             rotor_rag_checked *out, rotor_error *err) {
    (void)c, (void)answer, (void)n_bytes, (void)out;
    return off(err);
}
void rotor_rag_checked_free(rotor_rag_checked *c) {
    if (c) memset(c, 0, sizeof *c);
}
rotor_status rotor_rag_describe_hits(const rotor_rag_hits *h, char **json, rotor_error *err) {
    (void)h, (void)json;
    return off(err);
}
size_t rotor_rag_place(const rotor_rag_hit *h, char *out, size_t cap) {
    (void)h;
    if (cap) out[0] = 0;
    return 0;
}
rotor_status rotor_rag_eval(rotor_rag *r, const rotor_rag_eval_options *opt, rotor_rag_scores *out,
                            rotor_error *err) {
    (void)r, (void)opt, (void)out;
    return off(err);
}
rotor_rag_bench_options rotor_rag_bench_options_default(void) {
    return (rotor_rag_bench_options){.size = sizeof(rotor_rag_bench_options)};
}
rotor_status rotor_rag_bench(const rotor_rag_bench_options *opt, rotor_rag_bench_result *out,
                             rotor_error *err) {
    (void)opt, (void)out;
    return off(err);
}
