/* adamw.c - the optimizer's state: two f32 moments a parameter, and the number of steps.
 *
 * A parameter of 16 bits has an f32 master too, which takes the steps and is rounded into it: most
 * steps are smaller than half a unit of a bf16 weight and would be lost. All of it lives outside
 * scopes. A parameter without a gradient is left alone in that step. */
#include "base/error.h"
#include "base/memory.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 512 };

struct slot {
    char *name;
    lc_tensor *parameter; /* held, as all of these */
    lc_tensor *m, *v;     /* f32, the parameter's shape */
    lc_tensor *master;    /* f32; NULL when the parameter is f32 itself */
};

struct lc_adamw {
    double beta1, beta2, eps, weight_decay;
    int64_t steps;
    struct slot *slots;
    int count, room;
};

/* ---- making -------------------------------------------------------------------------------------- */

lc_adamw *lc_adamw_new(double beta1, double beta2, double eps, double weight_decay) {
    if (!(beta1 >= 0 && beta1 < 1) || !(beta2 >= 0 && beta2 < 1) || !(eps > 0) ||
        !(weight_decay >= 0))
        return lc_fail_null(LC_EINVAL,
                            "adamw: betas %g and %g, eps %g, weight decay %g; betas in [0, 1), eps "
                            "above 0 and decay at least 0 are expected",
                            beta1, beta2, eps, weight_decay);
    lc_adamw *o = lc_alloc(sizeof *o);
    if (o)
        *o = (lc_adamw){.beta1 = beta1, .beta2 = beta2, .eps = eps, .weight_decay = weight_decay};
    return o;
}

static void free_slot(struct slot *s) {
    lc_free(s->name);
    lc_tensor_release(s->parameter);
    lc_tensor_release(s->m);
    lc_tensor_release(s->v);
    lc_tensor_release(s->master);
}

void lc_adamw_free(lc_adamw *o) {
    if (!o) return;
    for (int i = 0; i < o->count; i++) free_slot(&o->slots[i]);
    lc_free(o->slots);
    lc_free(o);
}

static int check_parameter(const lc_adamw *o, const lc_tensor *parameter, const char *name) {
    if (parameter->node || !lc_is_float(parameter) || !lc_tensor_dense(parameter))
        return lc_fail(LC_EINVAL, "adamw: %s is %s; a dense leaf of floats is expected", name,
                       lc_shape_text(parameter));
    if (strlen(name) + sizeof ".m" > NAME_BYTES)
        return lc_fail(LC_EINVAL, "adamw: a name of %zu bytes is too long", strlen(name));
    for (int i = 0; i < o->count; i++)
        if (!strcmp(o->slots[i].name, name))
            return lc_fail(LC_EINVAL, "adamw: %s is there already", name);
    return 0;
}

static int make_room(lc_adamw *o) {
    if (o->count < o->room) return 0;
    int room = o->room ? 2 * o->room : 64;
    struct slot *slots = lc_realloc(o->slots, (size_t)room * sizeof *slots);
    if (!slots) return -1;
    o->slots = slots;
    o->room = room;
    return 0;
}

static int fill_slot(struct slot *s, lc_tensor *parameter, const char *name) {
    s->parameter = lc_tensor_retain(parameter);
    s->name = lc_copy_text(name);
    s->m = lc_tensor_retain(lc_tensor_zero_like(parameter, LC_F32));
    s->v = lc_tensor_retain(lc_tensor_zero_like(parameter, LC_F32));
    if (!s->name || !s->m || !s->v) return -1;
    if (parameter->dtype == LC_F32) return 0;
    s->master = lc_tensor_retain(lc_tensor_zero_like(parameter, LC_F32));
    return s->master ? lc_tensor_copy(s->master, parameter) : -1;
}

int lc_adamw_add(lc_adamw *o, lc_tensor *parameter, const char *name) {
    if (!lc_usable("adamw", parameter) || check_parameter(o, parameter, name) < 0 ||
        make_room(o) < 0)
        return -1;
    struct slot s = {0};
    int before = lc_pool();
    lc_scope_outside(1);
    int tag = lc_device_tag(LC_FOR_OPTIMIZER);
    int done = fill_slot(&s, parameter, name);
    lc_device_tag(tag);
    lc_scope_outside(0);
    lc_pool_end(before, NULL);
    if (done < 0) free_slot(&s);
    else o->slots[o->count++] = s;
    return done;
}

/* ---- stepping -------------------------------------------------------------------------------------- */

int64_t lc_adamw_steps(const lc_adamw *o) { return o->steps; }

/* The parameters that have a gradient; their number, or -1. */
static int gather_parts(const lc_adamw *o, struct lc_adamw_part *parts) {
    int n = 0;
    for (int i = 0; i < o->count; i++) {
        const struct slot *s = &o->slots[i];
        if (!lc_usable("adamw", s->parameter)) return -1;
        const lc_tensor *g = s->parameter->grad;
        if (!g) continue;
        parts[n++] = (struct lc_adamw_part){.parameter = lc_data(s->parameter),
                                            .dtype = s->parameter->dtype,
                                            .master = s->master ? lc_data(s->master) : NULL,
                                            .m = lc_data(s->m),
                                            .v = lc_data(s->v),
                                            .gradient = lc_data(g),
                                            .count = lc_tensor_count(g)};
    }
    return n;
}

double lc_adamw_grad_norm(lc_adamw *o) {
    struct lc_adamw_part *parts = lc_alloc((size_t)o->count * sizeof *parts);
    int n = parts ? gather_parts(o, parts) : -1, done = n < 0 ? -1 : 0;
    double sum = 0;
    if (n > 0) done = lc_kernels_of(o->slots[0].parameter)->square_sum(&sum, parts, n);
    lc_free(parts);
    if (done < 0) return -1;
    return isfinite(sum) ? sqrt(sum) : (double)NAN;
}

int lc_adamw_step(lc_adamw *o, double lr, double grad_scale) {
    struct lc_adamw_part *parts = lc_alloc((size_t)o->count * sizeof *parts);
    int n = parts ? gather_parts(o, parts) : -1, done = n < 0 ? -1 : 0;
    if (n > 0) {
        double t = (double)(o->steps + 1), c1 = 1 - pow(o->beta1, t), c2 = 1 - pow(o->beta2, t);
        done = lc_kernels_of(o->slots[0].parameter)
                   ->adamw(parts, n, (float)lr, (float)o->beta1, (float)o->beta2, (float)o->eps,
                           (float)o->weight_decay, (float)c1, (float)c2, (float)grad_scale);
    }
    lc_free(parts);
    if (done < 0) return -1;
    o->steps++;
    for (int i = 0; i < o->count; i++) {
        lc_tensor_changed(o->slots[i].parameter);
        lc_tensor_zero_grad(o->slots[i].parameter);
    }
    return 0;
}

/* ---- saved state ----
 * "step" is i32 []; a parameter NAME has "NAME.m", "NAME.v" and, of 16 bits, "NAME.w", its master. */

/* Calls each(context, name, tensor) for every saved tensor; -1 as soon as one does. */
static int each_tensor(const lc_adamw *o, int (*each)(void *context, const char *, lc_tensor *),
                       void *context) {
    for (int i = 0; i < o->count; i++) {
        const struct slot *s = &o->slots[i];
        lc_tensor *tensors[] = {s->m, s->v, s->master};
        for (int k = 0; k < 3 && tensors[k]; k++) {
            char name[NAME_BYTES];
            snprintf(name, sizeof name, "%s.%c", s->name, "mvw"[k]);
            if (each(context, name, tensors[k]) < 0) return -1;
        }
    }
    return 0;
}

static int write_one(void *writer, const char *name, lc_tensor *t) {
    return lc_writer_add(writer, name, t);
}

int lc_adamw_save(lc_adamw *o, lc_writer *w) {
    int before = lc_pool(), done = -1;
    lc_scope_outside(1); /* the writer may finish in another scope */
    lc_tensor *step = lc_tensor_new(0, NULL, LC_I32, LC_HOST);
    lc_scope_outside(0);
    int32_t steps = (int32_t)o->steps;
    if (step && !lc_tensor_write(step, &steps, sizeof steps) && !lc_writer_add(w, "step", step))
        done = each_tensor(o, write_one, w);
    lc_pool_end(before, NULL);
    return done;
}

static int check_one(void *checkpoint, const char *name, lc_tensor *t) {
    lc_tensor *saved = lc_checkpoint_tensor(checkpoint, name);
    if (!saved) return -1;
    if (saved->dtype == LC_F32 && lc_same_shape(saved, t)) return 0;
    return lc_fail(LC_EINVAL, "adamw: the saved %s is %s, but the optimizer's is %s", name,
                   lc_shape_text(saved), lc_shape_text(t));
}

static int read_one(void *checkpoint, const char *name, lc_tensor *t) {
    return lc_tensor_copy(t, lc_checkpoint_tensor(checkpoint, name));
}

/* Nothing is changed unless all of it fits. */
int lc_adamw_load(lc_adamw *o, lc_checkpoint *c) {
    int before = lc_pool(), done = -1;
    int32_t steps = 0;
    lc_tensor *step = lc_checkpoint_tensor(c, "step");
    if (step && (step->dtype != LC_I32 || lc_tensor_count(step) != 1))
        lc_fail(LC_EINVAL, "adamw: the saved step is %s; i32 [] is expected", lc_shape_text(step));
    else if (step && !lc_tensor_read(step, &steps, sizeof steps) && !each_tensor(o, check_one, c))
        done = each_tensor(o, read_one, c);
    for (int i = 0; !done && i < o->count; i++)
        if (o->slots[i].master) done = lc_tensor_copy(o->slots[i].parameter, o->slots[i].master);
    if (!done) o->steps = steps;
    lc_pool_end(before, NULL);
    return done;
}
