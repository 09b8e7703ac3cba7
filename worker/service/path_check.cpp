#include "worker/service/path_check.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <system_error>
#include <utility>

#include "worker/service/child.h"
#include "worker/supervisor/fd.h"
#include "worker/supervisor/files.h"

namespace tutti::worker {

namespace asio = boost::asio;
using supervisor::Fd;

namespace {
constexpr std::size_t kMostAtOnce = 64;
constexpr std::size_t kMostWaiting = 64;
constexpr std::size_t kMostText = 32 << 10;  // less than a pipe holds: the helper never waits for us

std::string first_line(int fd) {
  std::string text(kMostText, '\0');
  const ssize_t n = read(fd, text.data(), text.size());
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text.substr(0, text.find('\n'));
}
}  // namespace

struct PathChecks::State : std::enable_shared_from_this<PathChecks::State> {
  struct Helper {
    explicit Helper(asio::io_context& io) : timer(io) {}
    Fd out;
    std::unique_ptr<Watched> process;
    asio::steady_timer timer;
    std::chrono::steady_clock::time_point began;
    std::vector<std::function<void(Answer)>> waiting;  // for its answer, which comes once
    bool late = false;                                 // answered without having ended
  };

  State(asio::io_context& io_, std::string program_) : io(io_), program(std::move(program_)) {}

  void answer_later(std::function<void(Answer)> done, Answer answer) {
    asio::post(io, [done = std::move(done), answer = std::move(answer)] { done(answer); });
  }

  void run(std::vector<std::string> words, std::chrono::milliseconds deadline,
           std::function<void(Answer)> done) {
    if (const auto found = running.find(words); found != running.end()) {
      Helper& earlier = *found->second;
      if (earlier.late || earlier.waiting.size() >= kMostWaiting)
        return answer_later(std::move(done), {false, true, "an earlier look still hangs", {}});
      earlier.waiting.push_back(std::move(done));  // who asks meanwhile gets the same answer
      return;
    }
    if (running.size() >= kMostAtOnce)
      return answer_later(std::move(done), {false, true, "too many looks have not come back", {}});
    auto helper = std::make_shared<Helper>(io);
    try {
      int ends[2];
      if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) supervisor::throw_errno("pipe");
      Fd theirs(ends[1]);
      helper->out = Fd(ends[0]);
      SpawnRequest request;
      request.argv = {program};
      request.argv.insert(request.argv.end(), words.begin(), words.end());
      request.out = theirs.get();
      const auto pid = spawn_child(request);
      helper->process = std::make_unique<Watched>(io, pid, [self = weak_from_this(), words] {
        if (const auto state = self.lock()) state->ended(words);
      });
    } catch (const std::system_error& e) {
      return answer_later(std::move(done), {false, false, e.what(), {}});
    }
    helper->began = std::chrono::steady_clock::now();
    helper->waiting.push_back(std::move(done));
    helper->timer.expires_after(deadline);
    helper->timer.async_wait([self = weak_from_this(), words, deadline](boost::system::error_code ec) {
      const auto state = self.lock();
      if (!ec && state) state->late(words, deadline);
    });
    running[std::move(words)] = helper;
  }

  void ended(const std::vector<std::string>& words) {
    const auto found = running.find(words);
    if (found == running.end()) return;
    const auto helper = found->second;
    running.erase(found);
    helper->timer.cancel();
    // Its exit code is not asked for: the pidfd only tells that it has ended. What it says begins with "ok"
    // or with a number when all is well.
    const auto text = first_line(helper->out.get());
    const bool ok = text == "ok" || (!text.empty() && text.front() >= '0' && text.front() <= '9');
    answer(*helper, {ok, false, text.empty() ? "the helper died without a word" : text, {}});
  }

  void late(const std::vector<std::string>& words, std::chrono::milliseconds deadline) {
    const auto found = running.find(words);
    if (found == running.end()) return;
    const auto helper = found->second;
    helper->process->signal(SIGKILL);
    helper->late = true;
    answer(*helper, {false, true, "no answer within " + std::to_string(deadline.count()) + " ms", {}});
  }

  static void answer(Helper& helper, Answer a) {
    a.took = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() -
                                                                   helper.began);
    for (const auto& done : std::exchange(helper.waiting, {})) done(a);
  }

  asio::io_context& io;
  std::string program;
  std::map<std::vector<std::string>, std::shared_ptr<Helper>> running;
};

PathChecks::PathChecks(asio::io_context& io, std::string program)
    : state_(std::make_shared<State>(io, std::move(program))) {}

PathChecks::~PathChecks() {
  for (auto& [words, helper] : state_->running)
    if (helper->process) helper->process->signal(SIGKILL);
}

void PathChecks::run(std::vector<std::string> words, std::chrono::milliseconds deadline,
                     std::function<void(Answer)> done) {
  state_->run(std::move(words), deadline, std::move(done));
}

}  // namespace tutti::worker
