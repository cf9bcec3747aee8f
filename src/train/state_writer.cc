// SPDX-License-Identifier: Apache-2.0
#include "train/state_writer.h"

#include "base/clock.h"
#include "record/provenance.h"

namespace naite::train {

namespace fs = std::filesystem;

Status BackgroundWriter::wait() {
  if (thread_.joinable()) thread_.join();
  return std::exchange(status_, Status());
}

void BackgroundWriter::start(std::function<Status()> work) {
  thread_ = std::thread([this, work = std::move(work)] {
    set_float_mode();
    try {
      status_ = work();
    } catch (const std::exception& error) {  // training ends as after any error, and resumes
      status_ = fail("a state could not be stored: {}", error.what());
    }
  });
}

Result<formats::TrainingState*> StateWriter::host() {
  NAITE_TRY(writer_.wait());
  return &host_;
}

void StateWriter::begin(int64_t stored_step) {
  stored_step_ = stored_step;
  stored_at_ = now_seconds();
}

// What the log is going to say of the state; only checkpoints are measured.
StateFacts StateWriter::facts_of(Kind kind, const Stepper& stepper,
                                 const formats::Record& measured) const {
  StateFacts out;
  out.step = stepper.step();
  out.name = stepper.stage().name;
  out.loss = measured.loss;
  if (kind == Kind::kCheckpoint) out.validation = measured.validation;
  out.branch = measured.branch;
  return out;
}

fs::path StateWriter::path_of(Kind kind, const Stepper& stepper) const {
  const int64_t step = stepper.step();
  if (kind == Kind::kAutosave) return run_.autosave(step);
  if (kind == Kind::kAudit) return run_.audit(step);
  return run_.checkpoint(stepper.stage().stage, step, stepper.stage().tokens_at(step));
}

Status StateWriter::store(Kind kind, const Stepper& stepper, const formats::Record& measured) {
  NAITE_TRY(writer_.wait());
  NAITE_TRY(stepper.save(host_));
  begin(stepper.step());
  if (kind == Kind::kAutosave) kill_point("autosave");
  if (kind == Kind::kAudit) NAITE_TRY(make_directories(run_.audits()));
  const fs::path path = path_of(kind, stepper);
  const int64_t step = stepper.step();
  const StateSetting setting{curriculum_, stepper.stage(), stepper.model(), stepper.loader(),
                             manifest_,   tokenizer_,      run_.path()};
  NAITE_ASSIGN(formats::CheckpointContent content,
               content_of(setting, facts_of(kind, stepper, measured)));
  content.state = &host_;
  if (kind == Kind::kAutosave)
    content.finish = [this, step](const fs::path& directory, const formats::Record&) {
      return ledger_.sign_autosave(directory, step);
    };
  if (kind == Kind::kCheckpoint && ledger_.claims() != nullptr)
    content.bill_of_materials = record::bill_of_materials(*ledger_.claims(), manifest_);
  if (kind == Kind::kCheckpoint)
    content.finish = [this, step, name = path.filename().string()](const fs::path& directory,
                                                                   const formats::Record& record) {
      return ledger_.sign(directory, record, name, step);
    };
  writer_.start([this, kind, path, step, content = std::move(content)]() -> Status {
    NAITE_TRY(ledger_.flush(step));
    NAITE_TRY(ledger_.make_room(path));
    NAITE_ASSIGN(const formats::Record record, formats::write_checkpoint(path, content));
    if (kind != Kind::kAutosave) NAITE_TRY(ledger_.stored(step, path, record));
    return run_.remove_autosaves_except(kind == Kind::kAutosave ? step : -1);
  });
  return {};
}

}  // namespace naite::train
