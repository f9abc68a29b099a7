/* SPDX-License-Identifier: MIT
 *
 * A server that answers without end: one byte, and another, as long as somebody listens.
 */
#include "hub/hub.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct trickler {
    int door;         /* listens */
    pthread_t thread; /* answers */
} trickler;

static void *trickle(void *user) {
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    const int one = accept(((trickler *)user)->door, NULL, NULL);
    if (one < 0) return NULL;
    const struct timeval soon = {.tv_usec = 20000};
    char question[4096];
    setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    bool there = send(one, head, sizeof head - 1, MSG_NOSIGNAL) > 0;
    while (there && recv(one, question, sizeof question, 0)) /* 0: the other has hung up */
        there = send(one, " ", 1, MSG_NOSIGNAL) == 1;
    close(one);
    return NULL;
}

static void start(trickler *t, char address[64]) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof at;
    t->door = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(t->door >= 0);
    assert_int_equal(bind(t->door, (struct sockaddr *)&at, n), 0);
    assert_int_equal(listen(t->door, 4), 0);
    assert_int_equal(getsockname(t->door, (struct sockaddr *)&at, &n), 0);
    snprintf(address, 64, "http://127.0.0.1:%d/v1#m", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&t->thread, NULL, trickle, t), 0);
}

static void end(trickler *t) {
    shutdown(t->door, SHUT_RDWR); /* who waits for a caller wakes up */
    pthread_join(t->thread, NULL);
    close(t->door);
}

/* It is not tried again either: such an answer is no accident. */
static void test_an_answer_without_end_is_given_up(void **state) {
    char address[64];
    trickler t;
    rotor_error err = {0};
    hub_endpoint *e = NULL;
    const hub_endpoint_options o = {.whole_s = 1, .stall_s = 10, .retries = 2};
    (void)state;
    start(&t, address);
    const rotor_status st = hub_endpoint_open(&e, address, &o, &err);
    end(&t);
    if (st == ROTOR_E_UNSUPPORTED) skip();
    assert_int_equal(st, ROTOR_E_IO);
    assert_null(e);
    assert_non_null(strstr(err.message, "is not whole after 1 s"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_an_answer_without_end_is_given_up)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
