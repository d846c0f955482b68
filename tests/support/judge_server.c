/* judge_server.c - a judge for tests: answers chat completions on this machine alone, and misbehaves on demand.
 *
 *   judge_server [--faults PERCENT] [--delay MS] [--seed N] [--log FILE] [--key FILE --cert FILE] [--seconds N]
 *
 * prints its port and ends by a signal, or after so many seconds; with a key and a certificate it speaks TLS.
 *
 * An answer depends on nothing but the request's bytes. With --faults so many of the first three tries of a request
 * meet one of the faults below, drawn from the request's hash and the number of the try. A prompt that holds
 * [[NAME]] gets that answer, [[say:TEXT]] gets TEXT, [[fault:NAME]] that fault at its first try. The log has a line for what was asked,
 *   ask HASH TRY WHAT MILLISECONDS IN_FLIGHT        and, once it was served whole,        done HASH WHAT
 * so a request is paid for as often as "done HASH answer" stands there. */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 1 << 16, LARGE = 10 << 20, LONGEST = 200 /* seconds */, MOST_TEXT = 1 << 16 };

static const char *const faults[] = {"busy",  "broken", "badjson", "badutf8", "half",
                                     "stall", "large",  "drop",    "page",    "garbage"};
enum { FAULTS = sizeof faults / sizeof *faults };

struct request {
    char *body;
    size_t n;
    uint64_t hash;
    int attempt;
    const char *what;
};

static struct {
    int faults, delay, flying;
    uint64_t seed;
    FILE *log;
} server;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    uint64_t hash;
    int count;
} seen[SLOTS];

static uint64_t hash_of(const char *data, size_t n) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)data[i]) * 1099511628211u;
    return h ? h : 1;
}

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static long milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void pause_for(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* How often a request was asked, this time included. Locked. */
static int count_try(uint64_t hash) {
    size_t at = hash % SLOTS;
    while (seen[at].hash && seen[at].hash != hash) at = (at + 1) % SLOTS;
    seen[at].hash = hash;
    return ++seen[at].count;
}

static int says(const struct request *r, const char *word) {
    char text[64];
    snprintf(text, sizeof text, "[[%s]]", word);
    return strstr(r->body, text) != NULL;
}

/* ---- what is answered ---------------------------------------------------------------------------------- */

static enum MHD_Result reply(struct MHD_Connection *c, int status, const char *text,
                             const char *name, const char *value) {
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text,
                                                             MHD_RESPMEM_MUST_COPY);
    MHD_add_response_header(r, "Content-Type", "application/json");
    if (name) MHD_add_response_header(r, name, value);
    enum MHD_Result done = MHD_queue_response(c, (unsigned)status, r);
    MHD_destroy_response(r);
    return done;
}

static enum MHD_Result completion(struct MHD_Connection *c, const struct request *r,
                                  const char *content, const char *refusal, const char *finish) {
    char text[MOST_TEXT + 512];
    snprintf(text, sizeof text,
             "{\"id\":\"t\",\"object\":\"chat.completion\",\"model\":\"test-1\",\"choices\":[{"
             "\"index\":0,"
             "\"message\":{\"role\":\"assistant\",\"content\":%s,\"refusal\":%s},"
             "\"finish_reason\":\"%s\"}],"
             "\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":20}}",
             content, refusal, finish, r->n / 4);
    return reply(c, 200, text, NULL, NULL);
}

/* An answer as zlib packs it, in one stored block. */
static enum MHD_Result packed(struct MHD_Connection *c, const char *text) {
    unsigned char data[1024] = {0x78, 0x01, 1};
    size_t n = strlen(text), at = 3;
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < n; i++) b = (b + (a = (a + (unsigned char)text[i]) % 65521)) % 65521;
    const uint16_t sizes[] = {(uint16_t)n, (uint16_t)~n};
    for (int i = 0; i < 4; i++) data[at++] = (unsigned char)(sizes[i / 2] >> 8 * (i % 2));
    memcpy(data + at, text, n);
    at += n;
    for (int i = 0; i < 4; i++) data[at++] = (unsigned char)((i < 2 ? b : a) >> (i % 2 ? 0 : 8));
    struct MHD_Response *r = MHD_create_response_from_buffer(at, data, MHD_RESPMEM_MUST_COPY);
    MHD_add_response_header(r, "Content-Encoding", "deflate");
    enum MHD_Result done = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return done;
}

static ssize_t give_half(void *unused, uint64_t at, char *to, size_t room) {
    (void)unused;
    if (at >= 100 || room < 100) return MHD_CONTENT_READER_END_WITH_ERROR;
    memset(to, '{', 100);
    return 100;
}

static ssize_t give_large(void *unused, uint64_t at, char *to, size_t room) {
    (void)unused;
    (void)at;
    memset(to, ' ', room);
    return (ssize_t)room;
}

static enum MHD_Result stream(struct MHD_Connection *c, uint64_t size,
                              MHD_ContentReaderCallback give) {
    struct MHD_Response *r = MHD_create_response_from_callback(size, 1 << 16, give, NULL, NULL);
    enum MHD_Result done = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return done;
}

/* Bytes that are no HTTP. */
static void scribble(struct MHD_Connection *c) {
    static const char text[] = "\1\2 what is this?\r\n\r\n";
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (send(info->connect_fd, text, sizeof text - 1, MSG_NOSIGNAL) < 0)
        perror("judge_server: writing");
}

static enum MHD_Result misbehave(struct MHD_Connection *c, const struct request *r) {
    const char *f = r->what;
    if (!strncmp(f, "busy", 4)) {
        const char *wait = strcmp(f, "busy1") == 0 ? "1" : "0";
        return reply(c, 429, "{\"error\":{\"message\":\"slower\"}}", "Retry-After", wait);
    }
    if (!strcmp(f, "broken")) return reply(c, 500, "{\"error\":{\"message\":\"oh\"}}", NULL, NULL);
    if (!strcmp(f, "badjson")) return reply(c, 200, "{\"choices\":[{\"message\":", NULL, NULL);
    if (!strcmp(f, "badutf8"))
        return reply(c, 200, "{\"choices\":[{\"message\":{\"content\":\"caf\xC3\"}}]}", NULL, NULL);
    if (!strcmp(f, "half")) return stream(c, 400, give_half);
    if (!strcmp(f, "large")) return stream(c, LARGE, give_large);
    if (!strcmp(f, "page")) return reply(c, 502, "<html>bad gateway</html>", NULL, NULL);
    if (!strcmp(f, "garbage")) scribble(c);
    if (!strcmp(f, "stall")) pause_for(20000);
    return MHD_NO;
}

static enum MHD_Result error_reply(struct MHD_Connection *c, int status, const char *code,
                                   const char *message) {
    char text[512];
    snprintf(text, sizeof text, "{\"error\":{\"message\":\"%s\",\"code\":\"%s\"}}", message, code);
    return reply(c, status, text, NULL, NULL);
}

static int most_tokens(const struct request *r) {
    const char *at = strstr(r->body, "\"max_tokens\":");
    return at ? atoi(at + 13) : 0;
}

/* The answer that a prompt holds itself, as JSON text already; 1: *done is it. */
static int told(struct MHD_Connection *c, const struct request *r, enum MHD_Result *done) {
    const char *from = strstr(r->body, "[[say:"), *to = from ? strstr(from, "]]") : NULL;
    char text[MOST_TEXT];
    if (!to || to - from > MOST_TEXT - 64) return 0;
    snprintf(text, sizeof text, "\"%.*s\"", (int)(to - from - 6), from + 6);
    *done = completion(c, r, text, "null", "stop");
    return 1;
}

/* A text as JSON may write it, too. */
static void spell(char *to, size_t room, const char *text) {
    size_t n = (size_t)snprintf(to, room, "\"");
    for (; *text && n + 8 < room; text++)
        n += (size_t)snprintf(to + n, room - n, "\\u%04X", (unsigned char)*text);
    snprintf(to + n, room - n, "\"");
}

/* The answers that a prompt asks for by name; 1: *done is it. */
static int directed(struct MHD_Connection *c, const struct request *r, enum MHD_Result *done) {
    const char *key = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization");
    char text[256], spelled[512], date[64];
    spell(spelled, sizeof spelled, key ? key : "none");
    snprintf(text, sizeof text, "\"your key is %.200s\"", key ? key : "none");
    int first = r->attempt == 1;
    if (says(r, "refuse")) *done = completion(c, r, "null", "\"I will not.\"", "stop");
    else if (says(r, "filter")) *done = completion(c, r, "\"\"", "null", "content_filter");
    else if (says(r, "empty")) *done = completion(c, r, "\" \"", "null", "stop");
    else if (says(r, "cut")) *done = completion(c, r, "\"Judgement:\"", "null", "length");
    else if (says(r, "echo")) *done = completion(c, r, text, "null", "stop");
    else if (says(r, "spell")) *done = completion(c, r, spelled, "null", "stop");
    else if (says(r, "garble") && first) *done = completion(c, r, "\"What?\"", "null", "stop");
    else if (says(r, "nonsense")) *done = completion(c, r, "\"What?\"", "null", "stop");
    else if (says(r, "filter400")) *done = error_reply(c, 400, "content_filter", "filtered");
    else if (says(r, "toolong") || (says(r, "long") && most_tokens(r) > 500))
        *done = error_reply(c, 400, "context_length_exceeded", "too many tokens");
    else if (says(r, "401")) *done = error_reply(c, 401, "invalid_api_key", key ? key : "no key");
    else if (says(r, "404")) *done = error_reply(c, 404, "model_not_found", "no such model");
    else if (says(r, "quota")) *done = error_reply(c, 429, "insufficient_quota", "nothing left");
    else if (says(r, "500")) *done = error_reply(c, 500, "", "oh");
    else if (says(r, "packed"))
        *done = packed(c, "{\"choices\":[{\"message\":{\"content\":\"Judgement: packed\"}}]}");
    else if (says(r, "redirect")) *done = reply(c, 302, "", "Location", "/v1/elsewhere");
    else if (says(r, "wait") && first) *done = reply(c, 429, "{}", "Retry-After", "1");
    else if (says(r, "forever")) *done = reply(c, 503, "{}", "Retry-After", "1000000000");
    else if ((says(r, "date") || says(r, "past")) && first) {
        time_t at = time(NULL) + (says(r, "date") ? 2 : -1000);
        struct tm when;
        strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&at, &when));
        *done = reply(c, 503, "{}", "Retry-After", date);
    } else return 0;
    return 1;
}

/* What this try of a request meets. */
static const char *draw(const struct request *r, const char *url, uint64_t dice) {
    char word[32];
    if (strcmp(url, "/v1/chat/completions") != 0) return "elsewhere";
    for (int i = 0; i < FAULTS; i++) {
        snprintf(word, sizeof word, "fault:%s", faults[i]);
        if (r->attempt == 1 && says(r, word)) return faults[i];
    }
    if (r->attempt > 3 || (int)(dice % 100) >= server.faults) return "answer";
    const char *fault = faults[(dice >> 20) % FAULTS];
    return !strcmp(fault, "busy") && (dice >> 32) % 20 == 0 ? "busy1" : fault;
}

static enum MHD_Result judge(struct MHD_Connection *c, const struct request *r) {
    static const char *const labels[] = {"hallucination", "correct", "cannot judge"};
    char text[128];
    snprintf(text, sizeof text, "\"Judgement:\\n1. %s: caf\xC3\xA9 %016llx\"", labels[r->hash % 3],
             (unsigned long long)r->hash);
    return completion(c, r, text, "null", "stop");
}

static enum MHD_Result answer(struct MHD_Connection *c, struct request *r, const char *url) {
    r->hash = hash_of(r->body, r->n);
    pthread_mutex_lock(&lock);
    r->attempt = count_try(r->hash);
    uint64_t dice = mix(r->hash ^ mix(server.seed + (uint64_t)r->attempt));
    r->what = draw(r, url, dice);
    server.flying++;
    if (server.log) {
        fprintf(server.log, "ask %016llx %d %s %ld %d\n", (unsigned long long)r->hash, r->attempt,
                r->what, milliseconds(), server.flying);
        fflush(server.log);
    }
    pthread_mutex_unlock(&lock);
    enum MHD_Result done = MHD_NO;
    if (!strcmp(r->what, "elsewhere")) return reply(c, 200, "{}", NULL, NULL);
    if (strcmp(r->what, "answer") != 0) return misbehave(c, r);
    if (directed(c, r, &done)) {
        r->what = "directed";
        return done;
    }
    if (server.delay) pause_for((long)((dice >> 40) % (uint64_t)server.delay));
    return told(c, r, &done) ? done : judge(c, r);
}

/* ---- the server ---------------------------------------------------------------------------------------- */

static enum MHD_Result handle(void *unused, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *data, size_t *n,
                              void **state) {
    (void)unused;
    (void)version;
    (void)method;
    struct request *r = *state;
    if (!r) {
        *state = calloc(1, sizeof *r);
        return *state ? MHD_YES : MHD_NO;
    }
    if (*n) {
        char *body = realloc(r->body, r->n + *n + 1);
        if (!body) return MHD_NO;
        memcpy(body + r->n, data, *n);
        r->body = body;
        r->n += *n;
        body[r->n] = 0;
        *n = 0;
        return MHD_YES;
    }
    if (!r->body && !(r->body = calloc(1, 1))) return MHD_NO;
    return answer(c, r, url);
}

static void completed(void *unused, struct MHD_Connection *c, void **state,
                      enum MHD_RequestTerminationCode why) {
    (void)unused;
    (void)c;
    struct request *r = *state;
    if (!r) return;
    pthread_mutex_lock(&lock);
    if (r->what) server.flying--;
    if (r->what && why == MHD_REQUEST_TERMINATED_COMPLETED_OK && server.log) {
        fprintf(server.log, "done %016llx %s\n", (unsigned long long)r->hash, r->what);
        fflush(server.log);
    }
    pthread_mutex_unlock(&lock);
    free(r->body);
    free(r);
    *state = NULL;
}

/* A file's text, which stays; NULL: none. */
static char *text_of(const char *path) {
    char *text = calloc(1, MOST_TEXT);
    FILE *f = path ? fopen(path, "r") : NULL;
    size_t n = f && text ? fread(text, 1, MOST_TEXT - 1, f) : 0;
    if (f) fclose(f);
    return n ? text : NULL;
}

int main(int argc, char **argv) {
    char *key = NULL, *certificate = NULL;
    unsigned seconds = LONGEST;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--faults")) server.faults = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--delay")) server.delay = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--seed")) server.seed = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--log")) server.log = fopen(argv[i + 1], "w");
        else if (!strcmp(argv[i], "--seconds")) seconds = (unsigned)atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--key")) key = text_of(argv[i + 1]);
        else if (!strcmp(argv[i], "--cert")) certificate = text_of(argv[i + 1]);
    }
    alarm(seconds); /* should the test not end it */
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_KEY, 0, key},
                                   {MHD_OPTION_HTTPS_MEM_CERT, 0, certificate},
                                   {MHD_OPTION_END, 0, NULL}};
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD;
    struct MHD_Daemon *d = MHD_start_daemon(flags | (key ? MHD_USE_TLS : 0), 0, NULL, NULL, handle,
                                            NULL, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&here,
                                            MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,
                                            MHD_OPTION_ARRAY, key ? tls : tls + 2, MHD_OPTION_END);
    if (!d) {
        fprintf(stderr, "judge_server: it could not start\n");
        return 1;
    }
    printf("%u %ld\n", MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT)->port, (long)getpid());
    fflush(stdout);
    for (;;) pause();
}
