// SPDX-License-Identifier: Apache-2.0
#include "formats/tfevents.h"

#include <gtest/gtest.h>

namespace naite::formats {
namespace {

namespace fs = std::filesystem;

fs::path fresh_directory(const std::string& name) {
  const fs::path path = fs::temp_directory_path() / fmt::format("naite-{}-{}", name, ::getpid());
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

TEST(Crc32c, MatchesThePublishedVectors) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c("abc"), 0x364B3FB7u);
  EXPECT_EQ(masked_crc32c("abc"), 0x21F1576Eu);
}

TEST(Event, ScalarHasTheBytesThatTensorBoardReads) {
  std::string hex;
  for (const char c : scalar_event(1.0, 0, "train/loss", 3.0f))
    hex += fmt::format("{:02x}", static_cast<uint8_t>(c));
  EXPECT_EQ(hex,
            "09000000000000f03f1000"
            "2a130a110a0a747261696e2f6c6f7373"
            "1500004040");
}

TEST(Event, WholeRecordsStopAtTheFirstDamage) {
  const std::string one = event_record(scalar_event(1.0, 1, "a", 1.0f));
  const std::string two = event_record(scalar_event(2.0, 2, "a", 2.0f));
  EXPECT_EQ(whole_records(""), 0u);
  EXPECT_EQ(whole_records(one + two), one.size() + two.size());
  for (size_t cut = 0; cut < two.size(); ++cut)
    EXPECT_EQ(whole_records(one + two.substr(0, cut)), one.size());
  for (size_t at = 0; at < two.size(); ++at) {
    std::string damaged = two;
    damaged[at] ^= 1;
    EXPECT_EQ(whole_records(one + damaged), one.size());
  }
  EXPECT_EQ(whole_records(std::string(64, '\xff')), 0u);
}

TEST(EventWriter, ContinuesItsFileAndCutsATornRecord) {
  const fs::path directory = fresh_directory("tfevents");
  fs::path path;
  {
    Result<EventWriter> writer = EventWriter::open(directory);
    ASSERT_TRUE(writer);
    path = writer->path();
    ASSERT_TRUE(writer->scalar(1, "train/loss", 2.0));
    ASSERT_TRUE(writer->flush());
  }
  const std::string before = *read_file(path);
  ASSERT_TRUE(write_file(path, before + "torn"));
  {
    Result<EventWriter> writer = EventWriter::open(directory);
    ASSERT_TRUE(writer);
    EXPECT_EQ(writer->path(), path);
    ASSERT_TRUE(writer->text(2, "samples", "나이테 \xff"));
  }
  const std::string after = *read_file(path);
  EXPECT_TRUE(after.starts_with(before));
  EXPECT_EQ(whole_records(after), after.size());
  EXPECT_NE(after.find("나이테 \xef\xbf\xbd"), std::string::npos);  // a stray byte is replaced
  fs::remove_all(directory);
}

TEST(Event, KnowsItsStep) {
  EXPECT_EQ(step_of_event(scalar_event(1.0, 0, "a", 1.0f)), 0);
  EXPECT_EQ(step_of_event(scalar_event(1.0, 300, "a", 1.0f)), 300);
  EXPECT_EQ(step_of_event(text_event(1.0, int64_t{1} << 40, "a", "text")), int64_t{1} << 40);
  EXPECT_EQ(step_of_event(session_start_event(1.0, 7)), 7);
  EXPECT_EQ(step_of_event(""), -1);
  EXPECT_EQ(step_of_event("\x1a\x7f"
                          "brain"),
            -1);                                            // a length beyond the end
  EXPECT_EQ(step_of_event("\x0f\x10\x05"), -1);             // no such wire type
  EXPECT_EQ(step_of_event("\x1a\x02\x10\x05\x10\x09"), 9);  // what looks like a step in a string
}

// Whatever files there are, and however they end: later steps go, the rest stays as it was.
TEST(EventWriter, RewindsAllFilesAndBeginsASession) {
  const fs::path directory = fresh_directory("tfevents-rewind");
  const fs::path old = directory / "events.out.tfevents.0000000012.host.1.0";
  const std::string kept = event_record(scalar_event(1.0, 3, "a", 1.0f));
  ASSERT_TRUE(write_file(old, kept + event_record(scalar_event(1.0, 9, "a", 1.0f)) +
                                  event_record(scalar_event(1.0, 4, "a", 1.0f)) + "torn"));
  const fs::path future = directory / "events.out.tfevents.9999999998.host.1.0";
  ASSERT_TRUE(write_file(future, ""));
  Result<EventWriter> writer = EventWriter::open(directory);
  ASSERT_TRUE(writer);
  EXPECT_EQ(writer->path(), future);
  for (int64_t step = 3; step < 8; ++step) ASSERT_TRUE(writer->scalar(step, "b", 0.5));
  const std::string untouched = *read_file(future);
  ASSERT_TRUE(writer->rewind(9));
  EXPECT_EQ(*read_file(future), untouched);
  ASSERT_TRUE(writer->rewind(4));
  EXPECT_EQ(*read_file(old), kept + event_record(scalar_event(1.0, 4, "a", 1.0f)));
  EXPECT_TRUE(untouched.starts_with(*read_file(future)));
  EXPECT_LT(read_file(future)->size(), untouched.size());
  EXPECT_GT(writer->path().filename(), future.filename());  // read last, whatever the clock says
  ASSERT_TRUE(writer->scalar(5, "b", 0.5));
  const std::string added = *read_file(writer->path());
  EXPECT_EQ(whole_records(added), added.size());
  EXPECT_NE(added.find(session_start_event(0, 5).substr(9)), std::string::npos);
  fs::remove_all(directory);
}

TEST(EventWriter, SaysWhereItCannotWrite) {
  const Result<EventWriter> writer = EventWriter::open("/nowhere/at/all");
  ASSERT_FALSE(writer);
  EXPECT_NE(writer.error().message.find("/nowhere/at/all"), std::string::npos);
}

}  // namespace
}  // namespace naite::formats
