/* SPDX-License-Identifier: MIT
 *
 * page: the web chat, made by tools/web_page.py out of web/ while building.
 *
 * One HTML file that fetches nothing but the API of the server it came from. It holds no secret, so
 * it is given without a key; and it must be given with its policy, which allows the browser to run
 * the page's own script and no other. The names are static data, free of threads.
 */
#ifndef SERVE_PAGE_H
#define SERVE_PAGE_H

#include <stddef.h>

extern const char serve_page[];        /* UTF-8, text/html; zero-terminated, the zero not counted */
extern const size_t serve_page_size;   /* bytes */
extern const char serve_page_policy[]; /* value of Content-Security-Policy */
extern const char
    serve_page_etag[]; /* value of ETag, with its quotes; changes with page or policy */

#endif
