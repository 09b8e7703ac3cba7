// A form and its YAML side by side; each changes the other. The planner says what would come of it before anything is sent.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { CheckCircle2, AlertTriangle } from "lucide-react";
import { useEffect, useMemo, useRef, useState, type KeyboardEvent } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { ApiError, api, ok } from "@/api/client";
import { useMay, useProjects, useQueues } from "@/api/queries";
import type { Schema } from "@/api/types";
import { asCli, compact, fromYaml, getIn, lineOf, setInYaml, toYaml } from "@/lib/spec";
import { Outcome, useSettled } from "@/ui/actions";
import { Button, Empty, Page, Panel, Problem, Skeleton } from "@/ui/bits";
import { useToast } from "@/ui/overlay";

const kStart = `name: hello
run: echo "hello from $(hostname)"
resources:
  gpus: 1
`;
type Kind = "text" | "number" | "select" | "area";
interface FieldDef { path: string[]; label: string; kind: Kind; help?: string; options?: string[]; placeholder?: string }
const kFields: { title: string; fields: FieldDef[] }[] = [
  { title: "What", fields: [
    { path: ["name"], label: "Name", kind: "text" }, { path: ["project"], label: "Project", kind: "text", placeholder: "default" }, { path: ["queue"], label: "Queue", kind: "text", placeholder: "default" },
    { path: ["priority"], label: "Priority", kind: "number", placeholder: "50", help: "0 to 100, higher first" },
  ] },
  { title: "Size", fields: [
    { path: ["nodes"], label: "Nodes", kind: "number", placeholder: "1", help: "All or nothing" }, { path: ["resources", "gpus"], label: "GPUs of each node", kind: "text", placeholder: "0", help: "8, or H100:8" },
    { path: ["resources", "cpus"], label: "CPUs of each node", kind: "number" }, { path: ["resources", "memory"], label: "Memory of each node", kind: "text", placeholder: "64GB" },
    { path: ["topology", "require"], label: "Nodes must share", kind: "select", options: ["any", "nvlink", "rack", "block", "spine"] },
  ] },
  { title: "Program", fields: [
    { path: ["launcher"], label: "Launcher", kind: "select", options: ["direct", "torchrun", "mpirun", "script"] }, { path: ["workdir"], label: "Folder", kind: "text", placeholder: "/shared/llama" },
    { path: ["run"], label: "Program of a rank", kind: "area" },
  ] },
  { title: "Time and safety", fields: [
    { path: ["time_limit"], label: "Time limit", kind: "text", placeholder: "24h" }, { path: ["begin_time"], label: "Not before", kind: "text", placeholder: "+2h" },
    { path: ["checkpoint", "dir"], label: "Checkpoint folder", kind: "text", placeholder: "/ckpt/llama" }, { path: ["retry", "budget", "user"], label: "Retries of own failures", kind: "number", placeholder: "0" },
    { path: ["preflight"], label: "Checks before start", kind: "select", options: ["quick", "full", "none"] },
  ] },
];

function valueOf(kind: Kind, text: string): unknown {
  if (text === "") return "";
  if (kind === "number" || /^\d+$/.test(text)) return Number.isFinite(Number(text)) ? Number(text) : text;
  return text;
}

function Editor({ text, onText, wrong }: { text: string; onText: (text: string) => void; wrong: ReadonlySet<number> }) {
  const lines = text.split("\n").length;
  const gutter = useRef<HTMLDivElement>(null);
  const keys = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    // Tab leaves the field, as everywhere; Enter keeps the indent.
    if (event.key !== "Enter" || event.shiftKey || event.ctrlKey) return;
    const area = event.currentTarget;
    const before = text.slice(0, area.selectionStart);
    const line = before.slice(before.lastIndexOf("\n") + 1);
    const indent = /^ */.exec(line)![0] + (/:\s*[|>]?\s*$/.test(line) ? "  " : "");
    if (!indent) return;
    event.preventDefault();
    const at = area.selectionStart + 1 + indent.length;
    onText(`${before}\n${indent}${text.slice(area.selectionEnd)}`);
    requestAnimationFrame(() => area.setSelectionRange(at, at));
  };
  return (
    <div className="editor">
      <div className="editor-lines" ref={gutter} aria-hidden="true">{Array.from({ length: Math.max(lines, 24) }, (_, i) => <div key={i} data-wrong={wrong.has(i + 1)}>{wrong.has(i + 1) ? "▸" : ""}{i + 1}</div>)}</div>
      <textarea aria-label="Job as YAML" aria-invalid={wrong.size > 0} rows={Math.max(lines, 24)} value={text} spellCheck={false} autoCapitalize="none" onChange={(event) => onText(event.target.value)} onKeyDown={keys} />
    </div>
  );
}

export default function Submit() {
  useEffect(() => { document.title = "Submit · Tutti"; }, []);
  const [params] = useSearchParams();
  const from = params.get("from");
  const [text, setText] = useState(kStart);
  const [key, setKey] = useState(() => crypto.randomUUID?.() ?? String(Math.random()));
  const may = useMay();
  const projects = useProjects();
  const queues = useQueues();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const say = useToast();
  const template = useQuery({ queryKey: ["job", from ?? "", "template"], queryFn: () => ok(api.GET("/v1/jobs/{id}", { params: { path: { id: from! } } })), enabled: !!from, staleTime: Infinity, placeholderData: undefined });
  useEffect(() => {
    if (!template.data) return;
    const spec = compact(template.data.spec as Record<string, unknown>);
    delete spec["scheduled_by"];
    setText(toYaml(spec));
  }, [template.data]);

  const parsed = useMemo(() => fromYaml(text), [text]);
  const settled = useSettled(text, 350);
  const valid = useMemo(() => fromYaml(settled).spec, [settled]);
  const simulate = useQuery({
    queryKey: ["simulate", settled],
    queryFn: () => ok(api.POST("/v1/jobs:simulate", { body: valid as Schema["JobSpec"] })),
    enabled: !!valid && may("submit"),
    retry: false,
    placeholderData: undefined,
    refetchInterval: 15_000,
  });
  const submit = useMutation({
    mutationFn: () => ok(api.POST("/v1/jobs", { params: { header: { "Idempotency-Key": key } }, body: parsed.spec as Schema["JobSpec"] })),
    onSuccess: (job) => {
      say(<>Job {job.id} is submitted.</>);
      setKey(crypto.randomUUID?.() ?? String(Math.random()));
      void queries.invalidateQueries();
      void navigate(`/jobs/${job.id}`);
    },
  });
  const problem = (submit.error ?? simulate.error) as unknown;
  const fields = problem instanceof ApiError ? problem.fields : [];
  const wrong = new Set<number>();
  if (parsed.line) wrong.add(parsed.line);
  for (const field of fields) {
    const line = lineOf(text, field.field);
    if (line) wrong.add(line);
  }
  if (problem instanceof ApiError && problem.problem.line) wrong.add(problem.problem.line);
  const options: Record<string, string[]> = { project: projects.data?.projects.map((each) => each.name).filter((name) => may("submit", { project: name })) ?? [], queue: queues.data?.queues.map((each) => each.name) ?? [] };
  if (!may("submit")) return <Page title="Submit"><Empty title="You may not submit jobs">That needs the role member in a project. An admin gives it with <code>tutti user</code>.</Empty></Page>;
  const pending = settled !== text || simulate.isFetching;
  return (
    <Page title="Submit" sub={from ? `As job ${from}` : undefined} actions={<>
      <Button onClick={() => { void navigator.clipboard?.writeText(asCli(parsed.spec ?? {})).then(() => say("Copied as a command."), () => say("The browser does not let this page copy.", true)); }} disabled={!parsed.spec}>Copy as CLI</Button>
      <Button kind="primary" onClick={() => submit.mutate()} disabled={!parsed.spec || submit.isPending || (simulate.error instanceof ApiError && simulate.error.status === 400)}>{submit.isPending ? "Submitting" : "Submit job"}</Button>
    </>}>
      <div className="stack">
        {template.error ? <Problem error={template.error} /> : null}
        {submit.error ? <Problem error={submit.error} /> : null}
        <div className="split">
          <div className="stack">
            <Panel title="Form">
              <fieldset className="stack plain" disabled={!parsed.spec}>
                <legend className="visually-hidden">Fields of the job</legend>
                {kFields.map((group) => (
                  <div key={group.title} className="stack tight">
                    <h3>{group.title}</h3>
                    <div className="fields">
                      {group.fields.map((field) => {
                        const name = field.path.join(".");
                        const raw = getIn(parsed.spec, field.path);
                        const value = raw === null || raw === undefined ? "" : typeof raw === "object" ? JSON.stringify(raw) : String(raw);
                        const error = fields.find((each) => each.field === name || each.field.startsWith(name + "."));
                        const set = (next: string) => setText(setInYaml(text, field.path, valueOf(field.kind, next)));
                        const common = { "aria-label": field.label, value, "aria-invalid": !!error, "aria-describedby": error || field.help ? `help-${name}` : undefined, disabled: typeof raw === "object" && raw !== null };
                        return (
                          <label className={`field ${field.kind === "area" ? "wide" : ""}`} key={name}>{field.label}
                            {field.kind === "select" ? <select {...common} onChange={(event) => set(event.target.value)}><option value="">default</option>{[...new Set([...field.options!, ...(value ? [value] : [])])].map((option) => <option key={option}>{option}</option>)}</select>
                              : field.kind === "area" ? <textarea {...common} rows={4} onChange={(event) => set(event.target.value)} spellCheck={false} />
                              : <input {...common} placeholder={field.placeholder} inputMode={field.kind === "number" ? "numeric" : undefined} list={options[name] ? `list-${name}` : undefined} onChange={(event) => set(event.target.value)} spellCheck={false} autoComplete="off" />}
                            {options[name] && <datalist id={`list-${name}`}>{options[name].map((option) => <option key={option} value={option} />)}</datalist>}
                            {error ? <span className="wrong" id={`help-${name}`}>{error.message}</span> : field.help ? <span className="help" id={`help-${name}`}>{field.help}</span> : null}
                          </label>
                        );
                      })}
                    </div>
                  </div>
                ))}
              </fieldset>
            </Panel>
          </div>
          <div className="stack">
            <Panel title={<span className="row">What would come of it{pending && <span className="faint">asking</span>}</span>}>
              <div aria-live="polite">
                {parsed.error ? <p className="row verdict bad"><AlertTriangle size={16} aria-hidden />{parsed.line ? `Line ${parsed.line}: ` : ""}{parsed.error}</p>
                  : simulate.error ? <Problem error={simulate.error} />
                  : simulate.data ? (
                    <div className="stack tight">
                      <p className={`row verdict ${simulate.data.never ? "bad" : simulate.data.starts_now ? "good" : ""}`}>{simulate.data.never ? <><AlertTriangle size={16} aria-hidden />It could never run on this cluster.</> : simulate.data.starts_now ? <><CheckCircle2 size={16} aria-hidden />It would start at once.</> : "It would wait."}</p>
                      <Outcome then={simulate.data} />
                    </div>
                  ) : <Skeleton rows={3} />}
              </div>
            </Panel>
            <Panel title="YAML"><Editor text={text} onText={setText} wrong={wrong} /></Panel>
          </div>
        </div>
      </div>
    </Page>
  );
}
