/* A raw MCP server to put behind a gateway: one epoll thread, HTTP/1.1 keep-alive, both protocol eras on one URL.
 *
 *     upstream [--port N] [--lie payload|id|error|progress|list]      prints "listening PORT"; port 0 picks one
 *
 * /mcp             tools echo (gives its argument `text` back), slow (the same 200 ms later) and progress (an event
 *                  stream: five notifications/progress, then the result)
 * /u/<k>/<n>/mcp   upstream number k with n echoing tools t0, t1, ... of about 600 bytes each
 * /stats, /reset   what arrived since the last reset, by kind
 *
 * Legacy era: initialize mints Mcp-Session-Id, which every later request must carry; GET opens a stream, DELETE ends
 * the session. Modern era (2026-07-28): stateless; Mcp-Method and Mcp-Name must agree with the body.
 * --lie makes the answers wrong in one way, to show that a client notices. It is no general MCP server. */
#define _GNU_SOURCE
#include "wire.h"
#include <signal.h>
#include <sys/epoll.h>

#define MODERN "2026-07-28"
#define SLOW_US 200000
#define STEPS 5

enum counter {
    CONNECTIONS, INITIALIZE, INITIALIZED, DISCOVER, TOOLS_LIST, TOOLS_CALL, STREAM, DELETED, OTHER, REFUSED, COUNTERS
};
static const char *counter_names[COUNTERS] = {
    "connections", "initialize", "initialized", "discover", "tools_list", "tools_call", "stream", "delete", "other", "refused"
};
static uint64_t counts[COUNTERS];

typedef struct connection {
    int fd, wants_write, closing, waiting, streaming;
    uint64_t due, serial;
    message in;
    buffer out, later;
    size_t sent;
    struct connection *next_free;
} connection;

/* One request, taken apart; the slices point into the connection's buffer. */
typedef struct {
    connection *c;
    int modern;
    long upstream, tools; /* of /u/<k>/<n>/mcp; tools is 0 on /mcp */
    slice id, method, params;
} request;

typedef struct { connection *c; uint64_t due, serial; } alarm_entry;

static int poller;
static connection *free_list;
static const char *lie = "";
static char *sessions; /* one byte per minted session: 1 while it lives */
static size_t minted, sessions_cap;
/* Every alarm is the same 200 ms away, so a ring in order of arrival is a sorted queue. */
static alarm_entry *alarms;
static size_t alarm_head, alarm_count, alarm_cap;
static uint64_t serials;

static void add_alarm(connection *c) {
    if (alarm_count == alarm_cap) {
        size_t cap = alarm_cap ? alarm_cap * 2 : 1024;
        alarm_entry *grown = malloc(cap * sizeof *grown);
        if (!grown) die("malloc");
        for (size_t i = 0; i < alarm_count; i++) grown[i] = alarms[(alarm_head + i) % alarm_cap];
        free(alarms);
        alarms = grown;
        alarm_cap = cap;
        alarm_head = 0;
    }
    alarms[(alarm_head + alarm_count++) % alarm_cap] = (alarm_entry){c, c->due, c->serial};
}

static int lies(const char *how) { return *lie && !strcmp(lie, how); }

/* ---- answers ---- */

static void answer_head(connection *c, const char *status, const char *type, size_t length, const char *more) {
    buffer_format(&c->out, "HTTP/1.1 %s\r\n%s%s%sContent-Length: %zu\r\n%s\r\n", status, *type ? "Content-Type: " : "", type,
                  *type ? "\r\n" : "", length, more);
}

static void answer(connection *c, const char *status, slice body, const char *more) {
    answer_head(c, status, body.n ? "application/json" : "", body.n, more);
    buffer_slice(&c->out, body);
}

static void answer_error(request *r, const char *status, int code, const char *text) {
    buffer body = {0};
    counts[REFUSED]++;
    buffer_format(&body, "{\"jsonrpc\":\"2.0\",\"id\":");
    buffer_slice(&body, r->id.n ? r->id : (slice){"null", 4});
    buffer_format(&body, ",\"error\":{\"code\":%d,\"message\":\"%s\"}}", code, text);
    answer(r->c, status, (slice){body.p, body.n}, "");
    free(body.p);
}

static void begin_result(buffer *b, request *r) {
    buffer_format(b, "{\"jsonrpc\":\"2.0\",\"id\":");
    if (lies("id")) buffer_add(b, "777777777", 9);
    else buffer_slice(b, r->id);
    buffer_format(b, ",\"result\":{");
    if (r->modern) {
        buffer_format(b, "\"resultType\":\"complete\",\"_meta\":{\"io.modelcontextprotocol/serverInfo\":"
                         "{\"name\":\"bench-upstream\",\"version\":\"1\"}},");
    }
}

static void cache_hints(buffer *b, request *r) {
    if (r->modern) buffer_format(b, ",\"ttlMs\":60000,\"cacheScope\":\"public\"");
}

static void send_result(request *r, buffer *body, const char *more) {
    buffer_format(body, "}}");
    answer(r->c, "200 OK", (slice){body->p, body->n}, more);
    free(body->p);
}

static void begin_stream(connection *c) {
    buffer_format(&c->out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                           "X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void stream_event(connection *c, const char *text, slice data) {
    size_t n = strlen(text) + data.n + 2;
    buffer_format(&c->out, "%zx\r\n%s", n, text);
    buffer_slice(&c->out, data);
    buffer_add(&c->out, "\n\n\r\n", 4);
}

/* ---- methods ---- */

static void do_initialize(request *r) {
    char header[64];
    buffer body = {0};
    slice version = json_member(r->params, "protocolVersion");
    counts[INITIALIZE]++;
    if (minted == sessions_cap) {
        sessions_cap = sessions_cap ? sessions_cap * 2 : 4096;
        if (!(sessions = realloc(sessions, sessions_cap))) die("realloc");
    }
    sessions[minted] = 1;
    snprintf(header, sizeof header, "Mcp-Session-Id: bench-%zx\r\n", minted++);
    begin_result(&body, r);
    buffer_format(&body, "\"protocolVersion\":");
    if (slice_is(version, "\"2025-06-18\"") || slice_is(version, "\"2025-03-26\"")) buffer_slice(&body, version);
    else buffer_format(&body, "\"2025-11-25\"");
    buffer_format(&body, ",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"bench-upstream\",\"version\":\"1\"}");
    send_result(r, &body, header);
}

static void do_discover(request *r) {
    buffer body = {0};
    counts[DISCOVER]++;
    begin_result(&body, r);
    buffer_format(&body, "\"supportedVersions\":[\"" MODERN "\"],\"capabilities\":{\"tools\":{}}");
    cache_hints(&body, r);
    send_result(r, &body, "");
}

static void add_tool(buffer *b, const char *name, const char *about) {
    buffer_format(b, "{\"name\":\"%s\",\"description\":\"%s\",\"inputSchema\":{\"type\":\"object\",\"properties\":{\"text\":"
                     "{\"type\":\"string\",\"description\":\"What the tool gives back.\"}},\"required\":[\"text\"]}},", name, about);
}

/* The tools of one path, written once: only the first list of each upstream pays for them. */
static slice tools_of(request *r) {
    static struct { long upstream, tools; buffer text; } made[64];
    char name[32], about[512];
    size_t slot = (size_t)r->upstream % 64;
    buffer *b = &made[slot].text;
    if (b->n && made[slot].upstream == r->upstream && made[slot].tools == r->tools) return (slice){b->p, b->n};
    made[slot].upstream = r->upstream;
    made[slot].tools = r->tools;
    b->n = 0;
    buffer_add(b, "[", 1);
    for (long i = 0; i < r->tools - lies("list"); i++) {
        snprintf(name, sizeof name, "t%ld", i);
        /* fills the tool up to about 600 bytes, the size of an ordinary documented tool */
        int n = snprintf(about, sizeof about, "Tool %ld of upstream %ld. ", i, r->upstream);
        memset(about + n, 'd', 440 - (size_t)n);
        about[440] = 0;
        add_tool(b, name, about);
    }
    if (!r->tools) {
        add_tool(b, "echo", "Gives the text back.");
        add_tool(b, "slow", "Gives the text back after 200 ms.");
        if (!lies("list")) add_tool(b, "progress", "Reports progress five times, then gives the text back.");
    }
    if (b->p[b->n - 1] == ',') b->n--;
    buffer_add(b, "]", 1);
    return (slice){b->p, b->n};
}

static void do_list(request *r) {
    buffer body = {0};
    counts[TOOLS_LIST]++;
    begin_result(&body, r);
    buffer_format(&body, "\"tools\":");
    buffer_slice(&body, tools_of(r));
    cache_hints(&body, r);
    send_result(r, &body, "");
}

static void tool_result(buffer *b, request *r, slice text) {
    begin_result(b, r);
    buffer_format(b, "\"content\":[{\"type\":\"text\",\"text\":");
    size_t start = b->n;
    buffer_slice(b, text);
    if (lies("payload") && text.n > 2) b->p[start + text.n - 2] ^= 1; /* the last character, so that a prefix check would miss it */
    buffer_format(b, "}],\"isError\":%s}}", lies("error") ? "true" : "false");
}

static void call_progress(request *r, slice text) {
    slice token = json_member(json_member(r->params, "_meta"), "progressToken");
    buffer note = {0};
    begin_stream(r->c);
    for (int i = 1 + lies("progress"); token.n && i <= STEPS; i++) {
        note.n = 0;
        buffer_format(&note, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":");
        buffer_slice(&note, token);
        buffer_format(&note, ",\"progress\":%d,\"total\":%d}}", i, STEPS);
        stream_event(r->c, "event: message\ndata: ", (slice){note.p, note.n});
    }
    note.n = 0;
    tool_result(&note, r, text);
    stream_event(r->c, "event: message\ndata: ", (slice){note.p, note.n});
    buffer_add(&r->c->out, "0\r\n\r\n", 5);
    free(note.p);
}

static void call_slow(request *r, slice text) {
    connection *c = r->c;
    c->later.n = 0;
    tool_result(&c->later, r, text);
    c->waiting = 1;
    c->due = now_us() + SLOW_US;
    c->serial = ++serials;
    add_alarm(c);
}

static int known_tool(request *r, slice name) {
    if (!r->tools) return slice_is(name, "echo") || slice_is(name, "slow") || slice_is(name, "progress");
    return name.n > 1 && *name.p == 't' && atol(name.p + 1) < r->tools;
}

static void do_call(request *r) {
    slice name = json_inside(json_member(r->params, "name"));
    slice text = json_member(json_member(r->params, "arguments"), "text");
    counts[TOOLS_CALL]++;
    if (!known_tool(r, name) || text.n < 2 || *text.p != '"') {
        answer_error(r, r->modern ? "400 Bad Request" : "200 OK", -32602, "unknown tool, or no string argument text");
        return;
    }
    if (slice_is(name, "slow")) call_slow(r, text);
    else if (slice_is(name, "progress")) call_progress(r, text);
    else {
        static buffer body;
        body.n = 0;
        tool_result(&body, r, text);
        answer(r->c, "200 OK", (slice){body.p, body.n}, "");
    }
}

/* ---- one request ---- */

static int session_index(connection *c, size_t *index) {
    slice id = message_header(&c->in, "Mcp-Session-Id");
    if (!slice_starts(id, "bench-")) return 0;
    *index = strtoull(id.p + 6, NULL, 16);
    return *index < minted && sessions[*index];
}

/* NULL when the headers agree with the body, else what does not. */
static const char *modern_mismatch(request *r) {
    slice version = json_member(json_member(r->params, "_meta"), "io.modelcontextprotocol/protocolVersion");
    if (!slice_is(version, "\"" MODERN "\"")) return "the body's protocol version is not the header's";
    if (!slice_equal(message_header(&r->c->in, "Mcp-Method"), r->method)) return "Mcp-Method is not the body's method";
    if (slice_is(r->method, "tools/call")
        && !slice_equal(message_header(&r->c->in, "Mcp-Name"), json_inside(json_member(r->params, "name"))))
        return "Mcp-Name is not the body's name";
    return NULL;
}

static void dispatch(request *r) {
    if (slice_is(r->method, "tools/call")) do_call(r);
    else if (slice_is(r->method, "tools/list")) do_list(r);
    else if (!r->modern && slice_is(r->method, "initialize")) do_initialize(r);
    else if (r->modern && slice_is(r->method, "server/discover")) do_discover(r);
    else if (!r->modern && slice_is(r->method, "ping")) {
        buffer body = {0};
        counts[OTHER]++;
        begin_result(&body, r);
        send_result(r, &body, "");
    } else answer_error(r, r->modern ? "404 Not Found" : "200 OK", -32601, "no such method");
}

static void do_post(request *r) {
    connection *c = r->c;
    slice body = message_body(&c->in);
    size_t session;
    static const char *const keys[] = {"id", "method", "params"};
    slice values[3];
    int whole = json_document(body, 3, keys, values);
    r->id = values[0];
    r->method = json_inside(values[1]);
    r->params = values[2];
    if (!whole || !r->method.n) {
        r->id = (slice){0};
        answer_error(r, "400 Bad Request", -32600, "not a JSON-RPC request");
        return;
    }
    const char *wrong = r->modern ? modern_mismatch(r) : NULL;
    if (wrong) answer_error(r, "400 Bad Request", -32020, wrong);
    else if (!r->modern && !slice_is(r->method, "initialize") && !session_index(c, &session))
        answer_error(r, "404 Not Found", -32600, "no such session");
    else if (!r->id.n) {
        counts[slice_is(r->method, "notifications/initialized") ? INITIALIZED : OTHER]++;
        answer(c, "202 Accepted", (slice){0}, "");
    } else if (*r->id.p != '"' && (r->id.n > 20 || strspn(r->id.p, "-0123456789") < r->id.n)) {
        r->id = (slice){0};
        answer_error(r, "400 Bad Request", -32600, "an id is a string or an integer");
    } else dispatch(r);
}

static void do_stream(request *r) {
    size_t session;
    if (r->modern || !session_index(r->c, &session)) {
        answer_error(r, r->modern ? "405 Method Not Allowed" : "404 Not Found", -32600, "no stream without a session");
        return;
    }
    counts[STREAM]++;
    begin_stream(r->c);
    stream_event(r->c, ": open", (slice){0});
    r->c->streaming = 1;
}

static void do_delete(request *r) {
    size_t session;
    if (r->modern || !session_index(r->c, &session)) {
        answer_error(r, r->modern ? "405 Method Not Allowed" : "404 Not Found", -32600, "no session to end");
        return;
    }
    counts[DELETED]++;
    sessions[session] = 0;
    answer(r->c, "200 OK", (slice){0}, "");
}

static void do_stats(connection *c) {
    buffer body = {0};
    for (int i = 0; i < COUNTERS; i++)
        buffer_format(&body, "%s\"%s\":%llu", i ? "," : "{", counter_names[i], (unsigned long long)counts[i]);
    buffer_add(&body, "}", 1);
    answer(c, "200 OK", (slice){body.p, body.n}, "");
    free(body.p);
}

static void handle(connection *c) {
    request r = {.c = c, .modern = slice_is(message_header(&c->in, "MCP-Protocol-Version"), MODERN)};
    char verb[8] = "", path[128] = "";
    int used = 0;
    /* sscanf measures its whole input first, so it gets the request line only */
    char line[160];
    size_t n = (size_t)((char *)memchr(c->in.in.p, '\r', c->in.head) - c->in.in.p);
    snprintf(line, sizeof line, "%.*s", (int)(n < sizeof line ? n : sizeof line - 1), c->in.in.p);
    sscanf(line, "%7s %127s", verb, path);
    slice close_header = message_header(&c->in, "Connection");
    c->closing = close_header.n == 5 && !strncasecmp(close_header.p, "close", 5);
    if (!strcmp(path, "/stats") || !strcmp(path, "/reset")) {
        do_stats(c);
        if (path[1] == 'r') memset(counts, 0, sizeof counts);
        return;
    }
    int many = sscanf(path, "/u/%ld/%ld/mcp%n", &r.upstream, &r.tools, &used) == 2 && used && !path[used];
    if (!many && strcmp(path, "/mcp")) answer_error(&r, "404 Not Found", -32600, "no such path");
    else if (!strcmp(verb, "POST")) do_post(&r);
    else if (!strcmp(verb, "GET")) do_stream(&r);
    else if (!strcmp(verb, "DELETE")) do_delete(&r);
    else answer_error(&r, "405 Method Not Allowed", -32600, "no such verb");
}

/* ---- connections ---- */

static void watch(connection *c, int write) {
    if (write == c->wants_write) return;
    c->wants_write = write;
    struct epoll_event e = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void hang_up(connection *c) {
    close(c->fd);
    c->fd = -1;
    c->serial = ++serials; /* its alarm, if any, is void */
    message_clear(&c->in);
    buffer_clear(&c->out);
    buffer_clear(&c->later);
    c->next_free = free_list;
    free_list = c;
}

static void advance(connection *c) {
    for (;;) {
        int state = c->out.n ? transmit(c->fd, &c->out, &c->sent) : 1;
        if (state < 0 || (state == 1 && c->closing && !c->waiting && !c->streaming)) {
            hang_up(c);
            return;
        }
        watch(c, state == 0);
        if (state == 0 || c->waiting || c->streaming) return;
        message_read(&c->in, 0);
        if (c->in.bad) {
            hang_up(c);
            return;
        }
        if (!c->in.done) return;
        handle(c);
        message_next(&c->in);
    }
}

static void welcome(int listener) {
    int fd;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        connection *c = free_list;
        if (c) free_list = c->next_free;
        else if (!(c = calloc(1, sizeof *c))) die("calloc");
        *c = (connection){.fd = fd, .in.in = c->in.in, .out = c->out, .later = c->later, .serial = ++serials};
        counts[CONNECTIONS]++;
        make_prompt(fd);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

/* Answers what is due; gives the milliseconds until the next alarm, -1 without one. */
static int ring_alarms(void) {
    while (alarm_count) {
        alarm_entry a = alarms[alarm_head];
        uint64_t now = now_us();
        if (a.due > now) return (int)((a.due - now + 999) / 1000);
        alarm_head = (alarm_head + 1) % alarm_cap;
        alarm_count--;
        if (a.c->serial != a.serial || !a.c->waiting) continue;
        a.c->waiting = 0;
        answer(a.c, "200 OK", (slice){a.c->later.p, a.c->later.n}, "");
        advance(a.c);
    }
    return -1;
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, n) || listen(fd, 4096)) die("listen");
    getsockname(fd, (struct sockaddr *)&address, &n);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    int port = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--port") && i + 1 < argc) port = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--lie") && i + 1 < argc) lie = argv[++i];
        else {
            fprintf(stderr, "upstream: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    allow_many_files();
    poller = epoll_create1(0);
    int listener = listen_on(port);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(poller, events, 256, ring_alarms());
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            if (!c) {
                welcome(listener);
                continue;
            }
            /* a connection that this very batch closed may stand in it once more */
            if (c->fd < 0) continue;
            if (events[i].events & ~EPOLLOUT && !receive(c->fd, &c->in.in)) hang_up(c);
            else advance(c);
        }
    }
}
