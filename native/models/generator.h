/* generator.h - answers in the making, for generate.c and trunk.c.
 *
 * A leaf runs what is new of its path in the next pass: the token that it chose last, or the ids that it joined
 * with. One that rests takes no part: a trunk, or an answer whose reader is slow. */
#ifndef LC_GENERATOR_H
#define LC_GENERATOR_H
#include "models/model.h"
#include "nn/cache.h"

struct lc_sampling {
    double temperature, top_p;
    int64_t top_k; /* 0: all */
    uint64_t seed;
};

struct leaf {
    int32_t next;     /* the token to feed in the next step; -1: none chosen yet */
    int32_t made;     /* tokens chosen so far */
    int64_t least;    /* tokens before an answer may end */
    int32_t path;     /* its number in the cache; -1: not known there */
    int64_t position; /* of the next token */
    int64_t row;      /* of the logits, its own; -1: there is none */
    uint64_t stream;  /* of its random numbers */
    struct lc_sampling sampling;
    int32_t *seen; /* ids that a repetition penalty counts: the caller's and its own */
    int64_t seen_count, seen_room;
    int32_t *ids; /* those that it joined with, until they have run */
    int32_t id_count;
    bool live, resting;
};

struct lc_generator {
    lc_model *model;
    struct lc_cache *cache;
    struct lc_steps *steps;
    struct leaf *leaves;
    int count, room, most; /* leaves; space for leaves; tokens each may make */
    bool adapters;
    lc_tensor *logits; /* f32 [rows, V]: of each leaf's next token; held, outside scopes */

    struct lc_sampling sampling; /* of new leaves */
    double penalty;
    int64_t words; /* ids that may be chosen, from 0 on */
    int32_t *ends; /* ids that end an answer */
    int64_t end_count;
};

/* The number of a leaf that is not in use, with nothing seen; -1. The list of leaves may move. */
int lc_generator_spare_leaf(lc_generator *g);
/* The residual stream of the planned pass's rows. */
lc_tensor *lc_generator_rows(lc_generator *g, lc_tensor *x);
int lc_generator_check_leaf(const lc_generator *g, int leaf);
int lc_generator_check_ids(const lc_generator *g, const int32_t *ids, int64_t n);

#endif
