// The text form of scheduler/model/protocol.h: one JSON object per message, {"type":"heartbeat", …}, field
// names as in the structs. Used by worker/service and scheduler/service, and by the simulator, whose links
// encode and decode everything. Pure functions; any thread.
//
//   1. decode(encode(m)) == m for every message whose texts are UTF-8 and whose doubles are finite.
//   2. encode never makes something that decode refuses: bytes that are not UTF-8 become U+FFFD, doubles that
//      are not finite become 0 (in `metrics` they are left out), texts over their bound are cut.
//   3. decode ignores fields it does not know (a newer peer) and names the one that is missing or wrong.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "scheduler/model/error.h"
#include "scheduler/model/protocol.h"

namespace tutti::wire {

inline constexpr std::size_t kMaxMessageBytes = 8 << 20;  // of a whole message, as LinkOptions
inline constexpr std::size_t kMaxTextBytes = 64 << 10;    // of one text, if nothing else is said
inline constexpr std::size_t kMaxSpecBytes = 1 << 20;     // Prepare.spec_json
inline constexpr std::size_t kMaxLogBytes = 4 << 20;      // LogChunk.data, ReadLog.max_bytes
inline constexpr std::size_t kMaxItems = 16384;           // of one list or map

std::string encode(const protocol::FromWorker&);
std::string encode(const protocol::ToWorker&);
std::string encode(const protocol::PeerMessage&);
Result<protocol::FromWorker> decode_from_worker(std::string_view text);
Result<protocol::ToWorker> decode_to_worker(std::string_view text);
Result<protocol::PeerMessage> decode_peer(std::string_view text);

/// What a hello says of its protocol, also one of a version that cannot be read otherwise; nothing: it is
/// none.
std::optional<std::int32_t> protocol_of_hello(std::string_view text);
/// decode has refused it for its type: a newer peer may say what is not known here.
bool is_of_unknown_type(const Error& refusal);

/// The value of "type" that encode writes for this message; for log lines.
std::string_view type_name(const protocol::FromWorker&);
std::string_view type_name(const protocol::ToWorker&);

}  // namespace tutti::wire
