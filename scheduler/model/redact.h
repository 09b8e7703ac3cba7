// Takes secrets out of what leaves the cluster in an evidence bundle: values that are known to be secret, and
// what looks like one in any text. Pure. Used by worker/service (logs, stacks) and by the summary of a
// bundle.
//
// It errs towards taking out too much. It cannot know a secret that a program prints under a harmless name:
// docs/faults.md says so.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/secret_mask.h"

namespace tutti {

/// "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD"; not "TOKENIZERS_PARALLELISM".
bool is_secret_name(std::string_view name);

class Redactor {
 public:
  /// Values of variables with secret names, `values` as they are, and the job's secrets (secret_mask.h).
  /// Those under 6 bytes are not replaced: they would be found everywhere.
  Redactor(const std::map<std::string, std::string>& env, const std::vector<std::string>& values,
           SecretMask secrets = {});

  /// "[redacted]" for each secret, for the value in NAME=value and "NAME": "value" with a secret name, and
  /// for what follows "Bearer ", "--some-token " and the user in a URL. Valid JSON stays valid. Bytes that
  /// are not text are left as they are.
  /// `before`: so many bytes at the beginning only help to find secrets, and are left out of the answer.
  std::string text(std::string_view, std::size_t before = 0) const;
  /// Known values become as many '*': files whose layout must stay (flight-recorder dumps).
  std::string binary(std::string_view, std::size_t before = 0) const;

 private:
  std::vector<std::string> values_;  // longest first
  SecretMask secrets_;
};

}  // namespace tutti
