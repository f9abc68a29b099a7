/* SPDX-License-Identifier: MIT
 *
 * The devices that tests of gpu.h go through.
 */
#include "gpu_rigs.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST = 8 };

static gpu_rig rigs[MOST];
static size_t n_rigs;

static void find(const gpu_api *api) {
    gpu_facts facts[MOST];
    rotor_error err = {0};
    size_t n = 0;
    if (api->list(facts, MOST, &n, &err) != ROTOR_OK) {
        printf("%s: %s\n", api->name, err.message);
        return;
    }
    for (size_t i = 0; i < n && i < MOST && n_rigs < MOST; i++) {
        printf("%s:%zu %s, %s, %s%s%s\n", api->name, i, facts[i].name, facts[i].version,
               facts[i].driver, facts[i].missing[0] ? ": not used: " : "", facts[i].missing);
        if (!facts[i].missing[0])
            rigs[n_rigs++] = (gpu_rig){.api = api, .index = i, .facts = facts[i]};
    }
}

int gpu_rigs_find(void **state) {
    const gpu_api *all[] = {gpu_vulkan(), gpu_opencl()};
    (void)state;
    for (size_t a = 0; a < BASE_COUNT(all); a++)
        if (all[a]) find(all[a]);
    return 0;
}

int gpu_rigs_open(void **state) {
    rotor_error err = {0};
    gpu_rigs_find(state);
    for (size_t i = 0; i < n_rigs; i++)
        if (rigs[i].api->open(&rigs[i].g, rigs[i].index, NULL, &err) != ROTOR_OK) {
            printf("%s:%zu: %s\n", rigs[i].api->name, rigs[i].index, err.message);
            return -1;
        }
    return 0;
}

int gpu_rigs_close(void **state) {
    (void)state;
    for (size_t i = 0; i < n_rigs; i++) rigs[i].api->close(rigs[i].g);
    n_rigs = 0;
    return 0;
}

bool gpu_rigs_each(void (*fn)(const gpu_rig *r)) {
    if (!n_rigs) printf("skipped: no device\n");
    for (size_t i = 0; i < n_rigs; i++) {
        printf("%s:%zu\n", rigs[i].api->name, rigs[i].index);
        fn(&rigs[i]);
        if (rigs[i].g && rigs[i].g->counters.mem_bytes) {
            fprintf(stderr, "a test has left memory on %s\n", rigs[i].facts.name);
            abort();
        }
    }
    return n_rigs > 0;
}
