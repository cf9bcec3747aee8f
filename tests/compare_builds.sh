#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the tiny recipe with two builds of naite and compares the digests of the whole state.
#   tests/compare_builds.sh build/naite build-clang/naite
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 2 ] || { echo "usage: $0 NAITE NAITE" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
for precision in bf16 fp32; do
  for isa in $("$1" --isa-names); do
    for i in 1 2; do
      NAITE_ISA=$isa "${!i}" train tests/recipes/tiny.toml --run "$work/$precision-$isa-$i" \
        --set train.precision=$precision 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    done
    one=$("$1" digest "$work/$precision-$isa-1")
    two=$("$1" digest "$work/$precision-$isa-2")
    if [ "$one" = "$two" ]; then
      echo "same bits: $precision $isa"
    else
      echo "DIFFERENT bits: $precision $isa"
      failed=1
    fi
  done
done
exit $failed
