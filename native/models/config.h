/* config.h - config.json, with the defaults that the Hugging Face classes have for absent keys. */
#ifndef LC_CONFIG_H
#define LC_CONFIG_H
#include <stdbool.h>

#include "lucid.h"

struct lc_config {
    lc_json *root;
    char *folder;
};

int lc_config_open(struct lc_config *c, const char *folder);
void lc_config_close(struct lc_config *c);

/* A key of a section (NULL: the section is absent, so is the key). JSON null counts as absent.
 * A value of another type clears *ok and says so; calls with *ok cleared do nothing. */
int64_t lc_config_int(const struct lc_config *c, const lc_json *section, const char *key,
                      int64_t absent, bool *ok);
double lc_config_number(const struct lc_config *c, const lc_json *section, const char *key,
                        double absent, bool *ok);
double lc_config_positive(const struct lc_config *c, const lc_json *section, const char *key,
                          double absent, bool *ok); /* finite and above 0 */
int64_t lc_config_layers(const struct lc_config *c, const lc_json *section, int64_t absent,
                         bool *ok); /* num_hidden_layers */
const char *lc_config_text(const struct lc_config *c, const lc_json *section, const char *key,
                           const char *absent, bool *ok);
bool lc_config_flag(const struct lc_config *c, const lc_json *section, const char *key, bool absent,
                    bool *ok);

#endif
