/* The load generator: one epoll thread, N keep-alive connections, one request in flight on each, every answer verified.
 *
 *     loadgen --port P --mode call|list|setup|hold [--era legacy|modern] [--path /mcp] [--tool echo]
 *             [--connections 16] [--size 100] [--warmup 0.5] [--seconds 2] [--timeout 10]
 *             [--expect-progress 5] [--expect-tools N] [--header "Name: value"]...
 *
 * call   one tools/call: status, id, complete payload, no isError, progress notifications by token and order
 * list   one whole tools/list, page after page: number of tools; in the modern era also ttlMs and cacheScope
 * setup  initialize, notifications/initialized, DELETE: a session's whole life
 * hold   opens a session and a GET stream on every connection and keeps them open for --seconds
 *
 * Ids are unique, by turns an integer and a string; each call's text begins with a nonce made from its id. In the
 * legacy era each connection opens a session first. Prints three JSON lines: {"phase":"measure"} when the measured
 * window begins, {"phase":"end"} when it ends, then the result. Only what ends within the window counts in `ok`;
 * `total` counts warm-up and drain too. It times whole operations, and speaks no TLS. */
#define _GNU_SOURCE
#include "wire.h"
#include <arpa/inet.h>
#include <signal.h>
#include <sys/epoll.h>

#define MODERN "2026-07-28"
#define SAMPLES 3

enum mode { CALL, LIST, SETUP, HOLD };
enum step { CLOSED, CONNECTING, INITIALIZE, INITIALIZED, CALLING, LISTING, DELETING, OPENING, HELD, IDLE };
enum phase { PREPARE, WARM, MEASURE, DRAIN };

typedef struct {
    int fd, wants_write, progress;
    enum step step;
    long tools;
    uint64_t began, deadline, retry;
    char id[32], token[32], nonce[17], session[2048], version[32];
    buffer out, cursor;
    size_t sent;
    message in;
} connection;

static struct {
    const char *host, *path, *tool;
    int port, modern, connections, expect_progress;
    long expect_tools;
    enum mode mode;
    size_t size;
    double warmup, seconds, timeout;
    buffer headers;
} options = {.host = "127.0.0.1", .path = "/mcp", .tool = "echo", .connections = 16, .expect_tools = -1, .size = 100,
             .warmup = 0.5, .seconds = 2, .timeout = 10};

static int poller, held, lost;
static enum phase phase;
static uint64_t last_id, ok, total, errors, ready_at, *latencies;
static size_t latency_count, latency_cap;
static char samples[SAMPLES][512];
static int sample_count;
static char *filler;
static connection *all;

static void start(connection *c);

/* ---- requests ---- */

static void begin_request(connection *c, const char *verb) {
    buffer *b = &c->out;
    b->n = c->sent = 0;
    buffer_format(b, "%s %s HTTP/1.1\r\nHost: %s:%d\r\n", verb, options.path, options.host, options.port);
    buffer_add(b, options.headers.p, options.headers.n);
    if (*c->version) buffer_format(b, "MCP-Protocol-Version: %s\r\n", c->version);
    if (*c->session) buffer_format(b, "Mcp-Session-Id: %s\r\n", c->session);
}

/* The text is the nonce and then the filler; `tail` closes what `body` opened. */
static void post(connection *c, const char *method, const char *name, buffer *body, size_t text, const char *tail) {
    buffer *b = &c->out;
    begin_request(c, "POST");
    buffer_format(b, "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: %zu\r\n",
                  body->n + text + strlen(tail));
    if (options.modern) buffer_format(b, "Mcp-Method: %s\r\n", method);
    if (options.modern && name) buffer_format(b, "Mcp-Name: %s\r\n", name);
    buffer_add(b, "\r\n", 2);
    buffer_add(b, body->p, body->n);
    if (text) buffer_add(b, c->nonce, 16);
    if (text) buffer_add(b, filler, text - 16);
    buffer_add(b, tail, strlen(tail));
}

static void begin_body(connection *c, buffer *b, const char *method) {
    uint64_t id = ++last_id;
    snprintf(c->id, sizeof c->id, id % 2 ? "%llu" : "\"b-%llu\"", (unsigned long long)id);
    snprintf(c->nonce, sizeof c->nonce, "%016llx", (unsigned long long)(id * 0x9E3779B97F4A7C15ull));
    snprintf(c->token, sizeof c->token, "\"p%llu\"", (unsigned long long)id);
    b->n = 0;
    buffer_format(b, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"method\":\"%s\",\"params\":{", c->id, method);
    if (!options.modern && !options.expect_progress) return;
    buffer_format(b, "\"_meta\":{");
    if (options.modern)
        buffer_format(b, "\"io.modelcontextprotocol/protocolVersion\":\"" MODERN "\",\"io.modelcontextprotocol/clientCapabilities\":{},"
                         "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"bench\",\"version\":\"1\"}%s",
                      options.expect_progress ? "," : "");
    if (options.expect_progress) buffer_format(b, "\"progressToken\":%s", c->token);
    buffer_format(b, "},");
}

static void compose(connection *c) {
    static buffer body;
    body.n = 0;
    switch (c->step) {
    case INITIALIZE:
        *c->session = *c->version = 0;
        begin_body(c, &body, "initialize");
        buffer_format(&body, "\"protocolVersion\":\"2025-11-25\",\"capabilities\":{},\"clientInfo\":{\"name\":\"bench\",\"version\":\"1\"}");
        post(c, "initialize", NULL, &body, 0, "}}");
        break;
    case INITIALIZED:
        buffer_format(&body, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
        post(c, "notifications/initialized", NULL, &body, 0, "");
        break;
    case CALLING:
        begin_body(c, &body, "tools/call");
        buffer_format(&body, "\"name\":\"%s\",\"arguments\":{\"text\":\"", options.tool);
        post(c, "tools/call", options.tool, &body, options.size, "\"}}}");
        break;
    case LISTING:
        begin_body(c, &body, "tools/list");
        if (c->cursor.n) {
            buffer_format(&body, "\"cursor\":");
            buffer_add(&body, c->cursor.p, c->cursor.n);
        } else if (body.p[body.n - 1] == ',') body.n--;
        post(c, "tools/list", NULL, &body, 0, "}}");
        break;
    default: /* DELETING, OPENING */
        begin_request(c, c->step == OPENING ? "GET" : "DELETE");
        buffer_format(&c->out, "Accept: text/event-stream\r\n\r\n");
    }
}

/* ---- verification: each answers NULL when all is well, else what is wrong ---- */

static const char *check_envelope(connection *c, slice text, slice *result) {
    static const char *const keys[] = {"id", "error", "result"};
    slice values[3];
    if (!json_document(text, 3, keys, values)) return "the answer is not one JSON object";
    if (!slice_is(values[0], c->id)) return "another id";
    if (values[1].n) return "a JSON-RPC error";
    *result = values[2];
    return result->n ? NULL : "no result";
}

static const char *check_complete(slice type) {
    return !options.modern || slice_is(type, "\"complete\"") ? NULL : "resultType is not complete";
}

static const char *check_call(connection *c, slice result) {
    static const char *const keys[] = {"content", "isError", "resultType"};
    slice values[3];
    const char *at = NULL;
    json_members(result, 3, keys, values);
    slice text = json_inside(json_member(json_next(values[0], &at), "text"));
    if (slice_is(values[1], "true")) return "isError";
    if (text.n != options.size) return "a payload of another length";
    if (memcmp(text.p, c->nonce, 16)) return "another call's payload";
    if (memcmp(text.p + 16, filler, text.n - 16)) return "a changed payload";
    if (json_next(values[0], &at).n) return "more content than asked for";
    if (c->progress != options.expect_progress) return "missing progress notifications";
    return check_complete(values[2]);
}

static const char *check_page(connection *c, slice result) {
    static const char *const keys[] = {"tools", "nextCursor", "resultType", "ttlMs", "cacheScope"};
    static const char *const tool_keys[] = {"name", "inputSchema"};
    static buffer verified; /* the last complete list that passed: the same bytes again need no second reading */
    slice values[5], parts[2];
    if (!c->tools && slice_equal(result, (slice){verified.p, verified.n})) return NULL;
    json_members(result, 5, keys, values);
    if (!values[0].n || *values[0].p != '[') return "no list of tools";
    const char *end = values[0].p + values[0].n, *p = json_space(values[0].p + 1, end);
    while (p < end && *p != ']') {
        if (*p == ',') p++;
        p = json_members((slice){p, (size_t)(end - p)}, 2, tool_keys, parts);
        if (!p || !json_inside(parts[0]).n || !parts[1].n) return "a tool without name or schema";
        c->tools++;
        p = json_space(p, end);
    }
    if (options.modern && (!values[3].n || !values[4].n)) return "no cache hints";
    c->cursor.n = 0;
    if (values[1].n && *values[1].p == '"') buffer_slice(&c->cursor, values[1]);
    if (!c->cursor.n && options.expect_tools >= 0 && c->tools != options.expect_tools) return "another number of tools";
    const char *incomplete = check_complete(values[2]);
    if (incomplete || c->cursor.n || c->tools != options.expect_tools) return incomplete;
    verified.n = 0;
    buffer_slice(&verified, result);
    return NULL;
}

static const char *check_progress(connection *c, slice text) {
    slice params = json_member(text, "params"), progress = json_member(params, "progress");
    if (!slice_is(json_inside(json_member(text, "method")), "notifications/progress")) return NULL; /* others may come as well */
    if (!slice_is(json_member(params, "progressToken"), c->token)) return "progress of another call";
    return progress.n && atof(progress.p) == ++c->progress ? NULL : "progress out of order";
}

static const char *check_result(connection *c, slice text) {
    slice result = {0};
    const char *wrong = check_envelope(c, text, &result);
    if (wrong) return wrong;
    if (c->step == CALLING) return check_call(c, result);
    if (c->step == LISTING) return check_page(c, result);
    slice version = json_inside(json_member(result, "protocolVersion")), session = message_header(&c->in, "Mcp-Session-Id");
    if (!version.n || version.n >= sizeof c->version || session.n >= sizeof c->session) return "an unusable handshake";
    memcpy(c->version, version.p, version.n);
    c->version[version.n] = 0;
    memcpy(c->session, session.p, session.n);
    c->session[session.n] = 0;
    return NULL;
}

/* An event stream must hold the result once, behind its notifications. One `data` line an event is all MCP servers send. */
static const char *check_events(connection *c, slice body) {
    const char *p = body.p, *end = body.p + body.n, *wrong = NULL;
    int results = 0;
    while (p < end && !wrong) {
        const char *stop = memchr(p, '\n', (size_t)(end - p)), *last;
        if (!stop) stop = end;
        last = stop > p && stop[-1] == '\r' ? stop - 1 : stop;
        slice line = {p, (size_t)(last - p)};
        p = stop + 1;
        if (!slice_starts(line, "data:")) continue;
        slice text = {line.p + 5, line.n - 5};
        if (json_space(text.p, text.p + text.n) == text.p + text.n) continue; /* an empty priming event */
        if (results) return "something behind the result";
        if (json_member(text, "method").n) wrong = check_progress(c, text);
        else {
            results++;
            wrong = check_result(c, text);
        }
    }
    return wrong ? wrong : results ? NULL : "an event stream without a result";
}

static const char *check(connection *c) {
    int status = c->in.status;
    if (c->step == INITIALIZED) return status == 202 || status == 200 || status == 204 ? NULL : "initialized was refused";
    if (c->step == DELETING) return status == 200 || status == 202 || status == 204 ? NULL : "DELETE was refused";
    if (status != 200) return "another status";
    slice type = message_header(&c->in, "Content-Type");
    if (slice_starts(type, "text/event-stream")) return check_events(c, message_body(&c->in));
    if (!slice_starts(type, "application/json")) return "another content type";
    return check_result(c, message_body(&c->in));
}

/* ---- connections ---- */

static void watch(connection *c, int write) {
    if (write == c->wants_write) return;
    c->wants_write = write;
    struct epoll_event e = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void hang_up(connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->step = CLOSED;
    c->retry = now_us() + 10000;
    c->cursor.n = c->wants_write = 0;
    message_clear(&c->in);
}

static void fail(connection *c, const char *why) {
    errors++;
    if (sample_count < SAMPLES) {
        char *s = samples[sample_count++];
        int n = snprintf(s, 200, "%s (step %d, status %d): ", why, c->step, c->in.status);
        slice body = c->in.head ? message_body(&c->in) : (slice){0};
        for (size_t i = 0; i < body.n && i < 200; i++) s[n++] = strchr("\"\\", body.p[i]) || body.p[i] < ' ' ? '.' : body.p[i];
        s[n] = 0;
    }
    hang_up(c);
}

static void connect_to(connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    if (inet_pton(AF_INET, options.host, &address.sin_addr) != 1) die("--host wants an IPv4 address");
    if ((c->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) die("socket");
    make_prompt(c->fd);
    c->step = CONNECTING;
    c->deadline = now_us() + (uint64_t)(options.timeout * 1e6);
    c->wants_write = 1;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) fail(c, "cannot connect");
}

static void push(connection *c) {
    int state = transmit(c->fd, &c->out, &c->sent);
    if (state < 0) fail(c, "sending failed");
    else watch(c, state == 0);
}

static void send_step(connection *c, enum step step) {
    int first_of_operation = step == CALLING || step == INITIALIZE || (step == LISTING && !c->cursor.n);
    c->step = step;
    compose(c);
    c->progress = 0;
    uint64_t now = now_us();
    if (first_of_operation) {
        c->began = now;
        c->tools = 0;
    }
    c->deadline = now + (uint64_t)(options.timeout * 1e6);
    push(c);
}

/* Begins the next operation, on a connection that is ready for one. */
static void start(connection *c) {
    if (phase == DRAIN) c->step = IDLE;
    else if (options.mode == SETUP) send_step(c, INITIALIZE);
    else if (options.mode == HOLD) send_step(c, OPENING);
    else send_step(c, options.mode == CALL ? CALLING : LISTING);
}

static void operation_done(connection *c) {
    total++;
    if (phase == MEASURE) {
        if (latency_count == latency_cap) {
            latency_cap = latency_cap ? latency_cap * 2 : 65536;
            if (!(latencies = realloc(latencies, latency_cap * sizeof *latencies))) die("realloc");
        }
        latencies[latency_count++] = now_us() - c->began;
        ok++;
    }
    start(c);
}

static void answered(connection *c) {
    const char *wrong = check(c);
    if (wrong) {
        fail(c, wrong);
        return;
    }
    slice closing = message_header(&c->in, "Connection");
    int ends = c->in.framing == FRAME_UNTIL_CLOSE || (closing.n == 5 && !strncasecmp(closing.p, "close", 5));
    enum step was = c->step;
    message_next(&c->in);
    if (ends) {
        fail(c, "the connection was not kept alive");
        return;
    }
    if (was == INITIALIZE) send_step(c, INITIALIZED);
    else if (was == INITIALIZED && options.mode == SETUP) send_step(c, DELETING);
    else if (was == INITIALIZED) start(c);
    else if (was == LISTING && c->cursor.n) send_step(c, LISTING);
    else operation_done(c);
}

static void readable(connection *c) {
    int open = receive(c->fd, &c->in.in);
    if (c->step == HELD) {
        c->in.in.n = 0;
        if (!open) {
            held--;
            lost++;
            fail(c, "a held stream ended");
        }
        return;
    }
    message_read(&c->in, 1);
    if (!open && c->in.head && c->in.framing == FRAME_UNTIL_CLOSE) c->in.done = 1;
    if (c->step == OPENING && c->in.head && c->in.status == 200
        && slice_starts(message_header(&c->in, "Content-Type"), "text/event-stream")) {
        c->step = HELD;
        if (++held == options.connections) ready_at = now_us();
        message_clear(&c->in);
    } else if (c->in.bad) fail(c, "not HTTP");
    else if (c->in.done && c->step != IDLE) answered(c);
    else if (!open && c->step == IDLE) hang_up(c);
    else if (!open) fail(c, "the connection was closed");
}

static void on_event(connection *c, uint32_t happened) {
    if (c->step == CONNECTING) {
        int problem = 0;
        socklen_t n = sizeof problem;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &problem, &n);
        if (problem) fail(c, "cannot connect");
        else if (happened & EPOLLOUT) {
            watch(c, 0);
            if (options.modern || options.mode == SETUP) start(c);
            else send_step(c, INITIALIZE);
        }
        return;
    }
    if (happened & EPOLLOUT) push(c);
    if (c->fd >= 0 && happened & ~EPOLLOUT) readable(c);
}

/* Deadlines and second attempts; answers how many operations are still on their way. */
static int sweep(void) {
    int busy = 0;
    uint64_t now = now_us();
    for (connection *c = all; c < all + options.connections; c++) {
        if (c->step == CLOSED && now >= c->retry && phase != DRAIN) connect_to(c);
        else if (c->step != CLOSED && c->step < HELD && now > c->deadline) fail(c, "no answer in time");
        busy += c->step != CLOSED && c->step < HELD;
    }
    return busy;
}

static void run_until(uint64_t end, int until_idle) {
    struct epoll_event events[256];
    uint64_t next_sweep = 0;
    for (uint64_t now = now_us(); now < end; now = now_us()) {
        if (now >= next_sweep) {
            if (!sweep() && until_idle) return;
            next_sweep = now + 10000;
        }
        uint64_t wait = (next_sweep < end ? next_sweep : end) - now;
        int n = epoll_wait(poller, events, 256, (int)(wait / 1000));
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            if (c->fd >= 0) on_event(c, events[i].events);
        }
        if (phase == PREPARE && (options.mode != HOLD || held == options.connections)) return;
    }
}

static void say(const char *name) {
    printf("{\"phase\":\"%s\"}\n", name);
    fflush(stdout);
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile(double share) {
    return latency_count ? (double)latencies[(size_t)(share * (double)(latency_count - 1) + 0.5)] / 1000 : 0;
}

static void report(double seconds, uint64_t began) {
    struct rusage own;
    getrusage(RUSAGE_SELF, &own);
    if (latency_count) qsort(latencies, latency_count, sizeof *latencies, by_size);
    double cpu = (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) + (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
    printf("{\"ok\":%llu,\"errors\":%llu,\"total\":%llu,\"seconds\":%.3f,\"rps\":%.2f,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,"
           "\"max_ms\":%.3f,\"own_cpu_s\":%.3f,", (unsigned long long)ok, (unsigned long long)errors, (unsigned long long)total, seconds,
           (double)ok / seconds, percentile(0.5), percentile(0.9), percentile(0.99), percentile(1), cpu);
    if (options.mode == HOLD)
        printf("\"held\":%d,\"lost\":%d,\"ready_s\":%.3f,", held, lost, ready_at ? (double)(ready_at - began) / 1e6 : -1.0);
    printf("\"error_samples\":[");
    for (int i = 0; i < sample_count; i++) printf("%s\"%s\"", i ? "," : "", samples[i]);
    printf("]}\n");
}

static int usage(const char *about) {
    fprintf(stderr, "loadgen: %s; the options are listed at the top of loadgen.c\n", about);
    return 2;
}

static int number_option(const char *name, const char *value) {
    if (!strcmp(name, "--port")) options.port = atoi(value);
    else if (!strcmp(name, "--connections")) options.connections = atoi(value);
    else if (!strcmp(name, "--expect-progress")) options.expect_progress = atoi(value);
    else if (!strcmp(name, "--expect-tools")) options.expect_tools = atol(value);
    else if (!strcmp(name, "--size")) options.size = strtoull(value, NULL, 10);
    else if (!strcmp(name, "--warmup")) options.warmup = atof(value);
    else if (!strcmp(name, "--seconds")) options.seconds = atof(value);
    else if (!strcmp(name, "--timeout")) options.timeout = atof(value);
    else return 0;
    return 1;
}

static int parse(int argc, char **argv) {
    static const char *modes[] = {"call", "list", "setup", "hold"};
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value) return usage("an option without a value");
        if (number_option(name, value)) continue;
        if (!strcmp(name, "--host")) options.host = value;
        else if (!strcmp(name, "--path")) options.path = value;
        else if (!strcmp(name, "--tool")) options.tool = value;
        else if (!strcmp(name, "--header")) buffer_format(&options.headers, "%s\r\n", value);
        else if (!strcmp(name, "--era")) options.modern = !strcmp(value, "modern");
        else if (!strcmp(name, "--mode")) {
            int mode = 0;
            while (mode < 4 && strcmp(modes[mode], value)) mode++;
            if (mode == 4) return usage("no such mode");
            options.mode = (enum mode)mode;
        } else return usage("an unknown option");
    }
    if (!options.port || options.connections < 1 || options.size < 16) return usage("--port is missing, or a number is too small");
    if (options.modern && (options.mode == SETUP || options.mode == HOLD)) return usage("setup and hold belong to the legacy era");
    return 0;
}

int main(int argc, char **argv) {
    int refused = parse(argc, argv);
    if (refused) return refused;
    signal(SIGPIPE, SIG_IGN);
    allow_many_files();
    poller = epoll_create1(0);
    /* the filler never repeats at a power of two, so that a lost or doubled block shows */
    if (!(filler = malloc(options.size)) || !(all = calloc((size_t)options.connections, sizeof *all))) die("malloc");
    for (size_t i = 0; i < options.size; i++) filler[i] = (char)('a' + (i * 7 + i / 26 * 3 + i / 1009) % 26);
    uint64_t began = now_us();
    for (connection *c = all; c < all + options.connections; c++) {
        c->fd = -1;
        if (options.modern) strcpy(c->version, MODERN);
        connect_to(c);
    }
    if (options.mode == HOLD) run_until(began + (uint64_t)(options.timeout * 1e6), 0);
    phase = WARM;
    if (options.mode != HOLD) run_until(now_us() + (uint64_t)(options.warmup * 1e6), 0);
    say("measure");
    phase = MEASURE;
    uint64_t measured = now_us();
    run_until(measured + (uint64_t)(options.seconds * 1e6), 0);
    phase = DRAIN;
    double seconds = (double)(now_us() - measured) / 1e6;
    say("end");
    run_until(now_us() + (uint64_t)(options.timeout * 1e6), 1);
    report(seconds, began);
    return 0;
}
