/* spans.c - the lists that attention kernels walk, against a mask from the definition.
 *
 *   spans SEED FORESTS   random forests of up to 6 floors; prints one line, or what is wrong
 *
 * A row sees all tokens of its segment's ancestors and, of its own segment, those up to itself (all
 * of them where it is bidirectional). Every way of reading the lists must say the same. */
#include "cuda/spans.h"
#include "nn/forest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENTS = 14, FLOORS = 6, ROWS = 700 };

static uint64_t chance;
static int number; /* of the forest */

static int between(int low, int high) {
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return low + (int)((chance >> 33) % (uint64_t)(high - low + 1));
}

#define CHECK(what, ...)                                                                           \
    do {                                                                                           \
        if (what) break;                                                                           \
        fprintf(stderr, "spans: forest %d: " #what ": ", number);                                  \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fprintf(stderr, "\n");                                                                     \
        exit(1);                                                                                   \
    } while (0)

static bool mask[ROWS][ROWS]; /* row, key */

/* ---- forests --------------------------------------------------------------------------------- */

static lc_forest *random_forest(void) {
    static const int32_t edges[] = {1, 63, 64, 65, 127, 128, 129};
    int32_t parent[SEGMENTS], length[SEGMENTS], floor[SEGMENTS];
    uint8_t bidirectional[SEGMENTS];
    const int n = between(1, SEGMENTS), longest = between(0, 3) ? 12 : 40;
    int32_t rows = 0;
    for (int i = 0; i < n; i++) {
        do parent[i] = between(-1, i - 1);
        while (parent[i] >= 0 && floor[parent[i]] == FLOORS);
        floor[i] = parent[i] < 0 ? 1 : floor[parent[i]] + 1;
        length[i] = between(0, 15) ? between(0, longest) : edges[between(0, 6)];
        if (rows + length[i] > ROWS) length[i] = 0;
        rows += length[i];
        bidirectional[i] = between(0, 4) == 0;
    }
    return lc_forest_new(n, parent, length, bidirectional);
}

static void fill_mask(const lc_forest *f) {
    memset(mask, 0, sizeof mask);
    for (int a = 0; a < f->segments; a++) {
        const struct lc_segment *s = &f->segment[a];
        for (int32_t i = s->first; i < s->first + s->length; i++) {
            const int32_t end = s->bidirectional ? s->first + s->length : i + 1;
            for (int32_t j = s->first; j < end; j++) mask[i][j] = true;
            for (int32_t up = s->parent; up >= 0; up = f->segment[up].parent)
                for (int32_t j = 0; j < f->segment[up].length; j++)
                    mask[i][f->segment[up].first + j] = true;
        }
    }
}

/* ---- query blocks ---------------------------------------------------------------------------- */

/* Row i sees path keys [0, seen), which are the mask's keys in ascending order. */
static void check_path(const struct lc_spans *s, const struct lc_query_tile *b, int32_t i) {
    struct spans_cursor cursor = {b->r0, b->r1, 0};
    int64_t at = 0, seen = 0;
    for (int32_t r = b->r0; r < b->r1; r++) seen += spans_seen(&s->ranges[r], i);
    for (int32_t j = 0; j < s->keys; j++) {
        if (!mask[i][j]) continue;
        const int32_t row = at < seen ? spans_row(s->ranges, &cursor, at) : -1;
        CHECK(row == j, "row %d sees key %d, its path key %d is %d", i, j, (int)at, row);
        at++;
    }
    CHECK(at == seen, "row %d sees %d keys, its path has %d", i, (int)at, (int)seen);
}

static void check_blocks(const struct lc_spans *s, int32_t rows) {
    struct spans_lists lists = {0};
    int covered[ROWS] = {0};
    int64_t before = INT64_MAX;
    CHECK(spans_make_blocks(&lists, s, rows) == 0, "no memory");
    for (int64_t n = 0; n < lists.block_count; n++) {
        const struct lc_query_tile *b = &lists.blocks[n];
        const int64_t work = lc_tile_seen(s, b, b->q1 - 1);
        CHECK(b->q1 - b->q0 <= rows && b->q1 > b->q0, "rows %d to %d", b->q0, b->q1);
        CHECK(work <= before, "block %d comes too late", (int)n);
        before = work;
        for (int32_t i = b->q0; i < b->q1; i++) {
            covered[i]++;
            check_path(s, b, i);
        }
    }
    for (int32_t i = 0; i < s->queries; i++)
        CHECK(covered[i] == 1, "row %d is in %d blocks", i, covered[i]);
    spans_free(&lists);
}

/* ---- key blocks ------------------------------------------------------------------------------ */

/* Marks the rows that key k is seen by, as a kernel finds them. */
static void walk_tiles(const struct lc_spans *s, const struct key_block *b, int32_t k, bool *rows) {
    for (int32_t i = b->t0; i < b->t1; i++) {
        const struct lc_query_tile *t = &s->tiles[i];
        const int32_t r = spans_find(s->ranges, t, b->k0);
        if (r < 0) continue;
        const int32_t ahead = spans_ahead(&s->ranges[r], t, b->k0);
        for (int32_t x = 0; x < t->q1 - t->q0; x++) {
            const bool sees = k - b->k0 + ahead <= x;
            const bool plain = k - s->ranges[r].k0 < spans_seen(&s->ranges[r], t->q0 + x);
            CHECK(sees == plain, "key %d and row %d", k, t->q0 + x);
            rows[t->q0 + x] = sees;
        }
    }
}

static void check_keys(const struct lc_spans *s) {
    struct spans_lists lists = {0};
    int covered[ROWS] = {0};
    CHECK(spans_make_keys(&lists, s) == 0, "no memory");
    for (int64_t n = 0; n < lists.key_count; n++) {
        const struct key_block *b = &lists.keys[n];
        CHECK(b->k1 - b->k0 <= KEY_BLOCK && b->k1 > b->k0, "keys %d to %d", b->k0, b->k1);
        for (int32_t k = b->k0; k < b->k1; k++) {
            bool rows[ROWS] = {false};
            covered[k]++;
            walk_tiles(s, b, k, rows);
            for (int32_t i = 0; i < s->queries; i++)
                CHECK(rows[i] == mask[i][k], "key %d, row %d", k, i);
        }
        for (int32_t end = 0; end < 2 && b->t0 < b->t1; end++) {
            const struct lc_query_tile *t = &s->tiles[end ? b->t1 - 1 : b->t0];
            CHECK(mask[t->q1 - 1][b->k0], "key %d has a tile too many", b->k0);
        }
    }
    for (int32_t k = 0; k < s->keys; k++)
        CHECK(covered[k] == 1, "key %d is in %d blocks", k, covered[k]);
    spans_free(&lists);
}

/* ---- chunk items ----------------------------------------------------------------------------- */

/* The same spans with a tile for each row, as in decoding. */
static void check_items(const struct lc_spans *s, int64_t share) {
    static struct lc_query_tile single[ROWS];
    static int covered[ROWS][ROWS / CHUNK + 1];
    struct lc_spans rows = *s;
    struct spans_lists lists = {0};
    rows.tile_count = 0;
    rows.tiles = single;
    for (int32_t t = 0; t < s->tile_count; t++)
        for (int32_t i = s->tiles[t].q0; i < s->tiles[t].q1; i++)
            single[rows.tile_count++] =
                (struct lc_query_tile){i, i + 1, s->tiles[t].r0, s->tiles[t].r1};
    memset(covered, 0, sizeof covered);
    if (rows.tile_count) { /* a row that sees nothing */
        struct lc_query_tile *blind = &single[between(0, rows.tile_count - 1)];
        blind->r1 = blind->r0;
    }
    CHECK(spans_make_items(&lists, &rows, share) == 0, "no memory");
    for (int64_t n = 0; n < lists.item_count; n++) {
        const struct chunk_item *item = &lists.items[n];
        CHECK(item->tiles * share <= CHUNK_PAIRS || item->tiles == 1, "%d tiles", item->tiles);
        for (int32_t x = item->tile; x < item->tile + item->tiles; x++) {
            struct spans_cursor own = {single[x].r0, single[x].r1, 0};
            struct spans_cursor first = {single[item->tile].r0, single[item->tile].r1, 0};
            const int64_t seen = lc_tile_seen(s, &single[x], single[x].q0);
            covered[x][item->chunk]++;
            for (int64_t at = item->chunk * CHUNK; at < seen && at < (item->chunk + 1) * CHUNK;
                 at++)
                CHECK(spans_row(s->ranges, &own, at) == spans_row(s->ranges, &first, at),
                      "tile %d is in the item of tile %d", x, item->tile);
        }
    }
    for (int32_t x = 0; x < rows.tile_count; x++)
        for (int32_t c = 0; c <= ROWS / CHUNK; c++) {
            const int want = c < spans_chunks(lc_tile_seen(s, &single[x], single[x].q0));
            CHECK(covered[x][c] == want, "chunk %d of tile %d is in %d items", c, x, covered[x][c]);
        }
    spans_free(&lists);
}

int main(int argc, char **argv) {
    const int seed = argc > 1 ? atoi(argv[1]) : 1, forests = argc > 2 ? atoi(argv[2]) : 10000;
    int64_t rows = 0;
    for (number = seed; number < seed + forests; number++) {
        chance = (uint64_t)number * 0x9e3779b97f4a7c15u + 1;
        for (int i = 0; i < 8; i++) between(0, 1);
        lc_forest *f = random_forest();
        CHECK(f != NULL, "it was not made");
        const struct lc_spans *s = lc_forest_spans(f);
        fill_mask(f);
        check_blocks(s, LC_TILE_ROWS);
        check_blocks(s, 2 * LC_TILE_ROWS);
        check_keys(s);
        check_items(s, between(1, 20));
        rows += s->queries;
        lc_forest_release(f);
    }
    printf("%d forests of %.1f rows\n", forests, (double)rows / forests);
    return 0;
}
