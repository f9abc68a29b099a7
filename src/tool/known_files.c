/* SPDX-License-Identifier: MIT
 *
 * Published files, known by size and SHA-256. A file of the right size is hashed (a few seconds for
 * a gigabyte); any other costs nothing. Knowing the file settles what its header does not say: the
 * official GGUF holds its I2_S tensors in x86 order.
 */
#include "tool/inspect.h"

#include <stdio.h>

static const tool_known published[] = {
    {"the official BitNet b1.58 2B4T GGUF (I2_S in x86 order)", 1187801280,
     "4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162"},
    {"the official packed BitNet b1.58 2B4T checkpoint", 1178623988,
     "8143ae115ed6babe5e5ada8fb8c5b769d8f417802b2db042ad98b4f7ed73975b"},
};

const char *tool_known_in(const tool_known *list, size_t n, const void *data, uint64_t n_bytes) {
    for (size_t i = 0; i < n; i++) {
        uint8_t hash[32];
        char hex[65];
        if (list[i].bytes != n_bytes) continue;
        base_sha256(data, (size_t)n_bytes, hash);
        for (int b = 0; b < 32; b++) snprintf(hex + 2 * b, 3, "%02x", hash[b]);
        if (strcmp(hex, list[i].sha256) == 0) return list[i].name;
    }
    return NULL;
}

const char *tool_known_file(const tool_file *f) {
    if (file_n_shards(f->f) != 1) return NULL;
    const base_file *file = file_shard(f->f, 0);
    return tool_known_in(published, BASE_COUNT(published), file->data, file->size);
}
