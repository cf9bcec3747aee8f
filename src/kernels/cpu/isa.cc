// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/isa.h"

#include <algorithm>
#include <cstdlib>

#include "kernels/cpu/bf16_dot.h"
#include "kernels/kernels.h"

namespace naite::kernels::cpu {

namespace {

constexpr Isa kAll[] = {Isa::kAvx512Bf16, Isa::kAvx512, Isa::kAvx2, Isa::kPortable};

bool machine_has(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  switch (isa) {
    case Isa::kPortable:
      return true;
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::kAvx512:
      return machine_has(Isa::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
    case Isa::kAvx512Bf16:
      return machine_has(Isa::kAvx512) && __builtin_cpu_supports("avx512bf16") &&
             bf16_dot_keeps_the_contract();
  }
  return false;
#else
  return isa == Isa::kPortable;
#endif
}

std::vector<Isa> find_isas() {
  set_float_mode();
  std::vector<Isa> found;
  for (const Isa isa : kAll)
    if (machine_has(isa)) found.push_back(isa);
  return found;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
  }
  NAITE_CHECK(false, "instruction set {}", static_cast<int>(isa));
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> found = find_isas();
  return found;
}

Result<Isa> choose_isa(std::string_view name) {
  std::string_view source = "instruction set";
  if (name.empty()) {
    const char* variable = std::getenv("NAITE_ISA");
    if (variable != nullptr) name = variable;
    source = "NAITE_ISA";
  }
  const std::vector<Isa>& available = available_isas();
  if (name.empty()) return available.front();
  for (const Isa isa : kAll) {
    if (isa_name(isa) != name) continue;
    if (std::ranges::find(available, isa) != available.end()) return isa;
    return fail("{} \"{}\": this machine does not have it; choose one of: {}", source, name,
                cpu_isa_names());
  }
  return fail("{} \"{}\" is not known; choose one of: {}", source, name, cpu_isa_names());
}

}  // namespace naite::kernels::cpu

namespace naite::kernels {

std::string_view cpu_isa_names() {
  static const std::string names = [] {
    std::string joined;
    for (const cpu::Isa isa : cpu::available_isas()) {
      if (!joined.empty()) joined += ' ';
      joined += cpu::isa_name(isa);
    }
    return joined;
  }();
  return names;
}

}  // namespace naite::kernels
