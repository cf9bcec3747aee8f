// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/isa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/kernels.h"

namespace naite::kernels::cpu {
namespace {

using ::testing::HasSubstr;

TEST(Isa, PortableIsAlwaysThereAndLast) {
  ASSERT_FALSE(available_isas().empty());
  EXPECT_EQ(available_isas().back(), Isa::kPortable);
}

TEST(Isa, EveryOfferedNameIsAccepted) {
  for (const Isa isa : available_isas()) {
    const Result<Isa> chosen = choose_isa(isa_name(isa));
    ASSERT_TRUE(chosen);
    EXPECT_EQ(*chosen, isa);
    EXPECT_THAT(std::string(cpu_isa_names()), HasSubstr(std::string(isa_name(isa))));
  }
}

TEST(Isa, AnUnknownNameIsRefusedWithTheMachinesList) {
  const Result<Isa> chosen = choose_isa("avx1024");
  ASSERT_FALSE(chosen);
  EXPECT_THAT(chosen.error().message, HasSubstr("avx1024"));
  EXPECT_THAT(chosen.error().message, HasSubstr(std::string(cpu_isa_names())));
}

TEST(Isa, TheEnvironmentDecidesWhenNobodyElseDoes) {
  ASSERT_EQ(setenv("NAITE_ISA", "portable", 1), 0);
  const Result<Isa> portable = choose_isa("");
  ASSERT_EQ(setenv("NAITE_ISA", "mmx", 1), 0);
  const Result<Isa> unknown = choose_isa("");
  ASSERT_EQ(unsetenv("NAITE_ISA"), 0);
  const Result<Isa> best = choose_isa("");
  ASSERT_TRUE(portable && best);
  EXPECT_EQ(*portable, Isa::kPortable);
  EXPECT_EQ(*best, available_isas().front());
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("NAITE_ISA \"mmx\""));
}

}  // namespace
}  // namespace naite::kernels::cpu
