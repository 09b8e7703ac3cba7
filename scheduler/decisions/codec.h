// What the log says: how a life of a control plane begins, calls of its methods, leases as it sees them, and
// the digest of what it decided. docs/design/0017-decision-log.md has the format.
//
// Secrets: a client's idempotency key stands in the log, in digests too, only as a keyed hash whose key is
// forgotten with the process. Job specs stand in it as they do in the database.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <string_view>

#include "scheduler/core/control_plane.h"
#include "scheduler/decisions/archive.h"

namespace tutti::decisions {

using Digest = std::array<unsigned char, 16>;
Digest digest_of(std::string_view bytes);
std::string hex(const Digest& digest);

// Of everything that is written: whether this program can read what another has written.
std::string layout();

// How the life of a control plane begins.
struct Opening {
  Now now;
  ControlSettings settings;
  std::string fault_table;     // CSV; "" = the built-in one
  std::string fault_table_id;  // of either
  LeaseSettings lease_settings;
  Mono others_until{};
  std::map<NodeId, LeaseTable::Lease> leases;
  std::shared_ptr<const Snapshot> snapshot;
};

void write(ByteWriter& out, const Opening& opening);
Opening read_opening(ByteReader& in);

// What follows it, each with its tag in front.
enum class Tag : std::uint8_t {
  nothing = 0,  // the end of a round in which nothing was decided
  decided = 1,  // likewise, and the digest of what was
  time = 2,     // of what follows: wall and boot clock, each since the one before
  leases = 3,   // as the control plane sees them from now on
  thrown = 4,   // what the store did not take, and never was: this many inputs. The life ends here
  call = 16     // + the number of the method
};

// A node's lease as a tick sees it. Fresh: heard a moment ago, it does not matter when.
struct SeenLease {
  bool fresh = false;
  bool settled = false;
  Mono granted_at{};  // of one that is not
};
struct LeaseChanges {
  Mono others_until{};
  std::map<NodeId, SeenLease> nodes;
};

void write_call(ByteWriter& out, std::size_t method, const void* const* arguments);
// Reads the arguments and says how to call it again.
using Call = std::function<void(ControlPlane&, Now)>;
Call read_call(ByteReader& in, std::size_t method);
std::string_view input_name(std::size_t method);
// Whether it looks at leases.
bool sees_leases(std::size_t method);

// The canonical bytes of what was decided; "" = nothing.
void write_output(std::string& bytes, const Output& output, const ByteWriter::Mask* mask);

void write(ByteWriter& out, const LeaseChanges& changes);
LeaseChanges read_lease_changes(ByteReader& in);

SpecText spec_text();

}  // namespace tutti::decisions
