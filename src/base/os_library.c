/* SPDX-License-Identifier: MIT
 *
 * Shared libraries opened at run time: drivers that a machine may or may not have.
 */
#include "base/base.h"

#include <dlfcn.h>
#include <stdio.h>

void *base_library_open(const char *name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }
void base_library_why(char *out, size_t n_bytes, const char *name) {
    const char *said = dlerror();
    const size_t n = strlen(name);
    const bool absent = !said || (strncmp(said, name, n) == 0 && said[n] == ':' &&
                                  strstr(said, "No such file or directory"));
    snprintf(out, n_bytes, "%s", absent ? "" : said);
}
void *base_library_symbol(void *library, const char *name) { return dlsym(library, name); }
void base_library_close(void *library) {
    if (library) dlclose(library);
}
