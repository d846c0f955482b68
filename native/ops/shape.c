/* shape.c - placeholder until its family lands in this commit series. */
#include "ops/autograd.h"
