// Faults, part 4: two versions of the scheduler. One process after another gets the other version's program:
// it stops in good order or is killed and begins as that one, or has it installed and begins with it whenever
// it is started next. Forth as a rule, and back again. So leaders of both follow each other on one store,
// among workers of both.
//
// From dice of their own: a run without them is as it would be if there were none.
#include "tests/sim/faults.h"

namespace tutti::sim {

// Before they start: as a rule the upgrade is still to come.
void Faults::choose_versions() {
  const bool mixed = place_.canary == Canary::untold_term;
  const unsigned before = mixed                       ? 500
                          : upgrade_dice_.chance(600) ? 1000
                          : upgrade_dice_.chance(600) ? 500
                                                      : 0;
  for (auto* s : place_.schedulers)
    if (upgrade_dice_.chance(before)) s->install(Version::before);
}

void Faults::next_upgrade(Time until) {
  const Duration wait =
      place_.canary == Canary::not_unfolded ? upgrade_dice_.between(2s, 10s) : upgrade_dice_.between(4s, 30s);
  world_.after(wait, [this, until] {
    if (over_ || world_.now() >= until) return;
    // Whose canary is to be seen until its split is over.
    if (split_ && place_.canary == Canary::untold_term) return next_upgrade(until);
    bool all_ours = true;
    for (const auto* s : place_.schedulers) all_ours = all_ours && !s->is_before();
    const bool back = upgrade_dice_.chance(all_ours ? 700 : 200);
    note(back ? "the schedulers go back to the version before" : "rolling upgrade of the schedulers");
    replace(0, upgrade_dice_.below(place_.schedulers.size()), back ? Version::before : Version::ours);
    next_upgrade(until);
  });
}

void Faults::replace(std::size_t turn, std::size_t first, Version with) {
  if (over_ || turn == place_.schedulers.size()) return;
  if (place_.benign && (!calm() || world_.now() < quiet_until_))
    return world_.after(1s, [this, turn, first, with] { replace(turn, first, with); });
  auto* s = place_.schedulers[(first + turn) % place_.schedulers.size()];
  if (place_.canary == Canary::untold_term)  // seen only where they differ
    with = upgrade_dice_.chance(500) ? Version::before : Version::ours;
  s->install(with);
  const Duration down = upgrade_dice_.between(100ms, 1200ms);
  const bool at_once = upgrade_dice_.chance(850), in_good_order = upgrade_dice_.chance(700);
  if (at_once && s->alive() && !s->paused()) {
    if (place_.benign) quiet_until_ = world_.now() + down + 14s;
    world_.mark(in_good_order ? "a scheduler is replaced in good order"
                              : "a scheduler is killed and replaced");
    if (in_good_order) {
      s->restart_in_order(down);
    } else {
      s->kill();
      mend_after(down, [s] {
        if (!s->alive()) s->start();
      });
    }
  }
  world_.after(upgrade_dice_.between(300ms, 8s),
               [this, turn, first, with] { replace(turn + 1, first, with); });
}

}  // namespace tutti::sim
