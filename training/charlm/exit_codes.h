// The exit statuses of the trainers, the same numbers in charlm, charlm-nccl and ddp.py.
// Who reads them: the worker that started the rank. 0 and 85 are the contract with the scheduler, the others
// only make the cause readable; they follow sysexits.h where it has a word for it.
#pragma once

#include <stdexcept>
#include <string>

namespace tutti::charlm {

enum class Exit : int {
  done = 0,
  usage = 64,               // the command line or the environment contradicts itself
  checkpoint_refused = 65,  // RESUME_CHECKPOINT is incomplete, corrupt, or of another model or text
  no_text = 66,             // nothing to train on
  no_device = 69,           // charlm-nccl without a usable CUDA driver or device
  diverged = 70,            // ranks that must hold the same values do not
  io = 74,                  // a checkpoint could not be made durable
  peer_lost = 76,           // a collective did not finish: another rank is gone or frozen
  restart_me = 85,          // planned stop: checkpointed, start me again
};

// Thrown anywhere below main(); main() prints it and ends the whole gang with its status.
class Failure : public std::runtime_error {
 public:
  Failure(Exit exit, const std::string& what) : std::runtime_error(what), exit_(exit) {}
  [[nodiscard]] Exit exit() const { return exit_; }

 private:
  Exit exit_;
};

}  // namespace tutti::charlm
