// One job queue, one kind of work, one line of JSON: node queues.mjs QUEUE WORK --store URL [--seconds S] [--jobs N] [--clients N].
// QUEUE: graphile-worker, pg-boss or bullmq. WORK:
//   add      durable submissions of one job each, by so many clients at once
//   batch    a thousand at a time, one after the other
//   noop     so many jobs that do nothing wait; how fast they are done, handlers in this process
//   latency  one job at a time on an idle queue: from before its submission to its handler's first line
import { parseArgs } from 'node:util';

const { values: o, positionals: [queue, work] } = parseArgs({
  allowPositionals: true,
  options: {
    store: { type: 'string' },
    seconds: { type: 'string', default: '5' },
    jobs: { type: 'string', default: '20000' },
    clients: { type: 'string', default: '64' },
  },
});
const seconds = Number(o.seconds), jobs = Number(o.jobs), clients = Number(o.clients);
const payload = { name: 'bench', run: 'true', priority: 50, nodes: 1, resources: { gpus: 8 } };
const many = (n) => Array.from({ length: n }, () => payload);

// Of each: add(), addMany(n), work(handler) → stop(), close().
const queues = {
  async 'graphile-worker'() {
    const { makeWorkerUtils, run, runMigrations, Logger } = await import('graphile-worker');
    const { default: pg } = await import('pg');
    const pool = new pg.Pool({ connectionString: o.store, max: clients });
    const logger = new Logger(() => () => {});
    await runMigrations({ pgPool: pool, logger });
    const utils = await makeWorkerUtils({ pgPool: pool, logger });
    return {
      add: () => utils.addJob('bench', payload),
      addMany: (n) => utils.addJobs(many(n).map((p) => ({ identifier: 'bench', payload: p }))),
      async work(handler) {
        const runner = await run({
          pgPool: pool, logger, concurrency: 32, noHandleSignals: true, pollInterval: 500, taskList: { bench: async () => handler() },
          preset: { worker: { localQueue: { size: 500 }, completeJobBatchDelay: 1, failJobBatchDelay: 1 } },
        });
        return () => runner.stop();
      },
      close: () => pool.end(),
    };
  },
  async 'pg-boss'() {
    const { default: Boss } = await import('pg-boss');
    const boss = new Boss({ connectionString: o.store, max: clients });
    boss.on('error', (e) => { throw e; });
    await boss.start();
    await boss.createQueue('bench');
    return {
      add: () => boss.send('bench', payload),
      addMany: (n) => boss.insert(many(n).map((data) => ({ name: 'bench', data }))),
      async work(handler) {
        await boss.work('bench', { batchSize: 1000, pollingIntervalSeconds: 0.5 }, async (batch) => batch.forEach(() => handler()));
        return () => boss.offWork('bench');
      },
      close: () => boss.stop({ graceful: false }),
    };
  },
  async bullmq() {
    const { Queue, Worker } = await import('bullmq');
    const url = new URL(o.store);
    const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
    const bull = new Queue('bench', { connection });
    await bull.waitUntilReady();
    return {
      add: () => bull.add('bench', payload),
      addMany: (n) => bull.addBulk(many(n).map((data) => ({ name: 'bench', data }))),
      async work(handler) {
        const worker = new Worker('bench', async () => handler(), { connection, concurrency: 64, removeOnComplete: { count: 0 } });
        await worker.waitUntilReady();
        return () => worker.close();
      },
      close: () => bull.close(),
    };
  },
};

const now = () => performance.now() / 1000;

async function rate(add, atOnce, each) {
  const end = now() + seconds, begin = now();
  let done = 0;
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (now() < end) {
      await add();
      done += each;
    }
  }));
  return { per_second: done / (now() - begin), jobs: done };
}

const works = {
  add: (q) => rate(() => q.add(), clients, 1),
  batch: (q) => rate(() => q.addMany(1000), 1, 1000),
  async noop(q) {
    for (let left = jobs; left > 0; left -= 1000) await q.addMany(Math.min(1000, left));
    let done = 0, begin = now(), all;
    const finished = new Promise((resolve) => { all = resolve; });
    const stop = await q.work(() => { if (++done === jobs) all(); });
    await finished;
    const took = now() - begin;
    await stop();
    return { per_second: jobs / took, jobs };
  },
  async latency(q) {
    let heard = () => {};
    const stop = await q.work(() => heard(now()));
    const one = async () => {
      const at = new Promise((resolve) => { heard = resolve; });
      const begin = now();
      await q.add();
      return (await at) - begin;
    };
    for (let i = 0; i < 5; ++i) await one();
    const times = [];
    for (let i = 0; i < 50; ++i) times.push(await one());
    await stop();
    times.sort((a, b) => a - b);
    return { p50_ms: times[25] * 1000, p99_ms: times[49] * 1000 };
  },
};

const q = await queues[queue]();
const result = await works[work](q);
console.log(JSON.stringify({ queue, work, ...result }));
await q.close();
process.exit(0);
