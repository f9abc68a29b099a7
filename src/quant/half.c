/* SPDX-License-Identifier: MIT
 *
 * Half and bfloat: the conversions as functions. The bit algorithms stand in quant_internal.h, so
 * that the loops of this room inline them; no compiler half type and no instruction set is needed.
 *
 * Rounding is to nearest even; overflow gives infinity; subnormals are exact; a NaN keeps its sign
 * and the top bits of its payload and comes out quiet, as the x86 and ARM instructions do.
 */
#include "quant/quant_internal.h"

float quant_f16_to_f32(uint16_t h) { return f16_f32(h); }
uint16_t quant_f32_to_f16(float f) { return f32_f16(f); }
float quant_bf16_to_f32(uint16_t h) { return bf16_f32(h); }
uint16_t quant_f32_to_bf16(float f) { return f32_bf16(f); }
