// Watched: told of the end of the process it watches, once, and of no other's.
#include "worker/service/child.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <stdexcept>

namespace tutti::worker {
namespace {

// `cat` runs until its input ends.
class Cat {
 public:
  Cat() {
    if (pipe2(ends_, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    SpawnRequest request;
    request.argv = {"/bin/cat"};
    request.in = ends_[0];
    pid_ = spawn_child(request);
  }
  ~Cat() {
    end();
    close(ends_[0]);
  }
  Cat(const Cat&) = delete;
  Cat& operator=(const Cat&) = delete;
  pid_t pid() const { return pid_; }
  void end() {
    if (ends_[1] >= 0) close(ends_[1]);
    ends_[1] = -1;
  }
  void end_and_become_a_zombie() {
    end();
    siginfo_t info{};
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT), 0);
  }

 private:
  int ends_[2] = {-1, -1};
  pid_t pid_ = 0;
};

// A supervisor kept the connection of its dead worker open, and the scheduler waited for a silence.
TEST(SpawnChild, LeavesNothingOpenThatIsOurs) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);  // not close-on-exec, as Asio's sockets
  const Cat cat;
  close(ends[1]);
  pollfd end{ends[0], POLLIN, 0};
  EXPECT_EQ(poll(&end, 1, 10'000), 1) << "the child still has the other end";
  close(ends[0]);
}

template <class F>
void run_until(boost::asio::io_context& io, F condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition() && std::chrono::steady_clock::now() < end)
    io.run_one_for(std::chrono::milliseconds(50));
  ASSERT_TRUE(condition());
}

TEST(Watched, TellsTheEndOfAProcess) {
  boost::asio::io_context io(1);
  Cat cat;
  int ends = 0;
  Watched watched(io, cat.pid(), [&] { ++ends; });
  io.poll();
  EXPECT_EQ(ends, 0);
  cat.end();
  run_until(io, [&] { return ends > 0; });
  io.poll();
  EXPECT_EQ(ends, 1);
}

// Two die together; at the word of one the other is no longer watched and a third is. What Asio had noted of
// the second then reached the third: a supervisor that was just starting was taken for dead.
TEST(Watched, IsNotToldOfADeathThatWasNotedForAnother) {
  boost::asio::io_context io(1);
  Cat first, second, third;
  first.end_and_become_a_zombie();
  second.end_and_become_a_zombie();
  std::unique_ptr<Watched> watched[2], newcomer;
  int told = 0, newcomer_told = 0;
  const auto on_end = [&](int other) {
    ++told;
    if (newcomer) return;
    watched[other].reset();
    newcomer = std::make_unique<Watched>(io, third.pid(), [&] { ++newcomer_told; });
  };
  watched[0] = std::make_unique<Watched>(io, first.pid(), [&] { on_end(1); });
  watched[1] = std::make_unique<Watched>(io, second.pid(), [&] { on_end(0); });
  run_until(io, [&] { return told > 0; });
  io.restart();
  io.poll();
  EXPECT_EQ(told, 1) << "the other was destroyed before it could be told";
  EXPECT_EQ(newcomer_told, 0) << "it lives";
  third.end();
  io.restart();
  run_until(io, [&] { return newcomer_told > 0; });
  EXPECT_EQ(newcomer_told, 1);
  for (const Cat* cat : {&first, &second}) waitpid(cat->pid(), nullptr, WNOHANG);
}

}  // namespace
}  // namespace tutti::worker
