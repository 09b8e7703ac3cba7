// A server-sent event stream that goes on where it stopped.
// EventSource repeats a cut connection by itself, but gives up for good after an answer that is no stream (a restart behind a proxy: 502,
// 503). So every loss is ours: close, wait with back-off, open again behind the last event seen. Told of each change of its state.
// Invariants: (1) no event is given twice: ids only rise; (2) at most one EventSource is open; (3) after stop() nothing is called.

export type StreamState = "connecting" | "live" | "lost" | "paused";
export interface Source {
  onopen: (() => void) | null;
  onerror: (() => void) | null;
  onmessage: ((message: { data: string; lastEventId: string }) => void) | null;
  close(): void;
}
export interface StreamOptions {
  url: string; // a query "after" is added
  open?: (url: string) => Source;
  setTimer?: (run: () => void, ms: number) => unknown;
  clearTimer?: (timer: unknown) => void;
  onData: (data: unknown, id: number) => void;
  onState: (state: StreamState, retryInMs: number | null) => void;
  /** After a loss: events may have been missed when no id was known. */
  onHeal?: () => void;
  firstWaitMs?: number;
  mostWaitMs?: number;
}

export class EventStream {
  #options: Required<Omit<StreamOptions, "onHeal">> & Pick<StreamOptions, "onHeal">;
  #source: Source | null = null;
  #timer: unknown = null;
  #lastId: number | null = null;
  #failures = 0;
  #wasLost = false;
  #stopped = true;

  constructor(options: StreamOptions) {
    this.#options = {
      open: (url) => new EventSource(url) as unknown as Source,
      setTimer: (run, ms) => setTimeout(run, ms),
      clearTimer: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
      firstWaitMs: 500,
      mostWaitMs: 15_000,
      ...options,
    };
  }

  get lastId() {
    return this.#lastId;
  }

  start(after: number | null = this.#lastId) {
    if (!this.#stopped) return;
    this.#stopped = false;
    if (after !== null) this.#lastId = Math.max(after, this.#lastId ?? 0);
    this.#connect();
  }

  /** Ends it; start() goes on behind the last event. */
  stop(state: StreamState = "paused") {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#drop();
    this.#options.onState(state, null);
  }

  /** A person does not want to wait for the next try. */
  retryNow() {
    if (this.#stopped || this.#timer === null) return;
    this.#drop();
    this.#connect();
  }

  #drop() {
    if (this.#timer !== null) this.#options.clearTimer(this.#timer);
    this.#timer = null;
    if (this.#source) {
      this.#source.onopen = this.#source.onerror = this.#source.onmessage = null;
      this.#source.close();
    }
    this.#source = null;
  }

  #connect() {
    this.#timer = null;
    const { url, open } = this.#options;
    const at = this.#lastId === null ? url : `${url}${url.includes("?") ? "&" : "?"}after=${this.#lastId}`;
    if (!this.#wasLost) this.#options.onState("connecting", null);
    const source = open(at);
    this.#source = source;
    source.onopen = () => {
      this.#failures = 0;
      this.#options.onState("live", null);
      if (this.#wasLost) this.#options.onHeal?.();
      this.#wasLost = false;
    };
    source.onmessage = (message) => {
      const id = Number(message.lastEventId);
      if (Number.isFinite(id) && message.lastEventId !== "") {
        if (this.#lastId !== null && id <= this.#lastId) return;
        this.#lastId = id;
      }
      let data: unknown;
      try {
        data = JSON.parse(message.data);
      } catch {
        return; // not one of ours
      }
      this.#options.onData(data, id);
    };
    source.onerror = () => {
      this.#drop();
      this.#wasLost = true;
      const { firstWaitMs, mostWaitMs } = this.#options;
      const wait = Math.min(mostWaitMs, firstWaitMs * 2 ** this.#failures);
      this.#failures += 1;
      this.#options.onState("lost", wait);
      this.#timer = this.#options.setTimer(() => this.#connect(), wait);
    };
  }
}
