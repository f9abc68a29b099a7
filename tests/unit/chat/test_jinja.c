/* SPDX-License-Identifier: MIT
 *
 * The template interpreter against Jinja2: rendered texts of model templates, and a thousand
 * random templates (both made by tools/golden/chat.py).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/chat.h"
#include "chat/jinja_internal.h"

static int64_t golden_now;
static int64_t fixed_clock(void) { return golden_now; }

static json_t *load(const char *name) {
    char path[512];
    json_error_t error;
    snprintf(path, sizeof path, "%s/tests/data/chat/%s.json", getenv("ROTOR_SOURCE_ROOT"), name);
    json_t *root = json_load_file(path, 0, &error);
    if (!root) fail_msg("%s: %s", path, error.text);
    return root;
}

static base_str str(const json_t *s) {
    return (base_str){json_string_value(s), json_string_length(s)};
}

static size_t read_messages(const json_t *list, chat_message out[16]) {
    size_t n = json_array_size(list);
    assert_true(n <= 16);
    for (size_t i = 0; i < n; i++) {
        json_t *m = json_array_get(list, i);
        out[i] =
            (chat_message){str(json_object_get(m, "role")), str(json_object_get(m, "content"))};
    }
    return n;
}

/* Wrong results are printed, so that one run shows all of them. */
static int check(const char *what, rotor_status st, const rotor_error *err, const base_buf *got,
                 const json_t *want) {
    bool wants_error = json_is_null(want);
    base_str w = wants_error ? (base_str){"", 0} : str(want);
    if (wants_error ? st != ROTOR_OK
                    : st == ROTOR_OK && base_str_eq(w, (base_str){got->data, got->len}))
        return 0;
    print_error("--- %s\nwant %s\"%.*s\"\ngot  %s \"%.*s\"\n", what, wants_error ? "an error " : "",
                (int)w.n, w.p, st ? err->message : "", st ? 0 : (int)got->len, st ? "" : got->data);
    return 1;
}

/* ==== Templates of model families ============================================================= */

static chat_template *make(const json_t *t, const char *override, rotor_error *err) {
    chat_template *out = NULL;
    chat_hints hints = {.architecture = base_str_of("llama"),
                        .model_template = str(json_object_get(t, "source")),
                        .bos_text = str(json_object_get(t, "bos")),
                        .eos_text = str(json_object_get(t, "eos")),
                        .now_s = fixed_clock};
    rotor_status st = chat_template_create(&out, &hints, override, err);
    if (st != ROTOR_OK) fail_msg("%s", err->message);
    return out;
}

static int render_all(const char *name, const chat_template *t, const json_t *conversations,
                      const json_t *results, size_t *n_done) {
    const char *conversation;
    json_t *list;
    size_t i = 0;
    int bad = 0;
    json_object_foreach((json_t *)conversations, conversation, list) {
        chat_message messages[16];
        size_t n = read_messages(list, messages);
        for (int reply = 0; reply < 2; reply++, (*n_done)++) {
            char what[128];
            chat_prompt p = {0};
            rotor_error err = {0};
            rotor_status st = chat_render(t, messages, n, reply, &p, &err);
            snprintf(what, sizeof what, "%s, %s, %d", name, conversation, reply);
            bad += check(what, st, &err, &p.text, json_array_get(results, i++));
            chat_prompt_free(&p);
        }
    }
    return bad;
}

static void model_templates_render_as_jinja2_does(void **state) {
    (void)state;
    json_t *root = load("templates"), *t;
    const char *name;
    size_t n = 0;
    int bad = 0;
    golden_now = json_integer_value(json_object_get(root, "now"));
    json_object_foreach(json_object_get(root, "templates"), name, t) {
        rotor_error err = {0};
        chat_template *made = make(t, NULL, &err);
        bad += render_all(name, made, json_object_get(root, "conversations"),
                          json_object_get(json_object_get(root, "results"), name), &n);
        chat_template_free(&made);
    }
    print_message("%zu renderings of model templates\n", n);
    assert_true(n > 700);
    assert_int_equal(bad, 0);
    json_decref(root);
}

/* The built-in renderers against the official strings rendered by Jinja2, all conversations. The
 * formats that fold the system text have looser rules for roles and are tested by hand elsewhere.
 */
static void built_ins_equal_the_official_templates(void **state) {
    (void)state;
    const char *const names[] = {"bitnet", "chatml", "llama3"};
    json_t *root = load("templates");
    size_t n = 0;
    int bad = 0;
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        rotor_error err = {0};
        chat_template *made =
            make(json_object_get(json_object_get(root, "templates"), names[i]), names[i], &err);
        bad += render_all(names[i], made, json_object_get(root, "conversations"),
                          json_object_get(json_object_get(root, "results"), names[i]), &n);
        chat_template_free(&made);
    }
    assert_true(n >= 90);
    assert_int_equal(bad, 0);
    json_decref(root);
}

/* Where the official template accepts a conversation of known roles, these agree with it too.
 * (zephyr's and phi3's drop unknown roles; falcon3's drops the tool's and writes the end token.) */
static void other_built_ins_agree_where_the_official_ones_accept(void **state) {
    (void)state;
    const char *const names[] = {"llama2", "mistral", "gemma", "zephyr", "phi3"};
    json_t *root = load("templates"), *list;
    const char *conversation;
    size_t n = 0;
    int bad = 0;
    for (size_t k = 0; k < BASE_COUNT(names); k++) {
        rotor_error err = {0};
        chat_template *t =
            make(json_object_get(json_object_get(root, "templates"), names[k]), names[k], &err);
        json_t *results = json_object_get(json_object_get(root, "results"), names[k]);
        size_t i = 0;
        json_object_foreach(json_object_get(root, "conversations"), conversation, list) {
            chat_message messages[16];
            size_t n_messages = read_messages(list, messages);
            bool odd = strstr(conversation, "role") || strstr(conversation, "order");
            for (int reply = 0; reply < 2; reply++) {
                const json_t *want = json_array_get(results, i++);
                if (json_is_null(want) || odd) continue;
                chat_prompt p = {0};
                rotor_status st = chat_render(t, messages, n_messages, reply, &p, &err);
                /* zephyr opens the reply only after a last message */
                bad += check(names[k], st, &err, &p.text, want);
                n++;
                chat_prompt_free(&p);
            }
        }
        chat_template_free(&t);
    }
    print_message("%zu renderings compared\n", n);
    assert_true(n > 80);
    assert_int_equal(bad, 0);
    json_decref(root);
}

/* ==== Random templates ======================================================================== */

static void random_templates_render_as_jinja2_does(void **state) {
    (void)state;
    json_t *root = load("expressions"), *pair;
    chat_message messages[16];
    size_t n = read_messages(json_object_get(root, "messages"), messages), i, n_errors = 0;
    int bad = 0;
    json_array_foreach(json_object_get(root, "cases"), i, pair) {
        chat_template *t = NULL;
        chat_prompt p = {0};
        rotor_error err = {0};
        chat_hints hints = {.model_template = str(json_array_get(pair, 0)),
                            .bos_text = base_str_of("<s>"),
                            .eos_text = base_str_of("</s>")};
        rotor_status st = chat_template_create(&t, &hints, NULL, &err);
        /* The trial at creation sees another conversation than the case: then its error counts. */
        if (st == ROTOR_OK) st = chat_render(t, messages, n, true, &p, &err);
        n_errors += st != ROTOR_OK;
        bad += check(hints.model_template.p, st, &err, &p.text, json_array_get(pair, 1));
        chat_prompt_free(&p);
        chat_template_free(&t);
    }
    print_message("%zu random templates, %zu of them errors in both\n", i, n_errors);
    assert_true(i >= 1000);
    assert_int_equal(bad, 0);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_templates_render_as_jinja2_does),
        cmocka_unit_test(built_ins_equal_the_official_templates),
        cmocka_unit_test(other_built_ins_agree_where_the_official_ones_accept),
        cmocka_unit_test(random_templates_render_as_jinja2_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
