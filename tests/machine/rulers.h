/* SPDX-License-Identifier: MIT
 *
 * rulers: what the machine's probe is held to. A plain read of a gibibyte and loops of twelve
 * independent sums, written without any of Rotor's code: threads of their own, one per processor,
 * pinned and started together for each measurement.
 */
#ifndef RULERS_H
#define RULERS_H

#include <stdbool.h>

bool rulers_start(void); /* takes the memory; false: there is not enough */
void rulers_end(void);
int rulers_threads(void);
/* The smallest share of its processor that a thread had in any measurement since the last call:
 * less than 1 when other programs run. */
double rulers_had(void);

double ruler_read_gbps(void);
/* vpdpbusd and vfmadd on 512-bit registers; 0: this processor has none. */
double ruler_int8_gmacs(void);
double ruler_f32_gmacs(void);

#endif
