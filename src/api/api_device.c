/* SPDX-License-Identifier: MIT
 *
 * Which device an engine runs on: "cpu", "auto", "opencl", "vulkan:1" ... to an entry of the lists
 * that drivers give. A device that was asked for by name and is not there is an error that says
 * which ones are; a software device is taken only when it was named.
 */
#include "api/api_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_DEVICES = 32 };

static const struct {
    const char *name; /* as in --device */
    dev_api api;      /* which */
} apis[] = {{"opencl", DEV_OPENCL}, {"vulkan", DEV_VULKAN}};

/* Every device there is, one after another, for the message about one that is not. */
static void list_devices(base_buf *out) {
    dev_facts facts[MAX_DEVICES];
    base_buf_printf(out, "cpu");
    for (size_t a = 0; a < BASE_COUNT(apis); a++) {
        size_t n = 0;
        if (dev_list(apis[a].api, facts, MAX_DEVICES, &n, NULL) != ROTOR_OK) continue;
        for (size_t i = 0; i < BASE_MIN(n, (size_t)MAX_DEVICES); i++)
            if (!facts[i].missing[0])
                base_buf_printf(out, ", %s:%zu (%s)", apis[a].name, i, facts[i].name);
    }
}

static rotor_status no_such_device(const char *text, const char *why, rotor_error *err) {
    base_buf have = {0};
    list_devices(&have);
    rotor_status st = base_fail(err, ROTOR_E_NOTFOUND, "device %s: %s; there are: %s", text, why,
                                have.data ? have.data : "cpu");
    base_buf_free(&have);
    return st;
}

/* "vulkan:1": the second of the API's list; "vulkan": the first. */
static rotor_status find_device(const rotor_engine *e, const char *text, dev_api api,
                                const char *index, api_device *out, rotor_error *err) {
    dev_facts facts[MAX_DEVICES];
    size_t n = 0, at = 0;
    rotor_error why = {0};
    char *end = NULL;
    if (index) {
        at = strtoul(index, &end, 10);
        if (end == index || *end) return no_such_device(text, "the number is not one", err);
    }
    if (dev_list(api, facts, MAX_DEVICES, &n, &why) != ROTOR_OK)
        return no_such_device(text, why.message, err);
    if (at >= BASE_MIN(n, (size_t)MAX_DEVICES))
        return no_such_device(text, "there is no device of that number", err);
    if (facts[at].missing[0]) return no_such_device(text, facts[at].missing, err);
    if (facts[at].software)
        base_log_printf(&e->log, BASE_LOG_WARN,
                        "%s is a software device: the CPU does its work, slower than by itself",
                        facts[at].name);
    *out = (api_device){.api = api, .index = at};
    return ROTOR_OK;
}

/* How the choice is told. */
static void say_why(rotor_engine *e, const char *why) {
    snprintf(e->device_why, sizeof e->device_why, "%s", why);
}

/* Where the engine has come to run, in the words of --device. */
void api_name_device(rotor_engine *e, const api_device *d) {
    const bool on_cpu = run_device(e->run) == DEV_CPU;
    const char *given_up = d->api != DEV_CPU && on_cpu ? "the device asked for was given up" : NULL;
    snprintf(e->device, sizeof e->device, "cpu");
    for (size_t i = 0; i < BASE_COUNT(apis) && !on_cpu; i++)
        if (apis[i].api == d->api)
            snprintf(e->device, sizeof e->device, "%s:%zu", apis[i].name, d->index);
    snprintf(e->device_name, sizeof e->device_name, "%s", run_device_name(e->run));
    if (given_up) say_why(e, given_up);
}

rotor_status api_choose_device(rotor_engine *e, api_device *out, rotor_error *err) {
    const char *text = e->opt.device;
    *out = (api_device){.api = DEV_CPU};
    say_why(e, "asked for");
    if (!text || strcmp(text, "cpu") == 0) return ROTOR_OK;
    if (strcmp(text, "auto") == 0) {
        say_why(e, "auto takes the CPU; a device is used when --device names it");
        return ROTOR_OK;
    }
    for (size_t i = 0; i < BASE_COUNT(apis); i++) {
        const size_t n = strlen(apis[i].name);
        if (strncmp(text, apis[i].name, n) == 0 && (text[n] == 0 || text[n] == ':'))
            return find_device(e, text, apis[i].api, text[n] ? text + n + 1 : NULL, out, err);
    }
    return base_fail(err, ROTOR_E_ARG,
                     "device %s: expected cpu, auto, opencl, vulkan, opencl:N or vulkan:N", text);
}
