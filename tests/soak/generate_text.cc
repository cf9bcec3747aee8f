// SPDX-License-Identifier: Apache-2.0
// Prints GIGABYTES of text, a document a line, each different: words of a made-up language with the
// frequencies of a real one. For tests/soak/large_corpus; needs nothing but a C++ compiler.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

uint64_t state = 1;
uint64_t next() {  // Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

std::vector<std::string> language(int size) {
  const char* syllables[] = {"na", "i",  "te", "ko", "ra", "mun", "seo", "gil", "ber", "sto",
                             "ха", "ло", "가", "나", "다", "말",  "글",  "ing", "er",  "the"};
  std::vector<std::string> words;
  for (int i = 0; i < size; ++i) {
    std::string word = " ";
    for (uint64_t parts = 1 + next() % 4; parts > 0; --parts) word += syllables[next() % 20];
    words.push_back(word);
  }
  return words;
}

}  // namespace

int main(int argc, char** argv) {
  const double gigabytes = argc > 1 ? std::atof(argv[1]) : 1;
  const std::vector<std::string> words = language(1 << 15);
  double left = gigabytes * 1e9;
  std::string line;
  while (left > 0) {
    line.clear();
    const uint64_t length = 50 + next() % 600;
    for (uint64_t i = 0; i < length; ++i) {
      const double u = static_cast<double>(next() >> 11) * 0x1p-53;  // Zipf: rank = N^u
      line += words[static_cast<size_t>(std::pow(32767.0, u))];
    }
    line += '\n';
    std::fwrite(line.data(), 1, line.size(), stdout);
    left -= static_cast<double>(line.size());
  }
}
