// SPDX-License-Identifier: Apache-2.0
#pragma once
// The face of ledger/: a signed, append-only log in the formats of C2SP (c2sp.org), which any
// static web server publishes and clients that exist can read, and signatures of model
// directories. It knows nothing of models: entries are bytes. docs/LEDGER.md has every format byte
// by byte.
#include "ledger/canonical_json.h"
#include "ledger/cosignatures.h"
#include "ledger/encoding.h"
#include "ledger/http.h"
#include "ledger/keys.h"
#include "ledger/log.h"
#include "ledger/merkle.h"
#include "ledger/model_signature.h"
#include "ledger/note.h"
#include "ledger/proof.h"
#include "ledger/tiles.h"
#include "ledger/witness.h"
