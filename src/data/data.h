// SPDX-License-Identifier: Apache-2.0
#pragma once
// The face of data/: text in, tokens out. What a recipe says (options.h), the tokenizer
// (tokenizer.h, stats.h), the packed shards that a run keeps (manifest.h, prepare.h, inspect.h),
// and the loader that fills batches from them as a pure function of (seed, step, row) (loader.h).
#include "data/inspect.h"
#include "data/loader.h"
#include "data/manifest.h"
#include "data/options.h"
#include "data/prepare.h"
#include "data/stats.h"
#include "data/tokenizer.h"
