// tutti-checkpoint begin STEP | shard STEP FILE… | commit STEP [--shards N]
// For programs of ranks: writes a checkpoint whose files can be checked. Asks the supervisor of the attempt
// over
// `$TUTTI_ATTEMPT_DIR/rank.sock` whether this attempt may still write. Prints the folder of the step.
#include <poll.h>
#include <sys/socket.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "worker/supervisor/checkpoint_manifest.h"
#include "worker/supervisor/checkpoint_writer.h"
#include "worker/supervisor/files.h"

using namespace tutti::supervisor;

namespace {

constexpr int kAnswerMs = 5000;

constexpr const char* kUsage =
    "usage: tutti-checkpoint begin STEP            make its folder, print its path (one rank)\n"
    "       tutti-checkpoint shard STEP FILE...    announce files in it (every rank, after writing them)\n"
    "       tutti-checkpoint commit STEP [--shards N]   make it a checkpoint (one rank, after all others)\n"
    "Status: 0 done, 64 wrong arguments, 65 incomplete, 74 disk trouble, 77 this attempt may not write any "
    "more.\n";

[[noreturn]] void wrong(const std::string& what) { throw CheckpointError(kUsageError, what); }

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') wrong(std::string("$") + name + " is not set: run it inside a job");
  return value;
}

std::int64_t number(const std::string& text, const char* what) {
  std::int64_t n = -1;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec != std::errc{} || end != text.data() + text.size() || n < 0)
    wrong(std::string(what) + " must be a whole number, not '" + text + "'");
  return n;
}

// One line of the supervisor, or why there is none.
std::string ask_supervisor(const std::string& dir) {
  const Fd socket = connect_unix(dir, "rank.sock");
  const std::string question = std::string(kAskEpoch) + "\n";
  if (send(socket.get(), question.data(), question.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(question.size()))
    throw_errno("send");
  std::string answer;
  while (answer.find('\n') == std::string::npos && answer.size() < 4096) {
    pollfd wait{socket.get(), POLLIN, 0};
    if (poll(&wait, 1, kAnswerMs) <= 0) throw std::runtime_error("it does not answer");
    char chunk[512];
    const ssize_t n = recv(socket.get(), chunk, sizeof chunk, 0);
    if (n <= 0) throw std::runtime_error("it hung up");
    answer.append(chunk, static_cast<std::size_t>(n));
  }
  return answer;
}

void require_current(const std::string& dir, std::int64_t epoch) {
  std::string answer;
  try {
    answer = ask_supervisor(dir);
  } catch (const std::exception& e) {
    throw CheckpointError(kEpochNotCurrent, "the supervisor of this attempt cannot be asked (" +
                                                std::string(e.what()) + "): the attempt is over");
  }
  long long current = -1;
  char word[8] = "";
  if (std::sscanf(answer.c_str(), "{\"epoch\":%lld,\"current\":%5[a-z]", &current, word) != 2)
    throw CheckpointError(kEpochNotCurrent, "the supervisor gave no answer that can be read");
  if (current != epoch)
    throw CheckpointError(kEpochNotCurrent, "epoch " + std::to_string(epoch) +
                                                " is not the attempt's, which is " + std::to_string(current));
  if (std::strcmp(word, "true") != 0)
    throw CheckpointError(kEpochNotCurrent, "epoch " + std::to_string(epoch) +
                                                " is being ended: nothing it writes counts any more");
}

void run(const std::vector<std::string>& args) {
  if (args.size() < 2) wrong("too few arguments");
  const std::int64_t step = number(args[1], "STEP");
  const std::string dir = variable("CHECKPOINT_DIR");
  if (dir.front() != '/') wrong("$CHECKPOINT_DIR must be an absolute path");
  const std::string attempt = variable("TUTTI_ATTEMPT_DIR");
  const std::int64_t epoch = number(variable("TUTTI_EPOCH"), "$TUTTI_EPOCH");
  CheckpointWriter writer(dir, epoch, [&] { require_current(attempt, epoch); });
  if (args[0] == "begin" && args.size() == 2) {
    std::printf("%s\n", writer.begin(step).c_str());
  } else if (args[0] == "shard" && args.size() > 2) {
    writer.shard(step, {args.begin() + 2, args.end()});
  } else if (args[0] == "commit" && args.size() == 2) {
    std::printf("%s\n", writer.commit(step, std::nullopt).c_str());
  } else if (args[0] == "commit" && args.size() == 4 && args[2] == "--shards") {
    std::printf("%s\n", writer.commit(step, number(args[3], "--shards")).c_str());
  } else {
    wrong("unknown command or arguments");
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run({argv + 1, argv + argc});
    return 0;
  } catch (const CheckpointError& e) {
    std::fprintf(stderr, "tutti-checkpoint: %s\n", e.what());
    if (e.status == kUsageError) std::fputs(kUsage, stderr);
    return e.status;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tutti-checkpoint: %s\n", e.what());
    return kFileTrouble;
  }
}
