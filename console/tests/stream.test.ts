import { beforeEach, describe, expect, it } from "vitest";
import { concerned } from "@/api/live";
import { EventStream, type Source, type StreamState } from "@/api/stream";

class Fake implements Source {
  onopen: Source["onopen"] = null;
  onerror: Source["onerror"] = null;
  onmessage: Source["onmessage"] = null;
  closed = false;
  constructor(readonly url: string) {}
  close() {
    this.closed = true;
  }
  say(id: number, data: unknown = { id }) {
    this.onmessage?.({ data: JSON.stringify(data), lastEventId: String(id) });
  }
}

let sources: Fake[];
let timers: { run: () => void; ms: number }[];
let seen: number[];
let states: StreamState[];
let heals: number;
let stream: EventStream;
const now = () => sources.at(-1)!;
const tick = () => timers.shift()!.run();

beforeEach(() => {
  sources = [];
  timers = [];
  seen = [];
  states = [];
  heals = 0;
  stream = new EventStream({
    url: "/v1/events",
    open: (url) => { const source = new Fake(url); sources.push(source); return source; },
    setTimer: (run, ms) => { const timer = { run, ms }; timers.push(timer); return timer; },
    clearTimer: (timer) => { timers = timers.filter((each) => each !== timer); },
    onData: (_, id) => seen.push(id),
    onState: (state) => states.push(state),
    onHeal: () => (heals += 1),
  });
});

describe("the event stream", () => {
  it("begins with what comes from now on", () => {
    stream.start();
    expect(now().url).toBe("/v1/events");
    now().onopen?.();
    now().say(7);
    expect(seen).toEqual([7]);
    expect(states).toEqual(["connecting", "live"]);
  });
  it("goes on behind the last event after a loss, and says that it healed", () => {
    stream.start();
    now().onopen?.();
    now().say(7);
    now().onerror?.();
    expect(states.at(-1)).toBe("lost");
    expect(sources[0]!.closed).toBe(true);
    tick();
    expect(now().url).toBe("/v1/events?after=7");
    expect(states.at(-1)).toBe("lost");
    now().onopen?.();
    expect([states.at(-1), heals]).toEqual(["live", 1]);
  });
  it("gives no event twice", () => {
    stream.start();
    now().onopen?.();
    for (const id of [5, 6, 6, 4, 7]) now().say(id);
    expect(seen).toEqual([5, 6, 7]);
  });
  it("waits longer each time, up to a bound, and anew after a success", () => {
    stream.start();
    const waits: number[] = [];
    for (let i = 0; i < 8; ++i) {
      now().onerror?.();
      waits.push(timers[0]!.ms);
      tick();
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
    now().onopen?.();
    now().onerror?.();
    expect(timers[0]!.ms).toBe(500);
  });
  it("is tried at once when a person wants that", () => {
    stream.start();
    now().onerror?.();
    stream.retryNow();
    expect([sources.length, timers.length]).toEqual([2, 0]);
    stream.retryNow();
    expect(sources.length).toBe(2);
  });
  it("pauses without a trace and resumes where it stopped", () => {
    stream.start();
    now().onopen?.();
    now().say(9);
    stream.stop("paused");
    const old = sources[0]!;
    old.say(10);
    expect([seen, states.at(-1), timers.length]).toEqual([[9], "paused", 0]);
    stream.start();
    expect(now().url).toBe("/v1/events?after=9");
  });
  it("survives what is no JSON", () => {
    stream.start();
    now().onmessage?.({ data: "{", lastEventId: "3" });
    now().say(4);
    expect(seen).toEqual([4]);
  });
});

describe("an event makes old", () => {
  const keys = (event: Parameters<typeof concerned>[0]) => concerned(event).map((key) => key.join("/"));
  it("its job, the lists it stands in, and the map", () => expect(keys({ kind: "state", job_id: 4, node: null })).toEqual(expect.arrayContaining(["job/4", "jobs", "job-counts", "queue", "plan", "map", "nodes", "cluster"])));
  it("its node and the ledger", () => expect(keys({ kind: "fault", job_id: null, node: "n1" })).toEqual(expect.arrayContaining(["node/n1", "faults", "nodes"])));
  it("a checkpoint not the map", () => expect(keys({ kind: "checkpoint", job_id: 4, node: null }).filter((key) => key === "nodes" || key === "map")).toEqual([]));
});
