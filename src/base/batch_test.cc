// SPDX-License-Identifier: Apache-2.0
#include "base/batch.h"

#include <gtest/gtest.h>

#include <numeric>

namespace naite {
namespace {

Batch numbered(int64_t tokens, int32_t first) {
  Batch out = Batch::text(tokens);
  for (const char* name : {"ids", "targets", "positions", "spans"}) {
    const std::span<int32_t> column = out.ints(name);
    std::iota(column.begin(), column.end(), first);
    first += 100;
  }
  return out;
}

// However a step is cut into batches, its digest is that of three long arrays.
TEST(Batch, DigestIsThatOfTheWholeStep) {
  const Batch parts[] = {numbered(4, 1), numbered(4, 1000)};
  Sha256 hash;
  for (const char* name : {"ids", "targets", "positions"})
    for (const Batch& part : parts) hash.update(part.ints(name).data(), 16);
  EXPECT_EQ(digest_of(parts), hash.digest());
  EXPECT_NE(digest_of({parts, 1}), digest_of(parts));
}

TEST(Batch, DigestCoversFurtherColumnsByName) {
  const Batch plain = numbered(4, 1);
  Batch derived = plain, one = plain, other = plain;
  derived.add_floats("scale", 4, 1, true);
  one.add_floats("weights", 4);
  one.floats("weights")[2] = 0.5f;
  other.add_floats("values", 4);
  other.floats("values")[2] = 0.5f;
  EXPECT_EQ(digest_of({&derived, 1}), digest_of({&plain, 1}));
  EXPECT_NE(digest_of({&one, 1}), digest_of({&plain, 1}));
  EXPECT_NE(digest_of({&one, 1}), digest_of({&other, 1}));
  one.floats("weights")[3] = 1;
  EXPECT_NE(digest_of({&one, 1}), digest_of({&other, 1}));
}

TEST(Batch, PaddingSeesItselfAlone) {
  Batch batch = numbered(3, 1);
  batch.pad(1);
  EXPECT_EQ(batch.ints("ids")[0], 1);
  EXPECT_EQ(batch.ints("targets")[2], -1);
  EXPECT_EQ(batch.ints("spans")[4], 2);
  EXPECT_EQ(batch.ints("spans")[5], 3);
  EXPECT_EQ(batch.bytes(), 3 * 5 * 4);
}

}  // namespace
}  // namespace naite
