// SPDX-License-Identifier: Apache-2.0
#include "base/math.h"

#include <bit>
#include <cstdint>

#include "base/check.h"

namespace naite {

namespace {

constexpr double kPi = 3.14159265358979323846264338327950288;
// pi/2 in two parts, so that multiples of it subtract without loss (Cody and Waite, 1980).
constexpr double kHalfPiHigh = 1.57079632673412561417e+00;
constexpr double kHalfPiLow = 6.07710050650619224932e-11;

double nearest(double x) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 x 2^52: adding it rounds to an integer
  volatile double shifted = x + kMagic;          // volatile: no compiler may cancel it
  return shifted - kMagic;
}

// Taylor series on |x| <= pi/4, highest terms below 1e-17.
double sin_small(double x) {
  const double z = x * x;
  double term = x, sum = x;
  for (int n = 3; n <= 17; n += 2) {
    term = term * -z / (n * (n - 1.0));
    sum = sum + term;
  }
  return sum;
}

double cos_small(double x) {
  const double z = x * x;
  double term = 1.0, sum = 1.0;
  for (int n = 2; n <= 18; n += 2) {
    term = term * -z / (n * (n - 1.0));
    sum = sum + term;
  }
  return sum;
}

double sin_of_quadrant(double x, int quadrant_shift) {
  const double k = nearest(x * (2.0 / kPi));
  const double r = (x - k * kHalfPiHigh) - k * kHalfPiLow;
  switch ((static_cast<int64_t>(k) + quadrant_shift) & 3) {
    case 0:
      return sin_small(r);
    case 1:
      return cos_small(r);
    case 2:
      return -sin_small(r);
    default:
      return -cos_small(r);
  }
}

}  // namespace

double exact_exp2(double x) {
  NAITE_CHECK(x >= -1000.0 && x <= 1000.0, "exact_exp2({})", x);
  const double n = nearest(x);
  const double r = (x - n) * kLn2;
  double term = 1.0, sum = 1.0;
  for (int i = 1; i <= 16; ++i) {
    term = term * r / i;
    sum = sum + term;
  }
  const int64_t exponent = static_cast<int64_t>(n) + 1023;
  return sum * std::bit_cast<double>(static_cast<uint64_t>(exponent) << 52);
}

double exact_log2(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  NAITE_CHECK(x > 0.0 && exponent > -1023 && exponent < 1024, "exact_log2({})", x);
  double m = std::bit_cast<double>((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u);
  if (m > 1.4142135623730951) {
    m = m * 0.5;
    ++exponent;
  }
  // log m = 2 artanh(s), s = (m - 1) / (m + 1), |s| <= 0.1716.
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double power = s, sum = 0.0;
  for (int n = 1; n <= 21; n += 2) {
    sum = sum + power / n;
    power = power * z;
  }
  return static_cast<double>(exponent) + 2.0 * sum * kLog2E;
}

double exact_ln(double x) { return exact_log2(x) * kLn2; }
double exact_sin(double x) { return sin_of_quadrant(x, 0); }
double exact_cos(double x) { return sin_of_quadrant(x, 1); }
double exact_power(double base, double exponent) { return exact_exp2(exponent * exact_log2(base)); }

double integer_power(double base, int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result = result * base;
    base = base * base;
  }
  return result;
}

}  // namespace naite
