/* SPDX-License-Identifier: MIT
 *
 * run: a table that the device reads in the model's own memory. Held against the same device with a
 * copy of it: the same bits come out, and not one byte of the table goes up. A driver that refuses
 * gets the copy; one that dies of it, the CPU. What is imported takes no room in the sum that
 * places a model, until it turns out that it has to be copied.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "dev/gpu/dev_gpu.h"
#include "device_rig.h"
#include "faulty_gpu.h"

enum { PROMPT = 16, TOKENS = 4, ROWS = 16, PIECE = 100 << 10, FEW_MODELS = 2 };

static rig_device devices[RIG_DEVICES];
static size_t n_devices;
static const rig_device *current; /* behind the failing driver */
static uint64_t binds;            /* bytes a kernel of it may see; 0: as the driver says */

static int find_devices(void **state) {
    (void)state;
    n_devices = rig_devices_of_run(devices);
    return 0;
}

static int give_back(void **state) {
    (void)state;
    faulty_done();
    return 0;
}

static rotor_status open_faulty(dev **out, const dev_shape *shape, rotor_error *err) {
    const gpu_api *behind = current->api == DEV_OPENCL ? gpu_opencl() : gpu_vulkan();
    ROTOR_TRY(dev_gpu_create_on(out, faulty_gpu(behind), current->index, NULL, shape, err));
    if (binds) ((dev_gpu *)*out)->g->facts.max_bind_bytes = binds;
    return ROTOR_OK;
}

/* A rig on the current device, which fails as faulty_at was told. */
static void up_faulty(rig *r, const char *model_name, const dev_facts *facts) {
    rig_up(r, model_name,
           (rig_setting){.device = current,
                         .kv = KERN_KV_F16,
                         .rows = ROWS,
                         .head = RUN_HEAD_Q8,
                         .facts = facts,
                         .open_gpu = open_faulty});
}

/* import: UNSUPPORTED ... what the n-th import fails with; 0: none does. */
static void up(rig *r, const char *model_name, unsigned n, rotor_status import,
               const dev_facts *facts) {
    faulty_at(FAULTY_IMPORT, n, import);
    up_faulty(r, model_name, facts);
}

/* Logits of the last tokens of a prompt, and of some more, one by one. */
static float *talk(rig *r) {
    float *all = malloc(2 * TOKENS * (size_t)r->m->hp.n_vocab * sizeof *all), *out = all;
    run_session *s = NULL;
    run_row row[PROMPT];
    rig_session(&s, r);
    for (uint32_t i = 0; i < PROMPT; i++)
        row[i] = (run_row){s, (i * 37u + 5) % r->m->hp.n_vocab, i >= PROMPT - TOKENS};
    rig_eval(r, row, PROMPT);
    out = rig_logits(r, TOKENS, out);
    for (uint32_t i = 0; i < TOKENS; i++) {
        row[0] = (run_row){s, r->m->hp.n_vocab - 1 - i, true};
        rig_eval(r, row, 1);
        out = rig_logits(r, 1, out);
    }
    run_session_free(&s);
    return all;
}

static size_t talk_bytes(const rig *r) {
    return 2 * TOKENS * (size_t)r->m->hp.n_vocab * sizeof(float);
}

/* Whether the table is no product's: the head is another matrix, or a copy in another form. */
static bool has_own_table(const rig *r) {
    const kern_mat table = run_mat(&r->m->embd);
    const bool floats =
        table.type == QUANT_F32 || table.type == QUANT_F16 || table.type == QUANT_BF16;
    return dev_gpu_can_import(&table) && (!r->m->tied || (floats && table.cols % 32 == 0));
}

/* ==== Tests =================================================================================== */

/* One engine's account of a table. */
typedef struct account {
    uint64_t up, imported, memory; /* bytes: sent during set-up, imported, of the engine */
    float *logits;                 /* of a talk, to be freed */
} account;

static account take(rig *r, const char *name, unsigned refused) {
    const uint64_t before = faulty_bytes_up();
    up(r, name, refused, refused == 1 ? ROTOR_E_UNSUPPORTED : ROTOR_E_NOMEM, NULL);
    const dev_counters c = run_counters(r->e);
    account a = {faulty_bytes_up() - before, c.imported, run_memory_bytes(r->e), talk(r)};
    assert_int_equal(run_counters(r->e).imported, a.imported);
    if (r->log.warnings) fail_msg("%s", r->log.last);
    return a;
}

/* Returns whether the model has such a table. The refused-th import fails. */
static bool check_model(const char *name, uint64_t limit, unsigned refused) {
    rig r;
    binds = limit;
    const account copied = take(&r, name, refused);
    const bool own = has_own_table(&r);
    assert_int_equal(faulty_fired(), own);
    rig_down(&r);
    assert_int_equal(faulty_mem_bytes() + faulty_imported(), 0);
    if (limit) faulty_done(); /* a device that is opened again has its own limits */
    const account a = take(&r, name, 0);
    binds = 0;
    const kern_mat table = run_mat(&r.m->embd);
    const uint64_t bytes = table.rows * table.row_bytes;
    print_message("  %-24.24s %-16s table %7llu bytes, imported %7llu; up %8llu, copied %8llu\n",
                  current->label, name, (unsigned long long)bytes, (unsigned long long)a.imported,
                  (unsigned long long)a.up, (unsigned long long)copied.up);
    assert_int_equal(copied.imported, 0);
    assert_int_equal(a.imported, own ? bytes : 0);
    assert_int_equal(copied.up - a.up, own ? dev_gpu_mat_bytes(&table) : 0);
    assert_int_equal(a.memory, copied.memory);
    if (limit) assert_true(bytes > 2 * limit); /* several pieces */
    assert_memory_equal(a.logits, copied.logits, talk_bytes(&r));
    free(a.logits);
    free(copied.logits);
    rig_down(&r);
    assert_int_equal(faulty_mem_bytes() + faulty_imported(), 0);
    if (limit) faulty_done();
    return own;
}

static bool imports(const rig_device *d) {
    dev_facts f[RIG_DEVICES];
    size_t n = 0;
    faulty_done(); /* its counters begin anew */
    current = d;
    if (dev_list(d->api, f, RIG_DEVICES, &n, NULL) != ROTOR_OK || !f[d->index].imports) {
        print_message("  %s imports nothing\n", d->label);
        return false;
    }
    return true;
}

static void the_same_bits_without_a_copy(void **state) {
    (void)state;
    size_t own = 0, with = 0;
    for (size_t i = 0; i < n_devices; i++) {
        if (!imports(&devices[i])) continue;
        with++;
        for (size_t m = 0; rig_model(m) && (rig_all() || m < FEW_MODELS); m++)
            own += check_model(rig_model(m), 0, 1);
    }
    if (!with) skip();
    assert_true(own >= 2 * with); /* the short run has such models */
}

/* The second piece is refused: the first is given back. */
static void a_table_in_pieces(void **state) {
    (void)state;
    size_t with = 0;
    for (size_t i = 0; i < n_devices; i++) {
        if (!imports(&devices[i])) continue;
        with++;
        assert_true(check_model(rig_model(0), PIECE, 2));
    }
    if (!with) skip();
}

/* A device that an import kills is given up, and not asked again. */
static void a_device_may_die_of_it(void **state) {
    (void)state;
    size_t with = 0;
    for (size_t i = 0; i < n_devices; i++) {
        if (!imports(&devices[i])) continue;
        with++;
        rig r;
        up(&r, rig_model(0), 1, ROTOR_E_DEVICE, NULL);
        assert_true(faulty_fired());
        assert_int_equal(faulty_after_loss(), 0);
        assert_int_equal(r.log.warnings, 1);
        assert_int_equal(run_device(r.e), DEV_CPU);
        assert_int_equal(run_counters(r.e).imported, 0);
        free(talk(&r));
        rig_down(&r);
        assert_int_equal(faulty_mem_bytes(), 0);
    }
    if (!with) skip();
}

/* The least memory that holds the whole model when the table is not in it; a driver that refuses
 * gets a model without the table. */
static void what_is_imported_takes_no_room(void **state) {
    (void)state;
    size_t with = 0;
    for (size_t i = 0; i < n_devices; i++) {
        if (!imports(&devices[i])) continue;
        with++;
        dev_facts f[RIG_DEVICES];
        size_t n = 0;
        assert_int_equal(dev_list(current->api, f, RIG_DEVICES, &n, NULL), ROTOR_OK);
        dev_facts *facts = &f[current->index];
        for (uint64_t kib = 512;; kib += 64) {
            rig r;
            assert_true(kib < 65536);
            facts->heap_bytes = (128ull << 20) + (kib << 10);
            up(&r, rig_model(0), 0, ROTOR_OK, facts);
            const bool whole = run_counters(r.e).imported;
            rig_down(&r);
            if (whole) break;
        }
        rig r, refused;
        up(&r, rig_model(0), 0, ROTOR_OK, facts);
        up(&refused, rig_model(0), 1, ROTOR_E_UNSUPPORTED, facts);
        assert_true(faulty_fired());
        assert_true(run_can_ahead(r.e));        /* one device does it all … */
        assert_false(run_can_ahead(refused.e)); /* … or the CPU embeds */
        assert_int_equal(run_device(refused.e), current->api);
        assert_int_equal(run_device_layers(refused.e), refused.m->hp.n_layer);
        assert_int_equal(r.log.warnings + refused.log.warnings, 0);
        free(talk(&refused));
        rig_down(&refused);
        /* Where memory runs short because of it: all layers, and the CPU embeds. */
        faulty_at(FAULTY_ALLOC, 3, ROTOR_E_NOMEM);
        up_faulty(&refused, rig_model(0), facts);
        assert_true(faulty_fired());
        assert_false(run_can_ahead(refused.e));
        assert_int_equal(run_device_layers(refused.e), refused.m->hp.n_layer);
        assert_int_equal(refused.log.warnings, 0);
        rig_down(&refused);
        rig_down(&r);
    }
    if (!with) skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_bits_without_a_copy),
        cmocka_unit_test(a_table_in_pieces),
        cmocka_unit_test(a_device_may_die_of_it),
        cmocka_unit_test(what_is_imported_takes_no_room),
    };
    return cmocka_run_group_tests(tests, find_devices, give_back);
}
