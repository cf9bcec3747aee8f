// SPDX-License-Identifier: Apache-2.0
#pragma once
// The face of tape/: record, plan, replay.
//
//   record   run the model's C++ once with shapes only; every operation appends one node (record.h;
//            the operations that model files use are in ops.h)
//   plan     give every buffer an offset in one arena from its first write and last read, decide
//   for
//            every gradient whether it is written or accumulated, and say the bytes (plan.h)
//   replay   walk the planned steps (program.h). No allocation, no lookups, no recursion.
#include "tape/ops.h"
#include "tape/parameters.h"
#include "tape/plan.h"
#include "tape/program.h"
#include "tape/record.h"
