// The frame: navigation, jump to a job or node, the state of the connection, theme, who is signed in, shortcuts.
import { useQueryClient } from "@tanstack/react-query";
import { Activity, AlertTriangle, Boxes, FolderKanban, History, LayoutGrid, ListOrdered, LogOut, Menu as MenuIcon, Monitor, Moon, PlusCircle, Search, Server, Settings, Sun, Table2, UserRound, WifiOff } from "lucide-react";
import { Suspense, useEffect, useRef, useState } from "react";
import { NavLink, Link, Outlet, useLocation, useNavigate } from "react-router";
import { api } from "@/api/client";
import { useLive } from "@/api/live";
import { useCluster, useMay, useMe } from "@/api/queries";
import { Button, Skeleton } from "@/ui/bits";
import { Menu, Modal, useToast } from "@/ui/overlay";
import { useNow } from "@/ui/now";
import { kPending } from "@/lib/jobs";
import { duration } from "@/lib/format";
import { setTheme, useTheme, type Theme } from "./theme";

export const kPages = [
  { to: "/", label: "Overview", key: "o", icon: LayoutGrid },
  { to: "/queue", label: "Queue", key: "q", icon: ListOrdered },
  { to: "/jobs", label: "Jobs", key: "j", icon: Table2 },
  { to: "/nodes", label: "Nodes", key: "n", icon: Server },
  { to: "/faults", label: "Faults", key: "f", icon: AlertTriangle },
  { to: "/projects", label: "Projects", key: "p", icon: FolderKanban },
  { to: "/travel", label: "Time travel", key: "t", icon: History },
] as const;

export function Mark() {
  return <svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" fill="var(--accent)" /><g fill="var(--on-accent)"><rect x="7" y="7" width="18" height="4" rx="1" /><rect x="7" y="14" width="4" height="11" rx="1" opacity=".55" /><rect x="14" y="14" width="4" height="11" rx="1" /><rect x="21" y="14" width="4" height="11" rx="1" opacity=".55" /></g></svg>;
}

const kLiveText = { live: "Live", connecting: "Connecting", lost: "Connection lost", paused: "Paused" } as const;
function LiveSign() {
  const { state } = useLive();
  return (
    <span className="live" data-state={state} role="status">
      <span className="live-dot" aria-hidden="true" />
      <span className="live-text">{kLiveText[state]}</span>
    </span>
  );
}
function LostBar() {
  const { state, retryAt, retryNow } = useLive();
  const now = useNow();
  if (state !== "lost") return null;
  return (
    <div className="lost-bar" role="alert">
      <WifiOff size={16} aria-hidden />
      <span className="grow">The connection to the scheduler is lost. What you see may be old.</span>
      <span className="faint nowrap" aria-hidden="true">{retryAt && retryAt > now ? `next try in ${duration(Math.ceil((retryAt - now) / 1000))}` : "trying"}</span>
      <Button small onClick={retryNow}>Try now</Button>
    </div>
  );
}

function Jump() {
  const input = useRef<HTMLInputElement>(null);
  const navigate = useNavigate();
  const say = useToast();
  useEffect(() => {
    const focus = () => input.current?.focus();
    window.addEventListener("tutti:jump", focus);
    return () => window.removeEventListener("tutti:jump", focus);
  }, []);
  const go = async (value: string) => {
    const name = value.trim();
    if (!name) return;
    const job = await api.GET("/v1/jobs/{id}", { params: { path: { id: name } } }).catch(() => null);
    if (job?.response.ok && job.data) return void navigate(`/jobs/${job.data.id}`);
    const node = await api.GET("/v1/nodes/{name}", { params: { path: { name } } }).catch(() => null);
    if (node?.response.ok && node.data) return void navigate(`/nodes/${encodeURIComponent(node.data.name)}`);
    const part = await api.GET("/v1/jobs", { params: { query: { q: name, page_size: 1 } } }).catch(() => null);
    if (part?.data?.jobs.length) return void navigate(`/jobs?q=${encodeURIComponent(name)}`);
    say(<>There is no job and no node <code>{name}</code>.</>, true);
  };
  return (
    <form className="jump" role="search" onSubmit={(event) => {
      event.preventDefault();
      void go(input.current?.value ?? "");
      if (input.current) input.current.value = "";
      input.current?.blur();
    }}>
      <Search size={14} aria-hidden />
      <input ref={input} aria-label="Go to a job or node, by id or name" placeholder="Job or node" autoComplete="off" spellCheck={false} />
      <kbd aria-hidden="true">/</kbd>
    </form>
  );
}

const kShortcuts: readonly (readonly [string, string])[] = [["/", "go to a job or node"], ["?", "these shortcuts"], ["c", "submit a job"], ["Esc", "close"], ...kPages.map((page) => [`g ${page.key}`, page.label] as const), ["g a", "Admin"]];

function useShortcuts(help: () => void) {
  const navigate = useNavigate();
  useEffect(() => {
    let after = 0;
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const target = event.target as HTMLElement;
      if (target.closest("input, textarea, select, [contenteditable], [role='dialog'], [role='menu']")) return;
      if (event.key === "g") {
        after = event.timeStamp;
        return;
      }
      if (after && event.timeStamp - after < 1200) {
        after = 0;
        const page = kPages.find((each) => each.key === event.key);
        if (page) void navigate(page.to);
        else if (event.key === "a") void navigate("/admin");
        return;
      }
      if (event.key === "/") {
        event.preventDefault();
        window.dispatchEvent(new Event("tutti:jump"));
      } else if (event.key === "?") help();
      else if (event.key === "c") void navigate("/submit");
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  }, [navigate, help]);
}

const kThemeIcon = { system: Monitor, light: Sun, dark: Moon } as const;
export function Shell() {
  const me = useMe();
  const may = useMay();
  const cluster = useCluster();
  const queries = useQueryClient();
  const navigate = useNavigate();
  const location = useLocation();
  const theme = useTheme();
  const [open, setOpen] = useState(false);
  const [help, setHelp] = useState(false);
  const [showHelp] = useState(() => () => setHelp(true));
  useShortcuts(showHelp);
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    setOpen(false);
    // A new page: its heading is read, and the keyboard begins there. Unless someone is typing already: a page may come late.
    if (!first.current && !document.activeElement?.closest("input, textarea, select, [role='dialog']")) main.current?.focus({ preventScroll: true });
    first.current = false;
    window.scrollTo(0, 0);
  }, [location.pathname]);

  const pending = cluster.data ? kPending.reduce((sum, state) => sum + (cluster.data.jobs[state] ?? 0), 0) : null;
  const ThemeIcon = kThemeIcon[theme];
  const signOut = async () => {
    await api.POST("/v1/logout").catch(() => null);
    queries.clear();
    void navigate("/login");
  };
  return (
    <>
      <a className="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>Skip to the content</a>
      <div className="shell">
        <nav className="side" data-open={open} aria-label="Pages">
          <Link to="/" className="brand"><Mark />Tutti</Link>
          <div className="nav">
            {kPages.map(({ to, label, icon: Icon }) => (
              <NavLink key={to} to={to} end={to === "/"}><Icon size={16} aria-hidden />{label}
                {label === "Queue" && pending !== null && pending > 0 && <span className="nav-count" aria-label={`${pending} pending`}>{pending > 9999 ? `${Math.round(pending / 1000)}k` : pending}</span>}
              </NavLink>
            ))}
            <div className="nav-line" role="presentation" />
            {may("submit") && <NavLink to="/submit"><PlusCircle size={16} aria-hidden />Submit</NavLink>}
            <NavLink to="/admin"><Settings size={16} aria-hidden />{may("admin") ? "Admin" : "Account"}</NavLink>
          </div>
          <div className="side-foot">
            {cluster.data?.simulated_gpus && <div className="row"><Boxes size={13} aria-hidden />GPUs are simulated</div>}
            {cluster.data && <div className="row"><Activity size={13} aria-hidden />Tutti {cluster.data.version}</div>}
          </div>
        </nav>
        <div>
          <div className="top" role="banner">
            <button type="button" className="button quiet icon burger" aria-label="Pages" aria-expanded={open} onClick={() => setOpen(!open)}><MenuIcon size={18} aria-hidden /></button>
            <Jump />
            <span className="grow" />
            <LiveSign />
            <Menu kind="quiet" ariaLabel={`Theme: ${theme}`} label={<ThemeIcon size={16} aria-hidden />} items={(["system", "light", "dark"] as Theme[]).map((each) => {
              const Icon = kThemeIcon[each];
              return { label: <><Icon size={14} aria-hidden />{each === "system" ? "As the system" : each === "light" ? "Light" : "Dark"}{each === theme ? " ✓" : ""}</>, onSelect: () => setTheme(each) };
            })} />
            <Menu kind="quiet" ariaLabel={`Signed in as ${me.data?.user ?? ""}`} label={<><UserRound size={16} aria-hidden /><span className="wide-only">{me.data?.user}</span></>} items={[
              { label: "Account and tokens", onSelect: () => void navigate("/admin?tab=account") },
              { label: "Keyboard shortcuts", onSelect: showHelp },
              "-",
              { label: <><LogOut size={14} aria-hidden />Sign out</>, onSelect: () => void signOut() },
            ]} />
          </div>
          <LostBar />
          <main id="main" className="main" tabIndex={-1} ref={main}>
            <Suspense fallback={<Skeleton rows={10} />}><Outlet /></Suspense>
          </main>
        </div>
      </div>
      <Modal open={help} onClose={() => setHelp(false)} title="Keyboard shortcuts">
        <ul className="list">{kShortcuts.map(([keys, what]) => <li key={keys}><span>{what}</span><span className="row">{keys.split(" ").map((key) => <kbd key={key}>{key}</kbd>)}</span></li>)}</ul>
      </Modal>
    </>
  );
}
