/* node.h - the part of a tape node that a tensor needs to know: how to let go of it.
 * The rest is in ops/autograd.c, a floor above. */
#ifndef LC_NODE_H
#define LC_NODE_H

struct lc_node {
    void (*free)(struct lc_node *n);
};

#endif
