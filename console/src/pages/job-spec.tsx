import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { Link } from "react-router";
import { api, ok } from "@/api/client";
import type { Job } from "@/api/types";
import { diffLines } from "@/lib/diff";
import { asCli, asCurl, compact, toYaml } from "@/lib/spec";
import { Button, Loaded } from "@/ui/bits";
import { useToast } from "@/ui/overlay";

export function JobSpecTab({ job }: { job: Job }) {
  const [view, setView] = useState<"short" | "all" | "diff">("short");
  const say = useToast();
  // The submission before this one: same name, same owner.
  const before = useQuery({
    queryKey: ["spec-before", job.id],
    queryFn: async () => {
      const { jobs } = await ok(api.GET("/v1/jobs", { params: { query: { name: job.name, user: job.owner, page_size: 500 } } }));
      const last = jobs.find((other) => other.id < job.id);
      return last ? await ok(api.GET("/v1/jobs/{id}", { params: { path: { id: String(last.id) } } })) : null;
    },
    enabled: view === "diff",
    staleTime: Infinity,
    placeholderData: undefined,
  });
  const spec = job.spec as Record<string, unknown>;
  const text = useMemo(() => toYaml(view === "all" ? spec : compact(spec)), [spec, view]);
  const copy = async (what: string, value: string) => {
    try {
      await navigator.clipboard.writeText(value);
      say(`Copied as ${what}.`);
    } catch {
      say("The browser does not let this page copy. Over plain http from another machine it never does.", true);
    }
  };
  return (
    <div className="stack">
      <div className="row wrap between">
        <div className="segmented" role="group" aria-label="Shown">
          {([["short", "As set"], ["all", "All defaults"], ["diff", "Diff to the one before"]] as const).map(([id, label]) => <Button key={id} small aria-pressed={view === id} onClick={() => setView(id)}>{label}</Button>)}
        </div>
        <div className="row wrap">
          <Button small onClick={() => void copy("YAML", toYaml(compact(spec)))}>Copy YAML</Button>
          <Button small onClick={() => void copy("a command", asCli(spec))}>Copy as CLI</Button>
          <Button small onClick={() => void copy("curl", asCurl(spec, location.origin))}>Copy as curl</Button>
        </div>
      </div>
      {view !== "diff" ? <pre className="code" tabIndex={0} aria-label="Spec">{text}</pre> : (
        <Loaded query={before}>{(other) => {
          if (!other) return <p className="muted">There is no earlier job {job.name} of {job.owner}.</p>;
          const lines = diffLines(toYaml(compact(other.spec as Record<string, unknown>)), toYaml(compact(spec)));
          const same = lines.every((line) => line.op === " ");
          return <><p className="muted">Against <Link to={`/jobs/${other.id}`}>job {other.id}</Link>{same ? ": no difference." : "."}</p>
            <pre className="code diff" tabIndex={0} aria-label="Difference">{lines.map((line, i) => <div key={i} data-op={line.op}>{line.op} {line.text}</div>)}</pre></>;
        }}</Loaded>
      )}
    </div>
  );
}
