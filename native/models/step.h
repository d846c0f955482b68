/* step.h - decoding steps: one new row for each of some leaves.
 *
 * On a device that can record, a step is filled up to 1, 4, 8, 16, 32 or 64 rows and what it launches is recorded
 * for each of these numbers: the first such step runs plainly (a library makes its choices, modules are loaded), the
 * second is recorded, and from then on all are replays, whatever leaves have grown, forked or ended. A leaf's bits do
 * not depend on the rows around it, so they are those of plain steps. Recordings are made anew when the cache moves,
 * and after a plain step when weights or adapters were written or have moved. */
#ifndef LC_STEP_H
#define LC_STEP_H
#include "models/model.h"

struct lc_cache;
struct lc_steps;

/* The model and the cache are borrowed. */
struct lc_steps *lc_steps_new(const lc_model *m, struct lc_cache *cache, bool adapters);
void lc_steps_free(struct lc_steps *s); /* NULL is legal; before the cache is */

/* Runs ids[i] behind leaf path[i] of the cache, i < n; ids are known to be of the vocabulary. Logits of the next tokens,
 * f32 [n or more, V], pending; another step may write over them. */
lc_tensor *lc_steps_run(struct lc_steps *s, int n, const int32_t *path, const int32_t *ids);

#endif
