/* SPDX-License-Identifier: MIT
 *
 * convert: what its files share: a plan of tensors to write, and where their values come from.
 */
#ifndef CONVERT_H
#define CONVERT_H

#include "file/file.h"
#include "model/model.h"
#include "par/par.h"
#include "tool/tool.h"

/* One tensor's values as rows, from a file's bytes or from a model's T2 rows. */
typedef struct conv_source {
    quant_tensor view;   /* type, shape and bytes; unused fields of T2 sources are 0 */
    const model_mat *t2; /* T2 rows and scales instead of view.data; NULL: view */
    uint32_t pair_heads; /* > 0: this many heads whose halves become adjacent pairs */
    const float *kept;   /* [1] or [rows] exact scales from metadata, owned by the plan; NULL */
    size_t n_kept;       /* 1 or rows */
} conv_source;

typedef struct conv_tensor {
    char name[64];      /* in the new file */
    uint32_t n_dims;    /* 1..4 */
    uint64_t dims[4];   /* fastest first */
    uint32_t type;      /* to write */
    conv_source from;   /* values */
    bool ternary;       /* values are -1, 0, +1 times a scale */
    float *scale;       /* ternary: [rows] exact scales, owned */
    const float *plain; /* instead of from: floats, borrowed; NULL: from */
} conv_tensor;

typedef struct conv {
    const tool_convert_options *opt;  /* what was asked */
    tool_convert_report report;       /* counts */
    file_writer *w;                   /* new file */
    par_pool *pool;                   /* rows are shared among its threads */
    conv_tensor *list;                /* plan, owned */
    size_t n, cap;                    /* used, allocated */
    const quant_info *type;           /* of matrices; NULL: as they are */
    const quant_info *head_type;      /* of embedding and head; NULL: as they are */
    uint64_t total_bytes, done_bytes; /* progress */
    rotor_error *err;                 /* of the call */
} conv;

/* Adds an empty tensor to the plan; NULL when out of memory. */
conv_tensor *conv_add(conv *c);
/* The type a matrix gets: wanted if its rows fit the blocks, else `is`, with a note. */
uint32_t conv_fit(conv *c, const char *name, const quant_info *wanted, uint32_t is, uint64_t cols);
/* general.file_type of a type, as other programs number it. */
uint32_t conv_file_type(uint32_t type);
void conv_note(const conv *c, const char *fmt, ...) BASE_PRINTF(2, 3);

/* Row r of a source as ternary codes and scale, or as floats. */
rotor_status conv_row_codes(const conv_source *s, uint64_t row, int8_t *dst, float *scale,
                            bool *uniform, rotor_error *err);
rotor_status conv_row_values(const conv_source *s, uint64_t row, float *dst, rotor_error *err);

/* Finds t->scale (ternary tensors) and puts metadata for scales t->type cannot hold. */
rotor_status conv_settle_scales(conv *c, conv_tensor *t);
/* Writes the bytes of one tensor. */
rotor_status conv_emit(conv *c, const conv_tensor *t);

/* The plan and the metadata of a HF folder. m borrows nothing from c and must outlive it. */
rotor_status conv_plan_folder(conv *c, const model *m);

#endif
