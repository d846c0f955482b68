/* config.c - typed look-ups in config.json. */
#include "models/config.h"

#include "base/error.h"
#include "base/memory.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_LAYERS = 1024 }; /* of a part: far beyond any model, and no array of them is large */

int lc_config_open(struct lc_config *c, const char *folder) {
    char path[4096], *text;
    size_t n;
    *c = (struct lc_config){0};
    if (lc_file_kind(folder) != 2)
        return lc_fail(LC_EMISSING, "%s: there is no such folder", folder);
    if (snprintf(path, sizeof path, "%s/config.json", folder) >= (int)sizeof path)
        return lc_fail(LC_EINVAL, "%.80s...: the path is too long", folder);
    if (lc_file_kind(path) != 1)
        return lc_fail(LC_EMISSING, "%s: there is no config.json, so this is not a model folder",
                       folder);
    if (lc_file_read(path, &text, &n) < 0) return -1;
    c->root = lc_json_parse(text, n, path, 0);
    lc_free(text);
    c->folder = lc_copy_text(folder);
    if (c->root && c->folder && lc_json_type(c->root) == LC_JSON_OBJECT) return 0;
    if (c->root && c->folder) lc_fail(LC_EINVAL, "%s: a JSON object is expected", path);
    lc_config_close(c);
    return -1;
}

void lc_config_close(struct lc_config *c) {
    lc_json_free(c->root);
    lc_free(c->folder);
    *c = (struct lc_config){0};
}

/* The value, or NULL when absent, null, or of a type that was not asked for (which is reported). */
static const lc_json *value_of(const struct lc_config *c, const lc_json *section, const char *key,
                               int type, const char *wanted, bool *ok) {
    if (*ok && section && lc_json_type(section) != LC_JSON_OBJECT &&
        lc_json_type(section) != LC_JSON_NULL) {
        lc_fail(LC_EINVAL, "%s/config.json: the section that should hold \"%s\" is no object",
                c->folder, key);
        *ok = false;
    }
    const lc_json *v = *ok && section ? lc_json_get(section, key) : NULL;
    if (!v || lc_json_type(v) == LC_JSON_NULL) return NULL;
    bool right = type == LC_JSON_TRUE
                     ? lc_json_type(v) == LC_JSON_TRUE || lc_json_type(v) == LC_JSON_FALSE
                     : lc_json_type(v) == type;
    if (right) return v;
    lc_fail(LC_EINVAL, "%s/config.json: \"%s\" should be %s", c->folder, key, wanted);
    *ok = false;
    return NULL;
}

int64_t lc_config_int(const struct lc_config *c, const lc_json *section, const char *key,
                      int64_t absent, bool *ok) {
    const lc_json *v = value_of(c, section, key, LC_JSON_NUMBER, "an integer", ok);
    int64_t number = absent;
    if (v && lc_json_integer(v, &number) < 0) {
        lc_fail(LC_EINVAL, "%s/config.json: \"%s\" is %g, an integer is expected", c->folder, key,
                lc_json_number(v));
        *ok = false;
    }
    return number;
}

double lc_config_number(const struct lc_config *c, const lc_json *section, const char *key,
                        double absent, bool *ok) {
    const lc_json *v = value_of(c, section, key, LC_JSON_NUMBER, "a number", ok);
    return v ? lc_json_number(v) : absent;
}

double lc_config_positive(const struct lc_config *c, const lc_json *section, const char *key,
                          double absent, bool *ok) {
    double number = lc_config_number(c, section, key, absent, ok);
    if (*ok && !(number > 0 && isfinite(number))) {
        lc_fail(LC_EINVAL, "%s/config.json: \"%s\" is %g, a number above 0 is expected", c->folder,
                key, number);
        *ok = false;
    }
    return number;
}

int64_t lc_config_layers(const struct lc_config *c, const lc_json *section, int64_t absent,
                         bool *ok) {
    int64_t layers = lc_config_int(c, section, "num_hidden_layers", absent, ok);
    if (*ok && (layers < 1 || layers > MOST_LAYERS)) {
        lc_fail(LC_EINVAL,
                "%s/config.json: \"num_hidden_layers\" is %" PRId64 "; 1 to %d is possible",
                c->folder, layers, MOST_LAYERS);
        *ok = false;
    }
    return layers;
}

const char *lc_config_text(const struct lc_config *c, const lc_json *section, const char *key,
                           const char *absent, bool *ok) {
    const lc_json *v = value_of(c, section, key, LC_JSON_STRING, "a string", ok);
    size_t n;
    return v ? lc_json_string(v, &n) : absent;
}

bool lc_config_flag(const struct lc_config *c, const lc_json *section, const char *key, bool absent,
                    bool *ok) {
    const lc_json *v = value_of(c, section, key, LC_JSON_TRUE, "true or false", ok);
    return v ? lc_json_type(v) == LC_JSON_TRUE : absent;
}
