import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useRef, useState, type FormEvent, type ReactNode } from "react";
import { Link, useSearchParams } from "react-router";
import { api, ok } from "@/api/client";
import { useCluster, useControlPlane, useMay, useMe, useReservations } from "@/api/queries";
import type { ControlPlaneMore } from "@/api/wanted";
import type { Schema } from "@/api/types";
import { Button, Chip, Empty, Facts, Loaded, Meter, Page, Panel, Problem, State, Time } from "@/ui/bits";
import { Modal, Tabs, useToast } from "@/ui/overlay";
import { Replay } from "@/ui/replay";
import { Span } from "@/ui/span";
import { Table, type Column } from "@/ui/table";
import { Text } from "@/ui/text";
import { bytes, count, duration, plural } from "@/lib/format";
import { consoleAt, planeSays } from "@/lib/plane";
import { asInstants } from "@/lib/span";
import { addressNow, readFilters, withFilters } from "@/lib/url";

const kRoles = ["viewer", "member", "operator", "admin"] as const;
const kScopes = ["read", "submit", "operate", "admin"] as const;
type Role = (typeof kRoles)[number];

const Roles = ({ roles }: { roles: Record<string, string> }) => Object.keys(roles).length === 0 ? <span className="faint">none</span> : <span className="chips">{Object.entries(roles).map(([project, role]) => <Chip key={project}>{role} {project === "*" ? "everywhere" : `in ${project}`}</Chip>)}</span>;

/** A change that closes its dialog when it is done. */
function useChange<T, R>(run: (value: T) => Promise<R>, done: (result: R) => void) {
  const queries = useQueryClient();
  return useMutation({ mutationFn: run, onSuccess: (result) => { void queries.invalidateQueries(); done(result); } });
}

/** In the dialog that asked for it: what is shown once must not be lost to a click beside it. */
function Secret({ value, onClose }: { value: string; onClose: () => void }) {
  const say = useToast();
  return (
    <>
      <p role="status">It is shown this once. Keep it where only its user can read it.</p>
      <pre className="code pre" tabIndex={0} aria-label="The secret">{value}</pre>
      <div className="dialog-foot"><Button onClick={() => void navigator.clipboard?.writeText(value).then(() => say("Copied."), () => say("The browser does not let this page copy.", true))}>Copy</Button><Button kind="primary" onClick={onClose}>Done</Button></div>
    </>
  );
}
function Confirm({ open, onClose, title, children, act, error, busy }: { open: boolean; onClose: () => void; title: string; children: ReactNode; act: () => void; error: unknown; busy: boolean }) {
  return <Modal open={open} onClose={onClose} title={title}>{children}{error ? <Problem error={error} /> : null}<div className="dialog-foot"><Button onClick={onClose}>Back</Button><Button kind="danger" onClick={act} disabled={busy}>{title}</Button></div></Modal>;
}

function RoleFields({ roles, onRoles }: { roles: [string, Role][]; onRoles: (roles: [string, Role][]) => void }) {
  return (
    <fieldset className="stack tight plain"><legend><h3>Roles</h3></legend>
      {roles.map(([project, role], i) => (
        <div className="row" key={i}>
          <select aria-label={`Role ${i + 1}`} value={role} onChange={(event) => onRoles(roles.map((each, k) => (k === i ? [each[0], event.target.value as Role] : each)))}>{kRoles.map((each) => <option key={each}>{each}</option>)}</select>
          <span className="muted">in</span><input aria-label={`Project of role ${i + 1}`} value={project} placeholder="project, * everywhere" onChange={(event) => onRoles(roles.map((each, k) => (k === i ? [event.target.value, each[1]] : each)))} required />
          <Button small kind="quiet" onClick={() => onRoles(roles.filter((_, k) => k !== i))} aria-label={`Take role ${i + 1} away`}>Remove</Button>
        </div>
      ))}
      <div><Button small onClick={() => onRoles([...roles, ["", "member"]])}>Add a role</Button></div>
    </fieldset>
  );
}

function Users() {
  const me = useMe();
  const users = useQuery({ queryKey: ["users"], queryFn: () => ok(api.GET("/v1/users")) });
  const [editing, setEditing] = useState<Schema["User"] | "new" | null>(null);
  const [removing, setRemoving] = useState<string | null>(null);
  const say = useToast();
  const remove = useChange((name: string) => ok(api.DELETE("/v1/users/{name}", { params: { path: { name } } })), () => { say("The user is removed."); setRemoving(null); });
  const forget = useRef(remove.reset);
  forget.current = remove.reset;
  const self = me.data?.user;
  const columns = useMemo<Column<Schema["User"]>[]>(() => [
    { id: "name", header: "Name", accessorKey: "name", meta: { width: 220 }, cell: ({ row: { original: user } }) => <span title={user.name}><b>{user.name}</b>{user.name === self && <span className="faint"> you</span>}{user.disabled && <> <Chip tone="warn">disabled</Chip></>}</span> },
    { id: "roles", header: "Roles", enableSorting: false, meta: { wrap: true }, cell: ({ row }) => <Roles roles={row.original.roles as Record<string, string>} /> },
    { id: "how", header: "Signs in", accessorFn: (user) => String(user.has_password), meta: { width: 250 }, cell: ({ row }) => (row.original.has_password ? "with a password" : "with tokens or the identity provider") },
    { id: "made", header: "Made", accessorKey: "created_at", meta: { width: 190 }, cell: ({ row: { original: user } }) => <><Time at={user.created_at} />{user.created_by && <span className="faint"> by {user.created_by}</span>}</> },
    { id: "act", header: "", enableSorting: false, meta: { width: 170, num: true }, cell: ({ row: { original: user } }) => <><Button small onClick={() => setEditing(user)}>Change</Button> {user.name !== self && <Button small kind="danger" onClick={() => { forget.current(); setRemoving(user.name); }}>Remove</Button>}</> },
  ], [self]);
  return (
    <Panel title="Users" flush actions={<Button small kind="primary" onClick={() => setEditing("new")}>New user</Button>}>
      <Loaded query={users} rows={4}>{(data) => <Table label="Users" columns={columns} data={data.users} id={(user) => user.name} rowHeight={39} empty={<Empty title="No user yet">The token in the scheduler's data directory works without one.</Empty>} />}</Loaded>
      <Modal open={editing !== null} onClose={() => setEditing(null)} title={editing === "new" ? "New user" : `User ${editing?.name ?? ""}`}>{editing && <UserForm user={editing === "new" ? null : editing} onClose={() => setEditing(null)} />}</Modal>
      <Confirm open={removing !== null} onClose={() => setRemoving(null)} title="Remove user" act={() => removing && remove.mutate(removing)} error={remove.error} busy={remove.isPending}><p>{removing} can no longer sign in, and its tokens stop working. Its jobs stay.</p></Confirm>
    </Panel>
  );
}
function UserForm({ user, onClose }: { user: Schema["User"] | null; onClose: () => void }) {
  const [name, setName] = useState(user?.name ?? "");
  const [password, setPassword] = useState("");
  const [disabled, setDisabled] = useState(user?.disabled ?? false);
  const old = (user?.roles ?? {}) as Record<string, Role>;
  const [roles, setRoles] = useState<[string, Role][]>(Object.entries(old));
  const say = useToast();
  const save = useChange(async (_: void) => {
    const map: Record<string, Role | null> = Object.fromEntries(roles);
    if (!user) return ok(api.POST("/v1/users", { body: { name, ...(password ? { password } : {}), roles: map } }));
    for (const project of Object.keys(old)) if (!(project in map)) map[project] = null;
    return ok(api.PATCH("/v1/users/{name}", { params: { path: { name: user.name } }, body: { roles: map, disabled, ...(password ? { password } : {}) } }));
  }, () => { say(user ? "The user is changed." : "The user is made."); onClose(); });
  return (
    <form className="stack" onSubmit={(event: FormEvent) => { event.preventDefault(); save.mutate(); }}>
      {!user && <label className="field">Name<input value={name} onChange={(event) => setName(event.target.value)} required autoFocus autoComplete="off" spellCheck={false} /></label>}
      <label className="field">{user ? "New password" : "Password"}<input type="password" value={password} onChange={(event) => setPassword(event.target.value)} autoComplete="new-password" /><span className="help">{user ? "Empty: it stays." : "Empty: tokens or the identity provider only."}</span></label>
      <RoleFields roles={roles} onRoles={setRoles} />
      {user && <label className="check"><input type="checkbox" checked={disabled} onChange={(event) => setDisabled(event.target.checked)} />Disabled: can do nothing, keeps its jobs</label>}
      {save.error ? <Problem error={save.error} /> : null}
      <div className="dialog-foot"><Button onClick={onClose}>Back</Button><Button kind="primary" type="submit" disabled={save.isPending}>{user ? "Save" : "Make user"}</Button></div>
    </form>
  );
}

function Tokens({ mine }: { mine: boolean }) {
  const me = useMe();
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Schema["Token"] | null>(null);
  const say = useToast();
  const tokens = useQuery({ queryKey: ["tokens", mine], queryFn: () => ok(api.GET("/v1/tokens", { params: { query: mine ? {} : { user: "" } } })) });
  const revoke = useChange((id: string) => ok(api.DELETE("/v1/tokens/{id}", { params: { path: { id } } })), () => { say("The token is revoked."); setRevoking(null); });
  const forget = useRef(revoke.reset);
  forget.current = revoke.reset;
  const columns = useMemo<Column<Schema["Token"]>[]>(() => [
    { id: "name", header: "Name", accessorKey: "name", cell: ({ row: { original: token } }) => <span title={token.name}>{token.name}{token.revoked_at && <> <Chip tone="warn">revoked</Chip></>}</span> },
    ...(mine ? [] : [{ id: "user", header: "User", accessorKey: "user", meta: { width: 130 } } satisfies Column<Schema["Token"]>]),
    { id: "scopes", header: "Scopes", enableSorting: false, meta: { width: 250 }, cell: ({ row }) => <span className="chips">{row.original.scopes.map((scope) => <Chip key={scope}>{scope}</Chip>)}</span> },
    { id: "used", header: "Last used", accessorFn: (token) => token.last_used_at ?? "", meta: { width: 190 }, cell: ({ row: { original: token } }) => (token.last_used_at ? <><Time at={token.last_used_at} /> <span className="faint">{token.last_used_from}</span></> : <span className="faint">never</span>) },
    { id: "expires", header: "Expires", accessorFn: (token) => token.expires_at ?? "", meta: { width: 110 }, cell: ({ row }) => <Time at={row.original.expires_at} /> },
    { id: "id", header: "Id", enableSorting: false, meta: { width: 190 }, cell: ({ row }) => <span className="mono" title={row.original.id}>{row.original.id}</span> },
    { id: "act", header: "", enableSorting: false, meta: { width: 100, num: true }, cell: ({ row: { original: token } }) => !token.revoked_at && <Button small kind="danger" onClick={() => { forget.current(); setRevoking(token); }}>Revoke</Button> },
  ], [mine]);
  return (
    <Panel title={mine ? "API tokens" : "API tokens of everybody"} flush actions={mine && <Button small kind="primary" onClick={() => setMaking(true)}>New token</Button>}>
      <Loaded query={tokens} rows={3}>{(data) => <Table label="Tokens" short columns={columns} data={data.tokens} id={(token) => token.id} rowHeight={39} empty={<Empty title="No token">Programs and the command line sign in with one.</Empty>} />}</Loaded>
      <Modal open={making} sticky onClose={() => setMaking(false)} title="New token">{making && <TokenForm scopes={(me.data?.scopes ?? []) as string[]} onClose={() => setMaking(false)} />}</Modal>
      <Confirm open={revoking !== null} onClose={() => setRevoking(null)} title="Revoke token" act={() => revoking && revoke.mutate(revoking.id)} error={revoke.error} busy={revoke.isPending}><p>Whatever uses <b>{revoking?.name}</b> is refused from its next request on.</p></Confirm>
    </Panel>
  );
}
function TokenForm({ scopes, onClose }: { scopes: string[]; onClose: () => void }) {
  const [name, setName] = useState("");
  const [chosen, setChosen] = useState<string[]>(["read", "submit"].filter((scope) => scopes.includes(scope)));
  const [life, setLife] = useState("90d");
  const make = useChange((_: void) => ok(api.POST("/v1/tokens", { body: { name, scopes: chosen as (typeof kScopes)[number][], expires_in: life } })), () => {});
  if (make.data) return <Secret value={make.data.token} onClose={onClose} />;
  return (
    <form className="stack" onSubmit={(event) => { event.preventDefault(); make.mutate(); }}>
      <label className="field">What it is for<input value={name} onChange={(event) => setName(event.target.value)} required autoFocus placeholder="laptop" /></label>
      <fieldset className="plain"><legend><h3>Scopes</h3></legend><div className="row wrap">{kScopes.filter((scope) => scopes.includes(scope)).map((scope) => <label className="check" key={scope}><input type="checkbox" checked={chosen.includes(scope)} onChange={() => setChosen(chosen.includes(scope) ? chosen.filter((each) => each !== scope) : [...chosen, scope])} />{scope}</label>)}</div></fieldset>
      <label className="field">Expires in<select value={life} onChange={(event) => setLife(event.target.value)}>{["1d", "7d", "30d", "90d", "365d"].map((each) => <option key={each}>{each}</option>)}</select></label>
      {make.error ? <Problem error={make.error} /> : null}
      <div className="dialog-foot"><Button onClick={onClose}>Back</Button><Button kind="primary" type="submit" disabled={make.isPending || chosen.length === 0}>Make token</Button></div>
    </form>
  );
}

function Account() {
  const me = useMe();
  const say = useToast();
  const [old, setOld] = useState("");
  const [next, setNext] = useState("");
  const change = useMutation({ mutationFn: () => ok(api.PUT("/v1/me/password", { body: { old, new: next } })), onSuccess: () => { say("The password is changed. Sign in again with it."); setOld(""); setNext(""); void me.refetch(); } });
  return (
    <div className="stack">
      <Panel title="You"><Loaded query={me}>{(data) => <Facts items={[["Name", data.user], ["Known by", data.credential], ["Roles", <Roles roles={data.roles as Record<string, string>} />], ["Scopes", data.scopes.join(", ")], ...(data.token ? [["Token", data.token.name || data.token.id] as const, ["It ends", <Time at={data.token.expires_at} />] as const] : [])]} />}</Loaded></Panel>
      <Tokens mine />
      <Panel title="Password">
        <form className="stack" onSubmit={(event) => { event.preventDefault(); change.mutate(); }}>
          <div className="fields"><label className="field">Now<input type="password" autoComplete="current-password" value={old} onChange={(event) => setOld(event.target.value)} required /></label><label className="field">New<input type="password" autoComplete="new-password" value={next} onChange={(event) => setNext(event.target.value)} required /></label></div>
          {change.error ? <Problem error={change.error} /> : null}
          <div><Button type="submit" disabled={change.isPending}>Change password</Button> <span className="faint">All your sessions end with it.</span></div>
        </form>
      </Panel>
    </div>
  );
}

function NodeAccess() {
  const [making, setMaking] = useState(false);
  const joins = useQuery({ queryKey: ["join-tokens"], queryFn: () => ok(api.GET("/v1/join-tokens")) });
  const credentials = useQuery({ queryKey: ["node-credentials"], queryFn: () => ok(api.GET("/v1/node-credentials")) });
  const say = useToast();
  const [revoking, setRevoking] = useState<Schema["NodeCredential"] | null>(null);
  const drop = useChange((id: string) => ok(api.DELETE("/v1/join-tokens/{id}", { params: { path: { id } } })), () => say("The join token is deleted."));
  const revoke = useChange((id: string) => ok(api.DELETE("/v1/node-credentials/{id}", { params: { path: { id } } })), () => { say("The credential is revoked."); setRevoking(null); });
  const forget = useRef(revoke.reset);
  forget.current = revoke.reset;
  const columns = useMemo<Column<Schema["NodeCredential"]>[]>(() => [
    { id: "node", header: "Node", accessorKey: "node", cell: ({ row: { original: each } }) => <span title={each.node}>{each.node}{each.revoked_at && <> <Chip tone="warn">revoked</Chip></>}</span> },
    { id: "joined", header: "Joined", accessorKey: "created_at", meta: { width: 130 }, cell: ({ row }) => <Time at={row.original.created_at} /> },
    { id: "from", header: "From", accessorFn: (each) => each.joined_from, meta: { width: 170 }, cell: ({ row }) => row.original.joined_from },
    { id: "id", header: "Id", enableSorting: false, meta: { width: 250 }, cell: ({ row }) => <span className="mono" title={row.original.id}>{row.original.id}</span> },
    { id: "act", header: "", enableSorting: false, meta: { width: 100, num: true }, cell: ({ row: { original: each } }) => !each.revoked_at && <Button small kind="danger" onClick={() => { forget.current(); setRevoking(each); }}>Revoke</Button> },
  ], []);
  return (
    <div className="stack">
      <Panel title="Join tokens" flush actions={<Button small kind="primary" onClick={() => setMaking(true)}>New join token</Button>}>
        <Loaded query={joins} rows={2}>{(data) => {
          const list = data.join_tokens;
          return list.length === 0 ? <Empty title="No join token is open">A new machine trades one for a credential of its own.</Empty> : <div className="table-wrap short" tabIndex={0} role="region" aria-label="Table"><table><thead><tr><th scope="col">Id</th><th scope="col">For</th><th scope="col" className="num">Uses left</th><th scope="col">Made</th><th scope="col">Expires</th><th scope="col"><span className="visually-hidden">Change</span></th></tr></thead><tbody>{list.map((token) => <tr key={token.id}><td className="mono">{token.id}</td><td>{token.node ?? "any new node"}</td><td className="num">{token.uses_left}</td><td><Time at={token.created_at} /> <span className="faint">by {token.created_by}</span></td><td><Time at={token.expires_at} /></td><td className="right"><Button small kind="danger" onClick={() => drop.mutate(token.id)}>Delete</Button></td></tr>)}</tbody></table></div>;
        }}</Loaded>
      </Panel>
      <Panel title="Node credentials" flush>
        <Loaded query={credentials} rows={2}>{(data) => <Table label="Node credentials" short columns={columns} id={(each) => each.id} rowHeight={39} empty={<Empty title="No node has a credential of its own" />}
          data={data.node_credentials} />}</Loaded>
      </Panel>
      <Modal open={making} sticky onClose={() => setMaking(false)} title="New join token">{making && <JoinForm onClose={() => setMaking(false)} />}</Modal>
      <Confirm open={revoking !== null} onClose={() => setRevoking(null)} title="Revoke credential" act={() => revoking && revoke.mutate(revoking.id)} error={revoke.error} busy={revoke.isPending}><p>Node <b>{revoking?.node}</b> can no longer connect with it.</p></Confirm>
    </div>
  );
}
function JoinForm({ onClose }: { onClose: () => void }) {
  const [node, setNode] = useState("");
  const [uses, setUses] = useState(1);
  const [life, setLife] = useState("1h");
  const make = useChange((_: void) => ok(api.POST("/v1/join-tokens", { body: { ...(node ? { node } : {}), uses, expires_in: life } })), () => {});
  if (make.data) return <Secret value={make.data.token} onClose={onClose} />;
  return (
    <form className="stack" onSubmit={(event) => { event.preventDefault(); make.mutate(); }}>
      <label className="field">Node<input value={node} onChange={(event) => setNode(event.target.value)} placeholder="any name that has not joined yet" /></label>
      <div className="fields"><label className="field">Uses<input type="number" min={1} max={10000} value={uses} onChange={(event) => setUses(Number(event.target.value))} /></label><label className="field">Expires in<select value={life} onChange={(event) => setLife(event.target.value)}>{["1h", "8h", "1d", "7d"].map((each) => <option key={each}>{each}</option>)}</select></label></div>
      {make.error ? <Problem error={make.error} /> : null}
      <div className="dialog-foot"><Button onClick={onClose}>Back</Button><Button kind="primary" type="submit" disabled={make.isPending}>Make join token</Button></div>
    </form>
  );
}

type Entry = Schema["AuditEntry"];
function Audit() {
  const [params, setParams] = useSearchParams();
  const filters = readFilters(params, ["who", "action", "target", "since"] as const);
  const set = (change: Record<string, string | null>) => setParams(withFilters(addressNow(), change), { replace: true });
  const [open, setOpen] = useState<Entry | null>(null);
  const pages = useInfiniteQuery({
    queryKey: ["audit", filters],
    queryFn: ({ pageParam }) => ok(api.GET("/v1/audit", { params: { query: { page_size: 200, ...Object.fromEntries(Object.entries(filters).filter(([, value]) => value)), ...(pageParam ? { page_token: pageParam } : {}) } } })),
    initialPageParam: "",
    getNextPageParam: (last) => last.next_page_token || undefined,
  });
  const rows = useMemo(() => pages.data?.pages.flatMap((page) => page.entries) ?? [], [pages.data]);
  const columns = useMemo<Column<Entry>[]>(() => [
    { id: "at", header: "When", meta: { width: 130 }, enableSorting: false, cell: ({ row }) => <Time at={row.original.at} as="clock" seconds /> },
    { id: "who", header: "Who", meta: { width: 110 }, enableSorting: false, cell: ({ row }) => row.original.who },
    { id: "action", header: "Action", meta: { width: 170 }, enableSorting: false, cell: ({ row }) => <button type="button" className="button quiet small" onClick={() => setOpen(row.original)}>{row.original.action}</button> },
    { id: "target", header: "Target", meta: { width: 150 }, enableSorting: false, cell: ({ row }) => row.original.target },
    { id: "status", header: "Outcome", meta: { width: 110 }, enableSorting: false, cell: ({ row }) => row.original.status < 300 ? <State state="ok" title={String(row.original.status)} /> : <Chip tone="bad">{row.original.status} refused</Chip> },
    { id: "credential", header: "Known by", enableSorting: false, cell: ({ row }) => row.original.credential },
    { id: "from", header: "From", meta: { width: 130 }, enableSorting: false, cell: ({ row }) => row.original.from },
  ], []);
  return (
    <Panel title="Audit trail" flush>
      <div className="filters" role="search" aria-label="Filter the audit trail">
        <Text label="Who" value={filters.who} onValue={(who) => set({ who })} /><Text label="Action" value={filters.action} onValue={(action) => set({ action })} /><Text label="Target" value={filters.target} onValue={(target) => set({ target })} />
        <select aria-label="Since" value={filters.since} onChange={(event) => set({ since: event.target.value })}>{[["", "Any time"], ["24h", "Last 24 h"], ["7d", "Last 7 days"], ["30d", "Last 30 days"]].map(([value, label]) => <option key={value} value={value}>{label}</option>)}</select>
      </div>
      <Loaded query={pages} rows={8}>{() => <Table label="Audit trail" columns={columns} data={rows} id={(entry) => String(entry.id)} onEnd={() => { if (pages.hasNextPage && !pages.isFetchingNextPage) void pages.fetchNextPage(); }} empty={<Empty title="No entry matches" />} />}</Loaded>
      <Modal open={open !== null} onClose={() => setOpen(null)} title={`${open?.action ?? ""} ${open?.target ?? ""}`} wide>
        {open && <><Facts items={[["Who", open.who], ["Known by", open.credential], ["From", open.from], ["When", <Time at={open.at} as="both" />], ["Answer", open.status]]} /><h3>Before</h3><pre className="code" tabIndex={0}>{open.before ? JSON.stringify(open.before, null, 2) : "not known"}</pre><h3>Asked for, and what came of it</h3><pre className="code" tabIndex={0}>{JSON.stringify(open.after, null, 2)}</pre></>}
      </Modal>
    </Panel>
  );
}

function ControlPlane() {
  const plane = useControlPlane();
  const cluster = useCluster();
  return (
    <Loaded query={plane} rows={6}>{(plain) => {
      const data: typeof plain & ControlPlaneMore = plain;
      const says = planeSays(data);
      const there = consoleAt(data.leader_url);
      const full = data.inbox.limit > 0 ? data.inbox.depth / data.inbox.limit : 0;
      const all = data.workers.reduce((sum, each) => sum + each.nodes, 0);
      return (
        <div className="stack">
          {says.tone !== "good" && <p className="notice warn" role="status"><span><b>{says.head}</b> {says.text}</span></p>}
          <Panel title="Scheduler"><Facts items={[
            ["This one", <Chip tone={says.tone}>{data.role === "none" ? "neither leads nor stands by" : data.role === "leader" ? "leads" : "standby"}</Chip>], ["Who leads", data.leader || "not known"], ["Reached at", there && data.role !== "leader" ? <a href={there}>{data.leader_url}</a> : data.leader_url || <span className="faint">it does not say</span>],
            ["Leads since", data.since ? <Time at={data.since} as="both" /> : <span className="faint">not known now</span>], ["Term", data.term > 0 ? count(data.term) : "not known"], ["State", data.detail || "–"], ["Version", data.version], ["Up for", duration(data.uptime_seconds)],
            ["Inbox", <span className="row">{count(data.inbox.depth)} of {count(data.inbox.limit)}<Meter value={data.inbox.depth} max={data.inbox.limit} label={`${data.inbox.depth} of ${data.inbox.limit} commands wait`} tone={full > 0.8 ? "bad" : full > 0.4 ? "warn" : "accent"} /></span>],
            ["Last commit took", duration(data.last_commit_seconds)],
            ...(data.cycle_seconds_p99 !== undefined ? [["Cycle, median and 99 of 100", `${duration(data.cycle_seconds_p50)}, ${duration(data.cycle_seconds_p99)}`] as const] : []),
            ...(cluster.data ? [["Lease of a node", duration(cluster.data.lease_seconds)] as const, ["Kill margin", duration(cluster.data.kill_margin_seconds)] as const] : []),
          ]} /></Panel>
          <Panel title="Database">{data.database ? <Facts items={[["Version", data.database.version], ["Size", bytes(data.database.size_bytes)], ["Connections", data.database.connections], ["Lag", data.database.lag_bytes === null ? "no replica" : bytes(data.database.lag_bytes)], ["Last backup", data.database.last_backup_at ? <Time at={data.database.last_backup_at} /> : "not known"]]} /> : <p className="faint">{data.ready || (data.role === "standby" && data.since) ? "It answers." : "It may be away: see above."} Its size, lag and connections are not offered by this server; <a href="/metrics">/metrics</a> has how long commits and cycles take.</p>}</Panel>
          <Panel title="Workers" flush>{data.workers.length === 0 ? <Empty title="No node has joined yet" /> : <div className="table-wrap short" tabIndex={0} role="region" aria-label="Workers by version"><table><thead><tr><th scope="col">Version</th><th scope="col" className="num">Nodes</th><th scope="col">Against the scheduler</th></tr></thead><tbody>{data.workers.map((each) => <tr key={each.version}><td>{each.version}</td><td className="num">{count(each.nodes)}</td><td>{each.version === data.version ? "the same" : <Chip tone="warn">another</Chip>}</td></tr>)}</tbody></table><p className="table-foot">{plural(all, "node")}</p></div>}</Panel>
        </div>
      );
    }}</Loaded>
  );
}

/** What another policy would have made of the jobs of a stretch of the past. Nothing is changed by it. */
function DryRun() {
  const [span, setSpan] = useState({ since: "7d", until: "" });
  return <Replay title="Dry run of a policy" stretch={() => asInstants(span, Date.now())} choose={<Span label="Jobs of" since={span.since} until={span.until} onSpan={(change) => setSpan((old) => ({ ...old, ...change }))} />}
    about="The jobs of this time, at most 31 days, planned again from the begin under each of these, on as many nodes as there are now. Nothing is changed by it." />;
}

function Policies() {
  const cluster = useCluster();
  const reservations = useReservations();
  return (
    <div className="stack">
      <Panel title="Policy"><Loaded query={cluster} rows={2}>{(data) => <div className="stack tight"><Facts items={[["Active", data.policy]]} /><p className="faint">It is chosen when the scheduler starts, with <code>--policy</code>. What another would have made of the jobs there were, the dry run below shows; what a single job or priority would change, <Link to="/submit">Submit</Link> and the priorities of the <Link to="/queue">queue</Link> show before it is done.</p></div>}</Loaded></Panel>
      <DryRun />
      <Panel title="Reservations" flush><Loaded query={reservations} rows={2}>{(data) => data.reservations.length === 0 ? <Empty title="None" /> : <div className="table-wrap short" tabIndex={0} role="region" aria-label="Reservations"><table><thead><tr><th scope="col">Name</th><th scope="col">Nodes</th><th scope="col">For</th><th scope="col">From</th><th scope="col">Until</th><th scope="col">Reason</th></tr></thead><tbody>{data.reservations.map((each) => <tr key={each.name}><td className="nowrap">{each.name}</td><td>{each.nodes.join(", ")}</td><td>{each.projects.join(", ") || "maintenance"}</td><td className="nowrap"><Time at={each.from} as="clock" /></td><td className="nowrap"><Time at={each.until} as="clock" /></td><td>{each.reason}</td></tr>)}</tbody></table></div>}</Loaded></Panel>
    </div>
  );
}

export default function Admin() {
  const may = useMay();
  const admin = may("admin");
  const [params, setParams] = useSearchParams();
  useEffect(() => { document.title = `${admin ? "Admin" : "Account"} · Tutti`; }, [admin]);
  const tabs = [
    ...(admin ? [{ id: "users", label: "Users", content: () => <Users /> }, { id: "tokens", label: "Tokens", content: () => <Tokens mine={false} /> }, { id: "nodes", label: "Node access", content: () => <NodeAccess /> }, { id: "audit", label: "Audit", content: () => <Audit /> }] : []),
    { id: "policies", label: "Policies", content: () => <Policies /> },
    ...(may("control-plane") ? [{ id: "health", label: "Control plane", content: () => <ControlPlane /> }] : []),
    { id: "account", label: "Your account", content: () => <Account /> },
  ];
  return <Page title={admin ? "Admin" : "Account"}><Tabs label="Admin" tabs={tabs} selected={params.get("tab") ?? (admin ? "users" : "account")} onSelect={(tab) => setParams(new URLSearchParams({ tab }), { replace: true })} /></Page>;
}
