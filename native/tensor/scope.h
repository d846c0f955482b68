/* scope.h - between tensor.c and scope.c. */
#ifndef LC_SCOPE_H
#define LC_SCOPE_H
#include "tensor/tensor.h"

void lc_scope_birth(struct lc_storage *s);  /* into the innermost open scope, if any */
void lc_scope_unlink(struct lc_storage *s); /* out of whichever scope holds it */
void lc_storage_free_data(struct lc_storage *s);

#endif
