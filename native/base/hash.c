/* hash.c - SHA-256 by libcrypto. */
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <unistd.h>

#ifdef LC_HAVE_CRYPTO
#include <openssl/evp.h>

static int write_hex(EVP_MD_CTX *hash, char *hex65) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (!EVP_DigestFinal_ex(hash, bytes, &n) || n != 32)
        return lc_fail(LC_EIO, "sha256: libcrypto refused");
    for (unsigned i = 0; i < n; i++) {
        *hex65++ = "0123456789abcdef"[bytes[i] >> 4];
        *hex65++ = "0123456789abcdef"[bytes[i] & 15];
    }
    *hex65 = 0;
    return 0;
}

static EVP_MD_CTX *begin(void) {
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    if (hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL)) return hash;
    EVP_MD_CTX_free(hash);
    return lc_fail_null(LC_EIO, "sha256: libcrypto refused");
}

int lc_sha256(const void *data, size_t n, char *hex65) {
    EVP_MD_CTX *hash = begin();
    if (!hash) return -1;
    int result = EVP_DigestUpdate(hash, data, n) ? write_hex(hash, hex65)
                                                 : lc_fail(LC_EIO, "sha256: libcrypto refused");
    EVP_MD_CTX_free(hash);
    return result;
}

static int hash_bytes(EVP_MD_CTX *hash, int fd, const char *path, char *piece, size_t room) {
    for (;;) {
        if (lc_poll("sha256") < 0) return -1;
        ssize_t got = read(fd, piece, room);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return lc_fail_errno(path, "reading");
        if (got == 0) return 0;
        if (!EVP_DigestUpdate(hash, piece, (size_t)got))
            return lc_fail(LC_EIO, "sha256: libcrypto refused");
    }
}

int lc_sha256_file(const char *path, char *hex65) {
    enum { PIECE = 1 << 20 };
    int result = -1, fd = lc_open_file(path);
    if (fd < 0) return -1;
    EVP_MD_CTX *hash = begin();
    char *piece = hash ? lc_alloc(PIECE) : NULL;
    if (piece && hash_bytes(hash, fd, path, piece, PIECE) == 0) result = write_hex(hash, hex65);
    lc_free(piece);
    EVP_MD_CTX_free(hash);
    close(fd);
    return result;
}

#else

int lc_sha256(const void *data, size_t n, char *hex65) {
    (void)data, (void)n, (void)hex65;
    return lc_fail(LC_EMISSING, "sha256: this build has no libcrypto; install it, build again");
}

int lc_sha256_file(const char *path, char *hex65) {
    (void)path;
    return lc_sha256(NULL, 0, hex65);
}

#endif
