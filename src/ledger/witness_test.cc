// SPDX-License-Identifier: Apache-2.0
#include "ledger/witness.h"

#include <gtest/gtest.h>

#include <optional>

#include "ledger/encoding.h"
#include "ledger/keys.h"
#include "ledger/merkle.h"
#include "ledger/server_testing.h"

namespace naite::ledger {
namespace {

namespace fs = std::filesystem;

// A witness at /add-checkpoint of a real socket. It holds to the rules unless a test breaks them.
class WitnessServer {
 public:
  WitnessServer() {
    server_.lie("/add-checkpoint", [this](const auto& request, const auto& connection) {
      answer(request.body, connection);
    });
  }
  Witness witness() const {
    return *Witness::make(server_.url(), key_.verifier(KeyType::kCosignature).vkey());
  }
  // A root that it has seen of the log.
  void has_seen(int64_t size, const Digest& root) {
    size_ = size;
    root_ = root;
  }
  void always(int status, std::string body) { always_ = {status, std::move(body)}; }
  Signer& key() { return key_; }

 private:
  void answer(const std::string& body, const TestServer::Connection& connection) {
    if (always_) return connection.respond(always_->first, always_->second);
    const size_t end = body.find("\n\n");
    const Note note = *Note::parse(body.substr(end + 2), "request");
    const Head head = *Head::parse(note.text, "request");
    std::vector<Digest> proof;
    size_t at = body.find('\n') + 1;
    const int64_t old_size = *from_decimal(body.substr(4, at - 5));
    while (at < end) {
      const size_t next = body.find('\n', at);
      const std::string hash = *from_base64(body.substr(at, next - at));
      std::copy(hash.begin(), hash.end(), proof.emplace_back().begin());
      at = next + 1;
    }
    if (old_size != size_ || (old_size == head.size && head.root != root_))
      return connection.respond(409, fmt::format("{}\n", size_),
                                "Content-Type: text/x.tlog.size\r\n");
    if (size_ > 0 && !verify_consistency(size_, root_, head.size, head.root, proof))
      return connection.respond(422, "");
    has_seen(head.size, head.root);
    connection.respond(200, key_.cosignature_line(note.text, 1790000000));
  }

  Signer key_ = *Signer::make("witness.example");
  int64_t size_ = 0;
  Digest root_{};
  std::optional<std::pair<int, std::string>> always_;
  TestServer server_;  // last: its thread uses the rest
};

class Witnessing : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / ("naite-witness-" + random_hex(8));
    writer_.emplace(*LogWriter::open(directory_, signer_));
    grow(3);
  }
  void TearDown() override { fs::remove_all(directory_); }

  void grow(int entries) {
    for (int i = 0; i < entries; ++i)
      ASSERT_TRUE(writer_->append({fmt::format("entry {}", writer_->size())}).ok());
  }
  ShownHead shown() const {
    const LogContent log = *read_log(directory_);
    return {*read_file(directory_ / "checkpoint"), log.head, log.leaves};
  }
  static std::string error_of(WitnessServer& server, const ShownHead& head) {
    const Result<std::string> line = WitnessClient(server.witness(), {}).cosign(head);
    EXPECT_FALSE(line.ok());
    return line.ok() ? "" : line.error().message;
  }

  const Signer signer_ = *Signer::make("example.org/log");
  fs::path directory_;
  std::optional<LogWriter> writer_;
};

TEST_F(Witnessing, HeadsAreCosignedAsTheLogGrows) {
  WitnessServer server;
  WitnessClient client(server.witness(), {});
  for (const int more : {0, 1, 5, 300}) {
    grow(more);
    const Result<std::string> line = client.cosign(shown());
    ASSERT_TRUE(line.ok()) << line.error().message;
    ASSERT_TRUE(writer_->add_cosignature(shown().head, *line).ok());
    const LogContent log = *read_log(directory_);
    EXPECT_TRUE(*verify_note(log.note, signer_.verifier()));
    EXPECT_TRUE(*verify_cosignature(log.note, server.witness().key));
    EXPECT_EQ(*client.cosign(shown()), "");  // it has cosigned this head
  }
  // Another process knows nothing of what the witness has seen: it answers 409, then signs.
  grow(2);
  EXPECT_TRUE(WitnessClient(server.witness(), {}).cosign(shown()).ok());
}

TEST_F(Witnessing, CosignaturesStayWithTheirHead) {
  const Signer one = *Signer::make("one.example"), two = *Signer::make("two.example");
  const Head head = shown().head;
  for (const uint64_t time : {1790000000, 1790000001})
    for (const Signer* witness : {&one, &two})
      ASSERT_TRUE(
          writer_->add_cosignature(head, witness->cosignature_line(head.text(), time)).ok());
  const Note note = read_log(directory_)->note;
  EXPECT_EQ(note.signatures.size(), 3u);
  EXPECT_EQ(**verify_cosignature(note, one.verifier(KeyType::kCosignature)), 1790000001u);
  // Whoever opens the log again finds them and changes nothing.
  const std::string before = *read_file(directory_ / "checkpoint");
  writer_.emplace(*LogWriter::open(directory_, signer_));
  EXPECT_EQ(*read_file(directory_ / "checkpoint"), before);
  // The next head has none, and one that comes late for the old head changes nothing.
  grow(1);
  ASSERT_TRUE(writer_->add_cosignature(head, one.cosignature_line(head.text(), 1790000002)).ok());
  EXPECT_EQ(read_log(directory_)->note.signatures.size(), 1u);
  EXPECT_EQ(read_log(directory_)->head.size, 4);
}

TEST_F(Witnessing, AnotherHistoryIsFound) {
  const ShownHead head = shown();
  Digest other = head.head.root;
  other[3] ^= 1;
  WitnessServer same_size, smaller, larger, other_root;
  same_size.has_seen(3, other);
  EXPECT_NE(error_of(same_size, head).find("another root"), std::string::npos);
  smaller.has_seen(2, other);
  EXPECT_NE(error_of(smaller, head).find("are no beginning"), std::string::npos);
  larger.has_seen(9, other);
  EXPECT_NE(error_of(larger, head).find("another history"), std::string::npos);
  other_root.always(
      200, other_root.key().cosignature_line(Head{head.head.origin, 3, other}.text(), 1790000000));
  EXPECT_NE(error_of(other_root, head).find("not of the head"), std::string::npos);
}

TEST_F(Witnessing, EveryAnswerIsUnderstoodOrRefused) {
  const std::pair<std::pair<int, const char*>, const char*> answers[] = {
      {{404, ""}, "does not know the log"},
      {{403, ""}, "another key"},
      {{422, ""}, "no beginning"},
      {{500, "on fire"}, "status 500"},
      {{409, "many\n"}, "without a size"},
      {{409, "0\n"}, "keeps answering 409"},
      {{200, ""}, "no cosignature"},
      {{200, "welcome\n"}, "no signature lines"},
      {{200, "\xe2\x80\x94 somebody.example AAAAAAAA\n"}, "no cosignature"},
  };
  for (const auto& [answer, expected] : answers) {
    WitnessServer server;
    server.always(answer.first, answer.second);
    const std::string message = error_of(server, shown());
    EXPECT_NE(message.find(expected), std::string::npos) << message;
    EXPECT_TRUE(message.starts_with(server.witness().url)) << message;
  }
}

TEST_F(Witnessing, NamesOfWitnessesAreChecked) {
  const Signer key = *Signer::make("witness.example");
  const std::string vkey = key.verifier(KeyType::kCosignature).vkey();
  const Result<Witness> witness = Witness::parse("https://witness.example/log/+" + vkey);
  ASSERT_TRUE(witness.ok()) << witness.error().message;
  EXPECT_EQ(witness->url, "https://witness.example/log");
  EXPECT_EQ(witness->key.vkey(), vkey);
  EXPECT_FALSE(Witness::parse("https://witness.example").ok());
  EXPECT_FALSE(Witness::parse("ftp://witness.example+" + vkey).ok());
  EXPECT_FALSE(Witness::parse("https://witness.example+" + key.verifier().vkey()).ok());
}

}  // namespace
}  // namespace naite::ledger
