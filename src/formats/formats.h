// SPDX-License-Identifier: Apache-2.0
#pragma once
// The face of formats/: how weights and logs look on disk. See each header for its format.
#include "formats/architectures.h"
#include "formats/export.h"
#include "formats/gguf.h"
#include "formats/model_files.h"
#include "formats/safetensors.h"
#include "formats/stored.h"
#include "formats/tfevents.h"
