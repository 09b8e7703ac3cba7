// Made-up answers for 2,048 nodes of 8 GPUs and 100,000 jobs: for measuring, not for showing. In the form of openapi.json.
export function makeMock({ nodes = 2048, gpus = 8, jobs = 100_000 } = {}) {
  const at = (seconds) => new Date(Date.now() + seconds * 1000).toISOString();
  const random = (seed) => { let x = seed; return () => ((x = (x * 1103515245 + 12345) & 0x7fffffff) / 0x7fffffff); };
  const next = random(7);
  const owner = ["ada", "grace", "alan", "barbara", "edsger"];
  const project = ["nlp", "vision", "speech", "default"];
  const jobOf = new Array(nodes * gpus).fill(null);
  for (let i = 0, id = jobs; i < jobOf.length; ) {
    const size = [1, 2, 4, 8, 16, 32, 64][Math.floor(next() * 7)];
    if (next() < 0.9) for (let k = 0; k < size && i + k < jobOf.length; ++k) jobOf[i + k] = id;
    i += size;
    id -= 1;
  }
  const active = new Set(jobOf.filter((id) => id !== null));
  const state = (id) => (active.has(id) ? "running" : id > jobs - 4000 ? "queued" : ["succeeded", "succeeded", "succeeded", "failed", "cancelled"][id % 5]);
  const job = (id) => ({ id, name: `train-${id % 977}`, project: project[id % 4], queue: "default", owner: owner[id % 5], priority: id % 100, state: state(id), cause: state(id) === "failed" ? "user" : null, reason: "", nodes: 1 + (id % 8), gpus_per_node: 8, created_at: at(-(jobs - id) * 7), queued_at: at(-(jobs - id) * 7), not_before: null, ended_at: ["running", "queued"].includes(state(id)) ? null : at(-(jobs - id) * 6), exit_code: null, attempt: 1, epoch: 1, version: 1 });
  const letter = (i) => (jobOf[i] !== null ? "a" : i % 211 === 0 ? "q" : i % 307 === 0 ? "d" : "f");
  const kWord = { a: "allocated", f: "free", q: "quarantined", d: "dirty" };
  const rack = (n) => Math.floor(n / 32);
  const name = (n) => `gpu-${String(n).padStart(4, "0")}`;
  const service = (n) => (n % 97 === 0 ? "draining" : "schedulable");
  const list = JSON.stringify({ nodes: Array.from({ length: nodes }, (_, n) => ({ id: n + 1, name: name(n), queue: "default", address: "10.0.0.1", state: "reachable", service: service(n), service_reason: "", service_at: null, service_until: null, returns: 0, suspicion: 0, linked: true, conditions: [], cpus: 128, cpus_used: 0, memory_bytes: 2e12, memory_used_bytes: 0, driver: "570.1", simulated_gpus: true, kill_mode: "cgroup2", worker_version: "0.1.0", labels: { "topology.rack": `r${rack(n)}`, "topology.block": `b${rack(n) >> 3}` }, registered_at: at(-9e5), state_at: at(-9e5), jobs: [], gpus: Array.from({ length: gpus }, (_, g) => ({ index: g, uuid: `GPU-00000000-0000-0000-${n}-${g}`, model: "NVIDIA H100 80GB HBM3", memory_bytes: 85520809984, pci: `0000:${g}`, health: "healthy", health_reason: "", state: kWord[letter(n * gpus + g)], job_id: jobOf[n * gpus + g] })) })) });
  let epoch = 0;
  const small = () => JSON.stringify({ at: at(0), event_id: epoch, racks: Array.from({ length: Math.ceil(nodes / 32) }, (_, r) => ({ block: `b${r >> 3}`, rack: `r${r}` })), nodes: Array.from({ length: nodes }, (_, n) => ({ name: name(n), rack: rack(n), state: "reachable", service: service(n), conditions: 0, gpus: Array.from({ length: gpus }, (_, g) => letter(n * gpus + g)).join(""), jobs: jobOf.slice(n * gpus, (n + 1) * gpus) })) });
  const cluster = () => ({ version: "0.1.0", lease_seconds: 6, kill_margin_seconds: 1.5, nodes, gpus: { total: nodes * gpus, free: 1500, allocated: jobOf.filter((id) => id !== null).length, quarantined: 70, dirty: 40 }, jobs: { queued: 4000, delayed: 0, blocked: 0, held: 0, starting: 0, running: active.size, stopping: 0, succeeded: 55_000, failed: 19_000, cancelled: 19_000 }, leader: "a", term: 1, policy: "fair", simulated_gpus: true });
  const queue = { total: 4000, next_page_token: "", by_reason: [{ code: "gpus_busy", text: "GPUs are busy", jobs: 3900, gpus: 90_000 }, { code: "behind", text: "others are ahead", jobs: 100, gpus: 400 }], jobs: Array.from({ length: 200 }, (_, i) => ({ id: jobs - i, name: `train-${i}`, project: "nlp", owner: "ada", nodes: 8, gpus_per_node: 8, gpu_model: "", queued_at: at(-600), attempt: 0, best_available: { nodes: 1, gpus: 8 }, queue: "default", state: "queued", priority: 50, position: i, not_before: null, reasons: [{ code: "gpus_busy", text: "GPUs are busy", need: 64, have: 12 }, ...(i ? [{ code: "behind", text: `${i} are ahead`, need: 0, have: 0 }] : [])], eta: { at: at(600 + i * 60), from: at(300 + i * 50), to: at(1200 + i * 90) } })) };
  const faults = { faults: Array.from({ length: 1000 }, (_, i) => ({ id: 1000 - i, at: at(-i * 80), node: name((i * 37) % 300), gpu_uuid: null, job_id: i, epoch: 1, class: ["xid", "ecc", "link_down"][i % 3], xid: 79, action: "quarantine, stop", detail: "made up", rule: "", slot: "", shared_by: 1 })) };
  const usage = { since: at(-86400), until: at(0), group_by: [], rows: [], cut: false, total: { jobs: 1, attempts: 1, gpu_seconds: 1e9, node_seconds: 1e8, lost_gpu_seconds: 1e7, lost_by_cause: { gpu: 6e6, user: 4e6 }, wait_p50_seconds: 1, wait_p90_seconds: 2, succeeded: 1, failed: 1, cancelled: 1, capacity_gpu_seconds: 1.4e9, unusable_gpu_seconds: 1e7 } };
  const summary = { since: at(-86400), until: at(0), rows: [{ key: "xid", faults: 700, jobs_hit: 500 }, { key: "ecc", faults: 300, jobs_hit: 100 }], total: { faults: 1000, jobs_hit: 550 } };
  const kWords = { pending: ["queued"], active: ["running"], terminal: ["succeeded", "failed", "cancelled"] };
  /** Does a job match the query? As the server: states and groups of them, a part of the name. */
  const matcher = (query) => {
    const states = (query.get("state") ?? "").split(",").filter(Boolean).flatMap((word) => kWords[word] ?? [word]);
    const part = (query.get("q") ?? "").toLowerCase();
    return (id) => (states.length === 0 || states.includes(state(id))) && (!part || `train-${id % 977}`.includes(part));
  };
  let events = 0;
  return function handler(request, response, url) {
    const json = (body) => response.writeHead(200, { "Content-Type": "application/json" }).end(typeof body === "string" ? body : JSON.stringify(body));
    const path = url.pathname;
    if (path === "/v1/me") return json({ user: "ada", kind: "user", roles: { "*": "admin" }, scopes: ["read", "submit", "operate", "admin"], credential: "made up", token: null, permissions: { "*": ["jobs.submit", "jobs.cancel", "nodes.drain", "users.create", "control_plane.get"] }, own_jobs: { "*": [] } });
    if (path === "/v1/events" && (request.headers.accept ?? "").includes("event-stream")) {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      const timer = setInterval(() => {
        epoch += 1;
        const id = jobs - 4000 - (epoch % 500);
        response.write(`id: ${++events}\ndata: ${JSON.stringify({ id: events, at: at(0), job_id: id, node: null, epoch: 1, kind: "state", from: "starting", to: "running", cause: null, detail: "" })}\n\n`);
      }, 100);
      return void request.on("close", () => clearInterval(timer));
    }
    if (path === "/v1/map") {
      const tag = `"${epoch >> 5}"`; // most events change no GPU
      if (request.headers["if-none-match"] === tag) return void response.writeHead(304, { ETag: tag }).end();
      return void response.writeHead(200, { "Content-Type": "application/json", ETag: tag }).end(small());
    }
    if (path === "/v1/jobs:count") {
      const fits = matcher(url.searchParams);
      const by = new Map();
      for (let id = 1; id <= jobs; ++id) if (fits(id)) by.set(state(id), (by.get(state(id)) ?? 0) + 1);
      return json({ groups: [...by].map(([key, n]) => ({ key, jobs: n, gpus: n * 8 })).sort((a, b) => b.jobs - a.jobs), cut: false });
    }
    if (path === "/v1/faults:summary") return json(summary);
    if (path === "/v1/nodes") return json(list);
    if (path === "/v1/cluster") return json(cluster());
    if (path === "/v1/queue") return json(queue);
    if (path === "/v1/plan") return json({ at: at(0), until: at(172_800), cut: true, running: [], planned: Array.from({ length: 6 }, (_, i) => ({ job_id: jobs - i, name: `train-${i}`, project: "nlp", queue: "default", nodes: [{ node: name(i), count: 8 }], starts_at: at(600 + i * 60), from: at(300), to: at(1800), ends_at: at(9000), gpus: 8, backfill: i === 2 })), reservations: [] });
    if (path === "/v1/faults") return json(faults);
    if (path === "/v1/usage") return json(usage);
    if (path === "/v1/queues") return json({ queues: [] });
    if (path === "/v1/projects") return json({ projects: [] });
    if (path === "/v1/jobs") {
      const size = Math.min(500, Number(url.searchParams.get("page_size") ?? 100));
      const from = Number(url.searchParams.get("page_token") ?? jobs);
      const fits = matcher(url.searchParams);
      const out = [];
      let id = from;
      for (; id > 0 && out.length < size; --id) if (fits(id)) out.push(job(id));
      return json({ jobs: out, next_page_token: id > 0 ? String(id) : "" });
    }
    response.writeHead(404, { "Content-Type": "application/problem+json" }).end('{"status":404,"title":"not found","detail":"not made up"}');
  };
}
