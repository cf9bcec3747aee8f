// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which states the log of a run must have, and under which names: those of the plan that it
// committed to and, of later steps, of the plans that amendments put in its place. Follows from the
// recipe and the log alone; no state is looked at.
#include <nlohmann/json_fwd.hpp>

#include "record/history.h"
#include "record/run_directory.h"
#include "train/recipe.h"

namespace naite::verify {

// The recipe with the states of a log's plan. recipe.toml may have an older one.
Result<train::Curriculum> with_plan(const train::Curriculum& curriculum, const nlohmann::json& plan,
                                    const std::string& where);
// An error if it has more steps, tokens a step or states than this program goes through.
Status check_size(const train::Curriculum& curriculum);

// Every state of the log is one of the plan in force at its step, of its kind and with its name and
// tokens, and up to the newest one none is left out.
Status check_planned(const record::RunHistory& history, const train::Curriculum& curriculum,
                     const record::RunDirectory& run);

}  // namespace naite::verify
