/* features.c - what this build was made with, one line a feature. */
#include "lucid.h"

/* jpeglib.h needs size_t and FILE. */
#include <stdio.h>

#ifdef LC_HAVE_JPEG
#include <jpeglib.h>
#endif
#ifdef LC_HAVE_SPNG
#include <spng.h>
#endif
#ifdef LC_HAVE_CJSON
#include <cjson/cJSON.h>
#endif
#ifdef LC_HAVE_CRYPTO
#include <openssl/opensslv.h>
#endif
#ifdef LC_HAVE_UTF8PROC
#include <utf8proc.h>
#endif

#define WORD(x) #x
#define TEXT(x) WORD(x)
#define VERSION(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

static const char features[] =
#ifdef LC_GEMM_LOOP
    "gemm: plain loops\n"
#elif defined(__AVX512BF16__)
    "gemm: AVX-512, bf16 pairs\n"
#elif defined(__AVX512F__)
    "gemm: AVX-512\n"
#elif defined(__AVX2__) && defined(__FMA__)
    "gemm: AVX2\n"
#else
    "gemm: plain loops\n"
#endif
#if defined(LC_HAVE_JPEG) && defined(LIBJPEG_TURBO_VERSION)
    "jpeg: libjpeg-turbo " TEXT(
        LIBJPEG_TURBO_VERSION) "\n"
#elif defined(LC_HAVE_JPEG)
    "jpeg: libjpeg " TEXT(JPEG_LIB_VERSION) "\n"
#else
    "jpeg: missing\n"
#endif
#ifdef LC_HAVE_SPNG
                               "png: libspng " VERSION(
                                   SPNG_VERSION_MAJOR, SPNG_VERSION_MINOR,
                                   SPNG_VERSION_PATCH) "\n"
#else
                                            "png: missing\n"
#endif
#ifdef LC_HAVE_STB
                                                       "stb: stb_image\n"
#else
                                            "stb: missing\n"
#endif
#ifdef LC_HAVE_CJSON
                                                       "json: cJSON " VERSION(
                                                           CJSON_VERSION_MAJOR, CJSON_VERSION_MINOR,
                                                           CJSON_VERSION_PATCH) "\n"
#else
                                            "json: missing\n"
#endif
#ifdef LC_HAVE_CRYPTO
                                                                                "hashes:"
                                                                                " " OPENSSL_VERSION_TEXT
                                                                                "\n"
#else
                                            "hashes: missing\n"
#endif
#ifdef LC_HAVE_UTF8PROC
                                                                                "utf8proc:"
                                                                                " " VERSION(
                                                                                    UTF8PROC_VERSION_MAJOR,
                                                                                    UTF8PROC_VERSION_MINOR,
                                                                                    UTF8PROC_VERSION_PATCH) "\n"
#else
                                            "utf8proc: missing\n"
#endif
#ifdef LC_HAVE_SPM
                                                                                                            "sentencepiece: liblucid_text.so\n"
#else
                                            "sentencepiece: missing\n"
#endif
#ifdef LC_HAVE_EDIT
                                                                                                            "editline: libedit\n"
#else
                                            "editline: missing\n"
#endif
#ifdef LC_HAVE_MPI
                                                                                                            "mpi: liblucid_mpi.so\n"
#else
                                            "mpi: missing\n"
#endif
#ifdef LC_HAVE_CURL
                                                                                                            "http: liblucid_net.so\n"
#else
                                            "http: missing\n"
#endif
#ifdef LC_HAVE_MHTTP
                                                                                                            "server: liblucid_server.so\n"
#else
                                            "server: missing\n"
#endif
#ifdef LC_HAVE_CUDA
                                                                                                            "cuda: liblucid_cuda.so, CUDA " LC_HAVE_CUDA
                                                                                                            "\n";
#else
                                            "cuda: missing\n";
#endif

const char *lc_features(void) { return features; }
