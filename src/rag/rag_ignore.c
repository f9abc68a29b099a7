/* SPDX-License-Identifier: MIT
 *
 * .rotorignore: which files and folders of a folder its owner does not want in a store. A line is a
 * rule, the last that fits counts, and the file of a folder further down counts before those above:
 *
 *     draft-?         names, at any depth        /todo.md     beside this .rotorignore only
 *     old/            folders only               sub/x.txt    a path from here
 *     !draft-z        not this one               # and this says nothing
 *
 * As with git, what lies in a folder that is left out cannot be had back.
 */
#include "rag/rag_internal.h"

#include <fnmatch.h>

enum { MOST_BYTES = 1 << 16 }; /* of one .rotorignore */

/* False: it is no text, or more than anybody writes by hand. */
static bool is_text(const base_file *f) {
    return f->size <= MOST_BYTES && (!f->size || !memchr(f->data, 0, f->size));
}

static rotor_status read_rules(rag_ignore *own, const char *path, rotor_error *err) {
    base_file f;
    base_node n;
    base_node_of(&n, path, true);
    own->unread = n.kind != BASE_NODE_FILE || base_file_open(&f, path, false, NULL) != ROTOR_OK;
    if (own->unread) return ROTOR_OK;
    own->unread = !is_text(&f);
    if (!own->unread) own->text = base_strndup((const char *)f.data, f.size);
    base_file_close(&f);
    return own->text || own->unread ? ROTOR_OK : base_fail_nomem(err, "listing a folder");
}

rotor_status rag_ignore_read(rag_ignore *own, const rag_ignore *above, const char *folder,
                             rotor_error *err) {
    base_node n;
    char *path = base_path_join(folder, RAG_IGNORE_NAME);
    *own = (rag_ignore){.above = above, .folder = folder};
    if (!path) return base_fail_nomem(err, "listing a folder");
    base_node_of(&n, path, false);
    const rotor_status st = n.kind == BASE_NODE_NONE ? ROTOR_OK : read_rules(own, path, err);
    base_free(path);
    return st;
}

void rag_ignore_free(rag_ignore *own) {
    base_free(own->text);
    own->text = NULL;
}

/* Does this rule speak of that path, given from its folder on? */
static bool speaks_of(base_str rule, const char *below, bool folder) {
    char pattern[512];
    if (rule.n && rule.p[rule.n - 1] == '/') {
        if (!folder) return false;
        rule.n--;
    }
    if (!rule.n || rule.n >= sizeof pattern) return false;
    const bool rooted = rule.p[0] == '/';
    memcpy(pattern, rule.p + rooted, rule.n - rooted);
    pattern[rule.n - rooted] = 0;
    if (rooted || strchr(pattern, '/')) return fnmatch(pattern, below, FNM_PATHNAME) == 0;
    const char *slash = strrchr(below, '/');
    return fnmatch(pattern, slash ? slash + 1 : below, 0) == 0;
}

size_t rag_path_length(const char *folder) {
    const size_t n = strlen(folder);
    return n && folder[n - 1] == '/' ? n : n + 1;
}

/* 1: left out, -1: had back, 0: nothing is said. */
static int says(const rag_ignore *own, const char *below, bool folder) {
    int verdict = 0;
    for (const char *at = own->text; at && *at;) {
        base_str rule = {at, strcspn(at, "\n")};
        at += rule.n + (at[rule.n] == '\n');
        while (rule.n && (unsigned char)rule.p[rule.n - 1] <= ' ') rule.n--;
        if (!rule.n || rule.p[0] == '#') continue;
        const bool back = rule.p[0] == '!';
        if (back) rule.p++, rule.n--;
        if (speaks_of(rule, below, folder)) verdict = back ? -1 : 1;
    }
    return verdict;
}

bool rag_ignores(const rag_ignore *own, const char *path, bool folder) {
    for (; own; own = own->above) {
        const int verdict = says(own, path + rag_path_length(own->folder), folder);
        if (verdict) return verdict > 0;
    }
    return false;
}
