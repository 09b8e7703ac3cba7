// Light, dark, or as the system has it.
import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";
const listeners = new Set<() => void>();
const media = typeof matchMedia === "undefined" ? null : matchMedia("(prefers-color-scheme: dark)");

function stored(): Theme {
  const value = document.documentElement.dataset["theme"];
  return value === "light" || value === "dark" ? value : "system";
}
export function setTheme(theme: Theme) {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  try {
    if (theme === "system") localStorage.removeItem("tutti.theme");
    else localStorage.setItem("tutti.theme", theme);
  } catch {
    // no storage: for this page only
  }
  for (const listener of listeners) listener();
}
function subscribe(listener: () => void) {
  listeners.add(listener);
  media?.addEventListener("change", listener);
  return () => {
    listeners.delete(listener);
    media?.removeEventListener("change", listener);
  };
}
export const useTheme = () => useSyncExternalStore(subscribe, stored);
/** What is to be seen now: canvases draw with it. */
export const useDark = () => useSyncExternalStore(subscribe, () => {
  const theme = stored();
  return theme === "dark" || (theme === "system" && !!media?.matches);
});

/** Colours of the sheet as a canvas takes them. */
export function colours<K extends string>(names: readonly K[]): Record<K, string> {
  const probe = document.createElement("span");
  probe.style.display = "none";
  document.body.append(probe);
  const out = {} as Record<K, string>;
  for (const name of names) {
    probe.style.color = `var(--${name})`;
    out[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return out;
}
