/* model.c - a tokenizer; a model with an adapter: a training step, answers that grow, a search. */
#include <string.h>

#include "capi.h"

enum { MOST = 4, ANSWER = 5, PICTURE = 2 /* ids up to the picture's */ };

static int32_t prompt[64];
static int prompt_length;

/* "<s> picture question" */
static void encode(const char *folder) {
    lc_tokenizer *t = lc_tokenizer_open(folder);
    int32_t *ids;
    char *text;
    size_t count, n;
    MUST(t && !lc_tokenizer_is_wordpiece(t) && lc_tokenizer_pieces(t) > 256);
    MUST(lc_tokenizer_encode(t, "Is there a car?", 15, 0, &ids, &count) == 0 && count > 0 &&
         count < 60);
    MUST(lc_tokenizer_decode(t, ids, count, &text, &n) == 0 && n == 15 &&
         !memcmp(text, "Is there a car?", n));
    lc_free_bytes(text);
    prompt_length = 0;
    prompt[prompt_length++] = lc_tokenizer_special(t, 1);
    prompt[prompt_length++] = LC_IMAGE_TOKEN;
    for (size_t i = 0; i < count; i++) prompt[prompt_length++] = ids[i];
    lc_free_bytes(ids);
    lc_tokenizer_close(t);
    REFUSED(lc_tokenizer_open("/nowhere") == NULL);
}

static lc_tensor *see(lc_model *m) {
    int64_t side = lc_model_image_size(m);
    const int64_t shape[] = {1, 3, side, side};
    lc_tensor *pixels = capi_own(lc_tensor_randn(4, shape, LC_F32, LC_HOST, 3, 1));
    lc_tensor *seen = capi_own(lc_model_vision(m, pixels));
    const int64_t rows[] = {lc_tensor_size(seen, 1), lc_tensor_size(seen, 2)};
    lc_tensor *features = capi_own(lc_view(seen, 2, rows));
    lc_tensor_release(seen);
    lc_tensor_release(pixels);
    return features;
}

/* A trunk, picture and all, and leaves: answers to the question, or where there are none the question. */
static lc_batch *batch_of(const lc_model *m, lc_tensor *features, int answers) {
    lc_batch *b = lc_batch_new();
    MUST(b);
    int image = lc_batch_picture(b, m, features, NULL, 0);
    int trunk = lc_batch_segment(b, -1, prompt, answers ? prompt_length : PICTURE, image, 0);
    MUST(image == 0 && trunk == 0);
    if (!answers)
        MUST(lc_batch_segment(b, trunk, prompt + PICTURE, prompt_length - PICTURE, -1, 1) == 1);
    for (int i = 0; i < answers; i++)
        MUST(lc_batch_segment(b, trunk, (const int32_t[]){40 + i, 50, 60}, 3, -1, 1) == i + 1);
    return b;
}

/* Two answers to one picture, one step of the adapter, and its file. */
static void train(lc_model *m, lc_tensor *features, const char *scratch) {
    char path[4096];
    snprintf(path, sizeof path, "%s/adapter.safetensors", scratch);
    MUST(lc_model_lora(m, 2, 4, "q_proj,v_proj", 1) == 0 && lc_model_recompute(m, 1) == 0);
    lc_adamw *o = lc_adamw_new(0.9, 0.999, 1e-8, 0);
    lc_writer *w = lc_writer_new(path);
    MUST(o && w);
    for (int i = 0; i < lc_model_parameters(m); i++) {
        if (strcmp(lc_model_parameter_part(m, i), "adapter") != 0) continue;
        MUST(lc_adamw_add(o, lc_model_parameter(m, i), lc_model_parameter_name(m, i)) == 0);
        MUST(lc_writer_add(w, lc_model_parameter_name(m, i), lc_model_parameter(m, i)) == 0);
    }
    MUST(lc_scope_begin() == 0);
    lc_batch *b = batch_of(m, features, 2);
    lc_tensor *loss = capi_own(lc_scale(lc_mean(lc_model_token_logps(m, b, 1)), -1));
    MUST(lc_backward(loss) == 0 && lc_adamw_step(o, 1e-3, 1) == 0);
    lc_tensor_release(loss);
    lc_batch_free(b);
    MUST(lc_scope_end() == 0);
    MUST(lc_writer_finish(w) == 0 && lc_remove(path) == 0);
    lc_adamw_free(o);
}

static void grow(lc_model *m, lc_tensor *features) {
    int32_t ids[MOST * 2];
    float logps[MOST * 2];
    lc_batch *b = batch_of(m, features, 0);
    lc_generator *g = lc_generator_new(m, b, ANSWER, 1);
    MUST(g && lc_generator_sampling(g, 0.8, 20, 0.9, 7) == 0 && lc_generator_penalty(g, 1.1) == 0);
    for (int i = 0; i < ANSWER; i++) MUST(lc_generator_step(g, ids, logps) == 1);
    MUST(lc_generator_room(g, 0) == 0);
    lc_generator_free(g);

    MUST((g = lc_generator_new(m, b, ANSWER, 0)));
    MUST(lc_generator_best(g, 2, ids, logps) == 1);
    int fork = lc_generator_fork(g, 0);
    MUST(fork == 1 && lc_generator_choose(g, 0, ids[0]) == 0 &&
         lc_generator_choose(g, fork, ids[1]) == 0);
    MUST(lc_generator_best(g, 2, ids, logps) == 2 && lc_generator_end(g, 0) == 0);
    lc_generator_free(g);
    lc_batch_free(b);
}

/* Two prompts on one picture, the second while the first grows. */
static void join(lc_model *m, lc_tensor *features) {
    int32_t ids[MOST];
    lc_batch *b = lc_batch_new();
    MUST(b && lc_batch_picture(b, m, features, NULL, 0) == 0);
    MUST(lc_batch_segment(b, -1, prompt, PICTURE, 0, 0) == 0);
    lc_generator *g = lc_generator_new(m, NULL, ANSWER, 0);
    MUST(g);
    int trunk = lc_generator_trunk(g, b);
    MUST(trunk >= 0 && lc_generator_join(g, trunk, prompt + PICTURE, prompt_length - PICTURE) >= 0);
    MUST(lc_generator_step(g, ids, NULL) == 1);
    int second = lc_generator_join(g, trunk, prompt + PICTURE, 1);
    MUST(second >= 0 && lc_generator_step(g, ids, NULL) == 2 &&
         lc_generator_rest(g, second, 1) == 0);
    MUST(lc_generator_end(g, trunk) == 0);
    lc_generator_free(g);
    lc_batch_free(b);
}

void capi_model(const char *folder, const char *scratch) {
    encode(folder);
    lc_model *m = lc_model_open(folder, LC_F32, LC_HOST);
    MUST(m && !strcmp(lc_model_kind(m), "llava"));
    int before = lc_grad_mode(0);
    lc_tensor *features = see(m);
    grow(m, features);
    join(m, features);
    lc_grad_mode(before);
    train(m, features, scratch);
    lc_tensor_release(features);
    lc_model_free(m);
    REFUSED(lc_model_open(scratch, LC_F32, LC_HOST) == NULL);
}
