// SPDX-License-Identifier: Apache-2.0
#pragma once
// Files that are complete or absent. Whatever is written here appears under its final name only
// when every byte of it is on the disk: written beside it under a temporary name, fsynced, renamed,
// and the directory fsynced. A process killed at any moment leaves the old content or the new one.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace naite {

Result<std::string> read_file(const std::filesystem::path& path);
Result<nlohmann::json> read_json(const std::filesystem::path& path);

// Replace `path` by `content`, atomically and durably.
Status write_file(const std::filesystem::path& path, std::string_view content);

Status make_directories(const std::filesystem::path& path);  // durable; existing ones are fine
Status remove_tree(const std::filesystem::path& path);
// Names (not paths) of the entries of a directory, sorted bytewise.
Result<std::vector<std::string>> list_directory(const std::filesystem::path& path);

// A file written piece by piece; nothing is visible under `path` before commit().
class FileWriter {
 public:
  static Result<FileWriter> create(const std::filesystem::path& path);
  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&&) = delete;
  ~FileWriter();  // removes the temporary file unless committed

  Status write(const void* data, size_t bytes);
  Status write(std::string_view text) { return write(text.data(), text.size()); }
  Status commit();

 private:
  FileWriter(std::filesystem::path path, std::filesystem::path temporary, int descriptor)
      : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor) {}
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
};

// A directory filled under a temporary name (".tmp-..." beside `path`) and renamed at commit().
class DirectoryWriter {
 public:
  static Result<DirectoryWriter> create(const std::filesystem::path& path);
  DirectoryWriter(DirectoryWriter&& other) noexcept;
  DirectoryWriter& operator=(DirectoryWriter&&) = delete;
  ~DirectoryWriter();  // removes the temporary directory unless committed

  const std::filesystem::path& path() const { return temporary_; }  // fill this one
  // Fsync every file and directory inside, then rename to the final name, which must be free.
  Status commit();

 private:
  DirectoryWriter(std::filesystem::path path, std::filesystem::path temporary)
      : path_(std::move(path)), temporary_(std::move(temporary)) {}
  std::filesystem::path path_, temporary_;
};

// What DirectoryWriter left behind when its process was killed: removes such remains in `parent`.
Status remove_unfinished(const std::filesystem::path& parent);

// A whole file, mapped read-only. An empty file gives an empty view.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }

 private:
  MappedFile(void* data, size_t size) : data_(data), size_(size) {}
  void* data_ = nullptr;
  size_t size_ = 0;
};

// One process at a time: holds an exclusive lock on `path` (created if missing) until destroyed.
class FileLock {
 public:
  // Fails with a clear line if another process holds it; `what` names the thing locked.
  static Result<FileLock> acquire(const std::filesystem::path& path, std::string_view what);
  FileLock(FileLock&& other) noexcept : descriptor_(other.descriptor_) { other.descriptor_ = -1; }
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

// Fault points for tests with real signals: when the environment variable NAITE_KILL_AT is
// "name:n", the n-th time that kill_point("name") is reached, the process gets SIGKILL.
void kill_point(std::string_view name);

}  // namespace naite
