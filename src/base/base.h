// SPDX-License-Identifier: Apache-2.0
#pragma once
// The face of base/: what every other folder stands on. See each header for its contract.
#include "base/build_info.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/config.h"
#include "base/files.h"
#include "base/float_mode.h"
#include "base/foreign_files.h"
#include "base/math.h"
#include "base/philox.h"
#include "base/result.h"
#include "base/sha256.h"
#include "base/threads.h"
