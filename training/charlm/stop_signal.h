// The planned stop: SIGTERM, or TUTTI_STOP_FILE coming into being. The handler only notes it; the training
// loop carries the note in the next all-reduce, so that all ranks stop after the same step.
#pragma once

#include <chrono>
#include <filesystem>

namespace tutti::charlm {

// Before MPI_Init, so that no early signal is lost. Only where a checkpoint can be written: without
// CHECKPOINT_DIR a SIGTERM keeps its default effect, because exiting 85 would promise a checkpoint that is
// not there.
void install_stop_signal();

bool stop_signalled();
bool stop_wanted(const std::filesystem::path& stop_file);

// Sleeps until then, or until a stop signal comes: pacing must not delay a planned stop.
void pause_until(std::chrono::steady_clock::time_point until);

}  // namespace tutti::charlm
