// Small things used on every page.
import { AlertTriangle, Ban, CheckCircle2, CircleDashed, CircleSlash, Clock, Hourglass, Loader, Octagon, Pause, PlayCircle, RotateCw, ShieldQuestion, Wrench, XCircle, type LucideIcon } from "lucide-react";
import type { ButtonHTMLAttributes, ReactNode } from "react";
import { ApiError } from "@/api/client";
import { bytes, duration, etaText, localTime, relative, utcTime } from "@/lib/format";
import { kCauseText } from "@/lib/jobs";
import type { Eta } from "@/api/types";
import { useSaid } from "./now";

type Tone = "neutral" | "accent" | "good" | "warn" | "bad";
const kStateLook: Record<string, [Tone, LucideIcon]> = {
  queued: ["neutral", Clock], delayed: ["neutral", Hourglass], blocked: ["neutral", Ban], held: ["warn", Pause],
  starting: ["accent", Loader], running: ["accent", PlayCircle], stopping: ["accent", Octagon],
  succeeded: ["good", CheckCircle2], failed: ["bad", XCircle], cancelled: ["neutral", CircleSlash],
  placed: ["neutral", CircleDashed], preflight: ["accent", ShieldQuestion], ended: ["neutral", CheckCircle2], stopped: ["neutral", Octagon],
  reachable: ["good", CheckCircle2], unreachable: ["warn", AlertTriangle], dead: ["bad", XCircle],
  schedulable: ["good", CheckCircle2], cordoned: ["warn", Pause], draining: ["warn", Hourglass], quarantined: ["bad", Ban], probation: ["warn", ShieldQuestion],
  repair: ["warn", Wrench], retired: ["neutral", CircleSlash],
  free: ["neutral", CircleDashed], allocated: ["accent", PlayCircle], dirty: ["warn", AlertTriangle], absent: ["neutral", CircleSlash],
  good: ["good", CheckCircle2], found: ["neutral", CircleDashed], suspect: ["warn", AlertTriangle], bad: ["bad", XCircle],
  ok: ["good", CheckCircle2], skipped: ["neutral", CircleSlash],
};

/** A state of the API, in its own word, with an icon: colour is never the only sign. */
export function State({ state, title }: { state: string; title?: string }) {
  const [tone, Icon] = kStateLook[state] ?? ["neutral", CircleDashed];
  return <span className="state" data-tone={tone} title={title}><Icon size={13} aria-hidden />{state}</span>;
}

export function Cause({ cause }: { cause: string | null | undefined }) {
  if (!cause) return <span className="faint">–</span>;
  return <span className="chip" title={kCauseText[cause] ?? cause}>{cause}</span>;
}

export function Chip({ children, tone = "neutral", title }: { children: ReactNode; tone?: Tone; title?: string }) {
  return <span className="chip" data-tone={tone} title={title}>{children}</span>;
}

/** Local on the page, UTC on hover. */
export function Time({ at, as = "relative", seconds = false }: { at: string | number | null | undefined; as?: "relative" | "clock" | "both"; seconds?: boolean }) {
  const age = useSaid((now) => (as === "clock" ? "" : relative(at, now)));
  const clock = useSaid((now) => (as === "relative" ? "" : localTime(at, now, seconds)));
  if (at === null || at === undefined || at === "") return <span className="faint">–</span>;
  return (
    <time dateTime={typeof at === "number" ? new Date(at).toISOString() : at} title={`${utcTime(at)}\n${clock || localTime(at, Date.now(), seconds)} local`}>
      {as === "relative" ? age : as === "clock" ? clock : <>{clock} <span className="faint">{age}</span></>}
    </time>
  );
}

export function EtaText({ eta }: { eta: Eta | null | undefined }) {
  const text = useSaid((now) => etaText(eta, now));
  if (!eta) return <span className="faint">not known</span>;
  return (
    <span className="nowrap" title={`${utcTime(eta.at)}\nfour of five start between ${utcTime(eta.from)} and ${utcTime(eta.to)}`}>
      {text}
    </span>
  );
}

export function Age({ since }: { since: string | null | undefined }) {
  const age = useSaid((now) => (since ? duration((now - Date.parse(since)) / 1000) : ""));
  if (!since) return <span className="faint">–</span>;
  return <time dateTime={since} title={utcTime(since)}>{age}</time>;
}
export const Bytes = ({ value }: { value: number }) => <span title={`${value} bytes`}>{bytes(value)}</span>;

export function Button({ kind = "plain", small, className = "", ...rest }: ButtonHTMLAttributes<HTMLButtonElement> & { kind?: "plain" | "primary" | "danger" | "quiet"; small?: boolean }) {
  return <button type="button" {...rest} className={`button ${kind} ${small ? "small" : ""} ${className}`} />;
}

export function Meter({ value, max, label, tone = "accent" }: { value: number; max: number; label: string; tone?: Tone }) {
  const share = max > 0 ? Math.min(1, value / max) : 0;
  return (
    <span className="meter" role="meter" aria-valuenow={value} aria-valuemin={0} aria-valuemax={max} aria-label={label} title={label}>
      <span data-tone={tone} style={{ width: `${share * 100}%` }} />
    </span>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return <div className="empty"><p className="empty-title">{title}</p>{children && <div className="faint">{children}</div>}</div>;
}

/** Honest where this server keeps no record of something. */
export function NotRecorded({ what, children }: { what: string; children?: ReactNode }) {
  return <div className="empty not-recorded"><p className="empty-title">{what}: not recorded by this server</p>{children && <div className="faint">{children}</div>}</div>;
}

export function Problem({ error, retry }: { error: unknown; retry?: () => void }) {
  const known = error instanceof ApiError ? error : null;
  return (
    <div className="problem" role="alert">
      <AlertTriangle size={16} aria-hidden />
      <div>
        <p>{error instanceof Error ? error.message : String(error)}</p>
        {known?.hint && <p className="faint">{known.hint}</p>}
        {known && known.fields.length > 0 && (
          <ul>{known.fields.map((field) => <li key={field.field + field.message}><code>{field.field}</code> {field.message}</li>)}</ul>
        )}
        {retry && <Button small onClick={retry}><RotateCw size={13} aria-hidden />Try again</Button>}
      </div>
    </div>
  );
}

export function Skeleton({ rows = 6 }: { rows?: number }) {
  return <div className="skeleton" role="status" aria-label="Loading">{Array.from({ length: rows }, (_, i) => <span key={i} />)}</div>;
}

interface QueryLike<T> { data: T | undefined; error: unknown; isPending: boolean; refetch: () => unknown }
/** Loading, failed, or there: what was there stays while it is fetched anew or while the server is away. */
export function Loaded<T>({ query, rows, children }: { query: QueryLike<T>; rows?: number; children: (data: T) => ReactNode }) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) return <Problem error={query.error} retry={() => void query.refetch()} />;
  return <Skeleton {...(rows ? { rows } : {})} />;
}

export function Panel({ title, actions, children, flush, className = "" }: { title?: ReactNode; actions?: ReactNode; children: ReactNode; flush?: boolean; className?: string }) {
  return (
    <section className={`panel ${flush ? "flush" : ""} ${className}`}>
      {(title || actions) && <header><h2>{title}</h2>{actions && <div className="row">{actions}</div>}</header>}
      <div className="panel-body">{children}</div>
    </section>
  );
}

export function Page({ title, children, actions, sub }: { title: ReactNode; children: ReactNode; actions?: ReactNode; sub?: ReactNode }) {
  return (
    <>
      <div className="page-head">
        <div className="page-title"><h1>{title}</h1>{sub && <div className="page-sub">{sub}</div>}</div>
        {actions && <div className="row wrap">{actions}</div>}
      </div>
      {children}
    </>
  );
}

export function Facts({ items }: { items: readonly (readonly [string, ReactNode])[] }) {
  return <dl className="facts">{items.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>;
}

export function Stat({ label, value, sub }: { label: string; value: ReactNode; sub?: ReactNode }) {
  return <div className="stat"><span className="stat-label">{label}</span><span className="stat-value">{value}</span>{sub && <span className="stat-sub">{sub}</span>}</div>;
}
