// SPDX-License-Identifier: Apache-2.0
#include "ledger/witness.h"

#include "ledger/encoding.h"
#include "ledger/merkle.h"

namespace naite::ledger {

namespace {

constexpr int64_t kAnswerBytesMax = 1 << 16;
constexpr int kAttempts = 3;  // a witness that keeps changing its mind is not waited for

std::string request_text(const ShownHead& shown, int64_t old_size) {
  std::string out = fmt::format("old {}\n", old_size);
  if (old_size > 0)
    for (const Digest& hash : consistency_proof(shown.leaves, old_size))
      out += to_base64(as_bytes(hash)) + "\n";
  return out + "\n" + shown.note;
}

// The size in the answer 409.
std::optional<int64_t> size_of(std::string_view body) {
  if (body.ends_with('\n')) body.remove_suffix(1);
  return from_decimal(body);
}

}  // namespace

Result<Witness> Witness::make(std::string_view url, std::string_view vkey) {
  Witness out;
  NAITE_ASSIGN(out.url, check_http_url(url));
  NAITE_ASSIGN(out.key, Verifier::parse(vkey));
  if (out.key.type != KeyType::kCosignature)
    return fail("{} is no key of a witness: those have the type 04", vkey);
  return out;
}

Result<Witness> Witness::parse(std::string_view text) {
  const size_t plus = text.find('+');
  if (plus == std::string_view::npos)
    return fail("a witness is given as URL+KEY, such as https://witness.example+NAME+ID+BASE64");
  return make(text.substr(0, plus), text.substr(plus + 1));
}

Result<std::string> WitnessClient::cosignature_of(const ShownHead& shown,
                                                  std::string_view lines) const {
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size() - 1) + 1;
    const std::string line(lines.substr(0, end));
    lines.remove_prefix(end);
    const Result<Note> note = Note::parse(shown.head.text() + "\n" + line, witness_.url);
    if (!note) return fail("{}: the answer has no signature lines", witness_.url);
    const Result<std::optional<uint64_t>> time = verify_cosignature(*note, witness_.key);
    if (!time)
      return fail(
          "{}: the cosignature of {} is not of the head that it was shown: it saw another "
          "history, or the key is another one",
          witness_.url, witness_.key.name);
    if (*time) return line;
  }
  return fail("{}: the answer has no cosignature of {}", witness_.url, witness_.key.name);
}

Result<std::string> WitnessClient::cosign(const ShownHead& shown) {
  NAITE_ASSIGN(const Note note, Note::parse(shown.note, "the head"));
  NAITE_ASSIGN(const std::optional<uint64_t> before, verify_cosignature(note, witness_.key));
  if (before) return std::string();
  const std::string& url = witness_.url;
  const Head& head = shown.head;
  seen_ = std::min(seen_, head.size);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    NAITE_ASSIGN(const HttpResponse response,
                 http_.post(url + "/add-checkpoint", request_text(shown, seen_),
                            "text/plain; charset=utf-8", kAnswerBytesMax));
    if (response.status == 200) {
      NAITE_ASSIGN(const std::string line, cosignature_of(shown, response.body));
      seen_ = head.size;
      return line;
    }
    if (response.status == 404)
      return fail("{}: the witness does not know the log {}: ask who runs it to add the log's key",
                  url, head.origin);
    if (response.status == 403)
      return fail("{}: the witness knows another key of {}", url, head.origin);
    if (response.status == 422)
      return fail(
          "{}: the witness saw another history of {}: its {} entries are no beginning of "
          "these {}",
          url, head.origin, seen_, head.size);
    if (response.status != 409)
      return fail("{}: the witness answers with status {}", url, response.status);
    const std::optional<int64_t> seen = size_of(response.body);
    if (!seen) return fail("{}: the witness answers 409 without a size", url);
    if (*seen > head.size || (*seen == seen_ && *seen == head.size))
      return fail("{}: the witness saw another history of {}: {} entries, here are {}{}", url,
                  head.origin, *seen, head.size, *seen == head.size ? " with another root" : "");
    seen_ = *seen;
  }
  return fail("{}: the witness keeps answering 409", url);
}

}  // namespace naite::ledger
