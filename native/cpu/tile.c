/* tile.c - see tile.h. */
#include "cpu/tile.h"

/* left += x * y, right += x * z in every lane. As instructions, because gcc left to itself moves and
 * spills the sums of a tile: half of the speed. */
static inline void add_products(lanes *left, lanes *right, const float *x, lanes y, lanes z) {
#ifndef LC_GEMM_LOOP
    lanes wide;
    __asm__("vbroadcastss %3, %2\n\tvfmadd231ps %4, %2, %0\n\tvfmadd231ps %5, %2, %1"
            : "+v"(*left), "+v"(*right), "=&v"(wide)
            : "m"(*x), "v"(y), "v"(z));
#else
    *left += *x * y;
    *right += *x * z;
#endif
}

/* sum += x * y in every lane */
static inline void add_product(lanes *sum, const float *x, lanes y) {
#ifndef LC_GEMM_LOOP
    lanes wide;
    __asm__("vbroadcastss %2, %1\n\tvfmadd231ps %3, %1, %0"
            : "+v"(*sum), "=&v"(wide)
            : "m"(*x), "v"(y));
#else
    *sum += *x * y;
#endif
}

#ifdef LC_GEMM_PAIRS
/* The same where each float holds two bf16 of consecutive k: two products a lane, added in their order. */
static inline void add_pairs(lanes *left, lanes *right, const float *x, lanes y, lanes z) {
    lanes wide;
    __asm__("vbroadcastss %3, %2\n\tvdpbf16ps %4, %2, %0\n\tvdpbf16ps %5, %2, %1"
            : "+v"(*left), "+v"(*right), "=&v"(wide)
            : "m"(*x), "v"(y), "v"(z));
}

static inline void add_pair(lanes *sum, const float *x, lanes y) {
    lanes wide;
    __asm__("vbroadcastss %2, %1\n\tvdpbf16ps %3, %1, %0"
            : "+v"(*sum), "=&v"(wide)
            : "m"(*x), "v"(y));
}

/* sum += x, by way of one * sum + x: behind vdpbf16ps a plain addition keeps the products of the next tile waiting. */
static inline void add_lanes(lanes *sum, lanes one, const float *x) {
    __asm__("vfmadd213ps %1, %2, %0" : "+v"(*sum) : "m"(*(const lanes *)x), "v"(one));
}
#endif

static inline lanes begin(const struct tile *t, int row, int col) {
    if (t->from) { /* the next tile's lie behind these, or do no harm */
        const float *from = t->from + row * t->from_row + col;
        __builtin_prefetch(from + TILE_ROWS * t->from_row, 1);
        return lanes_at(from);
    }
    __builtin_prefetch(t->out + row * t->out_row + col, 1);
    return (lanes){0};
}

/* The sums have names, not an array, so that they are registers whatever the compiler unrolls. */
#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_4(X) ROWS_2(X) X(2) X(3)
#define ROWS_6(X) ROWS_4(X) X(4) X(5)
#define ROWS_12(X) ROWS_6(X) X(6) X(7) X(8) X(9) X(10) X(11)

#if !defined(LC_GEMM_LOOP) && defined(__AVX512F__)
#define ROWS_ALL ROWS_12
#elif !defined(LC_GEMM_LOOP)
#define ROWS_ALL ROWS_6
#else
#define ROWS_ALL ROWS_4
#endif

static inline void end(const struct tile *t, int row, int col, lanes sum) {
    lanes_put(t->out + row * t->out_row + col, sum);
}

#define BEGIN(i) lanes left##i = begin(t, i, 0), right##i = begin(t, i, LANES);
#define BEGIN_PAIRS(i) lanes left##i = {0}, right##i = {0};
#define ROW(i) add_products(&left##i, &right##i, a + (i)*a_row, y, z);
#define ROW_PAIRS(i) add_pairs(&left##i, &right##i, a + (i)*a_row, y, z);
#define END(i) end(t, i, 0, left##i), end(t, i, LANES, right##i);
#define ADD(i)                                                                                     \
    add_lanes(&left##i, one, t->from + (i)*t->from_row);                                           \
    add_lanes(&right##i, one, t->from + (i)*t->from_row + LANES);
#define FINISH(ROWS) ROWS(END)
/* A chain of pairs starts from 0 and is added at its end. */
#define FINISH_PAIRS(ROWS)                                                                         \
    if (t->from) {                                                                                 \
        const lanes one = lanes_all(1);                                                            \
        ROWS(ADD)                                                                                  \
    }                                                                                              \
    ROWS(END)
#define STEP(ROWS, EACH)                                                                           \
    y = lanes_at(b);                                                                               \
    z = lanes_at(b + LANES);                                                                       \
    ROWS(EACH) a += a_k;                                                                           \
    b += b_k;

/* A tile of TILE_COLS columns; the strides are constants, or fields of t. It has a copy of what it is given, which the
 * compiler knows that no store changes. Without anything to fetch it asks for what it reads. */
#define DEFINE_TILE(name, ROWS, KIND, A_ROW, A_K, B_K)                                             \
    static void name(const struct tile *given) {                                                   \
        const struct tile own = *given, *t = &own;                                                 \
        const float *a = t->a, *b = t->b;                                                          \
        const int64_t a_row = A_ROW, a_k = A_K, b_k = B_K;                                         \
        lanes y, z;                                                                                \
        ROWS(BEGIN##KIND)                                                                          \
        const float *ahead = t->ahead ? t->ahead : b;                                              \
        for (int64_t k = t->depth / 4; k > 0; k--, ahead += 4) {                                   \
            __builtin_prefetch(ahead);                                                             \
            STEP(ROWS, ROW##KIND)                                                                  \
            STEP(ROWS, ROW##KIND) STEP(ROWS, ROW##KIND) STEP(ROWS, ROW##KIND)                      \
        }                                                                                          \
        for (int64_t k = t->depth % 4; k > 0; k--) {                                               \
            STEP(ROWS, ROW##KIND)                                                                  \
        }                                                                                          \
        FINISH##KIND(ROWS)                                                                         \
    }

#define BEGIN_HALF(i) lanes left##i = begin(t, i, 0);
#define BEGIN_PAIRS_HALF(i) lanes left##i = {0};
#define ROW_HALF(i) add_product(&left##i, a + (i)*a_row, y);
#define ROW_PAIRS_HALF(i) add_pair(&left##i, a + (i)*a_row, y);
#define END_HALF(i) end(t, i, 0, left##i);
#define ADD_HALF(i) add_lanes(&left##i, one, t->from + (i)*t->from_row);
#define FINISH_HALF(ROWS) ROWS(END_HALF)
#define FINISH_PAIRS_HALF(ROWS)                                                                    \
    if (t->from) {                                                                                 \
        const lanes one = lanes_all(1);                                                            \
        ROWS(ADD_HALF)                                                                             \
    }                                                                                              \
    ROWS(END_HALF)

/* A tile of LANES columns. */
#define DEFINE_HALF_TILE(name, ROWS, KIND)                                                         \
    static void name(const struct tile *given) {                                                   \
        const struct tile own = *given, *t = &own;                                                 \
        const float *a = t->a, *b = t->b;                                                          \
        const int64_t a_row = t->a_row, a_k = t->a_k, b_k = t->b_k;                                \
        ROWS(BEGIN##KIND##_HALF)                                                                   \
        for (int64_t k = t->depth; k > 0; k--, a += a_k, b += b_k) {                               \
            const lanes y = lanes_at(b);                                                           \
            ROWS(ROW##KIND##_HALF)                                                                 \
        }                                                                                          \
        FINISH##KIND##_HALF(ROWS)                                                                  \
    }

/* name[0]: tiles of TILE_COLS columns, name[1]: of LANES; of all rows, 4, 2 and 1 */
#define DEFINE_TILES(name, KIND)                                                                   \
    DEFINE_TILE(name##_packed, ROWS_ALL, KIND, 1, TILE_ROWS, TILE_COLS)                            \
    DEFINE_TILE(name##_all, ROWS_ALL, KIND, t->a_row, t->a_k, t->b_k)                              \
    DEFINE_TILE(name##_4, ROWS_4, KIND, t->a_row, t->a_k, t->b_k)                                  \
    DEFINE_TILE(name##_2, ROWS_2, KIND, t->a_row, t->a_k, t->b_k)                                  \
    DEFINE_TILE(name##_1, ROWS_1, KIND, t->a_row, t->a_k, t->b_k)                                  \
    DEFINE_HALF_TILE(name##_half_all, ROWS_ALL, KIND)                                              \
    DEFINE_HALF_TILE(name##_half_4, ROWS_4, KIND)                                                  \
    DEFINE_HALF_TILE(name##_half_2, ROWS_2, KIND)                                                  \
    DEFINE_HALF_TILE(name##_half_1, ROWS_1, KIND)                                                  \
    static const struct tiles name = {                                                             \
        name##_packed,                                                                             \
        {{name##_all, name##_4, name##_2, name##_1},                                               \
         {name##_half_all, name##_half_4, name##_half_2, name##_half_1}}};

struct tiles {
    void (*packed)(const struct tile *t); /* all rows and columns of packed panels */
    void (*by_size[2][4])(
        const struct tile *t); /* TILE_COLS or LANES columns; TILE_ROWS, 4, 2, 1 rows */
};

DEFINE_TILES(tile, )
#ifdef LC_GEMM_PAIRS
DEFINE_TILES(tile_pairs, _PAIRS)
#endif

void cpu_tile(const struct tile *t, bool pairs, int rows, int64_t cols) {
#ifdef LC_GEMM_PAIRS
    const struct tiles *tiles = pairs ? &tile_pairs : &tile;
#else
    const struct tiles *tiles = &tile;
    (void)pairs;
#endif
    if (rows == TILE_ROWS && cols > LANES && t->a_row == 1 && t->a_k == TILE_ROWS &&
        t->b_k == TILE_COLS)
        tiles->packed(t);
    else
        tiles->by_size[cols <= LANES][rows == TILE_ROWS ? 0 : rows == 4 ? 1 : rows == 2 ? 2 : 3](t);
}
