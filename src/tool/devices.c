/* SPDX-License-Identifier: MIT
 *
 * The compute devices of this machine: what their drivers say, and two measured figures that bound
 * a decoded token. A machine without loader or driver is an ordinary one: that is told in words,
 * never as a failure.
 */
#include "tool/tool_device.h"

#include <stdio.h>

static const struct {
    const char *name; /* as in --device */
    dev_api api;      /* which */
} apis[] = {{"opencl", DEV_OPENCL}, {"vulkan", DEV_VULKAN}};

static void copy_facts(tool_device *d, const dev_facts *f) {
    _Static_assert(sizeof d->name == sizeof f->name && sizeof d->driver == sizeof f->driver &&
                       sizeof d->version == sizeof f->version &&
                       sizeof d->missing == sizeof f->missing,
                   "texts of devices");
    memcpy(d->name, f->name, sizeof d->name);
    memcpy(d->driver, f->driver, sizeof d->driver);
    memcpy(d->version, f->version, sizeof d->version);
    memcpy(d->missing, f->missing, sizeof d->missing);
    d->software = f->software;
    d->unified = f->unified;
    d->subgroup_sums = f->subgroup_sums;
    d->imports = f->imports;
    d->dot4 = f->dot4;
    d->halves = f->half_shaders;
    d->subgroup = f->subgroup;
    d->units = f->units;
    d->max_group = f->max_group;
    d->heap_bytes = f->heap_bytes;
    d->max_alloc_bytes = f->max_alloc_bytes;
    d->max_bind_bytes = f->max_bind_bytes;
}

void tool_devices_find(tool_devices *out) {
    memset(out, 0, sizeof *out);
    for (size_t a = 0; a < BASE_COUNT(apis); a++) {
        dev_facts facts[TOOL_MAX_DEVICES];
        rotor_error why = {0};
        size_t n = 0;
        out->api[a].name = apis[a].name;
        if (dev_list(apis[a].api, facts, TOOL_MAX_DEVICES, &n, &why) != ROTOR_OK)
            snprintf(out->api[a].without, sizeof out->api[a].without, "%s", why.message);
        else if (n == 0)
            snprintf(out->api[a].without, sizeof out->api[a].without, "%s: no driver has a device",
                     apis[a].name);
        n = out->api[a].without[0] ? 0 : BASE_MIN(n, (size_t)TOOL_MAX_DEVICES);
        for (size_t i = 0; i < n && out->n < TOOL_MAX_DEVICES; i++) {
            tool_device *d = &out->of[out->n++];
            copy_facts(d, &facts[i]);
            snprintf(d->id, sizeof d->id, "%s:%zu", apis[a].name, i);
        }
    }
}

dev_api tool_device_api(const char *id, size_t *index) {
    for (size_t a = 0; a < BASE_COUNT(apis); a++) {
        char end;
        const size_t n = strlen(apis[a].name);
        if (strncmp(id, apis[a].name, n) == 0 && id[n] == ':' &&
            sscanf(id + n + 1, "%zu%c", index, &end) == 1)
            return apis[a].api;
    }
    return DEV_CPU;
}

rotor_status tool_device_measure(tool_device *d, const char *cache_dir, rotor_error *err) {
    dev_probe_result r;
    size_t index = 0;
    const dev_api api = tool_device_api(d->id, &index);
    if (d->missing[0]) return base_fail(err, ROTOR_E_UNSUPPORTED, "%s", d->missing);
    ROTOR_TRY(dev_probe(api, index, cache_dir, &r, err));
    d->copy_gbps = r.copy_gbps;
    d->copy_bytes = r.copy_bytes;
    d->dispatch_us = r.dispatch_us;
    d->submit_us = r.submit_us;
    return ROTOR_OK;
}

double tool_device_bound(const tool_device *d, double bytes, double dispatches) {
    if (!(d->copy_gbps > 0)) return 0;
    const double us = bytes / d->copy_gbps / 1e3 + dispatches * d->dispatch_us;
    return us > 0 ? 1e6 / us : 0;
}

/* dev_gpu_lower.c: eleven a layer; embedding, pick and norm, head, best. */
double tool_device_dispatches(uint32_t n_layer) { return 11.0 * n_layer + 5; }
