/* SPDX-License-Identifier: MIT
 *
 * The operating system: energy counters, as Linux shows them under powercap.
 *
 * A folder intel-rapl:N whose name begins with "package" is a processor (AMD's appear so too).
 * Another name, or a second colon, is a part of one or the whole board and would count it twice.
 * Most systems let only root read them and virtual machines have none: no counter is an ordinary
 * answer, not an error.
 */
#define _GNU_SOURCE
#include "base/base.h"

#include <inttypes.h>
#include <stdio.h>

enum { MAX_ZONES = 64 }; /* folders looked at */

static bool read_line(const char *folder, int zone, const char *name, char line[64]) {
    char path[512];
    int n = snprintf(path, sizeof path, "%s/intel-rapl:%d/%s", folder, zone, name);
    if (n < 0 || (size_t)n >= sizeof path) return false;
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool got = fgets(line, 64, f) != NULL;
    fclose(f);
    return got;
}

static bool read_number(const char *folder, int zone, const char *name, uint64_t *out) {
    char line[64];
    return read_line(folder, zone, name, line) && sscanf(line, "%" SCNu64, out) == 1;
}

void base_energy_read(base_energy *e, const char *folder) {
    char name[64];
    if (!folder) folder = "/sys/class/powercap";
    memset(e, 0, sizeof *e);
    for (int zone = 0; zone < MAX_ZONES && e->n < BASE_MAX_PACKAGES; zone++)
        if (read_line(folder, zone, "name", name) && strncmp(name, "package", 7) == 0 &&
            read_number(folder, zone, "energy_uj", &e->uj[e->n]) &&
            read_number(folder, zone, "max_energy_range_uj", &e->max_uj[e->n]))
            e->n++;
}

double base_energy_joules(const base_energy *from, const base_energy *to) {
    double joules = 0;
    for (size_t i = 0; i < BASE_MIN(from->n, to->n); i++) {
        uint64_t wrapped = to->uj[i] < from->uj[i] ? to->max_uj[i] : 0;
        joules += (double)(to->uj[i] + wrapped - from->uj[i]) / 1e6;
    }
    return joules;
}
