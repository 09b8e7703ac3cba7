// Text that comes in pieces, as lines. Pure.

// eslint-disable-next-line no-control-regex
const kAnsi = /\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b\][^\u0007]*\u0007|[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g;
/** A carriage return begins the line anew, as a terminal does for progress bars. */
function clean(line: string): string {
  const at = line.endsWith("\r") ? line.length - 1 : line.length;
  const last = line.slice(0, at).lastIndexOf("\r");
  return line.slice(last + 1, at).replace(kAnsi, "").slice(0, 10_000);
}

export class LineBuffer {
  lines: string[] = [];
  dropped = 0; // lines that are no longer kept, from the begin
  #open = false;
  #rest = "";
  constructor(readonly most = 200_000) {}

  append(text: string) {
    const parts = (this.#rest + text).split("\n");
    if (this.#open) this.lines.pop();
    this.#rest = parts.pop() ?? "";
    for (const part of parts) this.lines.push(clean(part));
    this.#open = this.#rest !== "";
    if (this.#open) this.lines.push(clean(this.#rest));
    if (this.lines.length > this.most) {
      const over = this.lines.length - this.most + Math.floor(this.most / 10);
      this.lines.splice(0, over);
      this.dropped += over;
    }
  }
}

/** Numbers of the lines that have `needle`, whatever its case. */
export function find(lines: readonly string[], needle: string): number[] {
  if (!needle) return [];
  const small = needle.toLowerCase();
  const out: number[] = [];
  lines.forEach((line, i) => {
    if (line.toLowerCase().includes(small)) out.push(i);
  });
  return out;
}

/** "[3] text" of a merged log. */
export function splitRank(line: string): { rank: number | null; text: string } {
  const match = /^\[(\d+)\] /.exec(line);
  return match ? { rank: Number(match[1]), text: line.slice(match[0].length) } : { rank: null, text: line };
}
