/* torchfile.h - the tensors of one file of torch.save, in either of its two formats. */
#ifndef LC_IO_TORCHFILE_H
#define LC_IO_TORCHFILE_H
#include "io/entries.h"

/* Appends the tensors that the file holds, however deep: names are the keys on the way, with dots
 * ("model.llama_proj.weight"); items of lists are numbered from 0. Nothing of the file is run, and the
 * tensors' bytes are not read. format: LC_FORMAT_ZIP or LC_FORMAT_PICKLE. Errors are "PATH: what". */
int lc_torchfile_read(struct lc_entries *e, int fd, int64_t size, int format, const char *path,
                      int file);

#endif
