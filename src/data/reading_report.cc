// SPDX-License-Identifier: Apache-2.0
#include "data/reading_report.h"

namespace naite::data {

namespace {

std::string counted(int64_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

std::string_view name_of_records(const ReadCounts& counts) {
  if (counts.rows == counts.records) return "rows";
  if (counts.rows > 0) return "records";
  return counts.empty_pages == 0     ? "lines"
         : counts.lines_skipped == 0 ? "pages"
                                     : "lines and pages";
}

}  // namespace

std::string losses(const ReadCounts& counts) {
  std::vector<std::string> reasons;
  for (const auto& [reason, count] : counts.reasons)
    reasons.push_back(fmt::format("{} {}", count, reason));
  if (counts.empty_pages > 0)
    reasons.push_back(counted(counts.empty_pages, "page") + " without main text");
  if (reasons.empty()) return {};
  return fmt::format("{} of {} {} ({})", counts.lines_skipped + counts.empty_pages, counts.records,
                     name_of_records(counts), fmt::join(reasons, ", "));
}

std::string reading_report(const ManifestSource& source, const ReadCounts& counts,
                           const InputFiles& inputs) {
  const int64_t lost = counts.lines_skipped + counts.empty_pages;
  const bool loud = static_cast<double>(lost) > kLossWarned * static_cast<double>(counts.records);
  std::string line =
      fmt::format("source {}: read {}, {} to train on, {} held out", source.name,
                  counted(static_cast<int64_t>(inputs.files.size()), "file"),
                  counted(source.train.documents, "document"), source.validation.documents);
  if (loud)
    line = fmt::format(
        "WARNING: source {} lost {:.1f}% of its text: read {}, {} to train on, {} "
        "held out",
        source.name, 100.0 * static_cast<double>(lost) / static_cast<double>(counts.records),
        counted(static_cast<int64_t>(inputs.files.size()), "file"),
        counted(source.train.documents, "document"), source.validation.documents);
  std::vector<std::string> left_out;
  if (lost > 0) left_out.push_back(losses(counts));
  if (source.duplicates > 0) left_out.push_back(counted(source.duplicates, "duplicate"));
  if (const int64_t empty = counts.empty_documents - counts.empty_pages; empty > 0)
    left_out.push_back(counted(empty, "empty document"));
  if (!inputs.left_out.empty()) left_out.push_back("files: " + inputs.left_out_line());
  if (!left_out.empty()) line += fmt::format("; left out: {}", fmt::join(left_out, "; "));
  if (!counts.first.empty()) line += fmt::format("; first: {}", fmt::join(counts.first, " | "));
  if (!counts.notes.empty()) line += fmt::format("; note: {}", fmt::join(counts.notes, " | "));
  if (counts.notes_left_out > 0) line += fmt::format(" and {} more", counts.notes_left_out);
  return line;
}

}  // namespace naite::data
