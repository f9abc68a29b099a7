/* SPDX-License-Identifier: MIT
 *
 * The smallest program that uses librotor: prints a continuation of a text, token by token.
 *
 *     cc simple.c -o simple $(pkg-config --cflags --libs rotor)
 *     ./simple model.gguf "Once upon a time" 100
 */
#include <rotor.h>

#include <stdio.h>
#include <stdlib.h>

static bool print(void *user, const char *text, size_t n_bytes, const rotor_token *token,
                  const rotor_token *top, size_t n_top) {
    (void)user, (void)token, (void)top, (void)n_top;
    fwrite(text, 1, n_bytes, stdout);
    return fflush(stdout) == 0;
}

int main(int argc, char **argv) {
    rotor_engine *engine = NULL;
    rotor_session *session = NULL;
    rotor_gen_result result = {0};
    rotor_error err = {0};
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL TEXT [TOKENS]\n", argv[0]);
        return 2;
    }
    rotor_status status = rotor_engine_open(&engine, argv[1], NULL, &err);
    if (status == ROTOR_OK) status = rotor_session_create(&session, engine, 0, &err);
    if (status == ROTOR_OK) {
        rotor_gen_options options = rotor_gen_options_default(engine);
        options.max_tokens = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 100;
        options.on_text = print;
        printf("%s", argv[2]);
        status = rotor_generate_text(session, argv[2], &options, &result, &err);
        printf("\n");
    }
    if (status != ROTOR_OK) fprintf(stderr, "%s: %s\n", argv[0], err.message);
    rotor_gen_result_free(&result);
    rotor_session_free(&session);
    rotor_engine_close(&engine);
    return status == ROTOR_OK ? 0 : 1;
}
