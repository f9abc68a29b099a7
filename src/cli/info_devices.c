/* SPDX-License-Identifier: MIT
 *
 * The devices of rotor info: what each is called by --device, what it can do, what was measured on
 * it just now, and what that allows a model.
 */
#include "cli/info.h"

#include <jansson.h>

void info_devices_measure(info_devices *d) {
    char *cache = cli_device_cache();
    memset(d, 0, sizeof *d);
    tool_devices_find(&d->found);
    for (size_t i = 0; i < d->found.n; i++)
        if (!d->found.of[i].missing[0])
            tool_device_measure(&d->found.of[i], cache, &d->not_measured[i]);
    base_free(cache);
}

/* At most so many tokens a second; 0: no model or not measured. */
static double bound(const tool_device *d, const rotor_engine_info *model) {
    if (!model) return 0;
    return tool_device_bound(d, (double)model->step_bytes, tool_device_dispatches(model->n_layer));
}

/* ==== Text ==================================================================================== */

#define INDENT "             "

static void text_features(const tool_device *d) {
    char heap[32], alloc[32], bind[32];
    cli_outf(INDENT "  %s in all, %s in one piece, %s seen by a kernel%s\n",
             cli_bytes(d->heap_bytes, heap), cli_bytes(d->max_alloc_bytes, alloc),
             cli_bytes(d->max_bind_bytes, bind), d->unified ? ", shared with the processor" : "");
    if (d->imports)
        cli_outf(INDENT "  reads an embedding in the processor's memory, where its driver can\n");
    cli_outf(INDENT "  int8 dot product %s, half floats %s, groups of %u, ", d->dot4 ? "yes" : "no",
             d->halves ? "yes" : "no", d->max_group);
    if (d->subgroup)
        cli_outf("%u lanes together%s", d->subgroup, d->subgroup_sums ? " that add up" : "");
    else
        cli_outf("lanes together not known");
    if (d->units) cli_outf(", %u compute units", d->units);
    cli_outf("\n");
}

static void text_measured(const tool_device *d, const rotor_error *why,
                          const rotor_engine_info *model) {
    char bytes[32];
    if (!(d->copy_gbps > 0)) {
        cli_outf(INDENT "  not measured: %s\n", why->message);
        return;
    }
    cli_outf(INDENT "  copies %.1f GB/s (%s at once), a dependent dispatch %.1f us, a list of one "
                    "%.1f us\n",
             d->copy_gbps, cli_bytes(d->copy_bytes, bytes), d->dispatch_us, d->submit_us);
    if (model)
        cli_outf(INDENT "  this model: %s and about %.0f dispatches a token: at most %.1f "
                        "tokens/s\n",
                 cli_bytes(model->step_bytes, bytes), tool_device_dispatches(model->n_layer),
                 bound(d, model));
}

void info_devices_text(const info_devices *d, const rotor_engine_info *model) {
    cli_outf("devices      cpu\n");
    for (size_t i = 0; i < d->found.n; i++) {
        const tool_device *v = &d->found.of[i];
        cli_outf(INDENT "%s  %s\n", v->id, v->name);
        cli_outf(INDENT "  %s, driver %s%s\n", v->version, v->driver,
                 v->software ? "; software: used only when named" : "");
        if (v->missing[0]) {
            cli_outf(INDENT "  cannot be used: %s\n", v->missing);
            continue;
        }
        text_features(v);
        text_measured(v, &d->not_measured[i], model);
    }
    for (size_t a = 0; a < BASE_COUNT(d->found.api); a++)
        if (d->found.api[a].without[0]) cli_outf(INDENT "%s\n", d->found.api[a].without);
}

/* ==== JSON ==================================================================================== */

static json_t *text(const char *s) { return cli_json_text(s, strlen(s)); }
static json_t *measured(double x) { return x > 0 ? json_real(x) : json_null(); }

static json_t *device_json(const tool_device *d, const rotor_error *why,
                           const rotor_engine_info *model) {
    json_t *o = json_object();
    const struct {
        const char *key; /* of a number … */
        uint64_t value;  /* … of the driver's */
    } numbers[] = {{"subgroup", d->subgroup},
                   {"units", d->units},
                   {"max_group", d->max_group},
                   {"heap_bytes", d->heap_bytes},
                   {"max_alloc_bytes", d->max_alloc_bytes},
                   {"max_bind_bytes", d->max_bind_bytes},
                   {"copy_bytes", d->copy_bytes}};
    json_object_set_new(o, "id", text(d->id));
    json_object_set_new(o, "name", text(d->name));
    json_object_set_new(o, "driver", text(d->driver));
    json_object_set_new(o, "version", text(d->version));
    json_object_set_new(o, "missing", d->missing[0] ? text(d->missing) : json_null());
    json_object_set_new(o, "software", json_boolean(d->software));
    json_object_set_new(o, "unified", json_boolean(d->unified));
    json_object_set_new(o, "subgroup_sums", json_boolean(d->subgroup_sums));
    json_object_set_new(o, "imports", json_boolean(d->imports));
    json_object_set_new(o, "dot4", json_boolean(d->dot4));
    json_object_set_new(o, "halves", json_boolean(d->halves));
    for (size_t i = 0; i < BASE_COUNT(numbers); i++)
        json_object_set_new(o, numbers[i].key, json_integer((json_int_t)numbers[i].value));
    json_object_set_new(o, "copy_gbps", measured(d->copy_gbps));
    json_object_set_new(o, "dispatch_us", measured(d->dispatch_us));
    json_object_set_new(o, "submit_us", measured(d->submit_us));
    if (why->message[0]) json_object_set_new(o, "not_measured", text(why->message));
    if (model) json_object_set_new(o, "decode_tps_bound", measured(bound(d, model)));
    return o;
}

json_t *info_devices_json(const info_devices *d, const rotor_engine_info *model) {
    json_t *list = json_array();
    json_array_append_new(list, json_pack("{s:s, s:s}", "id", "cpu", "name", "cpu"));
    for (size_t i = 0; i < d->found.n; i++)
        json_array_append_new(list, device_json(&d->found.of[i], &d->not_measured[i], model));
    return list;
}

json_t *info_missing_json(const info_devices *d) {
    json_t *o = json_object();
    for (size_t a = 0; a < BASE_COUNT(d->found.api); a++)
        if (d->found.api[a].without[0])
            json_object_set_new(o, d->found.api[a].name, text(d->found.api[a].without));
    return o;
}
