/* sentencepiece.cc - the LLaMA family's tokenizer, through its own library. No C++ type and no
 * exception leaves this file. */
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <unordered_map>
#include <vector>

extern "C" {
#include "lucid.h"
#include "text/plugin.h"
}

namespace {

lc_text_host host;

using sentencepiece::SentencePieceProcessor;

SentencePieceProcessor *processor(void *p) { return static_cast<SentencePieceProcessor *>(p); }

/* Runs f; an exception becomes an error of the core. */
template <typename F> int guarded(const char *what, F f) {
    try {
        return f();
    } catch (const std::exception &e) {
        return host.fail(LC_EINVAL, "%s: %s", what, e.what());
    }
}

void *open_model(const char *path) {
    SentencePieceProcessor *p = nullptr;
    int done = guarded(path, [&] {
        p = new SentencePieceProcessor;
        auto status = p->Load(path);
        return status.ok() ? 0
                           : host.fail(LC_EINVAL, "%s: not a SentencePiece model: %s", path,
                                       status.ToString().c_str());
    });
    if (done == 0) return p;
    delete p;
    return nullptr;
}

void close_model(void *p) { delete processor(p); }

int pieces(const void *p) { return static_cast<const SentencePieceProcessor *>(p)->GetPieceSize(); }

int encode(void *p, const char *text, size_t n, int32_t **ids, size_t *count) {
    return guarded("encode", [&] {
        std::vector<int> out;
        auto status = processor(p)->Encode(std::string(text, n), &out);
        if (!status.ok()) return host.fail(LC_EINVAL, "encode: %s", status.ToString().c_str());
        *count = out.size();
        *ids = static_cast<int32_t *>(host.alloc(out.size() * sizeof **ids));
        if (!*ids) return -1;
        for (size_t i = 0; i < out.size(); i++) (*ids)[i] = out[i];
        return 0;
    });
}

int decode(void *p, const int32_t *ids, size_t count, char **text, size_t *n) {
    return guarded("decode", [&] {
        std::string out;
        std::vector<int> list(ids, ids + count);
        int size = processor(p)->GetPieceSize();
        for (size_t i = 0; i < count; i++)
            if (list[i] < 0 || list[i] >= size)
                return host.fail(LC_EINVAL, "decode: id %zu is %d; 0 to %d is possible", i + 1,
                                 list[i], size - 1);
        auto status = processor(p)->Decode(list, &out);
        if (!status.ok()) return host.fail(LC_EINVAL, "decode: %s", status.ToString().c_str());
        *n = out.size();
        *text = static_cast<char *>(host.alloc(out.size() + 1));
        if (!*text) return -1;
        std::memcpy(*text, out.c_str(), out.size() + 1);
        return 0;
    });
}

int piece(void *p, int32_t id, char *text, size_t room) {
    if (id < 0 || id >= processor(p)->GetPieceSize())
        return host.fail(LC_EINVAL, "piece: there is no id %d", static_cast<int>(id));
    std::snprintf(text, room, "%s", processor(p)->IdToPiece(id).c_str());
    return 0;
}

int32_t id_of(void *p, const char *name) {
    int id = processor(p)->PieceToId(name);
    return processor(p)->IdToPiece(id) == name ? id : -1; /* unknown pieces give <unk> */
}

int32_t special(void *p, int which) {
    switch (which) {
    case 0: return processor(p)->unk_id();
    case 1: return processor(p)->bos_id();
    case 2: return processor(p)->eos_id();
    default: return processor(p)->pad_id();
    }
}

int train(const char *corpus, const char *model, int count) {
    return guarded("train", [&] {
        std::string prefix(model);
        const std::string suffix = ".model";
        if (prefix.size() <= suffix.size() ||
            prefix.substr(prefix.size() - suffix.size()) != suffix)
            return host.fail(LC_EINVAL, "train: %s: the model's name must end in .model", model);
        prefix.resize(prefix.size() - suffix.size());
        // As a map: the form that takes one string logs it before it hears minloglevel.
        const std::unordered_map<std::string, std::string> options = {
            {"model_type", "bpe"},
            {"byte_fallback", "true"},
            {"normalization_rule_name", "identity"},
            {"remove_extra_whitespaces", "false"},
            {"split_digits", "true"},
            {"character_coverage", "1.0"},
            {"hard_vocab_limit", "false"},
            {"num_threads", "1"},
            {"shuffle_input_sentence", "false"},
            {"allow_whitespace_only_pieces", "true"},
            {"minloglevel", "2"},
            {"input", corpus},
            {"model_prefix", prefix},
            {"vocab_size", std::to_string(count)}};
        auto status = sentencepiece::SentencePieceTrainer::Train(options);
        std::remove((prefix + ".vocab").c_str());
        if (status.ok()) return 0;
        return host.fail(LC_EINVAL, "train: %s", status.ToString().c_str());
    });
}

} // namespace

extern "C" __attribute__((visibility("default"))) int
lc_text_open(int version, const struct lc_text_host *from, struct lc_text *out);

int lc_text_open(int version, const struct lc_text_host *from, struct lc_text *out) {
    if (version != LC_TEXT_VERSION) return -1;
    host = *from;
    *out = {open_model, close_model, pieces, encode, decode, piece, id_of, special, train};
    return 0;
}
