#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds everything and runs every test; see --help. Needs no terminal and asks nothing.
set -uo pipefail
cd "$(dirname "$0")"

usage() {
  cat <<'TEXT'
./test.sh            installs what is missing (apt), checks the style, builds the release preset,
                     runs all of its tests
./test.sh --all      the same, then with one clang++ build under AddressSanitizer and
                     UndefinedBehaviorSanitizer: all tests, the digests of both compilers' builds
                     side by side, 5,000 random changes of a run that verification must find, and
                     the fuzzing programs for a minute; 20 steps of the quickstart under all that
                     must not change them, three steps on AArch64 under qemu, the second
                     implementation, and the tests against other programs
./test.sh --soak     once a release, for hours: the optimised clang++ build, its tests and its
                     digests, the portable instruction set on the quickstart, 100,000 random
                     changes of a run, 100 honest runs made hard, and the fuzzing programs for
                     an hour
./test.sh --interop  the plain run, then only the tests against other programs
./test.sh --help

JOBS=N sets the number of parallel compilations and test programs (default: the number of cores).
ccache is used when it is installed. Ends with what each step took. Exits 0 when every step passed,
1 when one failed, 2 on wrong usage.

Example: ./test.sh --all
TEXT
}

all=0
interop=0
soak=0
for argument in "$@"; do
  case $argument in
    --all) all=1; interop=1 ;;
    --interop) interop=1 ;;
    --soak) soak=1 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "test.sh: unknown argument $argument; see ./test.sh --help" >&2; exit 2 ;;
  esac
done

jobs=${JOBS:-$(nproc)}
if command -v ccache >/dev/null && [ -z "${CMAKE_CXX_COMPILER_LAUNCHER:-}" ]; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi

names=()
results=()
failed=0

# step NAME COMMAND...: runs it, remembers how it ended, goes on.
step() {
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@" </dev/null; then
    results+=("passed in $((SECONDS - start)) s")
  else
    results+=("FAILED after $((SECONDS - start)) s")
    failed=1
  fi
  names+=("$name")
  [[ ${results[-1]} == passed* ]]
}

summary() {
  printf '\n== Summary\n'
  local i
  for i in "${!names[@]}"; do printf '%-42s %s\n' "${names[$i]}" "${results[$i]}"; done
  if [ $failed = 0 ]; then
    echo "test.sh: every step passed (${SECONDS} s)"
  else
    echo "test.sh: a step FAILED (${SECONDS} s)"
  fi
  exit $failed
}

build() {
  cmake --preset "$1" >/dev/null && cmake --build --preset "$1" -j"$jobs"
}

run_tests() {
  ctest --test-dir "$1" --output-on-failure --no-tests=error --timeout 1800 -j"$jobs"
}

build_and_test() {  # PRESET FOLDER
  step "build, $1" build "$1" && step "tests, $1" run_tests "$2"
}

# Random changes of a run, so many, that verification must find. Without stacks of allocations and
# leaks, which cost a seventh of the time.
changes() {
  env NAITE_MUTATIONS="$1" ASAN_OPTIONS=malloc_context_size=0:detect_leaks=0 \
    build-asan/tests/naite_verify_test --gtest_filter='*RandomMutationsAreFound'
}

packages=(tools/install_packages)
[ $((all + soak)) != 0 ] && packages+=(--all)
step "packages" "${packages[@]}" || summary
if [ $interop = 1 ]; then
  # Downloading Python packages and compiling do not get in each other's way.
  tests/interop/run --prepare >/dev/null 2>&1 &
  preparing=$!
fi
export UBSAN_OPTIONS=print_stacktrace=1
step "style rules, their own test" tools/tidy --self-test
step "style" tools/tidy
build_and_test release build || [ -x build/naite ] || summary

if [ $all = 1 ]; then
  build_and_test asan build-asan
  step "g++ and clang++ give the same bits" tests/compare_builds.sh build/naite build-asan/naite
  step "the quickstart has one digest" tests/quickstart_digests build/naite
  step "5,000 changes of a run are found" changes 5000
  step "AArch64 gives the same bits" tests/aarch64/run
  step "the second implementation" tests/second_implementation/run
  step "fuzzing" env JOBS="$jobs" tools/fuzz 60
fi
if [ $soak = 1 ]; then
  build_and_test clang build-clang
  step "the quickstart has one digest" env PORTABLE=1 \
    tests/quickstart_digests build/naite build-clang/naite
  build_and_test asan build-asan
  step "100,000 changes of a run are found" changes 100000
  step "100 honest runs are not accused" env NAITE_HONEST=100 build/tests/naite_honest_test
  step "fuzzing for an hour" env JOBS="$jobs" tools/fuzz 3600
fi
if [ $interop = 1 ]; then
  wait "$preparing"  # what went wrong is said when it is tried again
  step "other programs" tests/interop/run
fi
summary
