/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: a tokenizer.json, optionally followed by a zero byte and a tokenizer_config.json.
 * Whatever loads must also encode and decode.
 */
#include <assert.h>

#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char probe[] = " Hello  Wörld 中文 e\xCC\x81 <s> 123\r\n\xFF\xC3 \xE2\x96\x81x";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - data) : size;
    base_str json = {(const char *)data, n}, config = {0};
    text_vocab *v = NULL;
    text_ids ids = {0};
    base_buf text = {0};
    rotor_error err = {0};
    if (zero) config = (base_str){(const char *)zero + 1, size - n - 1};
    if (text_vocab_from_json(&v, json, config, NULL, &err)) return 0;
    base_str s = {probe, sizeof probe - 1};
    if (text_encode(v, s, TEXT_ADD_BOS | TEXT_ADD_EOS | TEXT_PARSE_SPECIAL, &ids, &err) ==
        ROTOR_OK) {
        for (size_t i = 0; i < ids.n; i++) assert(ids.ids[i] < text_n_tokens(v));
        assert(text_decode(v, ids.ids, ids.n, true, &text) == ROTOR_OK);
    }
    text_ids_free(&ids);
    base_buf_free(&text);
    text_vocab_free(&v);
    return 0;
}
