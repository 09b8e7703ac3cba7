// Job specs as people write them: YAML, the command line, curl. Pure.
import { parse, parseDocument, stringify, YAMLParseError } from "yaml";

type Tree = Record<string, unknown>;
const isEmpty = (value: unknown) => value === null || value === undefined || value === "" || (Array.isArray(value) && value.length === 0) || (typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length === 0);

/** Without what says nothing, and without what only answers have. */
export function compact(spec: Tree): Tree {
  const out: Tree = {};
  for (const [name, value] of Object.entries(spec)) {
    if (name === "scheduled_by") continue;
    const inner = value !== null && typeof value === "object" && !Array.isArray(value) ? compact(value as Tree) : value;
    if (!isEmpty(inner)) out[name] = inner;
  }
  return out;
}

export const toYaml = (spec: Tree) => stringify(spec, { lineWidth: 0, defaultStringType: "PLAIN" });

export interface Parsed {
  spec: Tree | null;
  error: string;
  line: number | null;
}
export function fromYaml(text: string): Parsed {
  try {
    const value: unknown = parse(text);
    if (value === null || value === undefined) return { spec: {}, error: "", line: null };
    if (typeof value !== "object" || Array.isArray(value)) return { spec: null, error: "a job is a map of fields: name: hello", line: 1 };
    return { spec: value as Tree, error: "", line: null };
  } catch (error) {
    if (error instanceof YAMLParseError) return { spec: null, error: error.message.split("\n")[0]!.replace(/ at line.*$/, ""), line: error.linePos?.[0]?.line ?? null };
    return { spec: null, error: String(error), line: null };
  }
}

/** One field set in a text, the rest as its author wrote it: comments and order stay. Empty takes it out. */
export function setInYaml(text: string, path: readonly string[], value: unknown): string {
  const document = parseDocument(text);
  if (document.errors.length > 0) return text;
  if (document.contents === null) document.contents = document.createNode({}) as never;
  if (isEmpty(value)) {
    document.deleteIn(path);
    for (let depth = path.length - 1; depth > 0; --depth) {
      const parent = document.getIn(path.slice(0, depth)) as { items?: unknown[] } | undefined;
      if (parent?.items?.length === 0) document.deleteIn(path.slice(0, depth));
    }
  } else document.setIn(path, value);
  return document.toString({ lineWidth: 0 });
}

export function getIn(spec: Tree | null, path: readonly string[]): unknown {
  let value: unknown = spec;
  for (const name of path) value = value !== null && typeof value === "object" ? (value as Tree)[name] : undefined;
  return value;
}

/** The line of a top field (or of a path with dots), from 1. */
export function lineOf(text: string, field: string): number | null {
  const names = field.split(/[.[]/).map((name) => name.replace(/\]$/, ""));
  const lines = text.split("\n");
  let from = 0;
  let found: number | null = null;
  for (const name of names) {
    const at = lines.findIndex((line, i) => i >= from && new RegExp(`(^|[\\s{,-])["']?${name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}["']?\\s*:`).test(line));
    if (at < 0) break;
    found = at + 1;
    from = at;
  }
  return found;
}

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
export const asCli = (spec: Tree) => `tutti submit - <<'YAML'\n${toYaml(compact(spec))}YAML`;
export const asCurl = (spec: Tree, origin: string) =>
  `curl -H "Authorization: Bearer $TUTTI_TOKEN" -H 'Content-Type: application/json' \\\n  ${quote(origin + "/v1/jobs")} -d ${quote(JSON.stringify(compact(spec)))}`;
