/* SPDX-License-Identifier: MIT
 *
 * Paths: folders made one below the other, names in a folder, and how both are put together.
 */
#include "base/base_internal.h"

#include <errno.h>
#include <stdlib.h>

rotor_status base_mkdirs(const char *path, rotor_error *err) {
    char *copy = base_strdup(path);
    if (!copy) return base_fail_nomem(err, "making a folder");
    rotor_status st = ROTOR_OK;
    for (char *p = copy + 1; st == ROTOR_OK; p++) {
        if (*p != '/' && *p != 0) continue;
        char keep = *p;
        *p = 0;
        if (!os_mkdir(copy) && errno != EEXIST)
            st = base_fail(err, ROTOR_E_IO, "%s: cannot make folder: %s", copy, strerror(errno));
        *p = keep;
        if (keep == 0) break;
    }
    base_free(copy);
    return st;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

typedef struct name_list {
    char **names;  /* [cap], of which n are owned names */
    size_t n, cap; /* how many, room */
    bool failed;   /* there was no memory */
} name_list;

static bool add_name(void *user, const char *name) {
    name_list *l = user;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return true;
    if (l->n == l->cap) {
        const size_t cap = l->cap * 2 + 16;
        char **more = base_realloc(l->names, cap * sizeof *more);
        if (!more) return l->failed = true, false;
        l->names = more;
        l->cap = cap;
    }
    l->names[l->n] = base_strdup(name);
    if (!l->names[l->n]) return l->failed = true, false;
    l->n++;
    return true;
}

rotor_status base_list_dir(const char *path, char ***names, size_t *n, rotor_error *err) {
    name_list l = {0};
    rotor_status st = ROTOR_OK;
    if (!os_list(path, add_name, &l))
        st = base_fail(err, ROTOR_E_IO, "%s: cannot list: %s", path, strerror(errno));
    if (st == ROTOR_OK && l.failed) st = base_fail_nomem(err, "listing a folder");
    if (st != ROTOR_OK) {
        base_names_free(l.names, l.n);
        return st;
    }
    if (l.n) qsort(l.names, l.n, sizeof *l.names, by_name);
    *names = l.names;
    *n = l.n;
    return ROTOR_OK;
}

void base_names_free(char **names, size_t n) {
    for (size_t i = 0; i < n; i++) base_free(names[i]);
    base_free(names);
}

char *base_path_join(const char *dir, const char *name) {
    base_buf b = {0};
    size_t n = strlen(dir);
    base_buf_printf(&b, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
    if (b.failed) base_buf_free(&b);
    return b.data;
}
