/* SPDX-License-Identifier: MIT
 *
 * base/start.h: how a program starts, for those that run where main is not given what it wants.
 */
#ifndef START_H
#define START_H

/* The program's arguments as UTF-8, for as long as it runs, from those of main; standard input and
 * output are bytes from then on. Only where the system has it otherwise is anything done. */
char **base_program_start(char **argv);

#endif
