/* SPDX-License-Identifier: MIT
 *
 * The staged output head with AVX-VNNI: head_screen.h with eight rows in a vector; the rest is that
 * of AVX2.
 */
#define VI_VNNI
#include "kern/x86/vi_avx2.h"

#define NAME(x) x##_avxvnni
#include "kern/head_screen.h"

void kern_fill_head_avxvnni(kern *k) { k->head_screen = head_screen_avxvnni; }
