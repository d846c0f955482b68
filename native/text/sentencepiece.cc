/* sentencepiece.cc - the LLaMA family's tokenizer, through its own library. No C++ type and no
 * exception leaves this file, and nothing is printed. */
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

extern "C" {
#include "lucid.h"
#include "text/plugin.h"
}

namespace {

using sentencepiece::SentencePieceProcessor;
using sentencepiece::SentencePieceTrainer;

lc_text_host host;

/* A model, and the same one without the space that it puts in front of texts. */
struct Model {
    SentencePieceProcessor usual, inside;
    bool cuts; /* the ids of a text are those of its parts, where it is cut before a space */
};

const SentencePieceProcessor &model_of(const void *p) {
    return static_cast<const Model *>(p)->usual;
}

/* Runs f; an exception becomes an error of the core. */
template <typename F> int guarded(const char *what, F f) {
    try {
        return f();
    } catch (const std::bad_alloc &) {
        return host.fail(LC_ENOMEM, "%s: out of memory", what);
    } catch (const std::exception &e) {
        return host.fail(LC_EINVAL, "%s: %s", what, e.what());
    }
}

/* The library's reason, without the place in its sources that it begins with. */
std::string reason(const sentencepiece::util::Status &status) {
    std::string text = status.error_message();
    size_t place = text.find("] ");
    if (text.find(".cc(") != text.npos && place != text.npos) text.erase(0, place + 2);
    return text.empty() ? "" : ": " + text;
}

/* A copy that belongs to the core, ended by a NUL. */
int hand_out(const void *from, size_t bytes, void **to) {
    *to = host.alloc(bytes + 1);
    if (!*to) return -1;
    if (bytes) std::memcpy(*to, from, bytes); /* an empty list may have no address */
    static_cast<char *>(*to)[bytes] = 0;
    return 0;
}

/* ---- models ------------------------------------------------------------------------------------- */

/* What the library lets pass: a score that is no number would leave the order of merges open, and texts are
 * UTF-8 because pieces are. */
int check(const SentencePieceProcessor &p, const char *name) {
    for (int i = 0; i < p.GetPieceSize(); i++) {
        const std::string &piece = p.IdToPiece(i);
        if (!std::isfinite(p.GetScore(i)))
            return host.fail(LC_EINVAL, "%s: piece %d has no finite score", name, i);
        if (host.utf8_front(piece.data(), piece.size()) < piece.size() ||
            piece.find('\0') != piece.npos)
            return host.fail(LC_EINVAL, "%s: piece %d is no UTF-8, or has a NUL in it", name, i);
    }
    return 0;
}

/* Later fields of a protocol buffer win, and messages in them are merged: normalizer_spec (3) with
 * add_dummy_prefix (3) = false. */
const char NO_PREFIX[] = {3 << 3 | 2, 2, 3 << 3, 0};

/* A protocol buffer's next field: false at the end. Fixed numbers, which no field here is, are passed. */
struct Field {
    uint64_t number, value; /* value: of a varint */
    std::string_view bytes;
};

bool varint(std::string_view *rest, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && !rest->empty(); shift += 7) {
        auto byte = static_cast<unsigned char>(rest->front());
        rest->remove_prefix(1);
        *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

bool next_field(std::string_view *rest, Field *f) {
    uint64_t key, size = 0;
    if (!varint(rest, &key)) return false;
    *f = {key >> 3, 0, {}};
    switch (key & 7) {
    case 0: return varint(rest, &f->value);
    case 1: size = 8; break;
    case 2:
        if (!varint(rest, &size)) return false;
        break;
    case 5: size = 4; break;
    default: return false;
    }
    if (size > rest->size()) return false;
    f->bytes = rest->substr(0, size);
    rest->remove_prefix(size);
    return true;
}

/* ---- what the library believes of a file: it goes where a trie leads, and has room for so many matches at a place -- */

enum { MOST_RULES = 32, MOST_PIECES = 64, MOST_BYTES = 256, LONGEST = 1024 };

/* A trie of 32-bit nodes: a node is a value, or it has at `behind`, a letter from it, the nodes that follow, and where
 * ENDS says so at `behind` itself the value of what ends here. */
struct Trie {
    static constexpr uint32_t VALUE = 1u << 31, ENDS = 1u << 8, FAR = 1u << 9, LETTER = 0xFF;
    std::vector<uint32_t> nodes;
    std::vector<unsigned char>
        matches; /* of a node: how many values a text may meet from it on, and 2; 1: asked */

    size_t behind(size_t i) const {
        return i ^ static_cast<size_t>(nodes[i] >> 10) << (nodes[i] & FAR ? 8 : 0);
    }

    /* Every node leads to nodes, every value into so many bytes of texts. */
    bool stays_inside(size_t texts) const {
        for (size_t i = 0; i < nodes.size(); i++) {
            if (nodes[i] & VALUE
                    ? (nodes[i] & ~VALUE) >= texts
                    : behind(i) >= nodes.size() || (nodes[i] & ENDS && !(nodes[behind(i)] & VALUE)))
                return false;
        }
        return !(nodes[0] & VALUE);
    }

    /* How many values a text may meet from a node on; -1: too many, or it goes in circles. */
    int count(size_t i, int depth) {
        if (matches[i]) return matches[i] - 2;
        if (depth > MOST_BYTES) return -1;
        matches[i] = 1;
        int most = 0;
        for (uint32_t letter = 0; letter <= LETTER; letter++) {
            size_t next = behind(i) ^ letter;
            if ((nodes[next] & (VALUE | LETTER)) != letter) continue;
            int n = count(next, depth + 1);
            if (n < 0) return -1;
            most = std::max(most, n);
        }
        most += (nodes[i] & ENDS) != 0;
        if (most > MOST_RULES) return -1;
        matches[i] = static_cast<unsigned char>(most + 2);
        return most;
    }
};

/* A table of texts in place of others: the length of a trie, the trie, texts with a NUL behind each. A long one would
 * make gigabytes of a short text. */
bool is_table(std::string_view table) {
    constexpr size_t BLOCK = 256, MOST = 4 << 20;
    uint32_t size;
    if (table.empty()) return true;
    if (table.size() < sizeof size || table.size() > MOST || table.back()) return false;
    std::memcpy(&size, table.data(), sizeof size);
    table.remove_prefix(sizeof size);
    if (!size || size >= table.size() || size % (BLOCK * sizeof size)) return false;
    Trie trie{std::vector<uint32_t>(size / sizeof size), {}};
    trie.matches.resize(trie.nodes.size());
    std::memcpy(trie.nodes.data(), table.data(), size);
    table.remove_prefix(size);
    if (!trie.stays_inside(table.size()) || trie.count(0, 0) < 0) return false;
    while (!table.empty()) {
        size_t end = table.find('\0');
        if (end > LONGEST) return false;
        table.remove_prefix(end + 1);
    }
    return true;
}

/* Of pieces that are taken whole wherever they stand, only so many may begin one another. */
bool nests_little(std::vector<std::string_view> *pieces) {
    std::vector<std::string_view> open;
    std::sort(pieces->begin(), pieces->end());
    for (std::string_view piece : *pieces) {
        while (!open.empty() && piece.substr(0, open.back().size()) != open.back()) open.pop_back();
        open.push_back(piece);
        if (open.size() > MOST_PIECES) return false;
    }
    return true;
}

/* Fields: pieces (1: text 1, type 3, of which 4 is taken whole), normalizer_spec (3) and denormalizer_spec (5) with a
 * table (2). What is no field here is none of the library's either. */
bool is_safe(std::string_view model) {
    constexpr uint32_t WHOLE = 4;
    std::vector<std::string_view> whole;
    for (Field outer, f; next_field(&model, &outer);) {
        std::string_view text;
        bool taken = false;
        if (outer.number >> 29) return false;
        if (outer.number != 1 && outer.number != 3 && outer.number != 5) continue;
        while (next_field(&outer.bytes, &f)) {
            if (f.number >> 29) return false;
            if (outer.number == 1 && f.number == 1) text = f.bytes;
            if (outer.number == 1 && f.number == 3)
                taken |= static_cast<uint32_t>(f.value) == WHOLE;
            if (outer.number != 1 && f.number == 2 && !is_table(f.bytes)) return false;
        }
        if (!outer.bytes.empty()) return false;
        if (taken) whole.push_back(text);
    }
    return model.empty() && nests_little(&whole);
}

/* Whether texts are taken as they are, but that a space becomes SPACE: normalizer_spec (3) without a
 * table (2), without remove_extra_whitespaces (4, on unless it says otherwise), with
 * escape_whitespaces (5, the same). */
bool keeps_text(std::string_view model) {
    bool table = false, removes = true, escapes = true;
    for (Field outer, f; next_field(&model, &outer);) {
        if (outer.number != 3) continue;
        while (next_field(&outer.bytes, &f)) {
            if (f.number == 2) table = !f.bytes.empty();
            if (f.number == 4) removes = f.value != 0;
            if (f.number == 5) escapes = f.value != 0;
        }
    }
    return model.empty() && !table && !removes && escapes;
}

constexpr std::string_view SPACE = "\xE2\x96\x81"; /* as pieces have it */

/* Whether a cut before a space changes no id: no piece has a space behind anything but spaces, and a
 * space is a piece, so that it is not joined to an unknown one before it. */
bool can_cut(const SentencePieceProcessor &p, std::string_view model) {
    if (!keeps_text(model) || p.IsUnknown(p.PieceToId(SPACE))) return false;
    for (int i = 0; i < p.GetPieceSize(); i++) {
        std::string_view piece = p.IdToPiece(i);
        while (piece.substr(0, SPACE.size()) == SPACE) piece.remove_prefix(SPACE.size());
        if (piece.find(SPACE) != piece.npos || piece.find(' ') != piece.npos) return false;
    }
    return true;
}

void *open_model(const char *model, size_t n, const char *name) {
    Model *p = nullptr;
    int done = guarded(name, [&] {
        p = new Model;
        std::string bytes(model, n);
        if (!is_safe(bytes))
            return host.fail(LC_EINVAL,
                             "%s: not a SentencePiece model, or its table of characters or its "
                             "whole pieces are none; get the model's tokenizer.model again",
                             name);
        auto status = p->usual.LoadFromSerializedProto(bytes);
        p->cuts = status.ok() && can_cut(p->usual, bytes);
        bytes.append(NO_PREFIX, sizeof NO_PREFIX);
        if (status.ok()) status = p->inside.LoadFromSerializedProto(bytes);
        if (status.ok()) return check(p->usual, name);
        return host.fail(LC_EINVAL,
                         "%s: not a SentencePiece model%s; get the model's tokenizer.model again",
                         name, reason(status).c_str());
    });
    if (done == 0) return p;
    delete p;
    return nullptr;
}

void close_model(void *p) { delete static_cast<Model *>(p); }
int pieces(const void *p) { return model_of(p).GetPieceSize(); }

const char *piece(const void *p, int32_t id) {
    if (id >= 0 && id < pieces(p)) return model_of(p).IdToPiece(id).c_str();
    host.fail(LC_EINVAL, "piece: there is no id %d; 0 to %d is possible", static_cast<int>(id),
              pieces(p) - 1);
    return nullptr;
}

int32_t id_of(const void *p, const char *name) {
    int id = model_of(p).PieceToId(name);
    return model_of(p).IdToPiece(id) == name ? id : -1; /* unknown pieces give <unk> */
}

int32_t special(const void *p, int which) {
    switch (which) {
    case 0: return model_of(p).unk_id();
    case 1: return model_of(p).bos_id();
    case 2: return model_of(p).eos_id();
    default: return model_of(p).pad_id();
    }
}

/* ---- text --------------------------------------------------------------------------------------- */

/* Where a text is cut: before the first space behind CUT bytes that does not follow another one. The
 * library's queue of merges over a whole text outgrows the caches: parts take half the time. */
constexpr size_t CUT = 8192;

size_t end_of_part(std::string_view text, bool cuts) {
    for (size_t at = CUT; cuts && (at = text.find(' ', at)) != text.npos; at++)
        if (text[at - 1] != ' ' && text.substr(at - SPACE.size(), SPACE.size()) != SPACE) return at;
    return text.size();
}

int encode(const void *p, const char *text, size_t n, int inside, int32_t **ids, size_t *count) {
    return guarded("encode", [&] {
        std::vector<int> out, part;
        auto m = static_cast<const Model *>(p);
        auto model = inside ? &m->inside : &m->usual;
        std::string_view rest(text, n);
        do {
            size_t end = end_of_part(rest, m->cuts);
            auto status = model->Encode(rest.substr(0, end), &part);
            if (!status.ok()) return host.fail(LC_EINVAL, "encode%s", reason(status).c_str());
            out.insert(out.end(), part.begin(), part.end());
            rest.remove_prefix(end);
            model = &m->inside;
        } while (!rest.empty());
        static_assert(sizeof(int) == sizeof(int32_t), "ids are copied as they are");
        *count = out.size();
        return hand_out(out.data(), out.size() * sizeof(int), reinterpret_cast<void **>(ids));
    });
}

int decode(const void *p, const int32_t *ids, size_t count, char **text, size_t *n) {
    return guarded("decode", [&] {
        for (size_t i = 0; i < count; i++)
            if (ids[i] < 0 || ids[i] >= pieces(p))
                return host.fail(LC_EINVAL, "decode: id %zu is %d; 0 to %d is possible", i + 1,
                                 static_cast<int>(ids[i]), pieces(p) - 1);
        std::string out;
        auto status = model_of(p).Decode(std::vector<int>(ids, ids + count), &out);
        if (!status.ok()) return host.fail(LC_EINVAL, "decode%s", reason(status).c_str());
        *n = out.size();
        return hand_out(out.data(), out.size(), reinterpret_cast<void **>(text));
    });
}

/* ---- training ----------------------------------------------------------------------------------- */

std::vector<std::string> lines_of(std::string_view text) {
    std::vector<std::string> lines;
    for (size_t at = 0; at < text.size();) {
        size_t end = std::min(text.find('\n', at), text.size());
        if (end > at) lines.emplace_back(text.substr(at, end - at));
        at = end + 1;
    }
    return lines;
}

/* The lines of the corpus once, then every word as often as it weighs: "text TAB count". */
class Corpus : public sentencepiece::SentenceIterator {
  public:
    Corpus(const std::vector<std::string> &lines, const std::vector<std::string> &words,
           size_t weight)
        : lines_(lines), words_(words), weight_(weight) {
        write();
    }
    bool done() const override { return at_ >= lines_.size() + (weight_ ? words_.size() : 0); }
    void Next() override {
        at_++;
        write();
    }
    const std::string &value() const override { return value_; }
    sentencepiece::util::Status status() const override { return {}; }

  private:
    void write() {
        if (done()) return;
        bool line = at_ < lines_.size();
        value_ = line ? lines_[at_] : words_[at_ - lines_.size()];
        std::replace(value_.begin(), value_.end(), '\t', ' ');
        value_ += "\t" + std::to_string(line ? 1 : weight_);
    }

    const std::vector<std::string> &lines_, &words_;
    size_t weight_, at_ = 0;
    std::string value_;
};

/* LLaMA's settings: text is taken as it is, spaces are kept, digits stand alone, bytes are the last
 * resort. One thread and no sampling: the same corpus gives the same model. */
sentencepiece::util::Status learn(Corpus *corpus, int count, std::string *model) {
    return SentencePieceTrainer::Train({{"input_format", "tsv"},
                                        {"model_type", "bpe"},
                                        {"vocab_size", std::to_string(count)},
                                        {"hard_vocab_limit", "false"},
                                        {"byte_fallback", "true"},
                                        {"normalization_rule_name", "identity"},
                                        {"add_dummy_prefix", "true"},
                                        {"remove_extra_whitespaces", "false"},
                                        {"allow_whitespace_only_pieces", "true"},
                                        {"split_digits", "true"},
                                        {"character_coverage", "1.0"},
                                        {"max_sentence_length", "1000000"},
                                        {"unk_id", "0"},
                                        {"bos_id", "1"},
                                        {"eos_id", "2"},
                                        {"pad_id", "-1"},
                                        {"num_threads", "1"},
                                        {"shuffle_input_sentence", "false"},
                                        {"minloglevel", "2"}},
                                       corpus, model);
}

/* Those of words that the model does not know as one piece. */
std::vector<std::string> broken(const SentencePieceProcessor &p,
                                const std::vector<std::string> &words) {
    std::vector<std::string> list;
    for (const auto &word : words) {
        std::vector<int> ids;
        p.Encode(word, &ids).IgnoreError();
        if (ids.size() != 1 || p.IsUnknown(ids[0])) list.push_back(word);
    }
    return list;
}

int fail_broken(const std::vector<std::string> &words, int count) {
    std::string list;
    for (const auto &word : words) list += " " + word;
    return host.fail(LC_EINVAL,
                     "train: with %d pieces these words (%zu) are not one piece:%s; "
                     "ask for more pieces",
                     count, words.size(), list.c_str());
}

/* BPE makes the most frequent pairs first. Words that come out in parts are put beside the corpus, all
 * of them, with ever more weight, at last more than all its lines together have. Where that does not
 * help, there are too few pieces. */
int train(const char *corpus, size_t length, const char *words, int count, char **out, size_t *n) {
    return guarded("train", [&] {
        auto lines = lines_of(std::string_view(corpus, length)), wanted = lines_of(words);
        std::vector<std::string> left;
        std::string model;
        for (size_t weight : {size_t{0}, lines.size() / 8 + 1, lines.size() + 1, length}) {
            SentencePieceProcessor p;
            Corpus all(lines, wanted, weight);
            model.clear();
            auto status = learn(&all, count, &model);
            if (status.ok()) status = p.LoadFromSerializedProto(model);
            if (!status.ok()) return host.fail(LC_EINVAL, "train%s", reason(status).c_str());
            left = broken(p, wanted);
            if (left.empty()) break;
        }
        if (!left.empty()) return fail_broken(left, count);
        *n = model.size();
        return hand_out(model.data(), model.size(), reinterpret_cast<void **>(out));
    });
}

} // namespace

extern "C" __attribute__((visibility("default"))) lc_text_open_fn lc_text_open;

int lc_text_open(int version, const struct lc_text_host *from, struct lc_text *out) {
    if (version != LC_TEXT_VERSION) return -1;
    host = *from;
    *out = {open_model, close_model, pieces, encode, decode, piece, id_of, special, train};
    return 0;
}
