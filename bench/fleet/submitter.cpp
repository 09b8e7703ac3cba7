#include "bench/fleet/submitter.h"

#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <utility>

namespace tutti::bench {

namespace asio = boost::asio;

namespace {
constexpr std::chrono::seconds kDeadline{30};

std::string body_of(const std::string& spec, int jobs) {
  if (jobs == 1) return spec;
  std::string body = "{\"jobs\":[";
  for (int i = 0; i < jobs; ++i) body += (i > 0 ? "," : "") + spec;
  return body + "]}";
}

std::size_t length_of(const std::string& head) {
  auto at = head.find("Content-Length: ");
  if (at == std::string::npos) at = head.find("content-length: ");
  return at == std::string::npos ? 0 : std::strtoul(head.c_str() + at + 16, nullptr, 10);
}
}  // namespace

Submitter::Submitter(asio::io_context& io, SchedulerAddress scheduler)
    : scheduler_(std::move(scheduler)), socket_(io), deadline_(io) {}

// What follows an operation of this request: nothing if the request is over, its end if it has failed. It
// keeps what the operation works on: a read of several parts goes on after stop() with the part that had come
// already.
template <class Then>
auto Submitter::step(Then then) {
  return [self = shared_from_this(), texts = texts_, request = requests_, then = std::move(then)](
             boost::system::error_code ec, std::size_t bytes = 0) {
    if (self->requests_ != request || !self->done_) return;
    if (ec) return self->finish(ec.message());
    then(*self, bytes);
  };
}

void Submitter::submit(const std::string& spec, int jobs, Done done) {
  done_ = std::move(done);
  ++requests_;
  expected_ = jobs == 1 ? "201" : "200";
  const std::string body = body_of(spec, jobs);
  texts_ = std::make_shared<Texts>();
  texts_->request = std::string(jobs == 1 ? "POST /v1/jobs" : "POST /v1/jobs:batch") +
                    " HTTP/1.1\r\nHost: fleet\r\nAuthorization: Bearer " + scheduler_.token +
                    "\r\nContent-Type: application/json\r\nIdempotency-Key: fleet-" +
                    std::to_string(::getpid()) + "-" +
                    std::to_string(reinterpret_cast<std::uintptr_t>(this)) + "-" + std::to_string(requests_) +
                    "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  deadline_.expires_after(kDeadline);
  deadline_.async_wait([weak = weak_from_this(), request = requests_](boost::system::error_code ec) {
    const auto self = weak.lock();
    if (self && !ec && self->requests_ == request && self->done_) self->finish("no answer in time");
  });
  if (socket_.is_open()) return send();
  boost::system::error_code ec;
  const auto address = asio::ip::make_address(scheduler_.host, ec);
  if (ec) return finish("the scheduler's address must be a number, not " + scheduler_.host);
  socket_.async_connect({address, scheduler_.port}, step([](Submitter& self, std::size_t) {
                          boost::system::error_code ignored;
                          self.socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
                          self.send();
                        }));
}

void Submitter::send() {
  asio::async_write(socket_, asio::buffer(texts_->request),
                    step([](Submitter& self, std::size_t) { self.read_head(); }));
}

void Submitter::read_head() {
  asio::async_read_until(socket_, asio::dynamic_buffer(texts_->answer), "\r\n\r\n",
                         step([](Submitter& self, std::size_t head) {
                           self.read_body(head, length_of(self.texts_->answer.substr(0, head)));
                         }));
}

void Submitter::read_body(std::size_t head, std::size_t length) {
  const auto have = texts_->answer.size() - head;
  const auto judge = [](Submitter& self, std::size_t) {
    const bool ok = self.texts_->answer.compare(9, 3, self.expected_) == 0;
    self.finish(ok ? "" : self.texts_->answer.substr(0, 500));
  };
  if (have >= length) return judge(*this, 0);
  asio::async_read(socket_, asio::dynamic_buffer(texts_->answer), asio::transfer_exactly(length - have),
                   step(judge));
}

void Submitter::finish(const std::string& trouble) {
  deadline_.cancel();
  if (!trouble.empty()) {  // whatever is still on its way: it belongs to nobody
    boost::system::error_code ignored;
    socket_.close(ignored);
  }
  std::exchange(done_, nullptr)(trouble);
}

void Submitter::stop() {
  done_ = nullptr;
  deadline_.cancel();
  boost::system::error_code ignored;
  socket_.close(ignored);
}

}  // namespace tutti::bench
