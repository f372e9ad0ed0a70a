/* What the upstream and the load generator share: a growing buffer, the clock, a JSON scanner that copies nothing, and a
 * reader of HTTP/1.1 messages. It is a scanner, not a validator: brackets are counted, not paired. Header-only, so that
 * each program is one compiler call. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SHARED __attribute__((unused)) static

typedef struct { const char *p; size_t n; } slice;
typedef struct { char *p; size_t n, cap; } buffer;

SHARED uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

SHARED void die(const char *what) {
    perror(what);
    exit(1);
}

SHARED void buffer_reserve(buffer *b, size_t more) {
    if (b->n + more <= b->cap) return;
    b->cap = (b->n + more) * 2;
    b->p = realloc(b->p, b->cap);
    if (!b->p) die("realloc");
}

SHARED void buffer_add(buffer *b, const void *p, size_t n) {
    if (!n) return; /* an empty slice has no address */
    buffer_reserve(b, n);
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

SHARED void buffer_slice(buffer *b, slice s) { buffer_add(b, s.p, s.n); }

__attribute__((format(printf, 2, 3))) SHARED void buffer_format(buffer *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    buffer_reserve(b, (size_t)n + 1);
    va_start(args, format);
    vsnprintf(b->p + b->n, (size_t)n + 1, format, args);
    va_end(args);
    b->n += (size_t)n;
}

/* Frees the memory of a connection that has gone when it once carried a large body. */
SHARED void buffer_clear(buffer *b) {
    b->n = 0;
    if (b->cap <= 1 << 20) return;
    free(b->p);
    b->p = NULL;
    b->cap = 0;
}

SHARED int slice_is(slice s, const char *text) { return s.n == strlen(text) && !memcmp(s.p, text, s.n); }
SHARED int slice_equal(slice a, slice b) { return a.n == b.n && !memcmp(a.p, b.p, a.n); }
SHARED int slice_starts(slice s, const char *text) { return s.n >= strlen(text) && !memcmp(s.p, text, strlen(text)); }

/* ---- JSON: every function answers NULL (or an empty slice) when the text ends early ---- */

SHARED const char *json_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    return p;
}

/* p at the opening quote; answers the byte after the closing one. */
SHARED const char *json_string_end(const char *p, const char *end) {
    const char *start = p++;
    for (const char *near = p + 32 < end ? p + 32 : end; p < near && *p != '\\'; p++) /* keys: no call for a few bytes */
        if (*p == '"') return p + 1;
    while (p < end && (p = memchr(p, '"', (size_t)(end - p)))) {
        const char *slash = p;
        while (slash - 1 > start && slash[-1] == '\\') slash--;
        if ((p - slash) % 2 == 0) return p + 1;
        p++;
    }
    return NULL;
}

SHARED const char *json_skip(const char *p, const char *end) {
    p = json_space(p, end);
    if (p >= end) return NULL;
    if (*p == '"') return json_string_end(p, end);
    if (*p != '{' && *p != '[') {
        const char *start = p;
        while (p < end && !strchr(",]} \n\r\t", *p)) p++;
        return p > start ? p : NULL;
    }
    static const signed char turns[256] = {['{'] = 1, ['['] = 1, ['}'] = -1, [']'] = -1};
    for (int depth = 0; p < end;) {
        if (*p == '"') {
            if (!(p = json_string_end(p, end))) return NULL;
            continue;
        }
        int turn = turns[(unsigned char)*p++];
        if (turn && !(depth += turn)) return p;
    }
    return NULL;
}

/* Finds several members in one pass: values as they stand in the text (a string with its quotes), empty where there is
 * none. Answers the byte after the object, NULL when it is broken; one pass matters for lists of a thousand tools. */
SHARED const char *json_members(slice object, int count, const char *const *keys, slice *values) {
    const char *end = object.p + object.n, *p = object.n ? json_space(object.p, end) : end;
    for (int i = 0; i < count; i++) values[i] = (slice){0};
    if (p >= end || *p != '{') return NULL;
    p++;
    for (;;) {
        p = json_space(p, end);
        if (p < end && *p == ',') p = json_space(p + 1, end);
        if (p < end && *p == '}') return p + 1;
        if (p >= end || *p != '"') return NULL;
        const char *name = p + 1, *name_end = json_string_end(p, end);
        if (!name_end) return NULL;
        p = json_space(name_end, end);
        if (p >= end || *p != ':') return NULL;
        const char *value = json_space(p + 1, end);
        if (!(p = json_skip(value, end))) return NULL;
        for (int i = 0; i < count; i++)
            if (slice_is((slice){name, (size_t)(name_end - 1 - name)}, keys[i])) values[i] = (slice){value, (size_t)(p - value)};
    }
}

SHARED slice json_member(slice object, const char *key) {
    slice value;
    json_members(object, 1, &key, &value);
    return value;
}

/* Walks an array: start with *at = NULL; answers an empty slice at its end. */
SHARED slice json_next(slice array, const char **at) {
    const char *end = array.p + array.n, *p = *at;
    if (!p) {
        p = array.n ? json_space(array.p, end) : end;
        if (p >= end || *p != '[') return (slice){0};
        p++;
    }
    p = json_space(p, end);
    if (p < end && *p == ',') p = json_space(p + 1, end);
    if (p >= end || *p == ']') return (slice){0};
    const char *stop = json_skip(p, end);
    *at = stop;
    return stop ? (slice){p, (size_t)(stop - p)} : (slice){0};
}

/* The inside of a string value, escapes untouched; empty for anything else. */
SHARED slice json_inside(slice value) {
    if (value.n < 2 || *value.p != '"') return (slice){0};
    return (slice){value.p + 1, value.n - 2};
}

/* json_members of a text that must be one object and nothing else. */
SHARED int json_document(slice text, int count, const char *const *keys, slice *values) {
    const char *stop = json_members(text, count, keys, values);
    return stop && json_space(stop, text.p + text.n) == text.p + text.n;
}

/* ---- HTTP/1.1 messages ---- */

enum { FRAME_LENGTH, FRAME_CHUNKED, FRAME_UNTIL_CLOSE };

typedef struct {
    buffer in;        /* as received; a chunked body is decoded in place, right behind the head */
    size_t head;      /* bytes of the head, 0 until it is complete */
    size_t next;      /* first byte not decoded yet */
    size_t body;      /* decoded bytes of the body */
    size_t left;      /* bytes still missing of the body (FRAME_LENGTH) or of the current chunk */
    int framing, in_chunk, last_chunk, done, bad, status;
} message;

SHARED slice message_header(const message *m, const char *name) {
    size_t n = strlen(name);
    const char *p = m->in.p, *end = m->in.p + m->head - 2;
    while ((p = memchr(p, '\n', (size_t)(end - p))) && ++p < end) {
        if ((size_t)(end - p) <= n || p[n] != ':' || strncasecmp(p, name, n)) continue;
        const char *value = p + n + 1, *stop = memchr(value, '\r', (size_t)(end + 2 - value));
        while (value < stop && (*value == ' ' || *value == '\t')) value++;
        while (stop > value && (stop[-1] == ' ' || stop[-1] == '\t')) stop--;
        return (slice){value, (size_t)(stop - value)};
    }
    return (slice){0};
}

SHARED slice message_body(const message *m) { return (slice){m->in.p + m->head, m->body}; }

static void message_read_head(message *m, int response) {
    const char *end = memmem(m->in.p, m->in.n, "\r\n\r\n", 4);
    if (!end) {
        m->bad = m->in.n > 65536;
        return;
    }
    m->head = m->next = (size_t)(end - m->in.p) + 4;
    slice coding = message_header(m, "Transfer-Encoding"), length = message_header(m, "Content-Length");
    m->framing = coding.n ? FRAME_CHUNKED : response && !length.n ? FRAME_UNTIL_CLOSE : FRAME_LENGTH;
    m->left = length.n ? strtoull(length.p, NULL, 10) : 0;
    if (!response) return;
    m->status = m->head > 12 && !memcmp(m->in.p, "HTTP/1.", 7) ? atoi(m->in.p + 9) : 0;
    m->bad = m->status < 200;
    if (m->status == 204 || m->status == 304) {
        m->framing = FRAME_LENGTH;
        m->left = 0;
    }
}

static void message_read_chunks(message *m) {
    while (!m->done && !m->bad) {
        char *p = m->in.p + m->next;
        size_t here = m->in.n - m->next;
        if (m->in_chunk && m->left) {
            size_t n = here < m->left ? here : m->left;
            if (!n) return;
            memmove(m->in.p + m->head + m->body, p, n);
            m->body += n;
            m->next += n;
            m->left -= n;
            continue;
        }
        char *line = here ? memmem(p, here, "\r\n", 2) : NULL;
        if (!line) return;
        m->next += (size_t)(line - p) + 2;
        if (m->last_chunk) m->done = line == p; /* an empty line ends the trailers */
        else if (m->in_chunk) m->in_chunk = 0, m->bad = line != p;
        else {
            char *stop;
            m->left = strtoull(p, &stop, 16);
            m->bad = stop == p;
            m->last_chunk = !m->left;
            m->in_chunk = m->left > 0;
        }
    }
}

/* Goes as far as the received bytes allow; `done` or `bad` tell the outcome. */
SHARED void message_read(message *m, int response) {
    if (!m->head) message_read_head(m, response);
    if (!m->head || m->bad || m->done) return;
    if (m->framing == FRAME_CHUNKED) message_read_chunks(m);
    else {
        size_t here = m->in.n - m->head;
        m->body = m->framing == FRAME_LENGTH && here > m->left ? m->left : here;
        m->next = m->head + m->body;
        m->done = m->framing == FRAME_LENGTH && here >= m->left;
    }
}

/* Makes room for the next message; what came behind this one stays. */
SHARED void message_next(message *m) {
    buffer in = m->in;
    size_t rest = in.n - m->next;
    if (rest) memmove(in.p, in.p + m->next, rest);
    in.n = rest;
    *m = (message){.in = in};
}

SHARED void message_clear(message *m) {
    buffer_clear(&m->in);
    *m = (message){.in = m->in};
}

/* ---- sockets ---- */

SHARED void allow_many_files(void) {
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}

SHARED void make_prompt(int fd) {
    int one = 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* Reads what is there. 1: read something or nothing for now, 0: the other side closed or failed. */
SHARED int receive(int fd, buffer *b) {
    for (;;) {
        size_t room = 65536;
        buffer_reserve(b, room);
        ssize_t n = recv(fd, b->p + b->n, b->cap - b->n, 0);
        if (n > 0) {
            size_t asked = b->cap - b->n;
            b->n += (size_t)n;
            if ((size_t)n < asked) return 1;
        } else return n < 0 && (errno == EAGAIN || errno == EINTR);
    }
}

/* Sends from *sent on. 1: all gone, 0: the socket is full, -1: failed. */
SHARED int transmit(int fd, buffer *b, size_t *sent) {
    while (*sent < b->n) {
        ssize_t n = send(fd, b->p + *sent, b->n - *sent, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
        *sent += (size_t)n;
    }
    b->n = *sent = 0;
    return 1;
}
#endif
