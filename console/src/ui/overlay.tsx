// Dialogs, menus, tabs and toasts: Ariakit's behaviour, our looks.
import * as Ariakit from "@ariakit/react";
import { CheckCircle2, X, AlertTriangle } from "lucide-react";
import { createContext, useCallback, useContext, useMemo, useState, type ReactNode } from "react";

export function Modal({ open, onClose, title, children, wide, sticky }: { open: boolean; onClose: () => void; title: ReactNode; children: ReactNode; wide?: boolean; sticky?: boolean }) {
  return (
    <Ariakit.Dialog hideOnInteractOutside={!sticky} open={open} onClose={onClose} unmountOnHide backdrop={<div className="backdrop" />} className={`dialog ${wide ? "wide" : ""}`}>
      <div className="dialog-head">
        <Ariakit.DialogHeading className="dialog-title">{title}</Ariakit.DialogHeading>
        <Ariakit.DialogDismiss className="button quiet small icon" aria-label="Close"><X size={16} aria-hidden /></Ariakit.DialogDismiss>
      </div>
      <div className="dialog-body">{children}</div>
    </Ariakit.Dialog>
  );
}

export interface Choice {
  label: ReactNode;
  onSelect: () => void;
  danger?: boolean;
  disabled?: boolean;
}
export function Menu({ label, ariaLabel, items, small, kind = "plain" }: { label: ReactNode; ariaLabel?: string; items: (Choice | "-")[]; small?: boolean; kind?: "plain" | "quiet" }) {
  return (
    <Ariakit.MenuProvider placement="bottom-end">
      <Ariakit.MenuButton className={`button ${kind} ${small ? "small" : ""}`} aria-label={ariaLabel}>{label}</Ariakit.MenuButton>
      <Ariakit.Menu gutter={4} portal className="menu" unmountOnHide>
        {items.map((item, i) => item === "-"
          ? <Ariakit.MenuSeparator key={i} className="menu-line" />
          : <Ariakit.MenuItem key={i} className={`menu-item ${item.danger ? "danger" : ""}`} disabled={item.disabled ?? false} onClick={item.onSelect}>{item.label}</Ariakit.MenuItem>)}
      </Ariakit.Menu>
    </Ariakit.MenuProvider>
  );
}

export interface Tab {
  id: string;
  label: ReactNode;
  content: () => ReactNode;
}
/** Only the tab that is looked at is there. */
export function Tabs({ tabs, selected, onSelect, label }: { tabs: Tab[]; selected: string; onSelect: (id: string) => void; label: string }) {
  const known = tabs.some((tab) => tab.id === selected) ? selected : (tabs[0]?.id ?? "");
  return (
    <div>
    <Ariakit.TabProvider selectedId={known} setSelectedId={(id) => id && onSelect(id)}>
      <Ariakit.TabList aria-label={label} className="tabs">
        {tabs.map((tab) => <Ariakit.Tab key={tab.id} id={tab.id} className="tab">{tab.label}</Ariakit.Tab>)}
      </Ariakit.TabList>
      {tabs.filter((tab) => tab.id === known).map((tab) => <Ariakit.TabPanel key={tab.id} tabId={tab.id} className="tab-panel">{tab.content()}</Ariakit.TabPanel>)}
    </Ariakit.TabProvider>
    </div>
  );
}

interface Toast { id: number; text: ReactNode; bad: boolean }
const ToastContext = createContext<(text: ReactNode, bad?: boolean) => void>(() => {});
export const useToast = () => useContext(ToastContext);
let nextToast = 1;
export function Toaster({ children }: { children: ReactNode }) {
  const [toasts, setToasts] = useState<Toast[]>([]);
  const drop = useCallback((id: number) => setToasts((all) => all.filter((toast) => toast.id !== id)), []);
  const say = useCallback((text: ReactNode, bad = false) => {
    const id = nextToast++;
    setToasts((all) => [...all.slice(-3), { id, text, bad }]);
    if (!bad) setTimeout(() => drop(id), 6000);
  }, [drop]);
  const value = useMemo(() => say, [say]);
  return (
    <ToastContext.Provider value={value}>
      {children}
      <div className="toasts" role="region" aria-label="Messages" aria-live="polite">
        {toasts.map((toast) => (
          <div key={toast.id} className="toast" data-bad={toast.bad || undefined}>
            {toast.bad ? <AlertTriangle size={16} aria-hidden /> : <CheckCircle2 size={16} aria-hidden />}
            <div>{toast.text}</div>
            <button type="button" className="button quiet small icon" aria-label="Dismiss" onClick={() => drop(toast.id)}><X size={14} aria-hidden /></button>
          </div>
        ))}
      </div>
    </ToastContext.Provider>
  );
}
