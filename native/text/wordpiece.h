/* wordpiece.h - BERT's tokenizer behind the same table that the SentencePiece plug-in fills. */
#ifndef LC_TEXT_WORDPIECE_H
#define LC_TEXT_WORDPIECE_H
#include "text/plugin.h"

extern const struct lc_text lc_wordpiece;

#endif
