/* SPDX-License-Identifier: MIT
 *
 * The registry: one row per tensor type that a model file may name, with its block shape, and the
 * size of a whole tensor computed from it.
 *
 * Rows without QUANT_CAN_DECODE are there so that a file using them can be listed and sized. Rows
 * with block_elems 0 are ids that were given up upstream: a file that carries one is refused by
 * that name. Three ids mean different things in different programs: 36 was a retired type and is
 * Microsoft's I2_S in every file there is; 38 is a retired type upstream and TL1 in Microsoft's
 * fork, whose tiling is not recorded in the file, so it stays refused; 39 and 42 are told apart by
 * their size in the file room.
 */
#include "quant/quant_internal.h"

#define ALL  (QUANT_CAN_DECODE | QUANT_CAN_ENCODE)
#define TERN (ALL | QUANT_TERNARY)
#define B32  (QUANT_CAN_DECODE | QUANT_BLOCK32)

static const quant_info registry[] = {
    {QUANT_F32, "F32", 1, 4, 0, 0, ALL},
    {QUANT_F16, "F16", 1, 2, 0, 0, ALL},
    {QUANT_Q4_0, "Q4_0", 32, 18, 0, 0, B32 | QUANT_CAN_ENCODE},
    {QUANT_Q4_1, "Q4_1", 32, 20, 0, 0, B32},
    {4, "Q4_2 (removed)", 0, 0, 0, 0, 0},
    {5, "Q4_3 (removed)", 0, 0, 0, 0, 0},
    {QUANT_Q5_0, "Q5_0", 32, 22, 0, 0, B32},
    {QUANT_Q5_1, "Q5_1", 32, 24, 0, 0, B32},
    {QUANT_Q8_0, "Q8_0", 32, 34, 0, 0, B32 | QUANT_CAN_ENCODE},
    {QUANT_Q8_1, "Q8_1", 32, 36, 0, 0, QUANT_CAN_DECODE},
    {QUANT_Q2_K, "Q2_K", 256, 84, 0, 0, B32},
    {QUANT_Q3_K, "Q3_K", 256, 110, 0, 0, B32},
    {QUANT_Q4_K, "Q4_K", 256, 144, 0, 0, B32},
    {QUANT_Q5_K, "Q5_K", 256, 176, 0, 0, B32},
    {QUANT_Q6_K, "Q6_K", 256, 210, 0, 0, B32 | QUANT_CAN_ENCODE},
    {QUANT_Q8_K, "Q8_K", 256, 292, 0, 0, QUANT_CAN_DECODE},
    {16, "IQ2_XXS", 256, 66, 0, 0, 0},
    {17, "IQ2_XS", 256, 74, 0, 0, 0},
    {18, "IQ3_XXS", 256, 98, 0, 0, 0},
    {19, "IQ1_S", 256, 50, 0, 0, 0},
    {QUANT_IQ4_NL, "IQ4_NL", 32, 18, 0, 0, B32},
    {21, "IQ3_S", 256, 110, 0, 0, 0},
    {22, "IQ2_S", 256, 82, 0, 0, 0},
    {QUANT_IQ4_XS, "IQ4_XS", 256, 136, 0, 0, B32},
    {QUANT_I8, "I8", 1, 1, 0, 0, QUANT_CAN_DECODE},
    {QUANT_I16, "I16", 1, 2, 0, 0, QUANT_CAN_DECODE},
    {QUANT_I32, "I32", 1, 4, 0, 0, QUANT_CAN_DECODE},
    {QUANT_I64, "I64", 1, 8, 0, 0, QUANT_CAN_DECODE},
    {QUANT_F64, "F64", 1, 8, 0, 0, QUANT_CAN_DECODE},
    {29, "IQ1_M", 256, 56, 0, 0, 0},
    {QUANT_BF16, "BF16", 1, 2, 0, 0, ALL},
    {31, "Q4_0_4_4 (removed)", 0, 0, 0, 0, 0},
    {32, "Q4_0_4_8 (removed)", 0, 0, 0, 0, 0},
    {33, "Q4_0_8_8 (removed)", 0, 0, 0, 0, 0},
    {QUANT_TQ1_0, "TQ1_0", 256, 54, 0, 0, TERN | QUANT_BLOCK32},
    {QUANT_TQ2_0, "TQ2_0", 256, 66, 0, 0, TERN | QUANT_BLOCK32},
    {QUANT_I2_S, "I2_S", 4, 1, 0, 32, TERN},
    {37, "IQ4_NL_4_8 (removed)", 0, 0, 0, 0, 0},
    {QUANT_TL1, "TL1", 0, 0, 0, 0, 0},
    {QUANT_MXFP4, "MXFP4", 32, 17, 0, 0, B32},
    {40, "NVFP4", 64, 36, 0, 0, 0},
    {QUANT_Q1_0, "Q1_0", 128, 18, 0, 0, B32},
    {QUANT_Q2_0, "Q2_0", 64, 18, 0, 0, B32},
    {QUANT_IQ1_BN, "IQ1_BN", 64, 13, 2, 0, TERN},
    {QUANT_IQ2_BN, "IQ2_BN", 64, 16, 4, 0, TERN},
    {QUANT_IQ2_BN_R4, "IQ2_BN_R4", 64, 16, 4, 0, TERN},
    {QUANT_T5, "T5", QUANT_T5_COLS, 4, 0, 0, TERN}, /* any shape, padded; then the scales */
    {QUANT_U8, "U8", 1, 1, 0, 0, QUANT_CAN_DECODE},
    {QUANT_BOOL, "BOOL", 1, 1, 0, 0, QUANT_CAN_DECODE},
    {QUANT_U16, "U16", 1, 2, 0, 0, 0},
    {QUANT_U32, "U32", 1, 4, 0, 0, 0},
    {QUANT_U64, "U64", 1, 8, 0, 0, 0},
    {QUANT_F8_E4M3, "F8_E4M3", 1, 1, 0, 0, 0},
    {QUANT_F8_E5M2, "F8_E5M2", 1, 1, 0, 0, 0},
};

const quant_info *quant_at(size_t i) { return i < BASE_COUNT(registry) ? &registry[i] : NULL; }

const quant_info *quant_find(uint32_t id) {
    for (size_t i = 0; i < BASE_COUNT(registry); i++)
        if (registry[i].id == id) return &registry[i];
    return NULL;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c; }

const quant_info *quant_find_name(base_str name) {
    for (size_t i = 0; i < BASE_COUNT(registry); i++) {
        const char *have = registry[i].name;
        size_t k = 0;
        while (k < name.n && have[k] && lower(have[k]) == lower(name.p[k])) k++;
        if (k == name.n && have[k] == 0) return &registry[i];
    }
    return NULL;
}

static rotor_status too_large(const quant_info *info, uint64_t rows, uint64_t cols,
                              rotor_error *err) {
    return base_fail(err, ROTOR_E_FORMAT, "%llu x %llu values of type %s do not fit 63 bits",
                     (unsigned long long)rows, (unsigned long long)cols, info->name);
}

rotor_status quant_tensor_bytes(const quant_info *info, uint64_t rows, uint64_t cols,
                                uint64_t *bytes, rotor_error *err) {
    uint64_t n, row, total;
    if (info->block_elems == 0)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "type %u, %s, has no fixed layout", info->id,
                         info->name);
    if (!base_mul_u64(rows, cols, &n) || n > INT64_MAX) return too_large(info, rows, cols, err);
    if (info->id == QUANT_T5) {
        if (!t5_tensor_bytes(rows, cols, &total) || total > INT64_MAX)
            return too_large(info, rows, cols, err);
        return *bytes = total, ROTOR_OK;
    }
    /* I2_S counts its blocks over the whole tensor; every other type row by row. */
    uint64_t run = info->id == QUANT_I2_S ? n : cols;
    if (run % info->block_elems != 0)
        return base_fail(err, ROTOR_E_FORMAT, "%llu %s, not a multiple of %u as type %s needs",
                         (unsigned long long)run, run == cols ? "columns" : "values",
                         info->block_elems, info->name);
    uint64_t lines = info->id == QUANT_I2_S ? 1 : rows;
    if (!base_mul_u64(run / info->block_elems, info->block_bytes, &row) ||
        !base_add_u64(row, info->row_bytes, &row) || !base_mul_u64(row, lines, &total) ||
        !base_add_u64(total, info->tail_bytes, &total) || total > INT64_MAX)
        return too_large(info, rows, cols, err);
    *bytes = total;
    return ROTOR_OK;
}
