// SPDX-License-Identifier: Apache-2.0
#include "train/validation.h"

#include <algorithm>

namespace naite::train {

Result<Validation> validate(infer::Scorer& scorer, const data::Loader& loader, int source,
                            int64_t tokens_max) {
  const int64_t length = loader.sequence_length(), rows_at_once = scorer.tokens() / length;
  const int64_t rows =
      std::min(loader.num_validation_rows(source), std::max<int64_t>(1, tokens_max / length));
  Batch batch = scorer.batch();
  loader.declare(batch);
  Validation result;
  double sum = 0;
  int64_t bytes = 0;
  for (int64_t row = 0; row < rows; row += rows_at_once) {
    const int64_t now = std::min(rows_at_once, rows - row);
    batch.pad(now * length);
    bytes += loader.fill_validation(source, row, now, batch);
    NAITE_ASSIGN(const std::span<const float> losses, scorer.score(batch));
    for (const float loss : losses) sum = sum + static_cast<double>(loss);
    for (const int32_t target : batch.ints("targets")) result.targets += target >= 0;
  }
  result.loss = sum / static_cast<double>(std::max<int64_t>(1, result.targets));
  result.bits_per_byte = sum / kLn2 / static_cast<double>(std::max<int64_t>(1, bytes));
  return result;
}

}  // namespace naite::train
