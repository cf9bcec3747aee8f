// SPDX-License-Identifier: Apache-2.0
#pragma once
// TensorBoard event files: scalars and texts over steps, readable while they grow.
//
//   record = u64 length | u32 masked crc of the 8 length bytes | data | u32 masked crc of the data
//   masked = ((crc >> 15) | (crc << 17)) + 0xA282EAD8;  crc = CRC-32C (Castagnoli)
//   data   = protocol buffer Event: 1 wall_time (double), 2 step (varint),
//            3 file_version ("brain.Event:2", first record only), 5 summary { 1 value { 1 tag,
//            2 simple_value (float) | 9 metadata { 1 plugin { 1 "text" } }, 8 tensor } },
//            7 session_log { 1 status (1: START) }
//
// One record is one write() of an append-only file: a process killed at any moment leaves whole
// records and at most one torn at the end. open() cuts a torn one off, so a run that resumes into
// its old file loses nothing and TensorBoard never stops at damage in the middle. A run that goes
// back to a step cuts what came after it out of its files and begins another file with a session
// START at the next step: who reads the files meets each step once, and a TensorBoard that is open
// forgets what was cut.
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/base.h"

namespace naite::formats {

uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

// The framed record around `data`.
std::string event_record(std::string_view data);
// Event messages, without frame. `wall_time` in seconds since 1970.
std::string scalar_event(double wall_time, int64_t step, std::string_view tag, float value);
std::string text_event(double wall_time, int64_t step, std::string_view tag, std::string_view text);

// The beginning of a session: what a reader has of `step` and later steps is void.
std::string session_start_event(double wall_time, int64_t step);
// The step of an event; -1 where none is written.
int64_t step_of_event(std::string_view event);

// How many leading bytes of `file` are whole records with right checksums.
size_t whole_records(std::string_view file);

class EventWriter {
 public:
  // Continues the newest events.out.tfevents.* of `directory`, or starts one.
  static Result<EventWriter> open(const std::filesystem::path& directory);
  EventWriter(EventWriter&& other) noexcept
      : path_(std::move(other.path_)), descriptor_(other.descriptor_) {
    other.descriptor_ = -1;
  }
  EventWriter& operator=(EventWriter&& other) noexcept;
  ~EventWriter();

  Status scalar(int64_t step, std::string_view tag, double value);
  Status text(int64_t step, std::string_view tag, std::string_view markdown);
  // Forgets the steps after `step`, in every event file of the directory.
  Status rewind(int64_t step);
  Status flush();  // onto the disk; worth calling where a checkpoint is written
  const std::filesystem::path& path() const { return path_; }

 private:
  EventWriter(std::filesystem::path path, int descriptor)
      : path_(std::move(path)), descriptor_(descriptor) {}
  static Result<EventWriter> open_file(const std::filesystem::path& path, size_t whole);
  Status append(std::string_view event);

  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace naite::formats
