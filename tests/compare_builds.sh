#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the tiny recipes with two builds of naite and compares the digests of the whole state.
#   tests/compare_builds.sh build/naite build-clang/naite
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 2 ] || { echo "usage: $0 NAITE NAITE" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
for recipe in tiny tiny-motif; do
  for precision in bf16 fp32; do
    for isa in $("$1" --isa-names); do
      run=$work/$recipe-$precision-$isa
      for i in 1 2; do
        NAITE_ISA=$isa "${!i}" train tests/recipes/$recipe.toml --run "$run-$i" \
          --set train.precision=$precision 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
      done
      one=$("$1" digest "$run-1")
      two=$("$1" digest "$run-2")
      if [ "$one" = "$two" ]; then
        echo "same bits: $recipe $precision $isa"
      else
        echo "DIFFERENT bits: $recipe $precision $isa"
        failed=1
      fi
    done
  done
done
exit $failed
