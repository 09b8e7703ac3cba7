// The variables Tutti sets for a rank, read once at start. Everything is optional: by hand, charlm runs
// without any.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>

namespace tutti::charlm {

struct Environment {
  std::filesystem::path checkpoint_dir;     // CHECKPOINT_DIR; empty: write no checkpoints
  std::filesystem::path resume_checkpoint;  // RESUME_CHECKPOINT, a step-N directory; empty: start at step 0
  std::filesystem::path progress_file;      // TUTTI_PROGRESS_FILE; %r stands for the rank
  std::filesystem::path stop_file;          // TUTTI_STOP_FILE: a planned stop is wanted once it exists
  std::int64_t epoch = 0;                   // TUTTI_EPOCH
};

Environment load_environment(int rank);

// The first of these variables that is set. Throws Failure{usage} if it is no whole number.
std::optional<int> environment_int(std::initializer_list<const char*> names);
std::string environment_text(const char* name);  // empty if not set

}  // namespace tutti::charlm
