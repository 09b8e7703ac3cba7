// Rules that a run can be told to break, one at a time, at the seams of the harness. Each of them must be
// noticed by the oracles: otherwise the oracles prove nothing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

namespace tutti::sim {

enum class Canary : std::uint8_t {
  none,
  speak_before_commit,  // replies and orders leave before the transaction
  short_lease,          // the scheduler waits less than the worker's lease before it places again
  no_margin,            // it places again when the lease is over, without the margin for the kill itself
  free_unproven,        // it takes a worker's word that ranks are gone for a proof
  no_boot_grace,        // a new scheduler does not wait for leases that its predecessor may have renewed
  lease_from_ack,       // the worker counts its lease from the acknowledgement instead of its heartbeat
  forget_epochs,        // the worker starts whatever it is told, however old
  proof_without_death,  // the supervisor says `proven` while ranks are still dying
  ignore_lease,         // supervisor and worker do not watch the lease
  no_second_look,       // the worker leaves the lease to a supervisor that does nothing
  no_adoption,          // a restarted worker does not look at what its predecessor left
  silence_guessed,      // a worker says that it has not acknowledged a peer for long, and it has
  end_first,            // a worker's hello tells an end before what its attempt has left
  acks_forgotten,       // a restarted worker knows nothing of what its former life has acknowledged
  blind_recovery,       // after a doubtful commit the scheduler goes on from memory
  // Of several schedulers on one store (docs/design/0016-replicas.md).
  renew_unconfirmed,     // a leader renews leases however long ago it was confirmed
  reads_confirm,         // a read confirms the lead: a primary that was replaced answers those for ever
  confirmed_when_heard,  // the confirmation counts from its answer instead of its question
  forget_predecessors,   // a new leader does not believe in leases of those before it
  settle_by_hello,       // it takes a worker's hello for obedience
  falling_terms,         // a worker obeys a leader of a lower term
  one_instance,          // a copied data directory: one scheduler's start says that another is over
  old_term_writes,       // the store does not look at the term of a commit
  in_doubt_denied,       // after a doubtful commit the leader goes on as if nothing had been written
  // Of two versions of the scheduler side by side (docs/upgrade.md).
  not_unfolded,  // tasks that are one row stay so when a leader follows that knows no arrays
  untold_term,   // the version before does not tell workers its term: a release too far back
};

inline constexpr auto kCanaries = std::to_array<std::pair<Canary, std::string_view>>({
    {Canary::speak_before_commit, "speak_before_commit"},
    {Canary::short_lease, "short_lease"},
    {Canary::no_margin, "no_margin"},
    {Canary::free_unproven, "free_unproven"},
    {Canary::no_boot_grace, "no_boot_grace"},
    {Canary::lease_from_ack, "lease_from_ack"},
    {Canary::forget_epochs, "forget_epochs"},
    {Canary::proof_without_death, "proof_without_death"},
    {Canary::ignore_lease, "ignore_lease"},
    {Canary::no_second_look, "no_second_look"},
    {Canary::no_adoption, "no_adoption"},
    {Canary::silence_guessed, "silence_guessed"},
    {Canary::end_first, "end_first"},
    {Canary::acks_forgotten, "acks_forgotten"},
    {Canary::blind_recovery, "blind_recovery"},
    {Canary::renew_unconfirmed, "renew_unconfirmed"},
    {Canary::reads_confirm, "reads_confirm"},
    {Canary::confirmed_when_heard, "confirmed_when_heard"},
    {Canary::forget_predecessors, "forget_predecessors"},
    {Canary::settle_by_hello, "settle_by_hello"},
    {Canary::falling_terms, "falling_terms"},
    {Canary::one_instance, "one_instance"},
    {Canary::old_term_writes, "old_term_writes"},
    {Canary::in_doubt_denied, "in_doubt_denied"},
    {Canary::not_unfolded, "not_unfolded"},
    {Canary::untold_term, "untold_term"},
});

// A rule that only matters between several schedulers.
constexpr bool of_replicas(Canary canary) { return canary >= Canary::renew_unconfirmed; }

// One that matters only between two versions of the scheduler.
constexpr bool of_versions(Canary canary) { return canary >= Canary::not_unfolded; }

inline std::optional<Canary> parse_canary(std::string_view text) {
  for (const auto& [canary, name] : kCanaries)
    if (name == text) return canary;
  return std::nullopt;
}

}  // namespace tutti::sim
