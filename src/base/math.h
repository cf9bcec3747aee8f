// SPDX-License-Identifier: Apache-2.0
#pragma once
// Elementary functions in double for tables and schedules: plain additions, multiplications and
// divisions in a fixed order, so every machine and compiler gives the same bits, which the C
// library does not promise. Relative error below 1e-14 in the ranges given.
#include <cstdint>

namespace naite {

inline constexpr double kLn2 = 0.693147180559945309417232121458176568;
inline constexpr double kLog2E = 1.44269504088896340735992468100189214;

double exact_exp2(double x);  // |x| <= 1000
double exact_log2(double x);  // x > 0, normal
double exact_ln(double x);    // x > 0, normal
double exact_sin(double x);   // |x| <= 2^30 (absolute error 1e-9 at the far end)
double exact_cos(double x);   // likewise
double exact_power(double base, double exponent);     // base > 0
double integer_power(double base, int64_t exponent);  // exponent >= 0, by repeated squaring

}  // namespace naite
