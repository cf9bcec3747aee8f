// SPDX-License-Identifier: Apache-2.0
// naite_parquet.so: built where Arrow is, loaded where a .parquet file is named. It reads a single
// column, page by page: what stands in memory is one page, its dictionary, and the text of one row.
//
// A text column may lie inside lists and structs. Parquet stores such a column flat, with two
// numbers for each value (Melnik et al., "Dremel", 2010): the repetition level says which list goes
// on (0: a new row begins), the definition level how deep the path to the value exists.
#include "data/parquet_plugin.h"

#include <arrow/io/file.h>
#include <arrow/memory_pool.h>
#include <arrow/status.h>
#include <arrow/util/config.h>
#include <fcntl.h>
#include <parquet/column_reader.h>
#include <parquet/exception.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>
#include <parquet/schema.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace naite::data {

namespace {

// All that Arrow may hold for a file: a page packed and unpacked, and a dictionary. Pages are about
// a MiB, unless a single text is longer.
constexpr int64_t kMemoryMax = int64_t{1} << 30;
constexpr size_t kRowMax = size_t{512} << 20;  // the text of one row
constexpr int64_t kBufferBytes = int64_t{1} << 20;
constexpr size_t kBatch = 128;  // values decoded at a time
constexpr size_t kNamesShown = 20;

using parquet::schema::GroupNode;
using parquet::schema::Node;

// Refusals, which say what to do; other exceptions mean damage.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class CappedPool : public arrow::ProxyMemoryPool {
 public:
  using arrow::ProxyMemoryPool::ProxyMemoryPool;

  arrow::Status Allocate(int64_t size, int64_t alignment, uint8_t** out) override {
    if (size > kMemoryMax - bytes_allocated()) return arrow::Status::OutOfMemory(size, " bytes");
    return arrow::ProxyMemoryPool::Allocate(size, alignment, out);
  }
  arrow::Status Reallocate(int64_t old_size, int64_t new_size, int64_t alignment,
                           uint8_t** memory) override {
    if (new_size - old_size > kMemoryMax - bytes_allocated())
      return arrow::Status::OutOfMemory(new_size, " bytes");
    return arrow::ProxyMemoryPool::Reallocate(old_size, new_size, alignment, memory);
  }
};

// --- which column -------------------------------------------------------------------------------

struct Column {
  const Node* leaf = nullptr;
  int16_t list_level = -1;  // definition level from which on the outermost list exists; -1: no list
  // Between the elements of each list on the path, the outermost first.
  std::vector<std::string> separators;
};

const GroupNode& group(const Node& node) { return static_cast<const GroupNode&>(node); }

bool is_text(const Node& node) {
  if (!node.is_primitive()) return false;
  const auto& primitive = static_cast<const parquet::schema::PrimitiveNode&>(node);
  if (primitive.physical_type() != parquet::Type::BYTE_ARRAY) return false;
  const auto& type = node.logical_type();
  return type == nullptr || type->is_none() || type->is_string() || type->is_enum() ||
         type->is_JSON();
}

// A list is a group around a repeated field, which is the element or a group around it; which of
// both it is follows the rules in the format's LogicalTypes.md.
const Node* element_of(const Node& list) {
  const Node* repeated = group(list).field(0).get();
  if (repeated->is_primitive() || group(*repeated).field_count() != 1) return repeated;
  if (repeated->name() == "array" || repeated->name() == list.name() + "_tuple") return repeated;
  return group(*repeated).field(0).get();
}

bool is_list(const Node& node) {
  return node.is_group() && node.logical_type() != nullptr && node.logical_type()->is_list() &&
         group(node).field_count() == 1 && group(node).field(0)->is_repeated();
}

// Names as people write them, without the groups that only make lists.
void add_text_columns(const Node& node, const std::string& prefix,
                      std::vector<std::string>& names) {
  if (is_list(node)) return add_text_columns(*element_of(node), prefix, names);
  if (node.is_primitive()) {
    if (is_text(node)) names.push_back(prefix);
    return;
  }
  for (int i = 0; i < group(node).field_count(); ++i) {
    const Node& field = *group(node).field(i);
    add_text_columns(field, prefix.empty() ? field.name() : prefix + "." + field.name(), names);
  }
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kNamesShown); ++i)
    text += (i > 0 ? ", " : "") + names[i];
  if (names.size() > kNamesShown)
    text += " and " + std::to_string(names.size() - kNamesShown) + " more";
  return text;
}

[[noreturn]] void refuse_column(const GroupNode& root, const std::string& key,
                                const std::string& why) {
  std::vector<std::string> names;
  add_text_columns(root, "", names);
  std::string message = why.empty() ? "no column `" + key + "`" : "`" + key + "` " + why;
  if (names.empty()) throw Refused(message + "; no column of this file holds text");
  throw Refused(message + ": set `text_key` to one of " + joined(names));
}

// Walks from the root along a dotted path and through lists.
class Walk {
 public:
  Walk(const GroupNode& root, const std::string& key) : root_(root), key_(key) {}

  Column to_leaf() {
    const Node* node = &root_;
    std::string_view rest = key_;
    for (;;) {
      if (is_list(*node)) {
        node = enter_element(*node);
      } else if (!rest.empty()) {
        node = enter_field(*node, rest);
      } else if (node->is_primitive()) {
        if (!is_text(*node)) refuse_column(root_, key_, "holds no text");
        column_.leaf = node;
        return column_;
      } else if (!column_.separators.empty() && group(*node).FieldIndex("content") >= 0) {
        rest = "content";  // messages: what was said, without who said it
      } else {
        refuse_column(root_, key_, "holds several fields");
      }
    }
  }

 private:
  const Node* enter_element(const Node& list) {
    const Node* repeated = group(list).field(0).get();
    const Node* element = element_of(list);
    pass(*repeated, *element);
    if (element != repeated) pass(*element, *element);
    return element;
  }

  // The longest name that fits: names may themselves hold dots.
  const Node* enter_field(const Node& node, std::string_view& rest) {
    for (size_t size = rest.size(); node.is_group() && size != std::string_view::npos;
         size = size == 0 ? std::string_view::npos : rest.rfind('.', size - 1)) {
      if (size < rest.size() && rest[size] != '.') break;
      const int index = group(node).FieldIndex(std::string(rest.substr(0, size)));
      if (index < 0) continue;
      rest.remove_prefix(std::min(size + 1, rest.size()));
      const Node* field = group(node).field(index).get();
      pass(*field, *field);
      return field;
    }
    refuse_column(root_, key_, "");
  }

  void pass(const Node& node, const Node& element) {
    if (node.is_repeated()) {
      if (column_.list_level < 0) column_.list_level = level_;
      const bool of_structs = element.is_group() && !is_list(element);
      column_.separators.push_back(of_structs ? "\n\n" : "\n");
    }
    level_ = static_cast<int16_t>(level_ + !node.is_required());
  }

  const GroupNode& root_;
  const std::string& key_;
  Column column_;
  int16_t level_ = 0;
};

}  // namespace

// --- the rows -----------------------------------------------------------------------------------

struct ParquetPluginFile {
  ParquetPluginFile(int descriptor, const std::string& key) {
    parquet::ReaderProperties properties(&pool_);
    properties.enable_buffered_stream();
    properties.set_buffer_size(kBufferBytes);
    properties.set_page_checksum_verification(true);
    const int own = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (own < 0) throw Refused(std::strerror(errno));
    const auto file = arrow::io::ReadableFile::Open(own, &pool_);
    if (!file.ok()) throw Refused(file.status().message());
    reader_ = parquet::ParquetFileReader::Open(*file, properties);
    metadata_ = reader_->metadata();
    if (metadata_->is_encryption_algorithm_set())
      throw Refused("encrypted Parquet, which is not read: write it without encryption");
    const parquet::SchemaDescriptor& schema = *metadata_->schema();
    column_ = Walk(*schema.group_node(), key).to_leaf();
    index_ =
        schema.GetColumnIndex(static_cast<const parquet::schema::PrimitiveNode&>(*column_.leaf));
    max_definition_ = schema.Column(index_)->max_definition_level();
  }

  // False at the end of the file.
  bool next(ParquetPluginRow& row) {
    while (!fill()) {
      end_group();
      if (group_ + 1 >= metadata_->num_row_groups()) return false;
      begin_group(group_ + 1);
    }
    text_.clear();
    has_text_ = false;
    if (repetition_[at_] != 0) throw parquet::ParquetException("a row begins inside a list");
    // A list that is there, with nothing in it, is an empty text.
    const bool null =
        definition_[at_] < (column_.list_level < 0 ? max_definition_ : column_.list_level);
    do take_value();
    while (fill() && repetition_[at_] != 0);
    ++rows_in_group_;
    row = {text_.data(), text_.size(), ++rows_, null};
    return true;
  }

 private:
  void begin_group(int group) {
    group_ = group;
    rows_in_group_ = 0;
    // The metadata must outlive what it hands out.
    const std::shared_ptr<parquet::RowGroupReader> rows = reader_->RowGroup(group);
    const auto chunk = rows->metadata()->ColumnChunk(index_);
    if (!chunk->file_path().empty())
      throw Refused("its columns lie in other files, which is not read");
    if (!chunk->can_decompress())
      throw Refused("compressed with a codec that Arrow " ARROW_VERSION_STRING
                    " does not have: write it with zstd");
    column_reader_ = std::static_pointer_cast<parquet::ByteArrayReader>(rows->Column(index_));
    count_ = at_ = value_at_ = values_ = 0;
  }

  // A chunk may end before its rows do, which Arrow takes for its end.
  void end_group() {
    if (group_ < 0) return;
    const int64_t expected = metadata_->RowGroup(group_)->num_rows();
    if (rows_in_group_ != expected)
      throw parquet::ParquetException("it holds ", rows_in_group_, " rows, its footer says ",
                                      expected);
  }

  // Makes levels available; false at the end of the row group.
  bool fill() {
    if (at_ < count_) return true;
    if (column_reader_ == nullptr) return false;
    if (!column_reader_->HasNext()) {
      column_reader_.reset();
      return false;
    }
    int64_t values = 0;
    count_ = static_cast<size_t>(column_reader_->ReadBatch(
        kBatch, definition_.data(), repetition_.data(), bytes_.data(), &values));
    values_ = static_cast<size_t>(values);
    at_ = value_at_ = 0;
    if (count_ == 0) throw parquet::ParquetException("a page without values");
    return true;
  }

  void take_value() {
    const int16_t definition = definition_[at_], repetition = repetition_[at_];
    ++at_;
    if (definition < max_definition_) return;
    if (value_at_ >= values_) throw parquet::ParquetException("fewer values than levels");
    const parquet::ByteArray& value = bytes_[value_at_++];
    if (has_text_ && repetition > 0)
      text_ += column_.separators.at(static_cast<size_t>(repetition - 1));
    if (text_.size() + value.len > kRowMax)
      throw Refused("row " + std::to_string(rows_ + 1) + ": a text above " +
                    std::to_string(kRowMax >> 20) + " MiB: split it into several rows");
    if (value.len > 0) text_.append(reinterpret_cast<const char*>(value.ptr), value.len);
    has_text_ = true;
  }

  // In this order: whatever holds memory goes before its pool.
  CappedPool pool_{arrow::system_memory_pool()};
  std::unique_ptr<parquet::ParquetFileReader> reader_;
  std::shared_ptr<parquet::FileMetaData> metadata_;
  Column column_;
  int index_ = 0;
  int16_t max_definition_ = 0;
  int group_ = -1;
  int64_t rows_ = 0, rows_in_group_ = 0;
  std::shared_ptr<parquet::ByteArrayReader> column_reader_;
  // Left as they are, zeros, where the column has no such levels.
  std::array<int16_t, kBatch> definition_{}, repetition_{};
  std::array<parquet::ByteArray, kBatch> bytes_;
  size_t count_ = 0, at_ = 0, values_ = 0, value_at_ = 0;
  std::string text_;
  bool has_text_ = false;
};

namespace {

// --- the border: no exception gets across -------------------------------------------------------

constexpr std::string_view kDamaged = ": the file is damaged, fetch it again";
constexpr std::string_view kUnknown = " (Arrow " ARROW_VERSION_STRING ")";
constexpr std::string_view kTooLarge =
    "a page of it needs more than 1 GiB of memory: write it with smaller pages";

void say(ParquetPluginError& error, std::string_view message, std::string_view after = "") {
  size_t size = 0;
  for (const std::string_view part : {message, after}) {
    const size_t taken = std::min(part.size(), sizeof error.text - 1 - size);
    std::memcpy(error.text + size, part.data(), taken);
    size += taken;
  }
  error.text[size] = '\0';
}

void say_status(ParquetPluginError& error, const arrow::Status& status) {
  if (status.IsOutOfMemory()) return say(error, kTooLarge);
  say(error, status.message(), status.IsNotImplemented() ? kUnknown : kDamaged);
}

// Runs `work`; what it throws becomes the text of `error`, and the result is false.
template <class Work>
bool caught(ParquetPluginError& error, Work work) noexcept {
  try {
    work();
    return true;
  } catch (const Refused& refused) {
    say(error, refused.what());
  } catch (const parquet::ParquetStatusException& exception) {
    say_status(error, exception.status());
  } catch (const std::bad_alloc&) {
    say(error, kTooLarge);
  } catch (const std::exception& exception) {
    const std::string_view message = exception.what();
    say(error, message, message.starts_with("Not yet") ? kUnknown : kDamaged);
  } catch (...) {
    say(error, "an exception without a name", kUnknown);
  }
  return false;
}

ParquetPluginFile* open(int descriptor, const char* column, ParquetPluginError* error) {
  ParquetPluginFile* file = nullptr;
  caught(*error, [&] { file = new ParquetPluginFile(descriptor, column); });
  return file;
}

ParquetPluginResult next(ParquetPluginFile* file, ParquetPluginRow* row,
                         ParquetPluginError* error) {
  bool more = false;
  if (!caught(*error, [&] { more = file->next(*row); })) return ParquetPluginResult::kError;
  return more ? ParquetPluginResult::kRow : ParquetPluginResult::kEnd;
}

void close(ParquetPluginFile* file) {
  ParquetPluginError ignored;
  caught(ignored, [&] { delete file; });
}

constexpr ParquetPlugin kPlugin = {open, next, close};

}  // namespace

}  // namespace naite::data

extern "C" __attribute__((visibility("default"))) const naite::data::ParquetPlugin*
naite_parquet_plugin_1() {
  return &naite::data::kPlugin;
}
