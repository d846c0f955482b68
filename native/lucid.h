/* lucid.h - the whole public API. C includes it; Lua feeds this very text to ffi.cdef, minus
 * the lines that begin with '#'. So: plain C99 declarations, one-line macros only, opaque structs.
 *
 *   lc_tensor *x = lc_tensor_randn(2, (int64_t[]){4, 8}, LC_F32, LC_HOST, 1, 0);
 *   lc_tensor *y = lc_softmax(lc_scale(x, 0.5));          // NULL passes through
 *   if (!y) fprintf(stderr, "%s\n", lc_error());
 *
 * Errors. A call that can fail returns a pointer (NULL = failed) or an int (0 = done, -1 = failed);
 * lc_error() then says why, on this thread. An op given a NULL tensor returns NULL without a word,
 * so an expression is checked once, at its end.
 *
 * Lifetimes. A call that returns a new lc_tensor returns it *pending*: it stays alive until the
 * caller's next lc_tensor_adopt() or the end of the enclosing pool; whoever wants it longer adopts
 * or retains it. Storage born inside an lc_scope is freed when that scope closes, whoever still
 * holds a handle: such a handle answers with an error, never with freed memory.
 *
 * In Lua the functions that take a tensor first are methods (x:softmax()); a parameter named dim
 * is counted from 1 there and from 0 here (-1 is the last in both). */
/* clang-format off */
#ifndef LUCID_H
#define LUCID_H
#include <stddef.h>
#include <stdint.h>
#pragma GCC visibility push(default)

enum { LC_VERSION = 1 };    /* of this header; native.lua refuses a library with another one */
enum { LC_MAX_DIMS = 5, LC_HOST = -1 };                      /* device: -1 host, n = CUDA n */
enum { LC_F32, LC_BF16, LC_F16, LC_I32, LC_U8, LC_PACKED_Q8_0, LC_PACKED_NF4, LC_PACKED_FP4, LC_DTYPES };  /* dtype; packed: see lc_pack_weight */
enum lc_quant { LC_PLAIN, LC_Q8_0, LC_NF4, LC_FP4, LC_QUANTS };      /* how weights are quantised: not, ggml's 8 bits, QLoRA's and bitsandbytes' 4 bits */
enum { LC_OK, LC_EINVAL, LC_ENOMEM, LC_EIO, LC_EINTR, LC_ECUDA, LC_EMISSING };  /* lc_error_code */

typedef struct lc_tensor lc_tensor;            /* numbers of one dtype, strided, on one device */
typedef struct lc_forest lc_forest;            /* which token sees which */
typedef struct lc_json lc_json;                /* a value, with all that it holds */
typedef struct lc_json_reader lc_json_reader;  /* a file, record by record */
typedef struct lc_json_index lc_json_index;    /* where a file's records stand */
typedef struct lc_checkpoint lc_checkpoint;    /* tensors by name, read */
typedef struct lc_writer lc_writer;            /* tensors by name, being written */
typedef struct lc_tokenizer lc_tokenizer;      /* text to ids and back */
typedef struct lc_model lc_model;              /* a network and its weights */
typedef struct lc_batch lc_batch;              /* a model's input */
typedef struct lc_generator lc_generator;      /* answers that grow */
typedef struct lc_reader lc_reader;            /* pictures that are read ahead */
typedef struct lc_adamw lc_adamw;              /* an optimizer and its state */
typedef struct lc_http lc_http;                /* a client */
typedef struct lc_onednn lc_onednn;            /* a product of another library */
typedef struct lc_server lc_server;            /* a server */

/* ---- library ------------------------------------------------------------------------------ */

int         lc_version(void);                  /* LC_VERSION the library was built with */
const char *lc_features(void);                 /* one line a feature: "jpeg: libjpeg-turbo 2.1.5" or "jpeg: missing" */
const char *lc_error(void);                    /* why the last call on this thread failed */
int         lc_error_code(void);               /* LC_EINVAL ...; LC_ENOMEM: collect and retry once */
void        lc_error_clear(void);              /* as if nothing had failed on this thread */
void        lc_interrupt(int on);              /* async-signal-safe: long loops stop with LC_EINTR while on */
int         lc_interrupted(void);              /* whether lc_interrupt is on */
void        lc_signals_hold(int on);           /* on: the host notes a first signal and lets the work go on; a second ends it */
int         lc_signal_note(int number);        /* async-signal-safe: 1 when it is noted, 0 when none is held */
int         lc_signal_noted(void);             /* the number of the signal since lc_signals_hold(1); 0: none */
void        lc_threads(int n);                 /* threads of the CPU backend; 0 = all cores */
int         lc_threads_used(void);             /* how many the CPU backend has now */
int         lc_cores(void);                    /* of this machine; a process may be bound to fewer, which lc_threads(0) takes */
double      lc_seconds(void);                  /* monotonic clock */
int         lc_is_terminal(int stream);        /* 0 stdin, 1 stdout, 2 stderr */
int         lc_terminal_size(int stream, int *columns, int *rows);         /* in characters; -1: not known */
/* Writes a question to the terminal of this process and reads its answer, up to and with the byte end: bytes of it; 0: there is
 * no terminal, it is another's now, or no answer came in that many seconds. */
int64_t     lc_terminal_ask(const char *question, size_t n, char end, double seconds, char *answer, size_t room);

/* ---- memory: native bytes are counted; the Lua collector does not see them --------------------- */

int64_t     lc_memory_used(void);              /* bytes held now */
int64_t     lc_memory_peak(void);              /* most bytes held since lc_memory_peak_reset */
void        lc_memory_peak_reset(void);        /* the peak is what is held now */
void        lc_memory_limit(int64_t bytes);    /* allocations beyond it fail with LC_ENOMEM; 0 = none */
void        lc_memory_fail_at(int64_t n);      /* for tests: the n-th allocation from now fails; 0 = none */

/* ---- scopes ------------------------------------------------------------------------------------ */

int         lc_scope_begin(void);              /* tensors born after this ... */
int         lc_scope_end(void);                /* ... give their storage back; -1 when none is open */
int         lc_scope_depth(void);              /* how many are open on this thread */
int         lc_scope_outside(int on);          /* on: births belong to no scope (models, optimizers); nests */
int         lc_tensor_keep(lc_tensor *t);      /* storage outlives every scope, until its last holder goes */
int         lc_tensor_leave(lc_tensor *t);     /* storage moves to the enclosing scope */

/* ---- random numbers: Philox4x32-10 (Salmon et al. 2011), a pure function of (seed, stream, index) -- */

void        lc_philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t *out4);   /* 4 words */
double      lc_uniform(uint64_t seed, uint64_t stream, uint64_t index);                  /* [0, 1), 53 bits */

/* ---- hashes, files ------------------------------------------------------------------------------ */

int         lc_sha256(const void *data, size_t n, char *hex65);          /* 64 digits and a NUL */
int         lc_sha256_file(const char *path, char *hex65);   /* of a file's bytes; the same */
int         lc_file_read(const char *path, char **data, size_t *n);      /* free with lc_free_bytes */
void        lc_free_bytes(void *data);         /* gives back what a call here has made; NULL is nothing */
int         lc_file_write(const char *path, const void *data, size_t n); /* atomic: tmp, fsync, rename, fsync folder */
int         lc_file_append(const char *path, const void *data, size_t n, int sync);  /* behind its end, made when there is none; sync: waits until the disk has it */
int         lc_file_read_at(const char *path, int64_t offset, void *to, size_t n);   /* all n bytes, or -1 */
int         lc_file_truncate(const char *path, int64_t size);            /* cuts it to that many bytes */
int         lc_file_lock(const char *path);    /* waits until no other process holds it; the file is made when there is none */
int         lc_file_lock_within(const char *path, double seconds);       /* LC_EINVAL when another process holds it so long */
void        lc_file_unlock(int lock);          /* what lc_file_lock gave */
int         lc_file_kind(const char *path);    /* 0 nothing there, 1 file, 2 folder, 3 other */
int64_t     lc_file_size(const char *path);    /* -1: lc_error() */
int64_t     lc_file_mtime_ns(const char *path);              /* when it was changed, nanoseconds since 1970; -1: lc_error() */
int64_t     lc_file_inode(const char *path);   /* another file has another; -1: lc_error() */
int         lc_make_folder(const char *path);  /* with its parents */
char       *lc_temporary_folder(void);         /* a new one below $TMPDIR or /tmp, its owner's alone; free its path with lc_free_bytes */
int64_t     lc_disk_free(const char *folder);  /* bytes that may still be written there; -1: lc_error() */
int         lc_remove(const char *path);       /* a file or an empty folder */
int         lc_rename(const char *from, const char *to);        /* and fsync of the folder */
int         lc_symlink(const char *target, const char *path);   /* replaces an older link, atomically */
char       *lc_folder_list(const char *path);  /* names, sorted bytewise, each ended by '\n'; free with lc_free_bytes */

/* ---- JSON: a strict scanner (RFC 8259, UTF-8, depth <= 64) ahead of cJSON ------------------------ */

enum { LC_JSON_NULL, LC_JSON_FALSE, LC_JSON_TRUE, LC_JSON_NUMBER, LC_JSON_STRING, LC_JSON_ARRAY, LC_JSON_OBJECT };   /* lc_json_type */
/* NULL: lc_error() is "NAME:line:column: what".  strict_keys: a duplicate key is an error, else the last wins. */
lc_json    *lc_json_parse(const char *text, size_t n, const char *name, int strict_keys);
void        lc_json_free(lc_json *root);               /* the root only */
int64_t     lc_json_repeated(void);                    /* members that lost to a later one of their key since the last call */
int         lc_json_type(const lc_json *v);
double      lc_json_number(const lc_json *v);
int         lc_json_integer(const lc_json *v, int64_t *out);            /* 0: the text was an integer that fits */
const char *lc_json_string(const lc_json *v, size_t *n);                /* decoded UTF-8, may hold NUL */
const char *lc_json_key(const lc_json *v, size_t *n);                   /* of an object's member */
const lc_json *lc_json_first(const lc_json *v);                         /* first element or member, or NULL */
const lc_json *lc_json_next(const lc_json *v);                          /* its next sibling, or NULL */
const lc_json *lc_json_get(const lc_json *object, const char *key);     /* case-sensitive; NULL when absent */
/* The records of a JSON array, an object's members, JSON lines or concatenated values, in bounded memory. */
lc_json_reader *lc_json_open(const char *path);
lc_json_reader *lc_json_open_list(const char *path, const char *member);   /* of the file's object: its list's elements */
lc_json    *lc_json_read(lc_json_reader *r, int *done); /* the next record (free it); NULL: *done or an error */
const char *lc_json_read_key(lc_json_reader *r, size_t *n);  /* of the last record when the file is an object, else NULL */
int64_t     lc_json_read_line(lc_json_reader *r);            /* where the last record began, from 1 */
void        lc_json_close(lc_json_reader *r);
/* Where the records of a large array of objects stand, by an integer key.  keys: "image_id", or "regions/image_id":
 * that of the first element; a record whose list is empty has no row.  Rows are numbered from 0 in the order of keys. */
lc_json_index *lc_json_index_build(const char *path, const char *keys);     /* one pass over the file */
lc_json_index *lc_json_index_load(const char *path, const char *keys, const char *file);  /* NULL: stale, damaged, none */
int         lc_json_index_save(const lc_json_index *x, const char *file);
int64_t     lc_json_index_count(const lc_json_index *x);                    /* rows */
int64_t     lc_json_index_empty(const lc_json_index *x);                    /* records whose list is empty */
int64_t     lc_json_index_find(const lc_json_index *x, int64_t key);        /* its row, or -1 */
int64_t     lc_json_index_number(const lc_json_index *x, int64_t row);      /* of the record in the file, from 1 */
/* Parsed strictly; free it.  NULL: "PATH: record N:line:column: what", line and column within the record. */
lc_json    *lc_json_index_record(const lc_json_index *x, int64_t row);
void        lc_json_index_free(lc_json_index *x);

/* ---- HTTP client: many requests in flight, pulled by the caller; liblucid_net.so is opened at first use --- */

/* A client of one endpoint, as "https://host/v1". Plain http is for this machine, and for others where there is no key.
 * TLS is always verified (ca_file: what is trusted in place of the system's certificates, NULL: those); no redirect is
 * followed; proxies come from the environment. A client belongs to one thread. */
lc_http    *lc_http_open(const char *base, const char *ca_file);
void        lc_http_close(lc_http *c);         /* with all that is in flight */
/* Seconds to connect, until an answer is whole, and without a byte; most bytes of an answer. 15, 300, 120, 4 MiB. */
void        lc_http_limits(lc_http *c, double connect, double whole, double stalled, int64_t most);
/* The key that goes with every request: of a file that its owner alone may read, or of OPENAI_API_KEY (path NULL). It is
 * handed out by no call and blotted out of answers, if it has 12 bytes or more. 1; 0: OPENAI_API_KEY is not set; -1. */
int         lc_http_key(lc_http *c, const char *path);
/* Posts JSON to base + path: its number, from 1; or -1. The body is copied. Nothing moves but in lc_http_wait. */
int64_t     lc_http_send(lc_http *c, const char *path, const char *body, size_t n);
int         lc_http_wait(lc_http *c, double seconds);  /* until an answer is there or so long: how many can be taken; -1: LC_EINTR */
/* The next answer in the order of arrival: its number; 0: none is there. body and fault hold until the next call.
 * status: HTTP's; 0: no whole answer came, and fault says why; -1: nor will it if the request is sent again.
 * retry_after: seconds that the server asks for; 0: none. */
int64_t     lc_http_take(lc_http *c, int *status, double *retry_after, const char **body, size_t *n, const char **fault);

/* ---- HTTP server: a thread of its own owns the sockets; one thread takes requests and answers them; liblucid_server.so is opened at first use --- */

/* A server that is not open yet. address: "127.0.0.1", "::1", "0.0.0.0" ...; port 0: any that is free. Before the caller sees
 * a request it has been refused here where its Host or Origin is another's, a POST is not JSON, its key is wrong,
 * or a limit says so; refusals have JSON bodies { "error": { "message", "type", "param", "code" } }. */
lc_server  *lc_server_new(const char *address, int port);
void        lc_server_free(lc_server *s);      /* with all connections, whatever they wait for */
/* Bytes of a body; POSTs at a time, further ones get 429; connections, further ones wait; seconds until a request's head is
 * there, from there until its body is, and without a byte of an answer taken. 16 MiB, 128, 256, 10, 30, 30. */
void        lc_server_limits(lc_server *s, int64_t body, int requests, int connections, double head, double whole, double stalled);
int         lc_server_key(lc_server *s, const char *path);      /* all but / and /healthz then needs "Authorization: Bearer KEY"; the file is its owner's alone */
int         lc_server_name(lc_server *s, const char *name);     /* a further name that Host may have */
int         lc_server_start(lc_server *s);     /* the port; -1. An address that other machines reach needs a key */
int         lc_server_wait(lc_server *s, double seconds);       /* until there is something to take, or so long: how much; -1: LC_EINTR */
/* The oldest request that nobody has taken: its number, from 1; 0: there is none. The texts hold until it is answered or has left. */
int64_t     lc_server_take(lc_server *s, const char **method, const char **path, const char **body, size_t *n);
int64_t     lc_server_left(lc_server *s);      /* a taken request whose client has gone, which needs no answer any more: its number; 0: none */
int         lc_server_header(lc_server *s, int64_t number, const char *name, const char *value);   /* of the answer, before it begins */
int         lc_server_answer(lc_server *s, int64_t number, int status, const char *type, const void *body, size_t n);
int         lc_server_begin(lc_server *s, int64_t number, const char *type);      /* an answer that is written piece by piece, then ended */
int64_t     lc_server_write(lc_server *s, int64_t number, const void *data, size_t n);   /* bytes that the client has not taken yet; 0: it has gone */
int         lc_server_end(lc_server *s, int64_t number);
void        lc_server_drain(lc_server *s);     /* further POSTs get 503 */
int64_t     lc_server_count(lc_server *s, const char *what);    /* "refused" so far; "unsent": requests whose answer is not sent; "connections" */

/* ---- tensors ------------------------------------------------------------------------------------ */

lc_tensor  *lc_tensor_new(int ndim, const int64_t *shape, int dtype, int device);     /* contents undefined */
lc_tensor  *lc_tensor_full(int ndim, const int64_t *shape, int dtype, int device, double value);  /* every element is value */
lc_tensor  *lc_tensor_randn(int ndim, const int64_t *shape, int dtype, int device, uint64_t seed, uint64_t stream);  /* normal, mean 0, deviation 1: element i is of (seed, stream, i) */
lc_tensor  *lc_tensor_rand(int ndim, const int64_t *shape, int dtype, int device, uint64_t seed, uint64_t stream);  /* uniform in [0, 1), likewise */
lc_tensor  *lc_tensor_retain(lc_tensor *t);            /* one more holder */
void        lc_tensor_release(lc_tensor *t);           /* one fewer; the last frees the handle */
lc_tensor  *lc_tensor_adopt(lc_tensor *t);             /* take over a pending tensor and let the other pending ones go */
int         lc_tensor_ndim(const lc_tensor *t);              /* 0 for a single number */
int64_t     lc_tensor_size(const lc_tensor *t, int i); /* dim i, from 0; -1 is the last */
int64_t     lc_tensor_count(const lc_tensor *t);       /* elements */
int64_t     lc_tensor_bytes(const lc_tensor *t);       /* that they take */
int         lc_tensor_dtype(const lc_tensor *t);       /* LC_F32 ... */
int         lc_tensor_device(const lc_tensor *t);      /* LC_HOST, or n of CUDA n */
int         lc_tensor_alive(const lc_tensor *t);       /* 0 once its scope has freed the storage */
int         lc_tensor_read(const lc_tensor *t, void *dst, size_t nbytes);        /* row-major, in its own dtype */
int         lc_tensor_read_f32(const lc_tensor *t, float *dst, int64_t count);   /* any dtype, converted */
int         lc_tensor_write(lc_tensor *t, const void *src, size_t nbytes);  /* the other way: all of its bytes */
int         lc_tensor_write_f32(lc_tensor *t, const float *src, int64_t count);  /* all elements, rounded to its dtype */
int         lc_tensor_copy(lc_tensor *dst, const lc_tensor *src);  /* values, any dtype and device; same shape; not recorded */
/* Of the values that are finite the least, the greatest and the mean (NaN where there are none), and how many are NaN and
 * infinite: out5. */
int         lc_tensor_summary(const lc_tensor *t, double *out5);
const char *lc_dtype_name(int dtype);                  /* "f32" ...; NULL when there is none */
size_t      lc_dtype_bytes(int dtype);                 /* of an element; 0: packed, no element has bytes of its own */

/* ---- devices: a process uses one beside the host, through liblucid_cuda.so ------------------------ */

int         lc_device_start(int device);               /* -1: it is not there, or another one is in use; making a tensor there starts it, too */
int         lc_device_started(void);                   /* the one in use, or LC_HOST */
int         lc_device_nth(int nth);                    /* that a machine's process number nth, from 0, takes: cuda:nth, the first where there are fewer */
const char *lc_device_identity(void);                  /* of the one in use: no other device has it; "": processes may share the device */
const char *lc_device_name(int device);                /* "NVIDIA H200, 151 GB, sm_90" */
int         lc_fast_dtype(int device);                 /* what the device multiplies fastest: LC_BF16 or LC_F32 */
void        lc_device_budget(int64_t bytes);           /* most memory that is taken of it; 0: what was free, less a reserve */
/* Bytes of its memory: "held" now, "peak" at most, "reserved" of the device, "budget", "largest free"; of what is held
 * "activations", "weights", "adapter", "optimizer", "gradients", "cache", "workspace".  -1: nothing else is known. */
int64_t     lc_device_memory(const char *what);
/* "waits": how often the host has waited for it; "recordings" of decoding steps that were made, and "replays" of them.
 * -1: nothing else is counted. LUCID_GRAPHS=off in the environment: nothing is recorded. */
int64_t     lc_device_count(const char *what);
/* The algorithms that multiplied matrices so far, one for each kind of product, as text for another process, which stays until
 * the next call: choose() takes them over, so that a run that goes on has the same bits. It says how many it took (0: the text is
 * of another device or library), or -1: the text is broken. tune: what is chosen from now on is timed, else the library's first
 * advice is taken, which needs no text to be the same. */
const char *lc_device_choices(void);
int         lc_device_choose(const char *text);
void        lc_device_tune(int on);

/* ---- gradients ---------------------------------------------------------------------------------- */

int         lc_tensor_requires_grad(lc_tensor *t, int on);   /* leaves only */
int         lc_tensor_wants_grad(const lc_tensor *t);        /* a leaf that requires it, or made from one */
lc_tensor  *lc_tensor_grad(lc_tensor *t);                    /* f32, or NULL before any backward; borrowed */
int         lc_tensor_set_grad(lc_tensor *t, lc_tensor *g);  /* f32, t's shape; kept outside scopes */
void        lc_tensor_zero_grad(lc_tensor *t);               /* as before any backward */
int         lc_grad_mode(int on);                            /* record or not, on this thread; the previous value */
int         lc_backward(lc_tensor *loss);                    /* of one element; the tape is consumed */
int         lc_backward_from(lc_tensor *y, lc_tensor *dy);   /* vector-Jacobian product */

/* ---- ops: elementwise; a and b broadcast as in PyTorch -------------------------------------------- */

lc_tensor  *lc_add(lc_tensor *a, lc_tensor *b);              /* a + b */
lc_tensor  *lc_sub(lc_tensor *a, lc_tensor *b);              /* a - b */
lc_tensor  *lc_mul(lc_tensor *a, lc_tensor *b);              /* a b */
lc_tensor  *lc_div(lc_tensor *a, lc_tensor *b);              /* a / b */
lc_tensor  *lc_scale(lc_tensor *x, double factor);           /* factor x */
lc_tensor  *lc_shift(lc_tensor *x, double offset);           /* x + offset */
lc_tensor  *lc_pow(lc_tensor *x, double exponent);           /* x^exponent */
lc_tensor  *lc_exp(lc_tensor *x);              /* e^x */
lc_tensor  *lc_log(lc_tensor *x);              /* natural */
lc_tensor  *lc_sqrt(lc_tensor *x);             /* gradient 1 / (2 sqrt x) */
lc_tensor  *lc_abs(lc_tensor *x);              /* gradient 0 at 0 */
lc_tensor  *lc_relu(lc_tensor *x);             /* max(x, 0); gradient 0 at 0 */
lc_tensor  *lc_clamp(lc_tensor *x, double low, double high);             /* min(max(x, low), high); gradient 0 outside */
lc_tensor  *lc_tanh(lc_tensor *x);             /* gradient 1 - tanh^2 */
lc_tensor  *lc_sigmoid(lc_tensor *x);          /* 1 / (1 + exp(-x)) */
lc_tensor  *lc_log_sigmoid(lc_tensor *x);                    /* -log(1 + exp(-x)), stable */
lc_tensor  *lc_gelu(lc_tensor *x);                           /* exact: x/2 (1 + erf(x / sqrt 2)) (Hendrycks and Gimpel 2016) */
lc_tensor  *lc_quick_gelu(lc_tensor *x);                     /* x sigmoid(1.702 x) */
lc_tensor  *lc_silu(lc_tensor *x);             /* x sigmoid(x) */
lc_tensor  *lc_swiglu(lc_tensor *gate, lc_tensor *up);       /* silu(gate) * up (Shazeer 2020) */

/* ---- ops: shape ----------------------------------------------------------------------------------- */

lc_tensor  *lc_view(lc_tensor *x, int ndim, const int64_t *shape);     /* one size may be -1; shares storage when it can */
lc_tensor  *lc_transpose(lc_tensor *x, int dim, int dim2);             /* a view */
lc_tensor  *lc_slice(lc_tensor *x, int dim, int64_t first, int64_t count);   /* a view; first from 0 */
lc_tensor  *lc_cat(int n, lc_tensor **x, int dim);           /* n tensors of one dtype along a dim, their other sizes equal */
lc_tensor  *lc_contiguous(lc_tensor *x);       /* dense, row-major; x itself where it is that */
lc_tensor  *lc_cast(lc_tensor *x, int dtype);  /* to another dtype, to the nearest even; x itself where it has it */
lc_tensor  *lc_to(lc_tensor *x, int device);                 /* x itself where it is there already */
lc_tensor  *lc_quantise(lc_tensor *x, int quant, int dtype); /* the values that a quantised copy of x (flattened, in blocks) gives back; no gradient */
/* A quantised weight [N, K] as it is stored: linear layers multiply by it, lc_expand gives its values back, and no other op
 * takes it. 1.06 bytes an element (q8_0) or 0.53 (nf4, fp4). Frozen. */
lc_tensor  *lc_pack_weight(lc_tensor *x, int quant);
lc_tensor  *lc_expand(lc_tensor *packed, int dtype);
lc_tensor  *lc_detach(lc_tensor *x);                         /* the same storage, no history */
lc_tensor  *lc_rows(lc_tensor *x, lc_tensor *index);         /* x [R, ...], index i32 [n] from 0 -> [n, ...]; repeats are legal */

/* ---- ops: reductions and losses ------------------------------------------------------------------- */

lc_tensor  *lc_sum(lc_tensor *x);                            /* [] */
lc_tensor  *lc_mean(lc_tensor *x);                           /* [] */
lc_tensor  *lc_sum_dim(lc_tensor *x, int dim);               /* that dim is gone */
lc_tensor  *lc_mean_dim(lc_tensor *x, int dim);              /* that dim is gone */
lc_tensor  *lc_argmax(lc_tensor *x);                         /* [..., V] -> i32 [...]; the first of equals; no gradient */
lc_tensor  *lc_softmax(lc_tensor *x);                        /* over the last dim */
lc_tensor  *lc_log_softmax(lc_tensor *x);      /* over the last dim; f32 sums */
lc_tensor  *lc_cross_entropy(lc_tensor *logits, lc_tensor *targets);   /* [N, V], i32 [N], -100 = skip -> mean, [] */
lc_tensor  *lc_segment_sum(lc_tensor *x, lc_tensor *first);  /* x [n], first i32 [S + 1] ascending -> [S] */
/* logp of target[i] under log_softmax(hidden[row[i]] @ head^T): hidden [T, D], head [V, D], row and target i32 [n] -> f32 [n].
 * Works through rows in chunks: no [n, V] tensor outlives a chunk. */
lc_tensor  *lc_token_logps(lc_tensor *hidden, lc_tensor *head, lc_tensor *row, lc_tensor *target);
lc_tensor  *lc_token_log_squares(lc_tensor *hidden, lc_tensor *head, lc_tensor *row);  /* log sum over the vocabulary of p^2 at each row, f32 [n]; no gradient */
/* DPO (Rafailov et al. 2023, eq. 7): mean of -log sigmoid(beta * ((pc - pr) - (rc - rr))); all f32 [N] -> [] */
lc_tensor  *lc_dpo_loss(lc_tensor *policy_chosen, lc_tensor *policy_rejected, lc_tensor *reference_chosen, lc_tensor *reference_rejected, double beta);

/* ---- ops: layers ------------------------------------------------------------------------------------ */

lc_tensor  *lc_matmul(lc_tensor *a, lc_tensor *b);           /* [M, K] [K, N]; or [B, M, K] [B, K, N] */
lc_tensor  *lc_linear(lc_tensor *x, lc_tensor *weight);      /* x [..., K], weight [N, K] -> x weight^T [..., N] */
lc_tensor  *lc_linear_bias(lc_tensor *x, lc_tensor *weight, lc_tensor *bias);                      /* bias [N] */
lc_tensor  *lc_linear_lora(lc_tensor *x, lc_tensor *weight, lc_tensor *a, lc_tensor *b, double scale);  /* a f32 [r, K], b f32 [N, r]: x W^T + scale (x a^T) b^T (Hu et al. 2021) */
lc_tensor  *lc_embedding(lc_tensor *weight, lc_tensor *ids); /* weight [V, D], i32 ids [...] -> [..., D] */
lc_tensor  *lc_rms_norm(lc_tensor *x, lc_tensor *weight, double eps);    /* x [..., D], weight [D]: weight x / sqrt(mean x^2 + eps) (Zhang and Sennrich 2019), in f32 */
lc_tensor  *lc_layer_norm(lc_tensor *x, lc_tensor *weight, lc_tensor *bias, double eps);  /* over the last dim, weight and bias [D]: weight (x - mean) / sqrt(var + eps) + bias, in f32 */
lc_tensor  *lc_rope(lc_tensor *x, lc_tensor *position, double theta);  /* x [T, H, d], i32 position [T]; halves rotated (LLaMA); angle position theta^(-2i/d) (Su et al. 2021) */
lc_tensor  *lc_patch_embed(lc_tensor *pixels, lc_tensor *weight);      /* [N, C, H, W], [D, C, p, p] -> [N, (H/p)(W/p), D], raster order */
/* Attention over a forest: q [Tq, H, d], k and v [Tk, G, d], H a multiple of G (grouped heads) -> [Tq, H, d].
 * softmax(scale q k^T) v (Vaswani et al. 2017), the softmax in f32, keys a block at a time (Dao et al. 2022). The forest says
 * which keys a query sees; rows without keys give zeros. */
lc_tensor  *lc_attention(lc_tensor *q, lc_tensor *k, lc_tensor *v, const lc_forest *forest, double scale);

/* ---- forests: which token sees which ------------------------------------------------------------------
 * A segment is a run of consecutive tokens with a parent (or none: -1). A token sees all tokens of its
 * segment's ancestors and those before it in its own segment, itself included (all of its own segment
 * where bidirectional[i]). Rows are packed in depth-first preorder; segments keep the caller's numbers. */
lc_forest  *lc_forest_new(int segments, const int32_t *parent, const int32_t *length, const uint8_t *bidirectional);  /* bidirectional may be NULL */
lc_forest  *lc_forest_cross(int segments, const int32_t *length, const int32_t *key_first, const int32_t *key_count);  /* segment i sees the given rows of another tensor */
lc_forest  *lc_forest_retain(lc_forest *f);    /* one more holder */
void        lc_forest_release(lc_forest *f);   /* one fewer; the last frees it */
int64_t     lc_forest_rows(const lc_forest *f);              /* tokens on the packed axis */
int64_t     lc_forest_first(const lc_forest *f, int segment);   /* its first packed row, from 0 */
int64_t     lc_forest_position(const lc_forest *f, int segment);/* position of its first token = length of its ancestors */
lc_tensor  *lc_forest_positions(const lc_forest *f, int device);/* i32 [rows] */

/* ---- checkpoints: safetensors or torch.save, a file or a folder with an index --------------------------- */

/* A file of safetensors or of torch.save (.bin, .pth, .pt), told by its bytes and not by its name. Of a pickle nothing
 * is run, and one that asks for more than tensors is refused; names are the keys on the way: "model.llama_proj.weight". */
lc_checkpoint *lc_checkpoint_open(const char *path);
void        lc_checkpoint_close(lc_checkpoint *c);
int         lc_checkpoint_count(const lc_checkpoint *c);
const char *lc_checkpoint_name(const lc_checkpoint *c, int i);            /* sorted bytewise */
const char *lc_checkpoint_dtype(const lc_checkpoint *c, int i);           /* the file's own word: "BF16", "I64" ... */
int         lc_checkpoint_shape(const lc_checkpoint *c, int i, int64_t *shape5);  /* ndim */
int64_t     lc_checkpoint_bytes(const lc_checkpoint *c, int i);           /* its elements', not those of a storage it is a part of */
const char *lc_checkpoint_file(const lc_checkpoint *c, int i);            /* path of the file that holds it */
const char *lc_checkpoint_format(const lc_checkpoint *c, int i);          /* of that file: "safetensors", "PyTorch zip", "PyTorch before 1.6" */
int         lc_checkpoint_check(lc_checkpoint *c);                        /* reads every byte: the sums of PyTorch's zips; other formats have none */
int64_t     lc_checkpoint_nonfinite(lc_checkpoint *c, int i);             /* how many of its numbers are NaN or infinite (of a view: between its first and its last); -1 failed */
lc_tensor  *lc_checkpoint_tensor(lc_checkpoint *c, const char *name);     /* mapped, not copied, when aligned */
void        lc_checkpoint_forget(lc_checkpoint *c, int i);                /* tensor i's pages leave memory until they are read again: for what was converted */
const char *lc_checkpoint_metadata(const lc_checkpoint *c, const char *key);      /* or NULL */
const char *lc_mapped_name(const void *address);                          /* the mapped file that holds it, or NULL; async-signal-safe, for SIGBUS: the file became shorter */
lc_writer  *lc_writer_new(const char *path);                              /* safetensors; nothing exists at path until finish */
int         lc_writer_metadata(lc_writer *w, const char *key, const char *value);
int         lc_writer_add(lc_writer *w, const char *name, lc_tensor *t);  /* holds t until finish */
int         lc_writer_declare(lc_writer *w, const char *name, int ndim, const int64_t *shape, int dtype);   /* its bytes come by lc_writer_put */
int         lc_writer_put(lc_writer *w, const char *name, const lc_tensor *t);   /* of the declared ones the next by name; nothing is held */
int         lc_writer_finish(lc_writer *w);                               /* atomic; frees w whatever happens */
void        lc_writer_drop(lc_writer *w);

/* ---- pictures ------------------------------------------------------------------------------------------ */

enum { LC_NEAREST, LC_BILINEAR, LC_BICUBIC };                             /* filter of lc_image_resize */
lc_tensor  *lc_image_load(const char *path);                              /* u8 [H, W, 3]; EXIF orientation ignored, as Pillow's convert("RGB") */
lc_tensor  *lc_image_decode(const void *bytes, size_t n, const char *name);   /* JPEG, PNG, BMP, GIF (first frame), PNM, PSD; TGA by name */
int         lc_image_save(lc_tensor *image, const char *path, int quality);   /* .png, .jpg, .bmp by suffix; atomic */
int         lc_image_encode(lc_tensor *image, const char *name, int quality, char **data, size_t *n);   /* the bytes of such a file; lc_free_bytes */
lc_tensor  *lc_image_resize(lc_tensor *image, int64_t height, int64_t width, int filter);  /* Pillow's, to the bit: first across, then down (Pillow 13 takes tall pictures the other way) */
lc_tensor  *lc_image_crop(lc_tensor *image, int64_t top, int64_t left, int64_t height, int64_t width);  /* outside is black */
lc_tensor  *lc_image_pad_square(lc_tensor *image, int red, int green, int blue);          /* centred */
lc_tensor  *lc_image_mirror(lc_tensor *image);                                             /* left to right */
lc_tensor  *lc_image_normalize(lc_tensor *image, double scale, const float *mean3, const float *std3);   /* -> f32 [3, H, W]: (v * scale - mean) / std */
/* Pictures are read and decoded on a thread of their own while the caller does something else. */
lc_reader  *lc_reader_new(void);
void        lc_reader_free(lc_reader *r);
int         lc_reader_ask(lc_reader *r, const char *path);                /* returns at once */
lc_tensor  *lc_reader_take(lc_reader *r, const char *path);               /* lc_image_load's picture or error, sooner when it was asked for */
void        lc_reader_clear(lc_reader *r);                                /* what was asked for and not taken */
void        lc_image_limits(int64_t max_bytes, int64_t max_side, int64_t max_pixels);     /* 0 keeps a limit; 32 MiB, 8192, 40 million at first */
/* From now on pictures are decoded by a process of its own (build/lucid-decode) that can open, start and reach nothing,
 * for at most so many seconds each: what breaks it is one refused picture. 0: here again, as at first. 0 = done,
 * 1 = done, but this kernel filters no system calls: limits alone hold. */
int         lc_image_sandbox(int seconds);

/* ---- text: LLaMA's SentencePiece (liblucid_text.so, opened at first use) and BERT's WordPiece --------------- */

lc_tokenizer *lc_tokenizer_open(const char *path);                        /* a *.model file, a *.txt word list (a piece a line), or a folder that holds tokenizer.model or vocab.txt */
void        lc_tokenizer_close(lc_tokenizer *t);             /* with what it has lent */
int         lc_tokenizer_is_wordpiece(const lc_tokenizer *t);             /* BERT's kind: lower case, no accents */
int         lc_tokenizer_pieces(const lc_tokenizer *t);      /* how many ids there are */
/* No BOS, no EOS. What is no UTF-8 is read as U+FFFD, once for the bytes that begin a character (Python's
 * decode(errors="replace")). SentencePiece: U+2581 is a space; inside: the text goes on after other ids, and no space
 * is put in front of it. ids: lc_free_bytes */
int         lc_tokenizer_encode(lc_tokenizer *t, const char *text, size_t n, int inside, int32_t **ids, size_t *count);
int         lc_tokenizer_decode(lc_tokenizer *t, const int32_t *ids, size_t count, char **text, size_t *n);  /* UTF-8, whatever the ids; lc_free_bytes */
const char *lc_tokenizer_piece(lc_tokenizer *t, int32_t id);              /* "\xE2\x96\x81the"; borrowed from the tokenizer */
int32_t     lc_tokenizer_id(lc_tokenizer *t, const char *piece);          /* -1: no such piece */
int32_t     lc_tokenizer_special(lc_tokenizer *t, int which);             /* 0 unk, 1 bos ([CLS]), 2 eos ([SEP]), 3 pad; -1 none */
/* SentencePiece BPE with LLaMA's settings from a text file, a sentence a line. At most that many pieces, of which
 * 259 are <unk>, <s>, </s> and the bytes. words: each ended by '\n', each becomes one piece, or the call fails and
 * lists those that did not. The same corpus gives the same bytes. */
int         lc_tokenizer_train(const char *corpus_path, const char *model_path, int pieces, const char *words);

/* ---- optimizer -------------------------------------------------------------------------------------------- */

lc_adamw   *lc_adamw_new(double beta1, double beta2, double eps, double weight_decay);  /* decoupled decay (Loshchilov and Hutter 2019), bias correction on; state in f32 */
void        lc_adamw_free(lc_adamw *o);        /* with its state */
int         lc_adamw_add(lc_adamw *o, lc_tensor *parameter, const char *name);   /* of 16 bits: an f32 master takes the steps */
int         lc_adamw_step(lc_adamw *o, double lr, double grad_scale);     /* every parameter with a gradient; clears the gradients */
double      lc_adamw_grad_norm(lc_adamw *o);                              /* global 2-norm of the gradients; NaN when not finite, -1 failed */
int64_t     lc_adamw_steps(const lc_adamw *o);               /* made so far */
int         lc_adamw_save(lc_adamw *o, lc_writer *w);                     /* "step", "NAME.m", "NAME.v", and masters "NAME.w" */
int         lc_adamw_load(lc_adamw *o, lc_checkpoint *c);    /* what lc_adamw_save wrote; every parameter must be in it, with its shape */

/* ---- batches: the forest of a model's input ----------------------------------------------------------------- */

enum { LC_IMAGE_TOKEN = -200 };                                           /* the id in whose place a picture's rows stand, as in LLaVA */
lc_batch   *lc_batch_new(void);                /* without a segment */
void        lc_batch_free(lc_batch *b);        /* with the tensors that it holds */
int         lc_batch_image(lc_batch *b, lc_tensor *features);             /* [rows, W]; its index; one tensor may serve many segments */
int         lc_batch_picture(lc_batch *b, const lc_model *m, lc_tensor *features, const int32_t *text, int count);  /* the same for any bridge: it takes lc_model_image_rows token rows; text: lc_model_bridge's */
int         lc_batch_segment(lc_batch *b, int parent, const int32_t *ids, int count, int image, int score);  /* at most one id is LC_IMAGE_TOKEN; its number */
int         lc_batch_segments(const lc_batch *b);            /* how many it has */

/* ---- models --------------------------------------------------------------------------------------------------- */

lc_model   *lc_model_open(const char *folder, int dtype, int device);     /* weights from the folder's safetensors */
/* LLaMA's folder, and files of tower and bridge (NULL or "": the folder has them), .pth or safetensors, as published:
 * LLaVA of CLIP's and model.mm_projector.* (in its own folder or a file), MiniGPT-4 of EVA's and llama_proj.*, InstructBLIP of EVA's and query_tokens, ln_vision.*, Qformer.*, llm_proj.*;
 * a training run's checkpoint has these under "model.". Sizes are the tensors'. quant: of the decoder blocks' linear
 * layers (not the embedding, not the head), which are packed (lc_pack_weight) from the files' numbers and stay frozen. */
lc_model   *lc_model_open_parts(const char *folder, const char *vision, const char *bridge, int dtype, int device, int quant);
lc_model   *lc_model_init(const char *folder, int dtype, int device, uint64_t seed);   /* config.json alone: new weights */
void        lc_model_free(lc_model *m);
const char *lc_model_kind(const lc_model *m);                             /* "llava", "minigpt4", "instructblip" */
int         lc_model_parameters(const lc_model *m);
const char *lc_model_parameter_name(const lc_model *m, int i);            /* the checkpoint's own tensor name */
const char *lc_model_parameter_part(const lc_model *m, int i);            /* "vision", "projector", "language", "adapter" */
lc_tensor  *lc_model_parameter(const lc_model *m, int i);                 /* borrowed */
int         lc_model_shortened(const lc_model *m);                        /* parameters that were f16 in their file and are bf16 here: three bits of mantissa fewer */
int         lc_model_train(lc_model *m, const char *part, int on);        /* "vision", "projector", "language": gradients on or off */
int         lc_model_lora(lc_model *m, int rank, double alpha, const char *targets, uint64_t seed);   /* "q_proj,v_proj"; A uniform +-1/sqrt(K), B zero */
int         lc_model_recompute(lc_model *m, int on);                      /* recompute each decoder block in backward */
const char *lc_model_info(const lc_model *m, const char *key);            /* a number of config.json by dotted path, as text; NULL */
int64_t     lc_model_image_rows(const lc_model *m);                       /* token rows one picture takes */
int64_t     lc_model_image_size(const lc_model *m);                       /* side of the tower's square input */
int64_t     lc_model_max_positions(const lc_model *m);
lc_tensor  *lc_model_vision(lc_model *m, lc_tensor *pixels);              /* f32 [N, 3, S, S] -> [N, rows, W]: the tower, before the projector */
lc_tensor  *lc_model_project(lc_model *m, lc_tensor *features);           /* one picture's [rows, W] -> [lc_model_image_rows, D]; LLaVA's takes any rows */
lc_tensor  *lc_model_bridge(lc_model *m, lc_tensor *features, const int32_t *text, int count);   /* the same with the question's ids in the Q-Former's vocabulary (BERT's); other bridges read no text */
lc_tensor  *lc_model_word_embeddings(lc_model *m);                        /* borrowed [V, D] */
lc_tensor  *lc_model_logits(lc_model *m, lc_batch *b, int adapters);      /* f32 [rows, V], packed order */
lc_tensor  *lc_model_token_logps(lc_model *m, lc_batch *b, int adapters); /* f32 [n], every scored token, segments in the caller's order */
void        lc_batch_want_log_squares(lc_batch *b);                       /* lc_model_token_logps then computes them, too ... */
lc_tensor  *lc_batch_log_squares(lc_batch *b);                            /* ... and here they are: f32 [n], borrowed from the batch; NULL before */
lc_tensor  *lc_batch_scored(lc_batch *b);                                 /* i32 [S + 1]: where each scored segment's values begin */

/* ---- generation: the batch's scored segments are the prompts' ends; each is a leaf that grows its own answer ---
 * Leaves count from 0. Choices are made as Hugging Face's generate makes them, in its order: repetition penalty,
 * least number of tokens, temperature, top_k, top_p. */

lc_generator *lc_generator_new(lc_model *m, lc_batch *b, int max_new_tokens, int adapters);   /* b NULL: no leaves yet */
void        lc_generator_free(lc_generator *g);              /* with its cache; the model and the batch stay */
int         lc_generator_leaves(const lc_generator *g);                   /* ended ones, too: what arrays are sized by */
int         lc_generator_sampling(lc_generator *g, double temperature, int64_t top_k, double top_p, uint64_t seed);   /* 0: the likeliest; top_k 0: all; at first 0, 0, 1, 0 */
int         lc_generator_penalty(lc_generator *g, double repetition);      /* 1 (at first): none */
int         lc_generator_ends(lc_generator *g, const int32_t *ids, int64_t n);   /* ids that end an answer; at first none. The caller ends the leaf that has chosen one */
int         lc_generator_words(lc_generator *g, int64_t n);               /* ids from n on are never chosen; at first the model's whole vocabulary can be */
int         lc_generator_least(lc_generator *g, int leaf, int64_t least); /* none of them comes among its first least tokens */
int         lc_generator_seen(lc_generator *g, int leaf, const int32_t *ids, int64_t n);   /* the repetition penalty counts these ids, too, not only the leaf's own: its prompt */
int         lc_generator_stream(lc_generator *g, int leaf, uint64_t stream);   /* of its random numbers; its own number at first */
int64_t     lc_generator_room(const lc_generator *g, int leaf);           /* tokens that it may still choose; 0: ended or full */
int         lc_generator_step(lc_generator *g, int32_t *tokens, float *logps);  /* chooses one token a leaf, -1 where it has ended; logps (may be NULL): the model's own, before penalties; count of live leaves */
int         lc_generator_continue(lc_generator *g, int leaf, const int32_t *ids, int64_t n);   /* the only live leaf's path goes on with these instead of the token that it chose last; then it makes a new answer, with nothing made and nothing seen */
int         lc_generator_leaf_sampling(lc_generator *g, int leaf, double temperature, int64_t top_k, double top_p, uint64_t seed);   /* this leaf's alone */
int         lc_generator_likeliest(lc_generator *g, int leaf, int k, int32_t *ids, float *logps);   /* after a step: the k likeliest where the leaf chose, the model's own log-probabilities */
/* Prompts that join while others grow: a trunk is the run beginning of many prompts (a picture), of a batch of one
 * segment, and grows no answer; end lets it go. A leaf that joins it goes on with the prompt's other ids, one at least,
 * which run in the next step beside those that grow already. Before a step every leaf that grows has chosen or joined. */
int         lc_generator_trunk(lc_generator *g, lc_batch *b);             /* its number among the leaves */
int         lc_generator_join(lc_generator *g, int trunk, const int32_t *ids, int64_t n);   /* the new leaf's number */
int         lc_generator_rest(lc_generator *g, int leaf, int on);         /* on: steps leave it out, until off again */
int64_t     lc_generator_row_bytes(const lc_generator *g);                /* of keys and values, a token of a path */
/* A search chooses by itself: best gives each leaf's k likeliest ids and their log-probabilities after the penalties
 * (not sampled, not normalised again), both [leaves, k], best first, ids -1 where the leaf has ended. Then every
 * leaf ends or chooses; one that goes on in several ways forks first. */
int         lc_generator_best(lc_generator *g, int k, int32_t *ids, float *logps);   /* count of live leaves */
int         lc_generator_fork(lc_generator *g, int leaf);                 /* number of a leaf with the same past, keys and values shared; an ended one's number may come again */
int         lc_generator_choose(lc_generator *g, int leaf, int32_t id);   /* its next token */
int         lc_generator_end(lc_generator *g, int leaf);                  /* this leaf is done; slots that no other leaf sees are free again */

/* ---- several processes: the calls from lc_comm_sum to lc_comm_gather are made by all of a job's, in the same order --
 * Without a job there is one process, of rank 0. A process that exits with a status other than 0 ends the others. */

int         lc_comm_join(void);                        /* the job that this process was started for, through MPI: liblucid_mpi.so */
int         lc_comm_rank(void);                        /* from 0 */
int         lc_comm_size(void);                /* processes of the job; 1 without one */
int         lc_comm_local(void);                       /* processes on this machine */
int         lc_comm_place(void);                       /* this one's number among them, from 0 */
void        lc_comm_turn(void);                        /* waits, where lower ranks may have the same to say, until they had time to */
/* Tensors of one device, dense, in place: f32 become the sum over ranks in their order, the same bits everywhere; those
 * of any dtype become rank 0's. */
int         lc_comm_sum(lc_tensor *const *list, int n);
int         lc_comm_broadcast(lc_tensor *const *list, int n);
int         lc_comm_barrier(void);
char       *lc_comm_gather(const char *data, size_t n, int64_t *lengths);   /* every rank's bytes one after another, lengths [size]; free with lc_free_bytes */
int64_t     lc_comm_take(void);                        /* the next number, from 0, of a row that the ranks share; -1: failed */

/* ---- limits of this machine: what lucid bench compares with -------------------------------------------------------- */

int         lc_bandwidth_read(const lc_tensor *t, uint64_t *sum);         /* reads a host tensor once, with all threads */
int         lc_bandwidth_copy(lc_tensor *dst, const lc_tensor *src);      /* as many bytes of each; any dtypes */
/* oneDNN's c[m, n] = a[m, k] b[k, n] of numbers of its own, f32 or bf16; crossed: the rows of that matrix lie along memory's
 * columns; packed: b is laid out once, as the library prefers it. LC_EMISSING: libdnnl.so.2 is not there, or has none. */
lc_onednn *lc_onednn_new(int64_t m, int64_t n, int64_t k, int dtype, int a_crossed, int b_crossed, int packed);
void        lc_onednn_free(lc_onednn *p);
int         lc_onednn_run(lc_onednn *p);
const char *lc_onednn_name(const lc_onednn *p);                         /* "oneDNN 2.6.3, brg:avx512_core_bf16" */

#pragma GCC visibility pop
#endif
