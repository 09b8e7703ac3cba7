// Who leads, as GET /v1/control-plane tells it, in words for an admin who looks there when something is wrong. Pure.
import type { Schema } from "@/api/types";

type Told = Pick<Schema["ControlPlane"], "ready" | "role" | "detail" | "leader" | "since">;
export interface Says {
  tone: "good" | "warn" | "bad";
  head: string;
  text: string;
}
/** A scheduler that leads says ready only while the store answers; what a standby says of the leader's beginning is a row of the store. */
export function planeSays({ ready, role, detail, leader, since }: Told): Says {
  const who = leader ? `${leader} leads.` : "Who leads is not known.";
  if (role === "leader" && ready) return { tone: "good", head: "This scheduler leads.", text: "" };
  if (role === "leader") return { tone: "bad", head: "The store is away.", text: `This scheduler leads, but ${detail}: below is what it knows by itself. What runs goes on; what needs the store waits for it.` };
  if (role === "standby") return { tone: "warn", head: "This scheduler is a standby.", text: `${who} ${since === null ? "Since when, the store does not say now: it may be away." : "It takes over when that one is lost; what it cannot answer from rows it hands on."}` };
  return { tone: "bad", head: "This scheduler does not lead and is no standby.", text: `It says: ${detail || "nothing"}. ${who}` };
}

/** The same page of the scheduler that leads. null: it does not say where it is, or not as an address of a page. */
export const consoleAt = (url: string | undefined) => (url && /^https?:\/\/[^/]/.test(url) ? `${url.replace(/\/+$/, "")}/console/admin?tab=health` : null);
