// A field of a filter.
import { useEffect, useState } from "react";

/** Text that becomes part of the address when one stops typing. */
export function Text({ label, value, onValue, type = "text" }: { label: string; value: string; onValue: (value: string) => void; type?: "text" | "date" }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    if (text === value) return;
    const timer = setTimeout(() => onValue(text.trim()), 350);
    return () => clearTimeout(timer);
  }, [text]); // eslint-disable-line react-hooks/exhaustive-deps
  return <input type={type} aria-label={label} title={type === "date" ? label : undefined} placeholder={label} value={text} onChange={(event) => setText(event.target.value)} spellCheck={false} autoComplete="off" />;
}
