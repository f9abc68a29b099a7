/* SPDX-License-Identifier: MIT
 *
 * The operating system: how much memory there is for this program. What the system has free counts
 * (its file cache is free), and what the control group of the process leaves of its limit: a
 * container on a large machine may have little.
 */
#define _GNU_SOURCE
#include "base/base.h"

#include <inttypes.h>
#include <stdio.h>

/* The number that a file consists of, or that follows `key` in one of its lines; UINT64_MAX: no
 * such number ("max"). */
static uint64_t number_in(const char *folder, const char *name, const char *key) {
    char path[512], line[256];
    uint64_t n = UINT64_MAX;
    const size_t skip = strlen(key);
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return n;
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, skip) == 0 && sscanf(line + skip, "%" SCNu64, &n) == 1) break;
    if (f) fclose(f);
    return n;
}

/* What a group leaves: its limit, less what is used and is not file cache. used NULL: its limit. */
static uint64_t left_in(const char *folder, const char *limit, const char *used) {
    const uint64_t most = number_in(folder, limit, "");
    const uint64_t now = used ? number_in(folder, used, "") : 0;
    if (!used || most == UINT64_MAX) return most;
    if (now == UINT64_MAX) return UINT64_MAX;
    uint64_t cache = number_in(folder, "memory.stat", "file ");
    if (cache == UINT64_MAX) cache = number_in(folder, "memory.stat", "total_cache ");
    if (cache == UINT64_MAX) cache = 0;
    const uint64_t held = now > cache ? now - cache : 0;
    return most > held ? most - held : 0;
}

/* Of the group of this process and of those above it: root is where the tree is mounted. */
static uint64_t left_along(const char *root, const char *group, const char *limit,
                           const char *used) {
    char folder[384];
    uint64_t left = left_in(root, limit, used);
    if (snprintf(folder, sizeof folder, "%s%s", root, group) >= (int)sizeof folder) return left;
    for (size_t n = strlen(folder); n > strlen(root); n--) {
        if (folder[n] != '/' && folder[n] != 0) continue;
        folder[n] = 0;
        const uint64_t here = left_in(folder, limit, used);
        left = BASE_MIN(left, here);
    }
    return left;
}

static uint64_t group_bytes(bool left_only) {
    char line[320];
    uint64_t least = UINT64_MAX, here;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        const char *memory = strstr(line, ":memory:");
        if (strncmp(line, "0::", 3) == 0)
            here = left_along("/sys/fs/cgroup", line + 3, "memory.max",
                              left_only ? "memory.current" : NULL);
        else if (memory)
            here = left_along("/sys/fs/cgroup/memory", memory + 8, "memory.limit_in_bytes",
                              left_only ? "memory.usage_in_bytes" : NULL);
        else
            continue;
        least = BASE_MIN(least, here);
    }
    if (f) fclose(f);
    return least;
}

uint64_t base_memory_limit_bytes(void) {
    const uint64_t system = base_total_memory_bytes(), group = group_bytes(false);
    return BASE_MIN(system, group);
}

uint64_t base_available_memory_bytes(void) {
    const uint64_t kib = number_in("/proc", "meminfo", "MemAvailable:"), group = group_bytes(true);
    const uint64_t system = kib == UINT64_MAX ? base_total_memory_bytes() / 2 : kib * 1024u;
    return BASE_MIN(system, group);
}
