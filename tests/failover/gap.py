"""How long nothing was accepted, and whether the scheduler has told of it."""
import time

from cluster import Failure, eventually


def say(text):
    print("    " + text, flush=True)


class Gap:
    """From the moment at which something was broken until submissions are accepted again."""

    def __init__(self, tutti):
        self.tutti, self.led = tutti, tutti.await_leader()
        self.ends = {s.name: len(s.ends) for s in tutti.schedulers}
        self.outages = self.led.metric("tutti_store_outages_total")
        self.begin = time.time()
        self.promoted = self.accepted = None

    def await_promotion(self, old):
        self.tutti.cluster.await_primary(other_than=old)
        self.promoted = time.time()

    def await_accepted(self):
        """The first answer that came after the promotion."""
        load = self.tutti.load
        first = eventually("submissions are accepted again", lambda: load.after(self.promoted),
                           said=lambda: "\n".join(f"{s.name}: {s.lines(self.begin, '')[-15:]}" for s in self.tutti.schedulers))
        self.accepted = first.at
        return self

    def figures(self):
        return self.promoted - self.begin, self.accepted - self.promoted

    def tell(self, what):
        promoted, accepted = self.figures()
        say(f"{what} -> promoted {promoted:.2f} s, promoted -> accepted {accepted:.2f} s")

    def expect_told(self):
        """One line in the log and one outage in the metrics of whoever led."""
        s = self.led
        lines = s.lines(self.begin, "the store is lost")
        if len(lines) != 1:
            raise Failure(f"{s.name}: one line for the gap, not {len(lines)}:\n" + "\n".join(lines))
        eventually(f"{s.name} counts one outage", self.is_counted, 10)
        say(f"told: {s.lines(self.begin, 'the store (is lost|answers)')}")

    def is_counted(self):
        """One that was deposed, or is about to end for it, and is started again counts anew: of it the log alone tells."""
        s = self.led
        if len(s.ends) > self.ends[s.name]:
            return True
        return s.metric("tutti_store_outages_total") - self.outages == 1 and s.metric("tutti_store_outage_seconds_total") > 0
