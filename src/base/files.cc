// SPDX-License-Identifier: Apache-2.0
#include "base/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <limits>

#include "base/json_text.h"

namespace naite {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kTemporaryPrefix = ".tmp-";

Error file_error(std::string_view verb, const fs::path& path) {
  return system_error(errno, "cannot {} {}", verb, path.string());
}

fs::path temporary_name(const fs::path& path) {
  return path.parent_path() /
         fmt::format("{}{}-{}", kTemporaryPrefix, path.filename().string(), ::getpid());
}

fs::path parent_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

Status sync_path(const fs::path& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC);
  if (descriptor < 0) return file_error("open", path);
  const bool ok = ::fsync(descriptor) == 0;
  const int saved = errno;
  ::close(descriptor);
  errno = saved;
  if (!ok) return file_error("flush to disk", path);
  return {};
}

Status sync_directory(const fs::path& path) { return sync_path(path, O_RDONLY | O_DIRECTORY); }

Status sync_tree(const fs::path& root) {
  std::error_code code;
  for (fs::recursive_directory_iterator it(root, code), end; it != end; it.increment(code)) {
    if (code) return system_error(code.value(), "cannot read {}", root.string());
    if (it->is_regular_file()) NAITE_TRY(sync_path(it->path(), O_RDONLY));
    if (it->is_directory()) NAITE_TRY(sync_directory(it->path()));
  }
  return sync_directory(root);
}

}  // namespace

Result<std::string> read_file(const fs::path& path) {
  return read_file(path, std::numeric_limits<int64_t>::max());
}

Result<std::string> read_file(const fs::path& path, int64_t bytes_max) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return file_error("read", path);
  std::string content;
  char buffer[1 << 16];
  struct stat info {};
  ssize_t n = ::fstat(descriptor, &info);
  bool too_large = n == 0 && info.st_size > bytes_max;
  while (!too_large && n >= 0 && (n = ::read(descriptor, buffer, sizeof buffer)) != 0) {
    if (n < 0 && errno == EINTR) n = 0;
    if (n > 0) content.append(buffer, static_cast<size_t>(n));
    too_large = static_cast<int64_t>(content.size()) > bytes_max;
  }
  const int saved = errno;
  ::close(descriptor);
  errno = saved;
  if (n < 0) return file_error("read", path);
  if (too_large)
    return fail("{} has more than the {} bytes that are read of such a file", path.string(),
                bytes_max);
  return content;
}

Status write_file(const fs::path& path, std::string_view content) {
  NAITE_ASSIGN(FileWriter writer, FileWriter::create(path));
  NAITE_TRY(writer.write(content));
  return writer.commit();
}

Status make_directories(const fs::path& path) {
  std::error_code code;
  if (fs::is_directory(path, code)) return {};
  const fs::path parent = parent_of(path);
  if (parent != path) NAITE_TRY(make_directories(parent));
  fs::create_directory(path, code);
  if (code) return system_error(code.value(), "cannot create directory {}", path.string());
  return sync_directory(parent);
}

Status remove_tree(const fs::path& path) {
  std::error_code code;
  fs::remove_all(path, code);
  if (code) return system_error(code.value(), "cannot remove {}", path.string());
  return {};
}

Result<std::vector<std::string>> list_directory(const fs::path& path) {
  std::error_code code;
  std::vector<std::string> names;
  fs::directory_iterator it(path, code);
  for (; !code && it != fs::directory_iterator(); it.increment(code))
    names.push_back(it->path().filename().string());
  if (code) return system_error(code.value(), "cannot list {}", path.string());
  std::sort(names.begin(), names.end());
  return names;
}

Result<FileWriter> FileWriter::create(const fs::path& path) {
  const fs::path temporary = temporary_name(path);
  const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return file_error("write", temporary);
  return FileWriter(path, temporary, descriptor);
}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(other.descriptor_) {
  other.descriptor_ = -1;
}

FileWriter::~FileWriter() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

Status FileWriter::write(const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(descriptor_, at, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_error("write", temporary_);
    at += n;
    bytes -= static_cast<size_t>(n);
  }
  return {};
}

Status FileWriter::commit() {
  if (::fsync(descriptor_) != 0) return file_error("flush to disk", temporary_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return file_error("rename to", path_);
  ::close(descriptor_);
  descriptor_ = -1;
  return sync_directory(parent_of(path_));
}

Result<DirectoryWriter> DirectoryWriter::create(const fs::path& path) {
  const fs::path temporary = temporary_name(path);
  NAITE_TRY(remove_tree(temporary));
  NAITE_TRY(make_directories(temporary));
  return DirectoryWriter(path, temporary);
}

DirectoryWriter::DirectoryWriter(DirectoryWriter&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::move(other.temporary_)) {
  other.temporary_.clear();
}

DirectoryWriter::~DirectoryWriter() {
  if (temporary_.empty()) return;
  std::error_code ignored;  // a destructor has nobody to tell; remove_unfinished() comes again
  fs::remove_all(temporary_, ignored);
}

Status DirectoryWriter::commit() {
  NAITE_TRY(sync_tree(temporary_));
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return file_error("rename to", path_);
  temporary_.clear();
  return sync_directory(parent_of(path_));
}

Status remove_unfinished(const fs::path& parent) {
  std::error_code code;
  if (!fs::exists(parent, code)) return {};
  NAITE_ASSIGN(const std::vector<std::string> names, list_directory(parent));
  for (const std::string& name : names)
    if (name.starts_with(kTemporaryPrefix)) NAITE_TRY(remove_tree(parent / name));
  return {};
}

Result<MappedFile> MappedFile::open(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return file_error("read", path);
  struct stat info {};
  if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(descriptor);
    return fail("cannot read {}: not a regular file", path.string());
  }
  const size_t size = static_cast<size_t>(info.st_size);
  void* data = nullptr;
  if (size > 0) data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int saved = errno;
  ::close(descriptor);
  errno = saved;
  if (data == MAP_FAILED) return file_error("map", path);
  return MappedFile(data, size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept : data_(other.data_), size_(other.size_) {
  other.data_ = nullptr;
  other.size_ = 0;
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<FileLock> FileLock::acquire(const fs::path& path, std::string_view what) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return file_error("write", path);
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor);
    return unable("{} is in use by another naite process: wait for it or stop it", what);
  }
  return FileLock(descriptor);
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void kill_point(std::string_view name) {
  static const char* const wanted = std::getenv("NAITE_KILL_AT");
  if (wanted == nullptr) return;
  static int reached = 0;
  const std::string_view spec(wanted);
  const size_t colon = spec.rfind(':');
  if (colon == std::string_view::npos || spec.substr(0, colon) != name) return;
  if (++reached == std::atoi(wanted + colon + 1)) ::raise(SIGKILL);
}

}  // namespace naite
