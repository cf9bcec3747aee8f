#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a bare Debian 12 to a language model that was trained before your eyes; see --help.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
  cat <<'TEXT'
./quickstart.sh               trains a small model on the help pages of LibreOffice, Korean and
                              English (recipes/quickstart.toml), from random weights
./quickstart.sh PATH          trains the same model on your own text: a file or a folder of .txt,
                              .md, .html or .jsonl, also .gz and .zst
./quickstart.sh --help

Run again, it takes up what it began, or shows what is there. Ctrl-C saves and ends.
Example: ./quickstart.sh ~/novel.txt
TEXT
}

say() { printf '\n%s\n' "$*"; }
stop() { echo "quickstart.sh: $*" >&2; exit 1; }

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  -*) echo "quickstart.sh: unknown option $1; see ./quickstart.sh --help" >&2; exit 2 ;;
esac
[ $# -le 1 ] || { echo "quickstart.sh: one path at most; see ./quickstart.sh --help" >&2; exit 2; }

cache=.cache/quickstart
text=${1:-}
recipe=recipes/quickstart.toml
run=runs/quickstart
if [ -n "$text" ]; then
  [ -e "$OLDPWD/$text" ] && text=$OLDPWD/$text
  [ -e "$text" ] || { echo "quickstart.sh: $1 does not exist" >&2; exit 2; }
  text=$(realpath "$text")
  name=$(basename "$text" | sed 's/\.[^.]*$//; s/[^A-Za-z0-9_-]/-/g')
  run=runs/quickstart-${name:-text}
fi

# What it will do, before it does anything.
if [ -z "$text" ]; then
  fetch="fetch   the help pages of LibreOffice in Korean and English from Debian (5 MB, MPL-2.0),
          unpacked into $cache (45 MB)"
else
  fetch="read    $text"
fi
cat <<TEXT
This trains a language model of 5.0 million parameters from random weights on about 1.5 million
tokens. The recipe never adapts to the machine; only the time it takes does.

  install what is missing of tools/packages.txt, with apt
  build   build/naite (2 to 8 minutes on two cores, once)
  $fetch
  train   2 to 8 minutes on two cores that have nothing else to do, into $run;
          a checkpoint of 57 MB at every tenth, eleven in all (620 MB)
  show    how the model grew, and what to try next
TEXT

tools/install_packages

say "Building"
if command -v ccache >/dev/null && [ -z "${CMAKE_CXX_COMPILER_LAUNCHER:-}" ]; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi
cmake --preset release >/dev/null
cmake --build --preset release --target naite -j"${JOBS:-$(nproc)}" ||
  stop "the build failed; its first error is above"

if [ -z "$text" ]; then
  say "Fetching the pages"
  tools/fetch_pages || stop "no pages; or train on your own text: ./quickstart.sh PATH"
else
  # The same recipe with this one source, beside the run: a run's folder has nothing but the run.
  mkdir -p "$(dirname "$run")"
  recipe=$run.toml
  quoted=$(printf '%s' "$text" | sed 's/\\/\\\\/g; s/"/\\"/g')
  TEXT_PATH=$quoted awk -v run="$(basename "$run")" '
    /^\[\[data\.source\]\]/ { skipping = 1; next }
    /^\[/ { skipping = 0 }
    skipping { next }
    /^\[data\]/ {
      print "[[data.source]]\nname = \"text\"\npath = \"" ENVIRON["TEXT_PATH"] "\""
      print "license = \"not stated\"\norigin = \"a text of one'"'"'s own\"\n"
    }
    /^name = "quickstart"/ { $0 = "name = \"" run "\"" }
    /^prompts = / { $0 = "prompts = [\"\"]" }
    { print }' recipes/quickstart.toml >"$recipe.new"
  mv "$recipe.new" "$recipe"
fi

say "What it will cost"
build/naite train "$recipe" --dry-run

say "Training (Ctrl-C saves and ends; the same command goes on)"
trap : INT
build/naite train "$recipe" --run "$run" || stop "training ended early; the message is above"
trap - INT

say "How the model grew"
tools/show_run "$run"

prompt="To insert a"
[ -z "$text" ] || prompt="The"
cat <<TEXT

Next:
  build/naite generate $run --prompt '$prompt' --seed 7
  build/naite digest $run                     the same on every machine
  tools/show_run $run --svg loss.svg          a picture of the curves
  tensorboard --logdir $run                   if you have it
  ./quickstart.sh path/to/your/text
TEXT
