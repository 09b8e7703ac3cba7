#include "worker/service/peer_link.h"

#include <sodium.h>
#include <spdlog/spdlog.h>

#include <charconv>
#include <utility>

#include "api/wire/messages.h"
#include "worker/supervisor/files.h"

namespace tutti::worker {
namespace {

namespace asio = boost::asio;
using asio::ip::udp;

constexpr std::size_t kSignature = 2 * crypto_auth_hmacsha512256_BYTES;
constexpr std::size_t kMaxDatagram = 60'000;
constexpr std::size_t kMaxKnown = 100'000;

std::uint16_t last_port(const std::string& file) {
  const auto text = supervisor::read_file(file, 64);
  std::uint16_t port = 0;
  if (text) (void)std::from_chars(text->data(), text->data() + text->size(), port);
  return port;
}

}  // namespace

PeerLink::PeerLink(asio::io_context& io, const std::string& address, std::uint16_t port,
                   const std::string& port_file, Events events)
    : socket_(io), resolver_(io), events_(std::move(events)) {
  if (sodium_init() < 0) throw std::runtime_error("libsodium cannot be used");
  boost::system::error_code ec;
  const auto ip = asio::ip::make_address(address, ec);
  const auto any = !ec && ip.is_v6() ? udp::v6() : udp::v4();
  socket_.open(any);
  const std::uint16_t wanted = port != 0 ? port : last_port(port_file);
  socket_.bind(udp::endpoint(any, wanted), ec);
  if (ec && port != 0) throw boost::system::system_error(ec, "UDP port " + std::to_string(port));
  if (ec) socket_.bind(udp::endpoint(any, 0));  // somebody else has it by now
  port_ = socket_.local_endpoint().port();
  if (port_ != wanted) supervisor::replace_file(port_file, std::to_string(port_), true);
  socket_.non_blocking(true);
  receive();
}

bool PeerLink::set_secret(std::string secret) {
  if (secret == secret_) return false;
  secret_ = std::move(secret);
  return true;
}

std::string PeerLink::sign(std::string_view text) const {
  crypto_auth_hmacsha512256_state state;
  crypto_auth_hmacsha512256_init(&state, reinterpret_cast<const unsigned char*>(secret_.data()),
                                 secret_.size());
  crypto_auth_hmacsha512256_update(&state, reinterpret_cast<const unsigned char*>(text.data()), text.size());
  unsigned char hash[crypto_auth_hmacsha512256_BYTES];
  crypto_auth_hmacsha512256_final(&state, hash);
  char hex[kSignature + 1];
  sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
  return hex;
}

void PeerLink::send(const protocol::PeerPing& ping, const std::string& address, std::uint16_t port) {
  if (const auto known = known_.find(ping.to); known != known_.end()) return send_to(known->second, ping);
  if (port == 0) return;  // it will ping us, and then we know
  boost::system::error_code ec;
  const auto ip = asio::ip::make_address(address, ec);
  if (ec) return resolve(ping, address, port);
  send_to({ip, port}, ping);
}

// A name: looked up once; until then this ping is lost.
void PeerLink::resolve(const protocol::PeerPing& ping, const std::string& address, std::uint16_t port) {
  if (std::exchange(resolving_, true)) return;
  resolver_.async_resolve(address, std::to_string(port),
                          [this, node = ping.to](boost::system::error_code ec, const auto& found) {
                            if (ec == asio::error::operation_aborted) return;
                            resolving_ = false;
                            if (!ec && !found.empty()) known_.try_emplace(node, found.begin()->endpoint());
                          });
}

void PeerLink::send_to(const Endpoint& to, const protocol::PeerMessage& message) {
  if (secret_.empty()) return;
  const auto text = wire::encode(message);
  const auto datagram = sign(text) + " " + text;
  boost::system::error_code ec;  // one that is lost is lost
  socket_.send_to(asio::buffer(datagram), to, 0, ec);
}

void PeerLink::receive() {
  socket_.async_receive_from(asio::buffer(buffer_), from_,
                             [this](boost::system::error_code ec, std::size_t bytes) {
                               if (ec == asio::error::operation_aborted) return;
                               // Other errors are of what was sent before: a peer that is not there.
                               if (!ec && bytes < kMaxDatagram) on_datagram({buffer_.data(), bytes});
                               receive();
                             });
}

void PeerLink::on_datagram(std::string_view text) {
  if (secret_.empty() || text.size() <= kSignature + 1 || text[kSignature] != ' ') return;
  const auto body = text.substr(kSignature + 1);
  const auto wanted = sign(body);
  if (sodium_memcmp(wanted.data(), text.data(), kSignature) != 0) return;
  const auto message = wire::decode_peer(body);
  if (!message) return;
  const auto from = from_;
  const auto remember = [&](const std::string& node) {
    if (known_.size() < kMaxKnown) known_[node] = from;
  };
  if (const auto* ping = std::get_if<protocol::PeerPing>(&*message)) {
    remember(ping->from);
    if (const auto ack = events_.on_ping(*ping)) send_to(from, *ack);
  } else if (const auto* ack = std::get_if<protocol::PeerAck>(&*message)) {
    events_.on_ack(*ack);
  }
}

}  // namespace tutti::worker
