/* SPDX-License-Identifier: MIT
 *
 * Names inside the cache and inside repositories.
 */
#include "hub/layout.h"

#include <stdio.h>
#include <strings.h>

bool hub_ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

bool hub_has_word(const char *text, const char *word) {
    const size_t n = strlen(word);
    for (; *text; text++)
        if (strncasecmp(text, word, n) == 0) return true;
    return n == 0;
}

bool hub_read_small(const char *path, size_t max_bytes, base_buf *out) {
    base_file f;
    if (base_path_kind_of(path) != BASE_PATH_FILE ||
        base_file_open(&f, path, false, NULL) != ROTOR_OK)
        return false;
    const bool fits = f.size <= max_bytes && base_buf_append(out, f.data, f.size);
    base_file_close(&f);
    return fits;
}

char *hub_path(const char *a, const char *b, const char *c) {
    base_buf text = {0};
    if (!a) return NULL;
    base_buf_printf(&text, "%s/%s%s%s", a, b, c ? "/" : "", c ? c : "");
    if (text.failed) base_buf_free(&text);
    return text.data;
}

char *hub_folder_of(const char *repo) {
    base_buf b = {0};
    const char *slash = strchr(repo, '/');
    const int n = slash ? (int)(slash - repo) : (int)strlen(repo);
    base_buf_printf(&b, "models--%.*s%s%s", n, repo, slash ? "--" : "", slash ? slash + 1 : "");
    if (b.failed) base_buf_free(&b);
    return b.data;
}

char *hub_repo_of(const char *folder) {
    char *name = base_strdup(folder + strlen("models--"));
    char *dashes = name ? strstr(name, "--") : NULL;
    if (dashes) {
        *dashes = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    return name;
}

uint32_t hub_split_count(const char *path, size_t *number_at) {
    const size_t n = strlen(path), tail = strlen("-00001-of-00003.gguf");
    uint32_t count = 0;
    if (n < tail || !hub_ends_with(path, ".gguf")) return 0;
    const char *s = path + n - tail;
    if (s[0] != '-' || strncmp(s + 6, "-of-", 4) != 0) return 0;
    for (int i = 0; i < 5; i++) {
        if (s[1 + i] < '0' || s[1 + i] > '9' || s[10 + i] < '0' || s[10 + i] > '9') return 0;
        count = count * 10 + (uint32_t)(s[10 + i] - '0');
    }
    if (number_at) *number_at = n - tail + 1;
    return count;
}

bool hub_is_model(const char *name) {
    size_t at;
    const bool split = hub_split_count(name, &at) > 0;
    return hub_ends_with(name, ".gguf") && strncmp(name, "mmproj", 6) != 0 &&
           (!split || strncmp(name + at, "00001", 5) == 0);
}

bool hub_is_safe_path(const char *path) {
    if (!*path || strlen(path) > 1024) return false;
    for (const char *p = path; *p;) {
        const size_t n = strcspn(p, "/");
        if (n == 0 || n > 255 || (p[0] == '.' && (n == 1 || (n == 2 && p[1] == '.')))) return false;
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)p[i] < ' ' || p[i] == '\\' || p[i] == 127) return false;
        p += n;
        if (*p == '/' && !*++p) return false;
    }
    return true;
}

rotor_status hub_push(hub_entry_list *l, hub_source source, char *name, char *path,
                      rotor_error *err) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        hub_entry *more = base_realloc(l->at, cap * sizeof *more);
        if (more) {
            l->at = more;
            l->cap = cap;
        }
    }
    if (!name || !path || l->n == l->cap) {
        base_free(name);
        base_free(path);
        return base_fail_nomem(err, "listing models");
    }
    l->at[l->n++] = (hub_entry){name, path, source};
    return ROTOR_OK;
}
