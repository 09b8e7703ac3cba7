// Taking a node out, and back in. A reason is asked for; draining without one is refused by the server, too.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { ChevronDown, MoreHorizontal } from "lucide-react";
import { useState } from "react";
import { api, ok } from "@/api/client";
import { useMay } from "@/api/queries";
import type { Node } from "@/api/types";
import { plural } from "@/lib/format";
import { Button, Problem } from "./bits";
import { Menu, Modal, useToast } from "./overlay";

const kActs = {
  drain: { title: "Drain", text: "No new work; what runs goes on to its end.", done: "is draining" },
  cordon: { title: "Cordon", text: "No new work until someone resumes it.", done: "is cordoned" },
  resume: { title: "Resume", text: "It takes work again.", done: "takes work again" },
  quarantine: { title: "Quarantine", text: "It is at fault: no work until it has been repaired.", done: "is quarantined" },
  repair: { title: "To repair", text: "It is being worked on.", done: "is in repair" },
  return: { title: "Back from repair", text: "It begins its probation.", done: "is on probation" },
  retire: { title: "Retire", text: "It will not come back under this name.", done: "is retired" },
  off: { title: "Give up", text: "You vouch that it has no power: its work starts elsewhere at once. Jobs whose processes live there after all would run twice.", done: "is given up" },
} as const;
export type NodeAct = keyof typeof kActs;

/** What makes sense next; the server has the last word. */
export function actsOf(service: string): NodeAct[] {
  switch (service) {
    case "schedulable": return ["drain", "cordon", "quarantine"];
    case "probation": return ["drain", "cordon", "quarantine", "resume"];
    case "cordoned":
    case "draining": return ["resume", ...(service === "cordoned" ? (["drain"] as const) : []), "quarantine", "repair"];
    case "quarantined": return ["repair", "return", "resume", "retire"];
    case "repair": return ["return", "retire"];
    default: return ["resume"];
  }
}

export function NodeActions({ node, menu }: { node: Node; menu?: boolean }) {
  const may = useMay();
  const say = useToast();
  const queries = useQueryClient();
  const [open, setOpen] = useState<NodeAct | null>(null);
  const [reason, setReason] = useState("");
  const act = useMutation({
    mutationFn: (which: NodeAct) => {
      const params = { path: { name: node.name } };
      const body = { reason: reason.trim() };
      switch (which) {
        case "drain": return ok(api.POST("/v1/nodes/{name}:drain", { params, body }));
        case "cordon": return ok(api.POST("/v1/nodes/{name}:cordon", { params, body }));
        case "resume": return ok(api.POST("/v1/nodes/{name}:resume", { params, body }));
        case "quarantine": return ok(api.POST("/v1/nodes/{name}:quarantine", { params, body }));
        case "repair": return ok(api.POST("/v1/nodes/{name}:repair", { params, body }));
        case "return": return ok(api.POST("/v1/nodes/{name}:return", { params, body }));
        case "retire": return ok(api.POST("/v1/nodes/{name}:retire", { params, body }));
        case "off": return ok(api.POST("/v1/nodes/{name}:off", { params, body }));
      }
    },
    onSuccess: (_, which) => {
      say(<>Node {node.name} {kActs[which].done}.</>);
      void queries.invalidateQueries();
      setOpen(null);
    },
  });
  if (!may("operate-nodes")) return null;
  const acts: NodeAct[] = [...actsOf(node.service), ...(node.state === "unreachable" ? (["off"] as const) : [])];
  const choose = (which: NodeAct) => {
    act.reset();
    setReason("");
    setOpen(which);
  };
  const items = acts.map((which) => ({ label: `${kActs[which].title}…`, onSelect: () => choose(which), danger: which === "retire" || which === "quarantine" || which === "off" }));
  const first = acts[0]!;
  return (
    <>
      {menu ? <Menu kind="quiet" small ariaLabel={`Change node ${node.name}`} label={<MoreHorizontal size={15} aria-hidden />} items={items} /> : <>
        <Button kind={first === "resume" ? "primary" : "plain"} onClick={() => choose(first)}>{kActs[first].title}</Button>
        {items.length > 1 && <Menu label={<>More<ChevronDown size={13} aria-hidden /></>} items={items.slice(1)} />}
      </>}
      <Modal open={open !== null} onClose={() => setOpen(null)} title={`${open ? kActs[open].title : ""} ${node.name}`}>
        {open && (
          <form className="stack" onSubmit={(event) => { event.preventDefault(); act.mutate(open); }}>
            <p>{kActs[open].text}{open !== "resume" && node.jobs.length > 0 ? ` ${plural(node.jobs.length, "job")} ${node.jobs.length === 1 ? "has" : "have"} a part here.` : ""}</p>
            <label className="field">Reason<input value={reason} onChange={(event) => setReason(event.target.value)} required pattern=".*\S.*" maxLength={500} autoFocus placeholder="For whoever looks at this node later" /></label>
            {act.error ? <Problem error={act.error} /> : null}
            <div className="dialog-foot"><Button onClick={() => setOpen(null)}>Back</Button><Button type="submit" kind="primary" disabled={act.isPending || !reason.trim()}>{kActs[open].title} node</Button></div>
          </form>
        )}
      </Modal>
    </>
  );
}
