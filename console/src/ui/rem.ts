// How large a rem is, against the usual 16 pixels: for what is drawn or laid out by number. It changes with the window (styles.css), and with
// the size of letters that somebody has set.
import { useSyncExternalStore } from "react";

const kMedia = typeof matchMedia === "undefined" ? [] : ["(min-width: 2400px)", "(min-width: 3400px)"].map((query) => matchMedia(query));
let known = 0;
const read = () => (known ||= typeof document === "undefined" ? 1 : parseFloat(getComputedStyle(document.documentElement).fontSize) / 16 || 1);
function subscribe(listener: () => void) {
  const change = () => {
    known = 0;
    listener();
  };
  for (const media of kMedia) media.addEventListener("change", change);
  return () => { for (const media of kMedia) media.removeEventListener("change", change); };
}
export const useRem = () => useSyncExternalStore(subscribe, read);
