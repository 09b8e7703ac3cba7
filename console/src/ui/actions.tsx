// What can be done to jobs: one dialog that asks for a reason, one that shows what a change would do, one for many jobs at once.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link } from "react-router";
import { ApiError, api, ok } from "@/api/client";
import type { Schema, WhatIf } from "@/api/types";
import { useJob, useMay } from "@/api/queries";
import type { Verb } from "@/lib/jobs";
import { count, etaText, localTime, plural } from "@/lib/format";
import { Button, Empty, EtaText, Problem, Skeleton, Time } from "./bits";
import { Modal, useToast } from "./overlay";
import { useNow } from "./now";

const kVerbText: Record<Verb, { title: string; done: string; text: string; danger?: boolean }> = {
  cancel: { title: "Cancel", done: "cancelled", text: "It ends for good. Running ranks get the stop signal and the time of the job's grace.", danger: true },
  hold: { title: "Hold", done: "held", text: "It keeps its place and does not start until it is released." },
  release: { title: "Release", done: "released", text: "It goes on waiting for its turn." },
  requeue: { title: "Requeue", done: "requeued", text: "The running attempt is stopped, and the job starts again from its last good checkpoint." },
};

export function VerbDialog({ verb, job, onClose }: { verb: Verb | null; job: { id: number; name: string }; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const say = useToast();
  const queries = useQueryClient();
  const act = useMutation({
    mutationFn: async (which: Verb) => {
      const options = { params: { path: { id: String(job.id) } }, body: reason ? { reason } : {} };
      switch (which) {
        case "cancel": return ok(api.POST("/v1/jobs/{id}:cancel", options));
        case "hold": return ok(api.POST("/v1/jobs/{id}:hold", options));
        case "release": return ok(api.POST("/v1/jobs/{id}:release", options));
        case "requeue": return ok(api.POST("/v1/jobs/{id}:requeue", options));
      }
    },
    onSuccess: (_, which) => {
      say(<>Job {job.id} {which === "cancel" || which === "requeue" ? `is being ${kVerbText[which].done}` : `is ${kVerbText[which].done}`}.</>);
      void queries.invalidateQueries();
      onClose();
    },
  });
  useEffect(() => { if (verb) { setReason(""); act.reset(); } }, [verb]); // eslint-disable-line react-hooks/exhaustive-deps
  const text = kVerbText[verb ?? "cancel"];
  return (
    <Modal open={verb !== null} onClose={onClose} title={`${text.title} job ${job.id}`}>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); if (verb) act.mutate(verb); }}>
        <p><b>{job.name}</b>: {text.text}</p>
        <label className="field">Reason <input value={reason} onChange={(event) => setReason(event.target.value)} maxLength={500} placeholder="Optional; stands in the job's history" /></label>
        {act.error ? <Problem error={act.error} /> : null}
        <div className="dialog-foot"><Button onClick={onClose}>Back</Button><Button type="submit" kind={text.danger ? "danger" : "primary"} disabled={act.isPending}>{text.title} job</Button></div>
      </form>
    </Modal>
  );
}

/** What the planner says to a change: when, in whose place, who moves. */
export function Outcome({ now: before, then }: { now?: { eta: WhatIf["eta"]; position: number | null } | undefined; then: WhatIf }) {
  const clock = useNow();
  return (
    <div className="stack tight">
      <dl className="facts">
        {before && <div><dt>Start now planned</dt><dd>{etaText(before.eta, clock)}</dd></div>}
        <div><dt>{before ? "Start then" : "Would start"}</dt><dd>{then.starts_now ? "at once" : then.never ? "never, on this cluster" : <EtaText eta={then.eta} />}</dd></div>
        {before && before.position !== null && <div><dt>Position now</dt><dd>{before.position + 1}</dd></div>}
        {then.position !== null && <div><dt>Position{before ? " then" : ""}</dt><dd>{then.position + 1}</dd></div>}
        {then.nodes.length > 0 && <div><dt>On</dt><dd>{then.nodes.slice(0, 8).join(", ")}{then.nodes.length > 8 ? ` and ${then.nodes.length - 8} more` : ""}</dd></div>}
      </dl>
      {!then.starts_now && then.blockers.length > 0 && <><h3>Blocked by</h3><ul className="list">{then.blockers.slice(0, 6).map((blocker, i) => <li key={i}><span>{blocker.text}</span>{blocker.job_id !== null && <Link to={`/jobs/${blocker.job_id}`}>job {blocker.job_id}</Link>}</li>)}</ul></>}
      {!then.starts_now && then.blockers.length === 0 && then.reasons.length > 0 && <><h3>Because</h3><ul className="list">{then.reasons.slice(0, 6).map((reason, i) => <li key={i}><span>{reason.text}</span></li>)}</ul></>}
      {then.preempts.length > 0 && <p className="notice warn">Would ask to give way: {then.preempts.map((id, i) => <span key={id}>{i > 0 && ", "}<Link to={`/jobs/${id}`}>job {id}</Link></span>)}</p>}
      {then.others.length > 0 && (
        <><h3>{plural(then.others.length, "other job")} would move</h3>
          <ul className="list">{then.others.slice(0, 6).map((other) => <li key={other.job_id}><Link to={`/jobs/${other.job_id}`}>job {other.job_id}</Link><span>{other.before ? localTime(other.before, clock) : "not known"} → {other.after ? localTime(other.after, clock) : "not known"}</span></li>)}</ul></>
      )}
      {!then.starts_now && then.would_help.length > 0 && <p className="muted">Would start at once with {then.would_help.map((change) => `${change.field} ${change.to}`).join(", or ")}.</p>}
      {then.hidden ? <p className="faint">{plural(then.hidden, "job")} that you may not see left out.</p> : null}
    </div>
  );
}

function useSettled<T>(value: T, ms: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}

/** "What if its priority were …": looked at first, then done. */
export function PriorityDialog({ id, open, onClose }: { id: number; open: boolean; onClose: () => void }) {
  return <Modal open={open} onClose={onClose} title={`Priority of job ${id}`}>{open && <PriorityForm id={id} onClose={onClose} />}</Modal>;
}
function PriorityForm({ id, onClose }: { id: number; onClose: () => void }) {
  const job = useJob(String(id));
  const may = useMay();
  const say = useToast();
  const queries = useQueryClient();
  const [priority, setPriority] = useState<number | null>(null);
  const now = job.data?.job.priority ?? 50;
  const wantedNow = priority ?? now;
  const settled = useSettled(wantedNow, 250);
  const most = job.data && may("urgent", { project: job.data.job.project }) ? 100 : 89;
  const before = useQuery({ queryKey: ["job", String(id), "explain"], queryFn: () => ok(api.GET("/v1/jobs/{id}/explain", { params: { path: { id: String(id) } } })) });
  const preview = useQuery({
    queryKey: ["job", String(id), "what-if", settled],
    queryFn: () => ok(api.POST("/v1/jobs/{id}:simulate", { params: { path: { id: String(id) } }, body: { priority: settled } })),
    enabled: settled !== now && job.data?.job.state === "queued", // of others nothing can be foretold
    placeholderData: undefined,
    retry: false,
  });
  const apply = useMutation({
    mutationFn: () => ok(api.PATCH("/v1/jobs/{id}", {
      params: { path: { id: String(id) }, header: job.data?.etag ? { "If-Match": job.data.etag } : {} },
      body: { priority: wantedNow }, headers: { "Content-Type": "application/merge-patch+json" },
    })),
    onSuccess: () => {
      say(<>Job {id} has priority {wantedNow}.</>);
      void queries.invalidateQueries();
      onClose();
    },
  });
  if (!job.data) return job.error ? <Problem error={job.error} /> : <Skeleton rows={3} />;
  return (
    <form className="stack" onSubmit={(event) => { event.preventDefault(); apply.mutate(); }}>
      <p className="muted">{job.data.job.name}, now {now}. Higher goes first; 90 and up is urgent, below 10 takes what is left.</p>
      <div className="row">
        <input type="range" className="grow" min={0} max={most} value={wantedNow} onChange={(event) => setPriority(Number(event.target.value))} aria-label="Priority" />
        <input type="number" min={0} max={most} value={wantedNow} onChange={(event) => setPriority(Math.max(0, Math.min(most, Number(event.target.value))))} aria-label="Priority as a number" style={{ width: 76 }} />
      </div>
      {settled === now ? <p className="faint">Choose another priority to see what it would change.</p>
        : job.data.job.state !== "queued" ? <p className="faint">It is {job.data.job.state} and has no place in the queue now: what this would change cannot be foretold.</p>
        : preview.error ? <Problem error={preview.error} />
        : preview.data ? <Outcome now={before.data ? { eta: before.data.eta, position: before.data.position } : undefined} then={preview.data} /> : <Skeleton rows={3} />}
      {apply.error ? <Problem error={apply.error instanceof ApiError && apply.error.status === 412 ? new ApiError(412, { detail: "The job has changed meanwhile. Look again, then apply." }) : apply.error} /> : null}
      <div className="dialog-foot"><Button onClick={onClose}>Back</Button><Button kind="primary" type="submit" disabled={wantedNow === now || apply.isPending}>Apply priority {wantedNow}</Button></div>
    </form>
  );
}

export type BulkTarget = { ids: number[] } | { filter: Schema["BulkRequest"]["filter"]; text: string };
const kBulk = ["cancel", "hold", "release", "requeue", "update"] as const;
type BulkVerb = (typeof kBulk)[number];
/** Many jobs: first a dry run that says what would become of each, then the deed and its outcome. */
export function BulkDialog({ action, target, onClose, onDone }: { action: BulkVerb | null; target: BulkTarget; onClose: () => void; onDone: () => void }) {
  const title = action === "update" ? "Set priority" : action ? kVerbText[action].title : "";
  const many = "ids" in target ? plural(target.ids.length, "job") : target.text;
  return <Modal open={action !== null} onClose={onClose} title={`${title}: ${many}`} wide>{action && <BulkForm key={action} action={action} target={target} onClose={onClose} onDone={onDone} title={title} />}</Modal>;
}
function BulkForm({ action, target, onClose, onDone, title }: { action: BulkVerb; target: BulkTarget; onClose: () => void; onDone: () => void; title: string }) {
  const [reason, setReason] = useState("");
  const [priority, setPriority] = useState(50);
  const queries = useQueryClient();
  const settled = useSettled(priority, 300);
  const body = (dry: boolean, token?: string): Schema["BulkRequest"] => ({
    action, dry_run: dry, ...("ids" in target ? { ids: target.ids } : { filter: target.filter }),
    ...(reason ? { reason } : {}), ...(action === "update" ? { change: { priority: dry ? settled : priority } } : {}), ...(token ? { page_token: token } : {}),
  });
  const preview = useQuery({ queryKey: ["bulk", action, target, action === "update" ? settled : null], queryFn: () => ok(api.POST("/v1/jobs:bulk", { body: body(true) })), placeholderData: undefined, staleTime: 0, gcTime: 0, retry: false });
  const apply = useMutation({
    mutationFn: async () => {
      // At most 1000 a call: it goes on until all are done.
      let sum: Schema["BulkOutcome"] | null = null;
      let token: string | undefined;
      do {
        const page: Schema["BulkOutcome"] = await ok(api.POST("/v1/jobs:bulk", { body: body(false, token) }));
        sum = sum ? { ...page, matched: Math.max(sum.matched, page.matched), changed: sum.changed + page.changed, refused: sum.refused + page.refused, skipped: sum.skipped + page.skipped, jobs: [...sum.jobs, ...page.jobs] } : page;
        token = page.next_page_token;
      } while (token);
      return sum;
    },
    onSettled: () => void queries.invalidateQueries({ predicate: (query) => query.queryKey[0] !== "bulk" }),
    onSuccess: onDone,
  });
  const outcome = apply.data;
  const shown = outcome ?? preview.data;
  return (
    <form className="stack" onSubmit={(event) => { event.preventDefault(); apply.mutate(); }}>
      {!outcome && action === "update" && <label className="field">Priority <input type="number" min={0} max={100} value={priority} onChange={(event) => setPriority(Math.max(0, Math.min(100, Number(event.target.value))))} /></label>}
      {!outcome && <label className="field">Reason <input value={reason} onChange={(event) => setReason(event.target.value)} maxLength={500} placeholder="Optional; stands in the history of each job" /></label>}
      {apply.error ? <Problem error={apply.error} /> : null}
      {!shown ? (preview.error ? <Problem error={preview.error} /> : <Skeleton rows={4} />) : (
        <>
          <p role="status">
            {outcome ? <><b>{count(outcome.changed)} changed</b>, {count(outcome.refused)} refused{outcome.skipped > 0 && `, ${count(outcome.skipped)} skipped`}, of {count(outcome.matched)}.</>
              : <><b>{count(shown.would_change)} would change</b>, {count(shown.refused)} would be refused{shown.skipped > 0 && `, ${count(shown.skipped)} skipped`}, of {count(shown.matched)} selected. Nothing has been done yet.</>}
          </p>
          {shown.jobs.length === 0 ? <Empty title="No job of these can be changed" /> : (
            <div className="table-wrap short" tabIndex={0} role="region" aria-label="Job by job">
              <table><thead><tr><th scope="col">Job</th><th scope="col">{outcome ? "Outcome" : "Preview"}</th><th scope="col">Detail</th></tr></thead>
                <tbody>{[...shown.jobs].sort((a, b) => Number(b.outcome === "refused") - Number(a.outcome === "refused")).slice(0, 200).map((job) => <tr key={job.id}><td><Link to={`/jobs/${job.id}`}>{job.id}</Link></td><td>{job.outcome.replaceAll("_", " ")}</td><td className="muted">{job.detail}</td></tr>)}</tbody></table>
            </div>
          )}
          {shown.jobs.length > 200 && <p className="faint">The first 200 are shown, refused ones first.</p>}
        </>
      )}
      <div className="dialog-foot">
        <Button onClick={onClose}>{outcome ? "Close" : "Back"}</Button>
        {!outcome && <Button type="submit" kind={action === "cancel" ? "danger" : "primary"} disabled={apply.isPending || !preview.data || preview.data.would_change === 0}>{apply.isPending ? "Working" : `${title} ${preview.data ? plural(preview.data.would_change, "job") : ""}`}</Button>}
      </div>
    </form>
  );
}
export { Time, useSettled };
