/* SPDX-License-Identifier: MIT
 *
 * GET /: the web chat, and its icon's place.
 *
 * The page is given to anyone, and while models load: it holds no secret, and it is what asks for
 * the key. Its policy goes with it; a browser that has it already gets 304.
 */
#include "serve/page.h"
#include "serve/serve_internal.h"

/* Is one of the tags of If-None-Match ours? */
static bool has_it(struct MHD_Connection *conn) {
    const char *tags = mhd()->lookup_connection_value(conn, MHD_HEADER_KIND, "If-None-Match");
    return tags && (strcmp(tags, "*") == 0 || strstr(tags, serve_page_etag));
}

/* Programs that ask for JSON at the root want to know whether somebody is here. */
static bool wants_json(struct MHD_Connection *conn) {
    const char *accept = mhd()->lookup_connection_value(conn, MHD_HEADER_KIND, "Accept");
    return accept && strstr(accept, "application/json") && !strstr(accept, "text/html");
}

void serve_get_page(serve_exchange *x) {
    if (wants_json(x->conn)) {
        serve_get_health(x);
        return;
    }
    const bool known = has_it(x->conn);
    const serve_header headers[] = {
        {"Content-Type", "text/html; charset=utf-8"},
        {"Content-Security-Policy", serve_page_policy},
        {"Referrer-Policy", "no-referrer"},
        {"X-Frame-Options", "DENY"},   /* for browsers that do not know frame-ancestors */
        {"Cache-Control", "no-cache"}, /* keep it, but ask whether it is still this one */
        {"ETag", serve_page_etag},
        {NULL, NULL},
    };
    serve_reply_static(x, known ? 304 : 200, serve_page, known ? 0 : serve_page_size, headers);
}

/* The page names its own icon; browsers ask here all the same when they show an API's answer. */
void serve_get_icon(serve_exchange *x) {
    serve_reply_static(x, 204, "", 0, &(serve_header){NULL, NULL});
}
