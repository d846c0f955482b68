/* tokenizer.c - opens liblucid_text.so at first use. */
#include "lucid.h"
