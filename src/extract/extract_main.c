/* SPDX-License-Identifier: MIT
 *
 * rotor-extract: a document as a stream of blocks.
 *
 *   rotor-extract [--json | --text | --raw] [--type T] FILE     for people and tests
 *   rotor-extract --child [--type T] [--name N] <FILE           for librotor
 *
 * In the first form the program opens the file and runs itself, in the second form, as a limited
 * child: what one sees is what a store gets. The second form reads descriptor 0 and writes the
 * stream of base/block_stream.c; once it holds the file it locks itself in (base_lock_self), but
 * for PDF, which it hands to another program in a prison of its own.
 *
 * Exit status: 0 done, 1 failed (the last record and stderr say why), 2 bad usage.
 */
#include "extract/extract.h"

#include <jansson.h>
#include <stdio.h>

enum { HEAD_BYTES = 1 << 16, OUT_BYTES = 1 << 16 };

#if BASE_CHECKED_BUILD
/* The leak checker starts a process of its own, which a limited child may not. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }
#endif

typedef enum shape { SHAPE_TEXT, SHAPE_JSON, SHAPE_RAW } shape;

typedef struct request {
    bool child;            /* the second form */
    shape shape;           /* of the output, first form */
    const char *type;      /* NULL: auto */
    const char *name;      /* of the file */
    const char *pdftotext; /* NULL: where programs usually are */
    const char *file;      /* first form */
    const char *self;      /* path of this program */
} request;

/* ---- The second form: stdin to blocks ------------------------------------------------------ */

static rotor_status write_block(void *user, const base_block *b, rotor_error *err) {
    base_buf *out = user;
    if (!base_block_put(out, b)) return base_fail_nomem(err, "writing a block");
    if (out->len < OUT_BYTES && b->kind < BASE_BLOCK_ERROR) return ROTOR_OK;
    const bool ok = fwrite(out->data, 1, out->len, stdout) == out->len && fflush(stdout) == 0;
    base_buf_reset(out);
    return ok ? ROTOR_OK : base_fail(err, ROTOR_E_IO, "cannot write");
}

/* Appends up to n bytes of stdin. */
static bool read_more(base_buf *to, size_t n) {
    if (!base_buf_reserve(to, n)) return false;
    to->len += fread(to->data + to->len, 1, n, stdin);
    return true;
}

static size_t read_stdin(char *p, size_t n) { return fread(p, 1, n, stdin); }

static rotor_status read_file(ex *x, base_buf *file, ex_type type) {
    const uint64_t max = ex_is_large(type) ? x->limits.other_file_bytes : x->limits.text_file_bytes;
    while (!feof(stdin) && !ferror(stdin) && file->len <= max)
        if (!read_more(file, BASE_MAX(file->len, (size_t)HEAD_BYTES))) return ex_nomem(x);
    if (ferror(stdin)) return ex_fail(x, BASE_REASON_BROKEN, "the file cannot be read");
    if (file->len > max)
        return ex_fail(x, BASE_REASON_TOO_LARGE, "a %s file above %llu MiB", ex_type_name(type),
                       (unsigned long long)(max >> 20));
    return ROTOR_OK;
}

static rotor_status parse(ex *x, base_buf *file, const request *q) {
    const char *what = NULL;
    ex_type type = EX_AUTO;
    if (!read_more(file, HEAD_BYTES)) return ex_nomem(x);
    if (q->type) type = ex_type_of_name(q->type);
    if (type == EX_AUTO) type = ex_detect((base_str){file->data, file->len}, q->name, &what);
    /* Where the names of a zip file stand is only known at its end. */
    const bool zip = file->len >= 4 && memcmp(file->data, "PK\3\4", 4) == 0;
    if (zip && !q->type) {
        ROTOR_TRY(read_file(x, file, EX_DOCX));
        type = ex_detect((base_str){file->data, file->len}, q->name, &what);
    }
    if (type == EX_TYPES) return ex_fail(x, BASE_REASON_NOT_TEXT, "this is %s", what);
    if (type != EX_PDF) base_lock_self();
    if (type == EX_WIKI) return ex_parse_wiki(x, (base_str){file->data, file->len}, read_stdin);
    ROTOR_TRY(read_file(x, file, type));
    return ex_document(x, type, (base_str){file->data, file->len}, q->name);
}

static int run_child(const request *q) {
    rotor_error err = {0};
    base_buf out = {0}, file = {0};
    ex x = {.limits = ex_limits_default(),
            .fn = write_block,
            .user = &out,
            .pdftotext = q->pdftotext,
            .err = &err};
    base_buf_puts(&out, BASE_BLOCK_MAGIC);
    rotor_status st = parse(&x, &file, q);
    if (st == ROTOR_OK && x.n_blocks == 0) st = ex_fail(&x, BASE_REASON_EMPTY, "no text in it");
    base_block last = {.kind = BASE_BLOCK_END};
    if (st != ROTOR_OK) {
        const base_reason why = x.reason ? x.reason : BASE_REASON_BROKEN;
        last = (base_block){.kind = BASE_BLOCK_ERROR,
                            .level = why,
                            .text = base_str_of(err.message[0] ? err.message : "it failed")};
        last.text.n = BASE_MIN(last.text.n, (size_t)240);
        fprintf(stderr, "rotor-extract: %s: %s\n", base_reason_name(why), err.message);
    }
    st = write_block(&out, &last, &err) == ROTOR_OK ? st : ROTOR_E_IO;
    ex_close(&x);
    base_buf_free(&out);
    base_buf_free(&file);
    return st == ROTOR_OK ? 0 : 1;
}

/* ---- The first form: blocks to a person ---------------------------------------------------- */

static const char *kind_name(base_block_kind kind) {
    static const char *const names[] = {"?",    "doc", "meta", "heading", "para", "code",
                                        "list", "row", "page", "note",    "error"};
    return names[kind];
}

static void print_json(const base_block *b) {
    json_t *o = json_pack("{s:s, s:s%}", "kind", kind_name(b->kind), "text", b->text.p, b->text.n);
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {{"level", b->level},           {"page", b->page},
                   {"line_begin", b->line_begin}, {"line_end", b->line_end},
                   {"byte_begin", b->byte_begin}, {"byte_end", b->byte_end}};
    for (size_t i = 0; i < BASE_COUNT(numbers); i++)
        if (numbers[i].value || (i == 4 && b->byte_end))
            json_object_set_new(o, numbers[i].name, json_integer((json_int_t)numbers[i].value));
    if (json_dumpf(o, stdout, JSON_COMPACT) == 0) putchar('\n');
    json_decref(o);
}

static void print_text(const base_block *b) {
    const int n = (int)b->text.n;
    switch (b->kind) {
    case BASE_BLOCK_DOC:
        printf("== %.*s\n\n", n, b->text.p);
        break;
    case BASE_BLOCK_META:
        printf("   %.*s\n", n, b->text.p);
        break;
    case BASE_BLOCK_HEADING:
        printf("%.*s %.*s\n\n", (int)b->level, "######", n, b->text.p);
        break;
    case BASE_BLOCK_LIST:
        printf("%*s- %.*s\n", (int)b->level * 2 - 2, "", n, b->text.p);
        break;
    case BASE_BLOCK_ROW:
        printf("%.*s\n", n, b->text.p);
        break;
    case BASE_BLOCK_PAGE:
        printf("-- page %u\n\n", b->page);
        break;
    case BASE_BLOCK_NOTE:
        fprintf(stderr, "note: %.*s\n", n, b->text.p);
        break;
    default:
        printf("%.*s\n\n", n, b->text.p);
    }
}

static rotor_status show(void *user, const base_block *b, rotor_error *err) {
    const request *q = user;
    (void)err;
    if (q->shape == SHAPE_JSON)
        print_json(b);
    else
        print_text(b);
    return ROTOR_OK;
}

static rotor_status show_raw(void *user, const void *p, size_t n, rotor_error *err) {
    (void)user;
    return fwrite(p, 1, n, stdout) == n ? ROTOR_OK : base_fail(err, ROTOR_E_IO, "cannot write");
}

static int run_parent(const request *q) {
    rotor_error err = {0};
    base_reason reason = BASE_REASON_NONE;
    base_child_end end = {0};
    uint64_t size;
    int fd = -1;
    base_extract run = {.program = q->self,
                        .pdftotext = q->pdftotext,
                        .type = q->type,
                        .name = q->name ? q->name : q->file,
                        .limits = base_extract_limits(),
                        .block = show,
                        .user = (void *)(uintptr_t)q};
    rotor_status st = base_fd_open(&fd, q->file, &size, &err);
    if (st == ROTOR_OK && q->shape == SHAPE_RAW) {
        const char *const argv[] = {
            q->self, "--child", "--name", run.name, q->type ? "--type" : NULL, q->type, NULL};
        const base_child c = {
            .argv = argv, .input_fd = fd, .limits = run.limits, .output = show_raw};
        st = base_child_run(&c, &end, &err);
        if (st == ROTOR_OK && end.status) st = base_fail(&err, ROTOR_E_FORMAT, "%s", end.errors);
    } else if (st == ROTOR_OK) {
        run.fd = fd;
        st = base_extract_run(&run, &reason, &err);
    }
    base_fd_close(&fd);
    if (st != ROTOR_OK) fprintf(stderr, "rotor-extract: %s\n", err.message);
    return st == ROTOR_OK ? 0 : 1;
}

/* ---- What was asked ------------------------------------------------------------------------ */

static int usage(const char *wrong, const char *value) {
    if (wrong) fprintf(stderr, "rotor-extract: %s%s\n", wrong, value);
    fprintf(stderr, "usage: rotor-extract [--json | --text | --raw] [--type T] [--name N]"
                    " [--pdftotext PATH] FILE\ntypes:");
    for (int t = 0; t < EX_TYPES; t++) fprintf(stderr, " %s", ex_type_name((ex_type)t));
    fprintf(stderr, "\n%s", ex_features());
    return 2;
}

static bool takes_value(request *q, const char *flag, const char ***to) {
    *to = strcmp(flag, "--type") == 0        ? &q->type
          : strcmp(flag, "--name") == 0      ? &q->name
          : strcmp(flag, "--pdftotext") == 0 ? &q->pdftotext
                                             : NULL;
    return *to != NULL;
}

int main(int argc, char **argv) {
    request q = {.self = "/proc/self/exe"};
    for (int i = 1; i < argc; i++) {
        const char **value;
        if (strcmp(argv[i], "--child") == 0)
            q.child = true;
        else if (strcmp(argv[i], "--json") == 0)
            q.shape = SHAPE_JSON;
        else if (strcmp(argv[i], "--raw") == 0)
            q.shape = SHAPE_RAW;
        else if (strcmp(argv[i], "--text") == 0)
            q.shape = SHAPE_TEXT;
        else if (strcmp(argv[i], "--features") == 0)
            return fputs(ex_features(), stdout) < 0;
        else if (takes_value(&q, argv[i], &value)) {
            if (++i == argc) return usage("a value is missing after ", argv[i - 1]);
            *value = argv[i];
        } else if (argv[i][0] == '-' || q.file)
            return usage("not understood: ", argv[i]);
        else
            q.file = argv[i];
    }
    if (q.type && ex_type_of_name(q.type) == EX_TYPES) return usage("no such type: ", q.type);
    if (q.child == (q.file != NULL)) return usage(NULL, "");
    return q.child ? run_child(&q) : run_parent(&q);
}
